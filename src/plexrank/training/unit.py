"""What a training is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plexrank.arrays import IntArray
from plexrank.rundir import Json, digest
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.training.data import TrainingTiles


@dataclass(frozen=True, eq=False)
class TrainingUnit:
    """What to train: one fold and one seed, with the tiles it may see.

    Attributes:
        study_seed: the seed of the whole study.
        train_index: (tile,) tile indices the gradients come from; every class, or an event, occurs.
        validation_index: (tile,) tile indices of other patients that choose the epoch.
        labelling: which labels it has in the place of the cohort's, ``None`` for those.
    """

    study_seed: int
    fold: int
    seed: int
    train_index: IntArray
    validation_index: IntArray
    labelling: int | None = None

    @property
    def name(self) -> str:
        """What to call it in messages."""
        if self.labelling is not None:
            return f"null training {self.labelling} fold {self.fold}"
        return f"fold {self.fold} seed {self.seed}"

    @property
    def entropy(self) -> tuple[int, int, int]:
        """What the unit's random generators are keyed with."""
        return (self.study_seed, self.fold, self.seed)


@dataclass(frozen=True)
class UnitPaths:
    """The files that a unit's training writes; no history where that is ``None``."""

    last: Path
    best: Path
    history: Path | None


@dataclass(frozen=True)
class UnitResult:
    """How a unit's training ended.

    Attributes:
        epochs: how many were trained.
        best_epoch: from 0.
        headline: the measure of the validation images that ``validation_score`` is.
    """

    epochs: int
    best_epoch: int
    validation_loss: float
    headline: str
    validation_score: float


def describe(tiles: TrainingTiles, unit: TrainingUnit, model: ModelSettings, train: TrainSettings) -> dict[str, Json]:
    """What a training rests on, in words that tell a user what differs; long lists as digests."""
    return {
        "unit": unit.name,
        "channels": list(tiles.channel_names),
        "outcome": {"kind": tiles.outcome.kind, "outputs": list(tiles.outcome.output_names)},
        "labels": digest([tiles.outcome.levels[label] for label in tiles.labels]),
        "training tiles": digest(unit.train_index.tolist()),
        "validation tiles": digest(unit.validation_index.tolist()),
        "intensity": {
            "transform": tiles.intensity.transform,
            "cofactor": float(tiles.intensity.cofactor),
            "scale": [float(value) for value in tiles.intensity.scale],
        },
        "model": model.model_dump(mode="json"),
        "train": train.model_dump(mode="json", exclude={"seeds", "recompute"}),
        "seed": unit.study_seed,
    }
