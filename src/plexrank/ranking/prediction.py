"""How well held-out samples are predicted: metrics, intervals and p-value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.samples import Samples
from plexrank.ranking.scores import patient_weights
from plexrank.statistics.exchange import Exchange
from plexrank.statistics.means import INTERVAL, OUT_OF_FOLD_VARIANCE

MIN_LABELLINGS = 20
"""With fewer different labellings no permutation p-value reaches 0.05."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval by bootstrap over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Performance:
    """Held-out performance.

    Attributes:
        measures: by name, those of the outcome.
        headline: the name of the one by which predictions are compared.
        p_value: of the headline measure against no relation to the outcome, None where :func:`is_confounded`.
    """

    measures: dict[str, Estimate]
    headline: str
    p_value: float | None

    @property
    def main(self) -> Estimate:
        """The headline measure."""
        return self.measures[self.headline]

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; what is not defined is None."""
        plain = {name: {key: _defined(number) for key, number in asdict(value).items()}
                 for name, value in self.measures.items()}  # fmt: skip
        return {**plain, "p_value": self.p_value}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def headline(prediction: Array, samples: Samples) -> float:
    """The headline measure of predictions (sample, column)."""
    return float(samples.outcome.headline_of(prediction, samples.label[None], samples.stratum)[0])


def measure_performance(
    prediction: Array, samples: Samples, draws: int, permutations: int, rng: np.random.Generator
) -> Performance:
    """The measures of the outcome with intervals, and the p-value of the headline one.

    The intervals take the predictions as given and resample patients.

    Args:
        prediction: (sample, column) out of fold.
    """
    weights = np.vstack([np.ones(len(samples)), patient_weights(samples, draws, rng)])
    measures = samples.outcome.measures(prediction, samples.label, weights, samples.stratum)
    return Performance(
        measures={name: _estimate(values) for name, values in measures.items()},
        headline=samples.outcome.headline,
        p_value=prediction_p_value(prediction, samples, permutations, rng),
    )


def headline_difference(
    prediction: Array, other: Array, samples: Samples, draws: int, rng: np.random.Generator
) -> Estimate:
    """Headline measure of some predictions less that of others on the same samples, patients resampled for both alike.

    Args:
        prediction, other: (sample, column) out of fold.
    """
    weights = np.vstack([np.ones(len(samples)), patient_weights(samples, draws, rng)])
    own, of_other = (
        samples.outcome.headline_over(one, samples.label, weights, samples.stratum) for one in (prediction, other)
    )
    return _estimate(own - of_other)


def _estimate(values: Array) -> Estimate:
    """Of the value itself and those of all draws; draws in which it is not defined take no part."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, INTERVAL) if len(drawn) else (np.nan, np.nan)
    return Estimate(float(values[0]), float(low), float(high))


def prediction_p_value(
    prediction: Array, samples: Samples, permutations: int, rng: np.random.Generator
) -> float | None:
    """One-sided p-value that out-of-fold predictions know nothing of the outcome.

    The labels are permuted over patients (within sites, where sites are known) against the predictions as they
    are. That alone is too narrow a null, because every label also trained the units of the other folds: each
    permuted measure is moved away from their mean by √ :data:`~plexrank.statistics.means.OUT_OF_FOLD_VARIANCE`.
    Refitting a small classifier on out-of-fold embeddings instead does not solve this: the embedding of a training
    sample comes from an encoder that has seen the label of the test sample.

    Args:
        prediction: (sample, column) out of fold.

    Returns:
        The p-value, None where :func:`is_confounded`.
    """
    if is_confounded(samples):
        return None
    observed = headline(prediction, samples)
    permuted = samples.outcome.headline_of(prediction, samples.exchange().draw(permutations, rng), samples.stratum)
    widened = permuted.mean() + (permuted - permuted.mean()) * np.sqrt(OUT_OF_FOLD_VARIANCE)
    return float((1 + (widened >= observed - 1e-12).sum()) / (1 + permutations))


def is_confounded(samples: Samples) -> bool:
    """Whether label and site cannot be distinguished.

    So it is where fewer than ``MIN_LABELLINGS`` labellings keep the labels of each site, though the cohort as a
    whole has more: no p-value within sites could then be small.
    """
    if samples.site is None:
        return False
    anywhere = Exchange(samples.label, samples.patient, np.zeros_like(samples.label))
    return has_labellings(anywhere) and not has_labellings(samples.exchange())


def has_labellings(exchange: Exchange) -> bool:
    """Whether there are ``MIN_LABELLINGS`` different labellings, with fewer of which no p-value could be small."""
    return bool(exchange.log_count() >= np.log(MIN_LABELLINGS) - 1e-9)
