"""What the networks that hold a tile's patient out say of some channels of it, on the scale of the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array, FloatArray
from plexrank.attribution.store import AttributionBlock
from plexrank.outcome import Outcome
from plexrank.planning.plan import Plan
from plexrank.ranking.aggregate import SampleTables, UnitTable, gather_samples, importance_total
from plexrank.ranking.directed import directed_r, direction_of_unit
from plexrank.ranking.pattern import learned_embedding
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.stages.attributions import attribution_blocks
from plexrank.stages.tile_table import TileTable
from plexrank.stages.trained_units import read_trained
from plexrank.stages.unit_tables import image_means


@dataclass(frozen=True)
class HeldOutValues:
    """Held-out values of a run.

    Attributes:
        tables: of every sample.
        r: (sample, channel) as in importance_per_patient; NaN all through where networks have no embedding.
        tile_r: (tile, chosen channel) float32 of every tile, by the same sign and scale, mean over seeds; NaN where
            its image lacks the channel, or there is no embedding.
        tile_importance: (tile, chosen channel) float32, mean over seeds; the mean over patients sums to 1 over all
            channels, as in the ranking.
    """

    tables: SampleTables
    r: FloatArray
    tile_r: Array
    tile_importance: Array


def read_held_out(plan: Plan, table: TileTable, samples: Samples, chosen: Sequence[int]) -> HeldOutValues:
    """Read every attribution once.

    Args:
        chosen: channels whose values of tiles are kept, so that memory does not grow with all of them.

    Raises:
        DamagedOutputError: a checkpoint or an attribution is damaged, or that of another unit.
    """
    method, units = plan.study.rank.by, []
    sums = np.zeros((2, len(table.rows), len(chosen)), dtype=np.float32)
    seeds = np.zeros((len(table.rows), 1), dtype=np.float32)
    for fold, seed in plan.fold_seeds:
        tap = _Tap(method, chosen, plan.cohort.outcome)
        blocks = tap.passing(attribution_blocks(plan, fold, seed, [method]))
        unit = image_means(blocks, read_trained(plan, fold, seed), table)
        units.append(unit)
        r, importance = tap.values()
        center, size = _direction(unit, samples, chosen)
        sums[0, tap.tiles] += size * (r - center)
        sums[1, tap.tiles] += importance / importance_total(unit, samples, method)
        seeds[tap.tiles] += 1
    means = np.divide(sums, seeds, out=np.full_like(sums, np.nan), where=seeds > 0)
    tables = gather_samples(units, samples, method)
    learned = learned_embedding(units, tables, samples) if tables.classify else None
    of_samples = np.full(tables.mean_intensity.shape, np.nan) if learned is None else directed_r(learned, samples)
    return HeldOutValues(tables, of_samples, means[0], means[1])


class _Tap:
    """Keeps some channels of blocks that pass."""

    def __init__(self, method: str, chosen: Sequence[int], outcome: Outcome) -> None:
        self._method, self._chosen, self._outcome = method, list(chosen), outcome
        self._tiles: list[Array] = []
        self._kept: list[Array] = []

    def passing(self, blocks: Iterator[AttributionBlock]) -> Iterator[AttributionBlock]:
        for block in blocks:
            values = block.values[self._method][:, self._chosen]
            importance = self._outcome.importance(values, self._outcome.shown_output(block.logits))
            self._tiles.append(block.tile_id)
            self._kept.append(np.stack([block.embedding[:, self._chosen], importance]))
            yield block

    @property
    def tiles(self) -> Array:
        """(row,) indices of the tiles."""
        return np.concatenate(self._tiles)

    def values(self) -> Array:
        """r and importance, (2, row, chosen channel)."""
        return np.concatenate(self._kept, axis=1)


def _direction(unit: UnitTable, samples: Samples, chosen: Sequence[int]) -> tuple[Array, Array]:
    """Centre and factor (chosen channel,) of r; NaN where there is no embedding."""
    r = image_means_to_samples(unit.training_embedding, samples)
    rows = np.flatnonzero(np.isfinite(r).any(axis=1))
    if not len(rows):
        nothing = np.full(len(chosen), np.nan)
        return nothing, nothing
    center, size = direction_of_unit(r[rows], rows, samples)
    return center[list(chosen)], size[list(chosen)]
