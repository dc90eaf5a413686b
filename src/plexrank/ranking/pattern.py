"""The part of r that brightness does not explain, and what it says of the label: whether the arrangement differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import RESOLUTION, SampleTables, UnitTable
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.readout.blending import LOG_OFFSET, log_means
from plexrank.statistics.means import known_mean
from plexrank.statistics.pattern import PatternTest, label_scores, pattern_test, trend_pattern_test, trend_slope


@dataclass(frozen=True)
class Learned:
    """One number of every channel from every unit, of the samples that it holds out and of those it was trained on.

    Attributes:
        held_out: (seed, sample, channel) from the unit that held the sample out; NaN where the sample lacks the
            channel.
        training: per unit its seed (place on the seed axis), fold, training samples (row,), and their values
            (row, channel).
    """

    held_out: Array
    training: tuple[tuple[int, int, Array, Array], ...]


def log_intensities(mean_intensity: Array, training: Array) -> Array:
    """log(mean + 1 % of the channel's mean over the training samples), of (sample, channel) means; below 0 counts as 0.

    Args:
        training: (row,) rows that the offset is taken from.
    """
    offset = LOG_OFFSET * np.nan_to_num(known_mean(np.maximum(mean_intensity[training], 0.0)))
    return log_means(mean_intensity, np.where(offset > 0, offset, 1.0))


def amounts(values: Array) -> Array:
    """Values (sample, column) as they compare between sites: columns without negative ones by their logarithm.

    Amounts vary by ratios; without sites the order, and so every rank test, stays what it is.
    """
    is_amount = ~(values < 0).any(axis=0)
    return np.where(is_amount, log_intensities(values, np.arange(len(values))), values)


def arrangement(units: Sequence[UnitTable], tables: SampleTables, samples: Samples) -> Learned | None:
    """r less what a regression on the log mean intensity and its square explains of it, fitted by each unit to its
    training samples; ``None`` where units have no embedding of these.
    """
    held_out = np.full(tables.embedding.shape, np.nan)
    training = []
    for unit in units:
        r = image_means_to_samples(unit.training_embedding, samples)
        rows = np.flatnonzero(np.isfinite(r).any(axis=1))
        if not len(rows):
            return None
        logs = log_intensities(tables.mean_intensity, rows)
        seed, own = tables.seeds.index(unit.seed), samples.fold == unit.fold
        rest = _Regression(r[rows], logs[rows])
        held_out[seed, own] = rest.residual(tables.embedding[seed, own], logs[own])
        training.append((seed, unit.fold, rows, rest.residual(r[rows], logs[rows])))
    return Learned(held_out, tuple(training))


def learned_embedding(units: Sequence[UnitTable], tables: SampleTables, samples: Samples) -> Learned | None:
    """r as it is; ``None`` where units have no embedding of their training samples."""
    training = []
    for unit in units:
        r = image_means_to_samples(unit.training_embedding, samples)
        rows = np.flatnonzero(np.isfinite(r).any(axis=1))
        if not len(rows):
            return None
        training.append((tables.seeds.index(unit.seed), unit.fold, rows, r[rows]))
    return Learned(tables.embedding, tuple(training))


class _Regression:
    """r (row, channel) on the log mean and its square, for each channel by itself.

    The square takes up what saturation does to an embedding that reads brightness alone.
    """

    def __init__(self, r: Array, logs: Array) -> None:
        logs = np.where(np.isnan(r), np.nan, logs)
        self.r_center, self.log_center = np.nan_to_num(known_mean(r)), np.nan_to_num(known_mean(logs))
        deviation, line = r - self.r_center, logs - self.log_center
        self.square_center = np.nan_to_num(known_mean(line**2))
        self.tilt = _slope(line**2 - self.square_center, line)
        curve = line**2 - self.square_center - self.tilt * line
        self.slope, self.bend = _slope(deviation, line), _slope(deviation, curve)
        self.varies = np.nan_to_num(np.sqrt(known_mean(deviation**2))) > RESOLUTION * (1 + np.abs(self.r_center))

    def residual(self, r: Array, logs: Array) -> Array:
        """0 all through for a channel whose r does not vary, NaN where absent."""
        line = logs - self.log_center
        curve = line**2 - self.square_center - self.tilt * line
        rest = r - self.r_center - self.slope * line - self.bend * curve
        result: Array = np.where(np.isnan(r), np.nan, np.where(self.varies, rest, 0.0))
        return result


def _slope(values: Array, along: Array) -> Array:
    """(column,) of the regression of values on what has mean 0, both (row, column); 0 where that does not vary."""
    variance = np.nan_to_num(known_mean(along**2))
    product = np.nan_to_num(known_mean(values * along))
    slope: Array = np.divide(product, variance, out=np.zeros_like(variance), where=variance > 1e-12)
    return slope


def differs_in_arrangement(
    values: Learned, samples: Samples, variance: float, draws: int, rng: np.random.Generator
) -> PatternTest:
    """Whether the arrangement differs between labels; each unit has the sign that its training samples give it.

    Args:
        variance: λ, see :mod:`plexrank.statistics.pattern`.
        draws: labellings, exchanged over whole patients within folds, and sites where they are known.
    """
    places = samples.places()
    if places is not None:
        return _along(places, samples.outcome.places, values, samples, variance, draws, rng)
    scores = np.zeros((*values.held_out.shape[:2], len(samples.outcome), values.held_out.shape[2]))
    for seed, fold, rows, r in values.training:
        learned = label_scores(r, samples.label[rows], samples.stratum[rows], len(samples.outcome))
        scores[seed, samples.fold == fold] = learned
    exchange = samples.exchange(within_folds=True)
    return pattern_test(values.held_out, scores, samples.fold, exchange, variance, draws, rng)


def rises_in_arrangement(
    values: Learned, samples: Samples, order: Array, variance: float, draws: int, rng: np.random.Generator
) -> PatternTest:
    """Whether the arrangement rises or falls along an order of the classes; arguments as for
    :func:`differs_in_arrangement`.

    Args:
        order: (level,) place of each class.
    """

    def places(label: Array, stratum: Array) -> Array:
        own: Array = order[label]
        return own

    return _along(order[samples.label], places, values, samples, variance, draws, rng)


def _along(
    place: Array,
    training_places: Callable[[Array, Array], Array | None],
    values: Learned,
    samples: Samples,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """Args: training_places: label (row,), stratum (row,) → numbers (row,) of the training samples of a unit."""
    slope, center = np.zeros(values.held_out.shape), np.zeros(values.held_out.shape[:2])
    for seed, fold, rows, r in values.training:
        own = training_places(samples.label[rows], samples.stratum[rows])
        if own is not None:
            held_out = samples.fold == fold
            slope[seed, held_out], center[seed, held_out] = trend_slope(r, own, samples.stratum[rows])
    order = samples.order(place, within_folds=True)
    return trend_pattern_test(values.held_out, slope, center, samples.fold, order, variance, draws, rng)
