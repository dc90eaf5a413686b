"""What the networks of a run say of images that they were not trained on, by patient, image or tile. Loads no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.attribution.store import AttributionBlock
from plexrank.errors import MissingInputError, PlexrankError, StudyError
from plexrank.outcome import Outcome
from plexrank.planning.plan import Plan
from plexrank.ranking.aggregate import UnitTable, aggregate_unit, importance_total
from plexrank.ranking.samples import image_means_to_samples
from plexrank.stages.attributions import attribution_blocks
from plexrank.stages.cohort_samples import cohort_samples
from plexrank.stages.tile_table import TileTable
from plexrank.wording import did_you_mean

Array = npt.NDArray[np.float64]
Kind = Literal["embedding", "importance", "mean_intensity"]
Level = Literal["patient", "image", "tile"]
LEVELS = get_args(Level)


class HeldOut:
    """Tables of a run whose rows are patients, images or tiles and whose columns are channels.

    Every value is from the trainings that hold the row's patient out, and NaN where the row's images lack the channel.
    Tiles are averaged to images, and images to patients, by the functions of the rank stage.

    Args:
        plan: of a run whose attributions are done.

    Raises:
        MissingInputError: they are not.
        RunDirError: the table of tiles is damaged.
    """

    def __init__(self, plan: Plan) -> None:
        _require_attributions(plan)
        self.channels = plan.channels.names
        self._plan = plan
        self._tiles = TileTable(plan)
        self._samples = cohort_samples(plan)
        self._units: dict[str, list[UnitTable]] = {}

    def table(self, kind: Kind, level: Level, method: str | None = None, seed: int | None = None) -> pd.DataFrame:
        """One table.

        Args:
            kind: what to show.
            level: what a row is, one of :data:`LEVELS`.
            method: the importance; ``rank.by`` of the study if absent.
            seed: the seed of the trainings to show; the mean over all if absent.

        Raises:
            PlexrankError: there is no such level, importance, seed or embedding.
            RunDirError: an attribution is damaged.
        """
        method = self._checked_method(method)
        units = self._chosen_units(seed)
        if level not in LEVELS:
            raise PlexrankError(f"no level {level!r}{did_you_mean(level, LEVELS)}")
        if kind == "embedding" and not self._plan.study.model.has_embedding:
            raise StudyError(
                f"{self._plan.rundir.study}: model.architecture {self._plan.study.model.architecture} has no channel "
                "embedding, only importances; the default channel_embedding has both"
            )
        if level == "tile":
            values = self._of_tiles(kind, method, units)
        else:
            values = self._of_images(kind, method, units)
            values = image_means_to_samples(values, self._samples) if level == "patient" else values
        index = pd.MultiIndex.from_frame(self._rows(level))
        return pd.DataFrame(values, index=index, columns=pd.Index(self.channels, name="channel"))

    def _of_tiles(self, kind: Kind, method: str, units: Sequence[tuple[int, int]]) -> Array:
        """(tile, channel) mean over the seeds."""
        total, count = np.zeros((len(self._tiles.rows), len(self.channels))), np.zeros((len(self._tiles.rows), 1))
        for unit in units:
            scale = self._scale(kind, method, unit)
            for block in attribution_blocks(self._plan, *unit, [method] if kind == "importance" else []):
                total[block.tile_id] += _values_of_block(kind, method, block, self._plan.cohort.outcome) / scale
                count[block.tile_id] += 1
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def _of_images(self, kind: Kind, method: str, units: Sequence[tuple[int, int]]) -> Array:
        """(image, channel) mean over the seeds."""
        shape = (len(self._plan.cohort.images), len(self.channels))
        total, count = np.zeros(shape), np.zeros((shape[0], 1))
        for table in self._image_means(method):
            if (table.fold, table.seed) in units:
                held_out = table.n_tiles > 0
                values = table.importance[method] if kind == "importance" else getattr(table, kind)
                total[held_out] += values[held_out] / self._scale(kind, method, (table.fold, table.seed))
                count[held_out] += 1
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def _scale(self, kind: Kind, method: str, unit: tuple[int, int]) -> float:
        """What the values of a training are divided by: importances are shares, as in the ranking."""
        if kind != "importance":
            return 1.0
        (table,) = [table for table in self._image_means(method) if (table.fold, table.seed) == unit]
        return importance_total(table, self._samples, method)

    def _image_means(self, method: str) -> list[UnitTable]:
        """The image means of every training, read once for each importance."""
        if method not in self._units:
            self._units[method] = [self._read_image_means(fold, seed, method) for fold, seed in self._plan.fold_seeds]
        return self._units[method]

    def _read_image_means(self, fold: int, seed: int, method: str) -> UnitTable:
        table = aggregate_unit(
            attribution_blocks(self._plan, fold, seed, [method]),
            self._tiles.image_of_tile,
            len(self._plan.cohort.images),
            outcome=self._plan.cohort.outcome,
            fold=fold,
            seed=seed,
            classify=None,
            tile_area=self._tiles.tile_area_px,
        )
        return dataclasses.replace(table, contrast={}, importance_by_class={})  # which nobody asks for here

    def _rows(self, level: Level) -> pd.DataFrame:
        """What tells the rows apart, and what is known of them."""
        samples, plan = self._samples, self._plan
        if level == "patient":
            sites = [None] * len(samples) if samples.site is None else samples.site
            return pd.DataFrame(
                {
                    "patient_id": samples.patient_ids,
                    **samples.outcome.columns(samples.label),
                    "site": [None if site is None or site < 0 else samples.site_names[site] for site in sites],
                    "fold": samples.fold,
                }
            )
        images = pd.DataFrame(
            {
                "image_id": [image.image_id for image in plan.cohort.images],
                "patient_id": [image.patient_id for image in plan.cohort.images],
                **plan.cohort.outcome.columns(plan.cohort.labels),
                "site": [image.site for image in plan.cohort.images],
                "fold": [plan.fold_of_patient[image.patient_id] for image in plan.cohort.images],
            }
        )
        if level == "image":
            return images
        place = self._tiles.rows[["tile_id", "row", "col"]].reset_index(drop=True)
        return pd.concat([place, images.iloc[self._tiles.image_of_tile].reset_index(drop=True)], axis=1)

    def _checked_method(self, method: str | None) -> str:
        study = self._plan.study
        if method is None or method in study.attribute.methods:
            return method or study.rank.by
        raise StudyError(
            f"{self._plan.rundir.path}: no importance {method!r} was computed, only "
            f"{', '.join(study.attribute.methods)}; add it to attribute.methods of the study and run it again"
        )

    def _chosen_units(self, seed: int | None) -> list[tuple[int, int]]:
        seeds = range(self._plan.study.train.seeds)
        if seed is not None and seed not in seeds:
            raise PlexrankError(f"{self._plan.rundir.path}: no seed {seed}; there are {seeds.start} to {seeds[-1]}")
        return [(fold, of_unit) for fold, of_unit in self._plan.fold_seeds if seed is None or of_unit == seed]


def _values_of_block(kind: Kind, method: str, block: AttributionBlock, outcome: Outcome) -> npt.NDArray[np.floating]:
    if kind == "importance":
        return outcome.importance(block.values[method], outcome.shown_output(block.logits))
    return block.embedding if kind == "embedding" else block.mean_intensity


def _require_attributions(plan: Plan) -> None:
    for fold, seed in plan.fold_seeds:
        unit = plan.attribute(fold, seed)
        if (reason := unit.why_not_done()) is not None:
            raise MissingInputError(f"{plan.rundir.path}: {unit.name} is not done ({reason}); run plexrank run first")
