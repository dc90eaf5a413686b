"""Scores, positions and stability, with intervals by bootstrap over patients and seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from plexrank.arrays import Array
from plexrank.ranking.agreement import borda_points
from plexrank.ranking.samples import Samples
from plexrank.statistics.means import INTERVAL, known_mean

TOP = 10

Refit = Callable[[Array], Array]


@dataclass(frozen=True)
class Scores:
    """One entry a channel.

    Attributes:
        score, low, high: mean importance and its interval; the intervals hold for all channels at once with 95 %.
        position, position_low, position_high: 1 = best, NaN for excluded channels; intervals as those of the score.
        p_top10: share of bootstrap draws among the first ten, NaN for excluded channels.
        stability: agreement of the position over units, 0 to 1, NaN for excluded channels.
        borda_position: position by the mean position over units instead of the mean importance.
    """

    score: Array
    low: Array
    high: Array
    position: Array
    position_low: Array
    position_high: Array
    p_top10: Array
    stability: Array
    borda_position: Array


def patient_weights(samples: Samples, draws: int, rng: np.random.Generator) -> Array:
    """Bootstrap over patients: how often each sample is drawn, (draw, sample).

    Whole patients are drawn with replacement, within the set of groups of the outcome that they belong to, so that no
    draw loses a class.
    """
    weights = np.zeros((draws, samples.num_patients))
    pattern = np.zeros((samples.num_patients, len(samples.outcome.groups)), dtype=bool)
    pattern[samples.patient, samples.group] = True
    for kind in np.unique(pattern, axis=0):
        members = np.flatnonzero((pattern == kind).all(axis=1))
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    drawn: Array = weights[:, samples.patient]
    return drawn


def bootstrap_scores(
    importance: Array, samples: Samples, draws: int, rng: np.random.Generator, refit: Refit | None = None
) -> Array:
    """Scores of every bootstrap draw, (draw, channel).

    Each draw takes patients with replacement and, of S seeds, S − 1 with replacement: with that number the
    variance between seeds enters without bias (Rao & Wu 1988). One seed is kept as it is.

    Args:
        importance: (seed, sample, channel), NaN where a sample lacks the channel.
        refit: weights (draw, sample) → scores (draw, seed, channel) of classifiers refitted to the drawn patients;
            without it the importances are taken as given.

    Returns:
        (draw, channel), NaN where no patient of the draw has the channel.
    """
    seeds, num_samples, channels = importance.shape
    weights = patient_weights(samples, draws, rng)
    taken = max(seeds - 1, 1)
    seed_weights = rng.multinomial(taken, np.full(seeds, 1 / seeds), size=draws) / taken
    if refit is None:
        flat = np.moveaxis(importance, 0, 1).reshape(num_samples, seeds * channels)
        by_seed = weighted_mean(weights, flat).reshape(draws, seeds, channels)
    else:
        by_seed = refit(weights)
    result: Array = np.einsum("ds,dsc->dc", seed_weights, by_seed)
    return result


def weighted_mean(weights: Array, values: Array) -> Array:
    """Means of every draw over the rows that have a value.

    Args:
        weights: (draw, row).
        values: (row, column), NaN where a row has no value.

    Returns:
        (draw, column), NaN where no row with a value has weight.
    """
    known = ~np.isnan(values)
    total, weight = weights @ np.where(known, values, 0.0), weights.sum(axis=1, keepdims=True)
    if not known.all():
        weight = weights @ known.astype(np.float64)
    mean: Array = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean


def positions(scores: Array, included: Array) -> Array:
    """Positions along the last axis, 1 for the highest; ties keep channel order.

    NaN where not included or without a score.
    """
    result = np.full(scores.shape, np.nan)
    order = np.argsort(-scores[..., included], axis=-1, kind="stable")  # NaN comes last
    result[..., included] = np.argsort(order, axis=-1, kind="stable") + 1.0
    return np.where(np.isnan(scores), np.nan, result)


def stability(unit_positions: Array) -> Array:
    """Agreement of the positions over units: 1 − mean |position − median over units| / the same for random orders.

    1 means the same position in every unit, 0 no more agreement than random orders have (by 20,000 of them);
    clipped to 0–1. One unit gives NaN.

    Args:
        unit_positions: (unit, channel), NaN where a unit has not seen the channel. The positions of a unit that
            has seen some of the channels are spread over the whole order.
    """
    units, channels = unit_positions.shape
    result = np.full(channels, np.nan)
    known = ~np.isnan(unit_positions)
    seen = np.maximum(known.sum(axis=1, keepdims=True), 1)
    spread_out = np.where(known, (unit_positions - 0.5) * (channels / seen) + 0.5, np.nan)
    for count in range(2, units + 1):
        alike = known.sum(axis=0) == count
        if channels < 2 or not alike.any():
            continue
        own = np.sort(spread_out[:, alike], axis=0)[:count]
        spread = np.abs(own - np.median(own, axis=0)).mean(axis=0)
        result[alike] = np.clip(1 - spread / _random_spread(count, channels), 0.0, 1.0)
    return result


def _random_spread(units: int, channels: int) -> float:
    draws = np.random.default_rng(0).integers(1, channels + 1, size=(20_000, units))
    return float(np.abs(draws - np.median(draws, axis=1, keepdims=True)).mean())


def score_channels(
    importance: Array,
    unit_importance: Array,
    samples: Samples,
    included: Array,
    draws: int,
    rng: np.random.Generator,
    refit: Refit | None = None,
) -> Scores:
    """Score, order and compare all channels.

    Resampling adds noise to what was fitted, and noise takes share from strong channels and gives it to weak ones:
    the draws do not lie around the score. The intervals therefore span both the draws as they are and the draws
    moved to the score. Their percentiles are those between which 95 % of the draws lie with all ranked channels at
    once, so that they hold for whatever channel comes out first.

    Args:
        importance: (seed, sample, channel), each unit scaled; NaN where a sample lacks the channel.
        unit_importance: (unit, channel), NaN where a unit has not seen the channel.
        included: (channel,) bool; excluded channels get scores but no position.
        refit: as in :func:`bootstrap_scores`.
    """
    drawn = bootstrap_scores(importance, samples, draws, rng, refit)
    score = known_mean(importance, (0, 1))
    moved = np.maximum(drawn - known_mean(drawn) + score, 0.0)
    tail = simultaneous_tail(drawn[:, included])
    low, high = _span(drawn, moved, tail)
    drawn_positions = positions(drawn, included)
    position_low, position_high = _span(drawn_positions, positions(moved, included), tail)
    unit_positions = positions(unit_importance, included)
    agreement = np.full(len(included), np.nan)
    agreement[included] = stability(unit_positions[:, included])
    return Scores(
        score=score,
        low=low,
        high=high,
        position=positions(score, included),
        position_low=np.floor(position_low),
        position_high=np.ceil(position_high),
        p_top10=known_mean(np.where(np.isnan(drawn_positions), np.nan, drawn_positions <= TOP)),
        stability=agreement,
        borda_position=positions(borda_points(unit_positions), included),
    )


def simultaneous_tail(drawn: Array) -> float:
    """Percentage to cut off at either end of every column so that 95 % of the rows lie within all of them.

    Balanced simultaneous confidence sets (Beran 1988): each column is cut by the same percentile.

    Args:
        drawn: (draw, column), NaN takes no part.
    """
    known = ~np.isnan(drawn)
    count = np.maximum(known.sum(axis=0), 1)
    rank = (stats.rankdata(np.where(known, drawn, np.inf), axis=0) - 0.5) / count
    tail = np.where(known, np.minimum(rank, 1 - rank), 0.5)
    return float(100 * np.quantile(tail.min(axis=1), 1 - (INTERVAL[1] - INTERVAL[0]) / 100))


def _span(drawn: Array, moved: Array, tail: float) -> tuple[Array, Array]:
    """Limits (channel,) that hold both kinds of draws but for a ``tail`` of so many per cent at either end."""
    both = np.stack([drawn, moved])
    ends = (tail, 100 - tail)
    limits = np.percentile(both, ends, axis=1)
    gaps = np.isnan(both).any(axis=(0, 1)) & ~np.isnan(both).all(axis=(0, 1))
    limits[..., gaps] = np.nanpercentile(both[..., gaps], ends, axis=1)
    low, high = limits[0].min(axis=0), limits[1].max(axis=0)
    return low, high
