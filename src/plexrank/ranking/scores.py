"""Scores, positions and stability, with intervals by bootstrap over patients and seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from plexrank.ranking.samples import Array, Samples

INTERVAL = (2.5, 97.5)
TOP = 10

Refit = Callable[[Array], Array]


@dataclass(frozen=True)
class Scores:
    """One entry a channel.

    Attributes:
        score, low, high: mean importance and its 95 % interval.
        position, position_low, position_high: 1 = best, NaN for excluded channels.
        p_top10: share of bootstrap draws among the first ten, NaN for excluded channels.
        stability: agreement of the position over units, 0 to 1, NaN for excluded channels.
    """

    score: Array
    low: Array
    high: Array
    position: Array
    position_low: Array
    position_high: Array
    p_top10: Array
    stability: Array


def patient_weights(samples: Samples, draws: int, rng: np.random.Generator) -> Array:
    """Bootstrap over patients: how often each sample is drawn, (draw, sample).

    Whole patients are drawn with replacement. Patients are drawn within the set of labels they carry, so that
    no draw loses a class.
    """
    weights = np.zeros((draws, samples.num_patients))
    pattern = np.zeros((samples.num_patients, samples.num_classes), dtype=bool)
    pattern[samples.patient, samples.label] = True
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
        importance: (seed, sample, channel).
        refit: weights (draw, sample) → scores (draw, seed, channel) of classifiers refitted to the drawn patients;
            without it the importances are taken as given.
    """
    seeds, num_samples, channels = importance.shape
    weights = patient_weights(samples, draws, rng)
    taken = max(seeds - 1, 1)
    seed_weights = rng.multinomial(taken, np.full(seeds, 1 / seeds), size=draws) / taken
    if refit is None:
        flat = np.moveaxis(importance, 0, 1).reshape(num_samples, seeds * channels)
        by_seed = (weights @ flat / weights.sum(axis=1, keepdims=True)).reshape(draws, seeds, channels)
    else:
        by_seed = refit(weights)
    result: Array = np.einsum("ds,dsc->dc", seed_weights, by_seed)
    return result


def positions(scores: Array, included: Array) -> Array:
    """Positions along the last axis, 1 for the highest; ties keep channel order; NaN where not included."""
    result = np.full(scores.shape, np.nan)
    order = np.argsort(-scores[..., included], axis=-1, kind="stable")
    result[..., included] = np.argsort(order, axis=-1, kind="stable") + 1.0
    return result


def stability(unit_positions: Array) -> Array:
    """Agreement of the positions over units: 1 − mean |position − median over units| / the same for random orders.

    1 means the same position in every unit, 0 no more agreement than random orders have (by 20,000 of them);
    clipped to 0–1. One unit gives NaN.

    Args:
        unit_positions: (unit, channel) without NaN.
    """
    units, channels = unit_positions.shape
    if units < 2 or channels < 2:
        return np.full(channels, np.nan)
    spread = np.abs(unit_positions - np.median(unit_positions, axis=0)).mean(axis=0)
    agreement: Array = np.clip(1 - spread / _random_spread(units, channels), 0.0, 1.0)
    return agreement


def _random_spread(units: int, channels: int) -> float:
    draws = np.random.default_rng(0).integers(1, channels + 1, size=(20_000, units))
    return float(np.abs(draws - np.median(draws, axis=1, keepdims=True)).mean())


def mean_agreement(unit_importance: Array) -> float:
    """Mean Spearman correlation between the importances (unit, channel) of all pairs of units; NaN for one unit."""
    units = len(unit_importance)
    if units < 2:
        return float("nan")
    ranks = stats.rankdata(unit_importance, axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    ranks = np.divide(ranks, norm, out=np.zeros_like(ranks), where=norm > 0)
    correlation = ranks @ ranks.T
    return float(correlation[np.triu_indices(units, 1)].mean())


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
    moved to the score.

    Args:
        importance: (seed, sample, channel), each unit scaled.
        unit_importance: (unit, channel).
        included: (channel,) bool; excluded channels get scores but no position.
        refit: as in :func:`bootstrap_scores`.
    """
    drawn = bootstrap_scores(importance, samples, draws, rng, refit)
    score = importance.mean(axis=(0, 1))
    moved = np.maximum(drawn - drawn.mean(axis=0) + score, 0.0)
    low, high = _span(drawn, moved)
    drawn_positions = positions(drawn, included)
    position_low, position_high = _span(drawn_positions, positions(moved, included))
    agreement = np.full(len(included), np.nan)
    agreement[included] = stability(positions(unit_importance, included)[:, included])
    return Scores(
        score=score,
        low=low,
        high=high,
        position=positions(score, included),
        position_low=np.floor(position_low),
        position_high=np.ceil(position_high),
        p_top10=np.where(included, (drawn_positions <= TOP).mean(axis=0), np.nan),
        stability=agreement,
    )


def _span(drawn: Array, moved: Array) -> tuple[Array, Array]:
    limits = np.percentile(np.stack([drawn, moved]), INTERVAL, axis=1)
    low, high = limits[0].min(axis=0), limits[1].max(axis=0)
    return low, high
