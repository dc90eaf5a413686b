"""How well held-out samples are predicted: metrics, intervals and p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

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

    ``p_value`` is that of the AUC against no relation to the label, None where :func:`is_confounded`.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: Estimate
    p_value: float | None


def auc(probability: Array, label: Array) -> float:
    """Area under the ROC curve; for more than two classes the mean of one against the rest.

    Args:
        probability: (sample, class).
        label: (sample,) int; every class must occur.
    """
    return float(_auc_of_labels(probability, label[None])[0])


def _auc_of_labels(probability: Array, labels: Array) -> Array:
    """AUC of fixed predictions for many labellings (draw, sample) with equal class counts: Mann-Whitney's U."""
    ranks = stats.rankdata(probability, axis=0)
    total: Array = np.zeros(len(labels))
    classes = probability.shape[1]
    for k in range(classes):
        own = labels == k
        positive = own.sum(axis=1)
        u = own @ ranks[:, k] - positive * (positive + 1) / 2
        total += u / (positive * (labels.shape[1] - positive))
    mean: Array = total / classes
    return mean


def measure_performance(
    probability: Array, samples: Samples, draws: int, permutations: int, rng: np.random.Generator
) -> Performance:
    """Accuracy, balanced accuracy and AUC with intervals, and the p-value of the AUC.

    The intervals take the predictions as given and resample patients.

    Args:
        probability: (sample, class) of out-of-fold predictions.
    """
    weights = np.vstack([np.ones(len(samples)), patient_weights(samples, draws, rng)])
    correct = (probability.argmax(axis=1) == samples.label).astype(np.float64)
    own = np.equal(samples.label[:, None], np.arange(samples.num_classes)).astype(np.float64)
    accuracy = weights @ correct / weights.sum(axis=1)
    recall = (weights * correct) @ own / (weights @ own)
    return Performance(
        accuracy=_estimate(accuracy),
        balanced_accuracy=_estimate(recall.mean(axis=1)),
        auc=_estimate(_weighted_auc(probability, own, weights)),
        p_value=prediction_p_value(probability, samples, permutations, rng),
    )


def auc_difference(
    probability: Array, other: Array, samples: Samples, draws: int, rng: np.random.Generator
) -> Estimate:
    """AUC of some predictions less that of others on the same samples, patients resampled for both alike.

    Args:
        probability, other: (sample, class) of out-of-fold predictions.
    """
    weights = np.vstack([np.ones(len(samples)), patient_weights(samples, draws, rng)])
    own = np.equal(samples.label[:, None], np.arange(samples.num_classes)).astype(np.float64)
    return _estimate(_weighted_auc(probability, own, weights) - _weighted_auc(other, own, weights))


def _estimate(values: Array) -> Estimate:
    low, high = np.percentile(values[1:], INTERVAL)
    return Estimate(float(values[0]), float(low), float(high))


def _weighted_auc(probability: Array, own: Array, weights: Array) -> Array:
    total: Array = np.zeros(len(weights))
    for k in range(own.shape[1]):
        inside, outside = own[:, k] > 0, own[:, k] == 0
        higher = np.sign(probability[inside, k][:, None] - probability[outside, k]) / 2 + 0.5
        wins = ((weights[:, inside] @ higher) * weights[:, outside]).sum(axis=1)
        total += wins / (weights[:, inside].sum(axis=1) * weights[:, outside].sum(axis=1))
    mean: Array = total / own.shape[1]
    return mean


def prediction_p_value(
    probability: Array, samples: Samples, permutations: int, rng: np.random.Generator
) -> float | None:
    """One-sided p-value that out-of-fold predictions know nothing of the label.

    The labels are permuted over patients (within sites, where sites are known) against the predictions as they
    are. That alone is too narrow a null, because every label also trained the units of the other folds: each
    permuted AUC is moved away from their mean by √ :data:`~plexrank.statistics.means.OUT_OF_FOLD_VARIANCE`.
    Refitting a small classifier on out-of-fold embeddings instead does not solve this: the embedding of a training
    sample comes from an encoder that has seen the label of the test sample.

    Args:
        probability: (sample, class) of out-of-fold predictions.

    Returns:
        The p-value, None where :func:`is_confounded`.
    """
    if is_confounded(samples):
        return None
    observed = auc(probability, samples.label)
    permuted = _auc_of_labels(probability, samples.exchange().draw(permutations, rng))
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
