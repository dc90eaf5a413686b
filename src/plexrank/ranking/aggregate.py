"""Tile → image → sample: the tables that every statistic starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from plexrank.arrays import Array
from plexrank.errors import RunDirError
from plexrank.outcome import LinearWeights, Outcome
from plexrank.ranking.moments import GroupMoments
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.statistics.means import known_mean
from plexrank.wording import counted

Classify = Callable[[Array], Array]
TILES_AT_ONCE = 2048
RESOLUTION = 1e-5
"""Standard deviation, in units of 1 + |mean|, up to which r is taken not to vary: networks in float32 repeat themselves
to no more digits."""


class TileBlock(Protocol):
    """A slice of the held-out tiles of one unit."""

    @property
    def tile_id(self) -> Array:
        """(tile,) int."""

    @property
    def embedding(self) -> Array:
        """(tile, channel)."""

    @property
    def logits(self) -> Array:
        """(tile, output), logits where these are classes."""

    @property
    def mean_intensity(self) -> Array:
        """(tile, channel)."""

    @property
    def weight(self) -> Array:
        """(tile,), 1 on average over the tiles of an image."""

    @property
    def values(self) -> Mapping[str, Array]:
        """Per method (tile, channel, output), signed."""


@dataclass(frozen=True)
class UnitTable:
    """Image means of one trained unit over the tiles that it held out.

    Whatever belongs to a channel is NaN for an image that lacks it.

    Attributes:
        fold, seed: which unit.
        classify: its last part, r (row, channel) → outputs (row, output); it takes NaN as an absent channel. ``None``
            where the network has no channel embedding, and ``embedding`` is NaN all through.
        n_tiles: (image,) tiles seen, 0 for images that were not held out.
        embedding: (image, channel); this and the following are NaN where n_tiles is 0.
        logits: (image, output), what the network says, logits where these are classes.
        mean_intensity: (image, channel).
        importance: per method (image, channel).
        contrast: per method (image, channel, contrast), |own class − mean of the others| where there are classes.
        training_embedding: (image, channel) of the images it was trained on, NaN elsewhere.
        linear: the weights of ``classify`` where it is linear and was fitted to ``training_embedding``.
        importance_by_class: per method (image, channel, output), the part of the importance that comes from tiles
            predicted as the class; its sum over classes is the importance, which is all in the first output where
            there are none.
    """

    fold: int
    seed: int
    classify: Classify | None
    n_tiles: Array
    embedding: Array
    logits: Array
    mean_intensity: Array
    importance: Mapping[str, Array]
    contrast: Mapping[str, Array]
    training_embedding: Array
    linear: LinearWeights | None = None
    importance_by_class: Mapping[str, Array] = field(default_factory=dict)


def aggregate_unit(
    blocks: Iterable[TileBlock],
    image_of_tile: Array,
    num_images: int,
    *,
    outcome: Outcome,
    fold: int,
    seed: int,
    classify: Classify | None,
    training_images: Array | None = None,
    training_embedding: Array | None = None,
    linear: LinearWeights | None = None,
    tile_area: Array | None = None,
) -> UnitTable:
    """Average the tiles of every held-out image, one slice in memory at a time.

    Mean intensities weigh by area, so that they are those of the image; what the network says of tiles by how much
    they count in it.

    Args:
        blocks: the unit's held-out tiles.
        image_of_tile: (all tiles,) int, indexed by tile id.
        num_images: images of the cohort.
        outcome: of the cohort.
        classify: r (row, channel) → logits (row, class), numpy to numpy; ``None`` where there is no embedding.
        training_images, training_embedding: (row,) int and (row, channel), where the checkpoint keeps them.
        linear: the classifier's weights, where it is linear.
        tile_area: (all tiles,) pixels, indexed by tile id; tiles count alike if absent.

    Raises:
        RunDirError: there is no tile at all, or one that the cohort does not have.
    """
    sums: dict[tuple[str, str], GroupMoments] = {}
    area = np.ones(len(image_of_tile)) if tile_area is None else tile_area
    num_outputs = 0
    for block in blocks:
        num_outputs = block.logits.shape[1]
        highest = int(block.tile_id.max(initial=-1))
        if highest >= len(image_of_tile):
            raise RunDirError(
                f"fold {fold}, seed {seed}: the attribution holds tile ids up to {highest}, but the cohort has "
                f"{len(image_of_tile)} tiles; run the attribute stage again"
            )
        _add(block, image_of_tile[block.tile_id], area[block.tile_id], sums, num_images, outcome)
    if not sums:
        raise RunDirError(f"fold {fold}, seed {seed}: the attribution holds no tile; run the attribute stage again")
    means = {key: moments.mean() for key, moments in sums.items()}
    embedding, n_tiles = means["embedding", ""], sums["embedding", ""].count
    by_class = {
        method: _of_image_and_class(moments, n_tiles, num_outputs)
        for (kind, method), moments in sums.items()
        if kind == "by_class"
    }
    known = np.full_like(embedding, np.nan)
    if training_images is not None and training_embedding is not None:
        known[training_images] = training_embedding
    _still_constant(embedding, known)
    return UnitTable(
        fold=fold,
        seed=seed,
        classify=classify,
        n_tiles=n_tiles,
        embedding=embedding,
        logits=means["logits", ""],
        mean_intensity=means["mean_intensity", ""],
        importance={method: values.sum(axis=2) for method, values in by_class.items()},
        contrast={method: mean for (kind, method), mean in means.items() if kind == "contrast"},
        training_embedding=known,
        linear=linear,
        importance_by_class=by_class,
    )


def _still_constant(*tables: Array) -> None:
    """Give a channel that does not vary beyond rounding one value in all tables (image, channel), in place."""
    values = np.concatenate(tables)
    center = np.nan_to_num(known_mean(values))
    constant = ~(np.nan_to_num(np.sqrt(known_mean((values - center) ** 2))) > RESOLUTION * (1 + np.abs(center)))
    for table in tables:
        table[:, constant] = np.where(np.isnan(table[:, constant]), np.nan, center[constant])


def _add(
    block: TileBlock,
    image: Array,
    area: Array,
    sums: dict[tuple[str, str], GroupMoments],
    num_images: int,
    outcome: Outcome,
) -> None:
    """Add the tiles of a block, ``TILES_AT_ONCE`` at a time, so that what is made of them stays in the cache."""

    def add(key: tuple[str, str], group: Array, values: Array, weight: Array | None = None, groups: int = 1) -> None:
        if key not in sums:
            sums[key] = GroupMoments(num_images * groups, values.shape[1:])
        sums[key].update(group, values, weight)

    num_outputs = block.logits.shape[1]
    add(("embedding", ""), image, block.embedding, block.weight)
    add(("logits", ""), image, block.logits, block.weight)
    add(("mean_intensity", ""), image, block.mean_intensity, area)
    for start in range(0, len(image), TILES_AT_ONCE):
        rows = slice(start, start + TILES_AT_ONCE)
        predicted = outcome.shown_output(block.logits[rows])
        for method, values in block.values.items():
            add(
                ("by_class", method),
                image[rows] * num_outputs + predicted,
                outcome.importance(values[rows], predicted),
                block.weight[rows],
                num_outputs,
            )
            add(("contrast", method), image[rows], outcome.contrasts(values[rows]), block.weight[rows])


def _of_image_and_class(moments: GroupMoments, n_tiles: Array, num_outputs: int) -> Array:
    """(image, channel, class): sums of tiles predicted as each class over all tiles of the image, NaN without tiles."""
    total = moments.sum.reshape(len(n_tiles), num_outputs, -1).transpose(0, 2, 1)
    missing = np.isnan(total).any(axis=2) | (n_tiles == 0)[:, None]
    share: Array = np.divide(total, n_tiles[:, None, None], out=np.zeros_like(total), where=n_tiles[:, None, None] > 0)
    return np.where(missing[..., None], np.nan, share)


@dataclass(frozen=True)
class SampleTables:
    """Held-out values of every sample, from the unit of its own fold, one per seed.

    Whatever belongs to a channel is NaN for a sample that lacks it.

    Attributes:
        seeds: the seeds, in the order of the seed axis.
        embedding: (seed, sample, channel) as the unit's classifier takes it.
        prediction: (sample, column) of the ensemble: what the mean outputs mean, mean over seeds.
        mean_intensity: (sample, channel).
        importance, contrast: (seed, sample, channel) and (seed, sample, channel, contrast), each unit scaled so
            that the mean over its samples sums to 1 over the channels (to their share of all channels where its
            samples have only some).
        unit_importance: (unit, channel) mean of the unscaled importance, units ordered by fold, then seed.
        classify: classifier of (fold, seed); empty where the networks have no channel embedding.
        n_images, n_tiles: images and tiles that were held out.
        channel_images, channel_tiles: (channel,) those that have the channel.
    """

    seeds: tuple[int, ...]
    embedding: Array
    prediction: Array
    mean_intensity: Array
    importance: Array
    contrast: Array
    unit_importance: Array
    classify: Mapping[tuple[int, int], Classify]
    n_images: int
    n_tiles: int
    channel_images: Array
    channel_tiles: Array

    @property
    def present(self) -> Array:
        """(sample, channel) bool, whether a sample has the channel."""
        present: Array = np.isfinite(self.mean_intensity)
        return present


def gather_samples(units: Sequence[UnitTable], samples: Samples, method: str) -> SampleTables:
    """Join the units of a cohort: every sample from the units that held it out.

    Args:
        units: one for each fold and seed.
        method: the importance to rank by.

    Raises:
        RunDirError: a unit is missing or twice there, lacks the method, or lacks images that its fold holds out.
    """
    units = sorted(units, key=lambda unit: (unit.fold, unit.seed))
    seeds = _check_units(units, samples, method)
    embedding = _per_seed(units, samples, seeds, lambda unit: unit.embedding)
    logits = _per_seed(units, samples, seeds, lambda unit: unit.logits)
    of_one_seed = [unit for unit in units if unit.seed == seeds[0]]
    return SampleTables(
        seeds=seeds,
        embedding=embedding,
        prediction=samples.outcome.predict(logits).mean(axis=0),
        mean_intensity=_per_seed(units, samples, seeds, lambda unit: unit.mean_intensity).mean(axis=0),
        importance=_scaled(_per_seed(units, samples, seeds, lambda unit: unit.importance[method]), samples),
        contrast=_scaled(_per_seed(units, samples, seeds, lambda unit: unit.contrast[method]), samples),
        unit_importance=np.stack([_held_out_mean(unit.importance[method], unit, samples) for unit in units]),
        classify={(unit.fold, unit.seed): unit.classify for unit in units if unit.classify is not None},
        n_images=len(samples.image_sample),
        n_tiles=int(sum(unit.n_tiles.sum() for unit in of_one_seed)),
        channel_images=np.sum([np.isfinite(unit.mean_intensity).sum(axis=0) for unit in of_one_seed], axis=0),
        channel_tiles=np.sum([unit.n_tiles @ np.isfinite(unit.mean_intensity) for unit in of_one_seed], axis=0),
    )


def _check_units(units: Sequence[UnitTable], samples: Samples, method: str) -> tuple[int, ...]:
    found = [(unit.fold, unit.seed) for unit in units]
    seeds = sorted({seed for _, seed in found})
    wanted = [(int(fold), seed) for fold in np.unique(samples.fold) for seed in seeds]
    if found != wanted:
        missing = sorted(set(wanted) - set(found))
        raise RunDirError(
            f"units (fold, seed) {found} do not cover every fold with every seed once"
            + (f"; missing {missing}" if missing else "")
        )
    for unit in units:
        if method not in unit.importance:
            raise RunDirError(
                f"fold {unit.fold}, seed {unit.seed}: no importance {method!r}, only {sorted(unit.importance)}"
            )
        held_out = samples.fold[samples.image_sample] == unit.fold
        absent = int((held_out & (unit.n_tiles == 0)).sum())
        if absent:
            raise RunDirError(
                f"fold {unit.fold}, seed {unit.seed}: {counted(absent, 'held-out image', 'has')} no tile in the "
                "attribution"
            )
        finite = np.isfinite(unit.embedding) | ~np.isfinite(unit.mean_intensity) | (unit.classify is None)
        if not (finite[held_out].all() and np.isfinite(unit.logits[held_out]).all()):
            raise RunDirError(
                f"fold {unit.fold}, seed {unit.seed}: the held-out embedding is not finite; the training diverged, "
                "train again with a lower train.learning_rate"
            )
    return tuple(seeds)


def _per_seed(
    units: Sequence[UnitTable], samples: Samples, seeds: Sequence[int], column: Callable[[UnitTable], Array]
) -> Array:
    result = np.full((len(seeds), len(samples), *column(units[0]).shape[1:]), np.nan)
    for unit in units:
        rows = samples.fold == unit.fold
        result[seeds.index(unit.seed), rows] = image_means_to_samples(column(unit), samples)[rows]
    return result


def importance_total(unit: UnitTable, samples: Samples, method: str) -> float:
    """What :func:`gather_samples` divides a unit's importance by: the sum over channels of its mean over samples."""
    return float(_total(_held_out_mean(unit.importance[method], unit, samples)[None]).item())


def _held_out_mean(values: Array, unit: UnitTable, samples: Samples) -> Array:
    return known_mean(image_means_to_samples(values, samples)[samples.fold == unit.fold])


def _scaled(values: Array, samples: Samples) -> Array:
    """Scale (seed, sample, channel[, class]) so that each unit's mean over samples sums to 1 over channels."""
    scaled = values.copy()
    for fold in np.unique(samples.fold):
        rows = samples.fold == fold
        scaled[:, rows] /= np.expand_dims(_total(known_mean(values[:, rows], 1)), 1)
    return scaled


def scaled_to_one(importance: Array) -> Array:
    """Scale (row, channel[, class]) so that each row sums to 1 over its channels.

    A row that lacks some of the channels (NaN) sums to the share of those that it has, so that equal channels get
    one over their number whichever are absent.
    """
    scaled: Array = importance / _total(importance)
    return scaled


def _total(importance: Array) -> Array:
    """Sum over channels (axis 1, kept) over the share of channels that are not NaN; 1 where there is nothing."""
    known = ~np.isnan(importance)
    total = np.where(known, importance, 0.0).sum(axis=1, keepdims=True)
    share = known.mean(axis=1, keepdims=True)
    return np.where(total > 0, np.divide(total, share, out=np.ones_like(total), where=share > 0), 1.0)
