"""The pattern test: does a number that was learned out of fold differ between labels, as its training says?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.statistics.exchange import Exchange, columns_alike
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


def trend_scores(values: Array, label: Array, stratum: Array, order: Array) -> Array:
    """The same for labels with an order: slope of the ranks along it, times the place of each class, (class, column).

    Args:
        values, label, stratum: as for :func:`label_scores`.
        order: (class,) place of each label.
    """
    ranks = aligned_ranks(values, stratum)
    place = order.astype(np.float64)[label]
    slope = (place - place.mean()) @ ranks
    scale = ((place - place.mean()) ** 2).sum()
    result: Array = np.outer(order - place.mean(), slope / scale if scale > 0 else 0 * slope)
    return result


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
        ranks = np.zeros(values.shape)
        for rows in (fold == own for own in np.unique(fold)):
            ranks[rows] = aligned_ranks(values[rows], exchange.stratum[rows])
        terms += ranks[:, None] * of_seed / len(held_out)
        own = np.take_along_axis(of_seed, exchange.label[:, None, None], axis=1)[:, 0]
        spread += np.sqrt((ranks**2).sum(axis=0) * (own**2).sum(axis=0)) / len(held_out)
    classes, columns = range(scores.shape[2]), scores.shape[3]

    def total(labels: Array) -> Array:
        result = np.zeros((len(labels), columns))
        for k in classes:
            result += (labels == k).astype(np.float64) @ terms[:, k]
        return result

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
