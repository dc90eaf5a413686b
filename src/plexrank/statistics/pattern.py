"""The pattern test: does a number that was learned out of fold differ between labels, as its training says?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.statistics.exchange import Exchange, Order, columns_alike
from plexrank.statistics.rank_tests import aligned_ranks

SHARED_ENCODER, OWN_ENCODERS = 1.5, 2.0
"""λ, the price of out-of-fold training: every label also trained the units of the other folds.

To first order the statistic is a sum over pairs of patients of different folds in which every pair stands twice; its
variance is at most twice what exchanging labels within folds shows (Bengio & Grandvalet 2004 on why no estimate from
the folds can tell). Where all channels share one encoder 1.5 was enough in simulation, see docs/evidence.md.
"""


@dataclass(frozen=True)
class PatternTest:
    """One entry a column.

    Attributes:
        effect: rank correlation of the held-out values with what the training patients of their unit say of the label,
            −1 to 1; above 0 where training is confirmed.
        z: the statistic in standard deviations of its permutation distribution; NaN for a column without variation.
        p: one-sided permutation p-value with the deviation from the mean divided by √λ; 1 for a column without
            variation.

    All are NaN where the samples with a value allow one labelling only, or there are none.
    """

    effect: Array
    z: Array
    p: Array


def label_scores(values: Array, label: Array, stratum: Array, classes: int) -> Array:
    """What the training patients of a unit say of each label: mean rank of the class, (class, column).

    Args:
        values: (sample, column) of training samples, NaN takes no part.
        label, stratum: (sample,) int; ranks are aligned within strata, such as sites.
        classes: how many there are; 0 for one that does not occur.
    """
    ranks, known = aligned_ranks(values, stratum), ~np.isnan(values)
    result = np.zeros((classes, values.shape[1]))
    for k in np.unique(label):
        rows = label == k
        result[k] = ranks[rows].sum(axis=0) / np.maximum(known[rows].sum(axis=0), 1)
    return result


def trend_slope(values: Array, place: Array, stratum: Array) -> tuple[Array, float]:
    """What the training patients of a unit say of an order: slope of aligned ranks along it, (column,), and its mean.

    Args:
        values: (sample, column) of training samples, NaN takes no part.
        place: (sample,) numbers along which values may rise or fall.
        stratum: (sample,) int; ranks are aligned within strata, such as sites.
    """
    deviation = place - place.mean()
    scale = (deviation**2).sum()
    along = deviation @ aligned_ranks(values, stratum)
    slope: Array = along / scale if scale > 0 else 0 * along
    return slope, float(place.mean())


def pattern_test(
    held_out: Array,
    scores: Array,
    fold: Array,
    exchange: Exchange,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """T = Σ_i s_i · â(y_i), with s the aligned rank of held-out sample i within its fold and â its unit's label scores.

    Every unit thus brings its own sign and scale. T is the mean over seeds.

    Args:
        held_out: (seed, sample, column) values of each sample from the unit that held it out, NaN where it has none,
            in all seeds or in none.
        scores: (seed, sample, class, column), :func:`label_scores` of that unit.
        fold: (sample,) int; values compare within folds only.
        exchange: strata are folds, or parts of them such as sites.
        variance: λ.
        draws: labellings to compare with, where there are too many for all.
    """
    effect, z, p = np.full((3, held_out.shape[2]), np.nan)
    for rows, columns, among in columns_alike(held_out[0], exchange):
        own = held_out[:, rows][..., columns], scores[:, rows][..., columns], fold[rows]
        found = _pattern_test(*own, among, variance, draws, rng)
        effect[columns], z[columns], p[columns] = found.effect, found.z, found.p
    return PatternTest(effect, z, p)


def trend_pattern_test(
    held_out: Array,
    slope: Array,
    center: Array,
    fold: Array,
    order: Order,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """The same along an order: T = Σ_i s_i · slope · place_i, with the slope that the unit's training patients give.

    Args:
        held_out, fold, variance, draws: as for :func:`pattern_test`.
        slope, center: (seed, sample, column) and (seed, sample), :func:`trend_slope` of the unit that held the sample
            out.
        order: the numbers; strata are folds, or parts of them such as sites.
    """
    effect, z, p = np.full((3, held_out.shape[2]), np.nan)
    for rows, columns, among in columns_alike(held_out[0], order.exchange):
        own = held_out[:, rows][..., columns], slope[:, rows][..., columns], center[:, rows], fold[rows]
        found = _trend_pattern_test(*own, order.place, among, variance, draws, rng)
        effect[columns], z[columns], p[columns] = found.effect, found.z, found.p
    return PatternTest(effect, z, p)


def _pattern_test(
    held_out: Array,
    scores: Array,
    fold: Array,
    exchange: Exchange,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """Args: as for :func:`pattern_test`, without NaN."""
    terms = np.zeros(scores.shape[1:])
    spread = np.zeros(held_out.shape[2])
    for values, of_seed in zip(held_out, scores, strict=True):
        ranks = _ranks_within_folds(values, fold, exchange.stratum)
        terms += ranks[:, None] * of_seed / len(held_out)
        own = np.take_along_axis(of_seed, exchange.label[:, None, None], axis=1)[:, 0]
        spread += np.sqrt((ranks**2).sum(axis=0) * (own**2).sum(axis=0)) / len(held_out)
    classes, columns = range(scores.shape[2]), scores.shape[3]

    def total(labels: Array) -> Array:
        result = np.zeros((len(labels), columns))
        for k in classes:
            result += (labels == k).astype(np.float64) @ terms[:, k]
        return result

    return _compare(total, spread, exchange, variance, draws, rng)


def _trend_pattern_test(
    held_out: Array,
    slope: Array,
    center: Array,
    fold: Array,
    place: Array,
    exchange: Exchange,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """Args: as for :func:`trend_pattern_test`, without NaN; ``place`` (label,)."""
    terms = np.zeros(held_out.shape[1:])
    spread = np.zeros(held_out.shape[2])
    deviation = place - place[exchange.label].mean()
    for values, of_seed, middle in zip(held_out, slope, center, strict=True):
        ranks = _ranks_within_folds(values, fold, exchange.stratum)
        terms += ranks * of_seed / len(held_out)
        own = of_seed * (place[exchange.label] - middle)[:, None]
        spread += np.sqrt((ranks**2).sum(axis=0) * (own**2).sum(axis=0)) / len(held_out)

    def total(labels: Array) -> Array:
        result: Array = deviation[labels] @ terms
        return result

    return _compare(total, spread, exchange, variance, draws, rng)


def _ranks_within_folds(values: Array, fold: Array, stratum: Array) -> Array:
    ranks = np.zeros(values.shape)
    for rows in (fold == own for own in np.unique(fold)):
        ranks[rows] = aligned_ranks(values[rows], stratum[rows])
    return ranks


def _compare(
    total: Callable[[Array], Array],
    spread: Array,
    exchange: Exchange,
    variance: float,
    draws: int,
    rng: np.random.Generator,
) -> PatternTest:
    """The observed statistic beside that of other labellings.

    Args:
        total: labels (labelling, sample) → statistic (labelling, column).
        spread: (column,) the largest statistic there could be.
    """
    observed = total(exchange.label[None])[0]
    labellings = exchange.labellings(draws, rng)
    drawn = np.concatenate([total(labels) for labels in labellings])
    center, deviation = drawn.mean(axis=0), drawn.std(axis=0)
    varies = deviation > 1e-12 * (1 + spread)
    needed = center + (observed - center) / np.sqrt(variance)
    reached = (drawn >= needed - 1e-9 * (1 + np.abs(needed))).sum(axis=0)
    return PatternTest(
        effect=np.divide(observed, spread, out=np.zeros_like(observed), where=spread > 0),
        z=np.divide(observed - center, deviation, out=np.full_like(observed, np.nan), where=varies),
        p=np.where(varies, labellings.p_value(reached, len(drawn)), 1.0),
    )
