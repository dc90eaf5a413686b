"""Linear classifiers refitted to resampled patients: the part of training that a bootstrap can afford to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from plexrank.arrays import Array
from plexrank.attribution.methods import METHODS
from plexrank.machine.cores import usable_cores
from plexrank.outcome import LinearWeights, Outcome
from plexrank.ranking.aggregate import UnitTable, scaled_to_one
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.ranking.scores import weighted_mean
from plexrank.statistics.means import known_mean

DRAWS_AT_ONCE = 250
NO_SPREAD = 1e-12


def can_refit(units: Sequence[UnitTable], method: str) -> bool:
    """Whether every unit keeps what :func:`refitted_scores` needs, for a method to which it applies."""
    return METHODS[method].is_proportional and all(
        unit.linear is not None and method in unit.importance_by_class and np.isfinite(unit.training_embedding).any()
        for unit in units
    )


def refitted_scores(units: Sequence[UnitTable], samples: Samples, method: str, weights: Array) -> Array:
    """Scores of every draw and seed, each unit's classifier refitted to the patients of the draw.

    The encoder, the penalty and the classes that tiles are predicted as stay; the importances are those of the
    refitted weights, since those of a linear classifier are proportional to its coefficients.

    Args:
        units: of which :func:`can_refit` holds.
        weights: (draw, sample) how often each sample is drawn.

    Returns:
        (draw, seed, channel), NaN where no patient of the draw has the channel.
    """
    seeds = sorted({unit.seed for unit in units})
    result = np.zeros((len(weights), len(seeds), units[0].embedding.shape[1]))
    of_seed = np.zeros_like(result)
    for unit in units:
        scaled, share = _unit_scores(unit, samples, method, weights)
        result[:, seeds.index(unit.seed)] += np.where(share > 0, scaled * share, 0.0)
        of_seed[:, seeds.index(unit.seed)] += share
    return np.divide(result, of_seed, out=np.full_like(result, np.nan), where=of_seed > 0)


def _unit_scores(unit: UnitTable, samples: Samples, method: str, weights: Array) -> tuple[Array, Array]:
    """Scaled importance of every draw, and the weight of the held-out samples that it rests on: (draw, channel)."""
    if unit.linear is None:
        raise ValueError("only a linear classifier can be refitted")
    seen = np.flatnonzero(np.isfinite(unit.training_embedding).any(axis=1))
    sample = samples.image_sample[seen]
    coef = refitted_coefficients(
        samples.outcome,
        unit.linear,
        unit.training_embedding[seen],
        samples.label[sample],
        weights[:, sample],
        samples.stratum[sample],
    )
    fitted = np.abs(unit.linear.coef)
    growth = np.divide(np.abs(coef), fitted, out=np.zeros_like(coef), where=fitted > 0)
    held_out = samples.fold == unit.fold
    by_class = image_means_to_samples(unit.importance_by_class[method], samples)[held_out]
    _, channels, classes = by_class.shape
    drawn = weighted_mean(weights[:, held_out], by_class.reshape(-1, channels * classes))
    importance = (drawn.reshape(-1, channels, classes) * growth.transpose(0, 2, 1)).sum(axis=2)
    share = weights[:, held_out] @ np.isfinite(by_class[..., 0]).astype(np.float64)
    return scaled_to_one(importance), share


def refitted_coefficients(
    outcome: Outcome, linear: LinearWeights, r: Array, label: Array, weights: Array, stratum: Array | None = None
) -> Array:
    """Coefficients of the penalised linear model of every draw.

    The model minimises C × loss + ½ ‖coef‖² over standardised channels. C follows from the fitted weights, where the
    gradient of that sum vanishes. Each draw starts from the fitted weights and takes a few quasi-Newton steps.

    Args:
        outcome: that of the cohort.
        linear: as fitted to all training images, each with weight 1.
        r: (image, channel) of the training images, NaN where an image lacks the channel: it counts as the mean.
        label: (image,) int.
        weights: (draw, image) how often each image is drawn.
        stratum: (image,) int with baselines of their own, such as sites.

    Returns:
        (draw, output, channel).
    """
    fitted, x, spread = _standardised(linear, r)
    refit = outcome.refitting(fitted, x, label, stratum)
    parts = [weights[start : start + DRAWS_AT_ONCE] for start in range(0, len(weights), DRAWS_AT_ONCE)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        coef: Array = np.concatenate(list(pool.map(refit, parts))) / spread
    return coef


def implied_strength(
    outcome: Outcome, linear: LinearWeights, r: Array, label: Array, stratum: Array | None = None
) -> float:
    """C that the fitted weights imply; arguments as for :func:`refitted_coefficients`."""
    fitted, x, _ = _standardised(linear, r)
    return outcome.implied_strength(fitted, x, label, stratum)


def _standardised(linear: LinearWeights, r: Array) -> tuple[LinearWeights, Array, Array]:
    """The weights in units of standardised channels, these (image, channel), and the unit of each (channel,)."""
    known = ~np.isnan(r)
    center = np.nan_to_num(known_mean(r))
    r = np.where(np.isnan(r), center, r)
    spread = np.sqrt(known_mean(np.where(known, (r - center) ** 2, np.nan)))
    spread = np.where(spread > NO_SPREAD * (1 + np.abs(center)), spread, np.inf)
    coef = np.where(np.isfinite(spread), linear.coef * np.where(np.isfinite(spread), spread, 0), 0)
    return LinearWeights(coef, linear.intercept + linear.coef @ center), (r - center) / spread, spread
