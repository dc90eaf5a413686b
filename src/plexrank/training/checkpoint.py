"""What training writes and reads: checkpoints of plain types and tensors."""

from __future__ import annotations

import dataclasses
import errno
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plexrank.errors import MissingInputError, RunDirError, naming_damage, one_line
from plexrank.models.build import Network, build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.readout.blending import IntensityBlend
from plexrank.readout.linear import LinearClassifier
from plexrank.readout.pooling import AttentionPooling
from plexrank.rundir import Json, make_way, replacing
from plexrank.settings import ModelSettings
from plexrank.tiles.intensity import IntensityFit

CHECKPOINT_FORMAT = "plexrank-checkpoint-1"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedUnit:
    """The best weights of one unit and what attribution needs with them (``best.pt``).

    Attributes:
        key: digest of the settings and inputs it was trained with.
        epoch: the epoch with the lowest validation loss, from 0.
        channel_names: N names in the order of r.
        output_names: K names in the order of the outputs.
        model_state: of the plain network.
        classifier: the refitted one, or ``None`` where the network's own is used.
        embedding_images: (image,) int64, the images of training and validation.
        embedding_mean: (image, channel) float32, the mean embedding over the tiles of each; NaN for channels that the
            image lacks, and all through where the network has no embedding.
        attention: what weighs the tiles of an image, ``None`` where they count alike.
        blend: what takes intensities into r, ``None`` where the embedding is r alone.
        has_ordered_outputs: whether the network's outputs are one score and thresholds that fall.
    """

    key: str
    fold: int
    seed: int
    epoch: int
    channel_names: tuple[str, ...]
    output_names: tuple[str, ...]
    intensity: IntensityFit
    settings: ModelSettings
    model_state: Mapping[str, Tensor]
    classifier: LinearClassifier | None
    embedding_images: NDArray[np.int64]
    embedding_mean: NDArray[np.float32]
    attention: AttentionPooling | None = None
    blend: IntensityBlend | None = None
    has_ordered_outputs: bool = False

    def network(self, device: torch.device) -> Network:
        """The network with these weights, in evaluation mode."""
        model = build_network(self.settings, len(self.channel_names), len(self.output_names), self.has_ordered_outputs)
        model.load_state_dict(dict(self.model_state))
        return model.to(device).eval()

    def classify(self, network: ChannelEmbedding) -> Callable[[Tensor], Tensor]:
        """What turns r (tile, channel) into outputs (tile, output), on the network's device."""
        if self.classifier is None:
            return network.classify
        return self.classifier.to(next(network.parameters()).device)


@dataclass(eq=False)
class Progress:
    """Where a unit's training stands (``last.pt``): the next step is batch ``batch`` of epoch ``epoch``.

    Attributes:
        key: digest of the settings and inputs it is trained with.
        made_of: those of them that tell a user what differs.
        sums: loss, weight, right tiles and tiles so far in this epoch.
        stale_epochs: epochs since the validation loss was last at its lowest.
        history: one row of plain numbers an epoch.
        devices: what each epoch was computed on.
        seconds: spent so far in this epoch.
    """

    key: str
    made_of: dict[str, Json] = field(default_factory=dict)
    epoch: int = 0
    batch: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    seconds: float = 0.0
    best_epoch: int = -1
    best_loss: float = float("inf")
    stale_epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    model: dict[str, Tensor] = field(default_factory=dict)
    best_model: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)


def save(path: Path, state: Mapping[str, object], *, keep_previous: bool = False) -> None:
    """Write a checkpoint atomically; ``keep_previous`` leaves the one before at ``PATH.prev``.

    Raises:
        OSError: it could not be written.
    """
    with replacing(path) as temporary:
        try:
            torch.save({"format": CHECKPOINT_FORMAT, **state}, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(errno.EIO, f"could not be written ({one_line(error)})", str(path)) from error
        if keep_previous and path.is_file():
            make_way(previous_path(path))
            path.replace(previous_path(path))


def load(path: Path, *, is_checked: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain types are accepted from the file.

    Args:
        path: the file.
        is_checked: whether it was held against a checksum, so that those within it need no look.

    Raises:
        MissingInputError: there is no such file.
        RunDirError: it is torn, or no checkpoint of ours.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such checkpoint; run plexrank train first")
    with naming_damage(f"{path}: damaged checkpoint", "delete it and train again", RunDirError):
        if not is_checked:
            _require_checksums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.pop("format", None) != CHECKPOINT_FORMAT:
        raise RunDirError(f"{path}: expected a checkpoint of format {CHECKPOINT_FORMAT}; delete it and train again")
    return state


def _require_checksums(path: Path) -> None:
    """Hold every part of a checkpoint, which is a ZIP archive, against its CRC-32, which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"the checksum of {damaged} is wrong")


def previous_path(path: Path) -> Path:
    """Where :func:`save` keeps the checkpoint before the newest."""
    return path.with_name(path.name + ".prev")


def write_progress(path: Path, progress: Progress) -> None:
    """Write ``last.pt`` and keep the one before."""
    save(path, vars(progress), keep_previous=True)


def read_progress(path: Path, refuse: Callable[[Progress], str | None] = lambda _: None) -> Progress | None:
    """The newest progress that loads and is not refused, or ``None`` where there is none; warns of the others.

    Args:
        path: of ``last.pt``; the one before is looked at where that is not to be had.
        refuse: says why a progress is not to be gone on with, ``None`` where it is.
    """
    candidates = [candidate for candidate in (path, previous_path(path)) if candidate.is_file()]
    for number, candidate in enumerate(candidates, start=1):
        left = candidates[number:]
        instead = f"looking at {left[0].name} instead" if left else "training from the start"
        try:
            found = _progress(candidate, load(candidate))
        except RunDirError as error:
            _logger.warning("%s; %s", error, instead)
            continue
        if (why := refuse(found)) is None:
            return found
        _logger.warning("%s: %s; %s", candidate, why, instead)
    return None


def write_unit(path: Path, unit: TrainedUnit) -> None:
    """Write ``best.pt``."""
    plain = {entry.name: getattr(unit, entry.name) for entry in dataclasses.fields(unit)}
    plain["channel_names"], plain["output_names"] = list(unit.channel_names), list(unit.output_names)
    plain["intensity"] = {
        "transform": unit.intensity.transform,
        "cofactor": float(unit.intensity.cofactor),
        "scale": [float(value) for value in unit.intensity.scale],
    }
    plain["settings"] = unit.settings.model_dump(mode="json")
    plain["model_state"] = dict(unit.model_state)
    plain["classifier"] = dict(unit.classifier.state_dict()) if unit.classifier else None
    plain["attention"] = dict(unit.attention.state_dict()) if unit.attention else None
    plain["blend"] = unit.blend and {name: torch.from_numpy(values) for name, values in vars(unit.blend).items()}
    plain["embedding_images"] = torch.from_numpy(unit.embedding_images)
    plain["embedding_mean"] = torch.from_numpy(unit.embedding_mean)
    save(path, plain)


def read_unit(path: Path, *, is_checked: bool = False) -> TrainedUnit:
    """Read ``best.pt``; ``is_checked`` as for :func:`load`.

    Raises:
        MissingInputError: there is no such file.
        RunDirError: it is torn, or not a trained unit.
    """
    state = load(path, is_checked=is_checked)
    with naming_damage(f"{path}: no trained unit", "delete it and train again", RunDirError):
        intensity, classifier = state["intensity"], state["classifier"]
        return TrainedUnit(
            **{name: state[name] for name in ("key", "fold", "seed", "epoch", "model_state")},
            channel_names=tuple(state["channel_names"]),
            output_names=tuple(state["output_names"] if "output_names" in state else state["class_names"]),
            intensity=IntensityFit(
                intensity["transform"], intensity["cofactor"], np.array(intensity["scale"], dtype=np.float32)
            ),
            settings=ModelSettings.model_validate(state["settings"]),
            classifier=LinearClassifier(**classifier) if classifier else None,
            embedding_images=state["embedding_images"].numpy(),
            embedding_mean=state["embedding_mean"].numpy(),
            attention=_attention(state["attention"]),
            blend=_blend(state.get("blend")),
            has_ordered_outputs=state.get("has_ordered_outputs", False),
        )


def _attention(state: dict[str, Tensor] | None) -> AttentionPooling | None:
    if state is None:
        return None
    attention = AttentionPooling(state["hidden.weight"].shape[1])
    attention.load_state_dict(state)
    return attention.requires_grad_(False).eval()


def _blend(state: dict[str, Tensor] | None) -> IntensityBlend | None:
    return None if state is None else IntensityBlend(**{name: values.numpy() for name, values in state.items()})


def _progress(path: Path, state: dict[str, Any]) -> Progress:
    with naming_damage(f"{path}: no training progress", "delete it and train again", RunDirError):
        return Progress(**state)
