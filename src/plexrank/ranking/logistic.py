"""Logistic regressions fitted anew to the embedding: of some channels, or with decoys beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from plexrank.ranking.aggregate import LinearWeights, UnitTable
from plexrank.ranking.refit import implied_penalty
from plexrank.ranking.samples import Array, Samples, image_means_to_samples
from plexrank.ranking.statistics import known_mean

FALLBACK_STRENGTH = 0.1
"""C where the unit's own classifier tells none."""


@dataclass(frozen=True)
class TrainingSamples:
    """What a unit was trained on.

    Attributes:
        r: (row, channel) mean embedding of each training sample, standardised; 0 where it lacks the channel.
        known: (row, channel) bool.
        label: (row,) int.
        strength: C of the unit's own classifier, or what serves in its place.
        center, spread: (channel,) of the training samples.
    """

    r: Array
    known: Array
    label: Array
    strength: float
    center: Array
    spread: Array

    def standardise(self, r: Array) -> Array:
        """(row, channel) in the units of the training samples; 0 where a channel is absent."""
        result: Array = np.nan_to_num((r - self.center) / self.spread)
        return result


def training_samples(unit: UnitTable, samples: Samples) -> TrainingSamples | None:
    """The training samples of a unit, None where it kept no training embedding or lacks a class."""
    means = image_means_to_samples(unit.training_embedding, samples)
    rows = np.flatnonzero(np.isfinite(means).any(axis=1))
    if len(np.unique(samples.label[rows])) < samples.num_classes:
        return None
    r = means[rows]
    center = np.nan_to_num(known_mean(r))
    spread = np.nan_to_num(np.sqrt(known_mean((r - center) ** 2)))
    spread = np.where(spread > 0, spread, np.inf)
    return TrainingSamples(
        r=np.nan_to_num((r - center) / spread),
        known=np.isfinite(r),
        label=samples.label[rows],
        strength=_strength(unit, samples),
        center=center,
        spread=spread,
    )


def _strength(unit: UnitTable, samples: Samples) -> float:
    if unit.linear is None:
        return FALLBACK_STRENGTH
    seen = np.flatnonzero(np.isfinite(unit.training_embedding).any(axis=1))
    label = samples.label[samples.image_sample[seen]]
    penalty = implied_penalty(unit.linear, unit.training_embedding[seen], label)
    return (2.0 if samples.num_classes == 2 else 1.0) / penalty


def fit_logistic(x: Array, label: Array, strength: float) -> LinearWeights:
    """Multinomial, L2 penalty, balanced classes: (row, column), (row,) → weights (class, column)."""
    model = LogisticRegression(C=strength, class_weight="balanced", solver="newton-cholesky", max_iter=200)
    model.fit(x, label)
    coef, intercept = model.coef_, model.intercept_
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return LinearWeights(coef, intercept)
