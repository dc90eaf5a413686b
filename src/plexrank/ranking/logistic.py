"""Logistic regressions refitted to the embedding: of some channels, or with decoys beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from plexrank.arrays import Array
from plexrank.ranking.aggregate import LinearWeights, UnitTable
from plexrank.ranking.refitting import implied_penalty
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.statistics.means import known_mean

DEFAULT_STRENGTH = 0.1
"""C where the unit's own classifier tells none."""
NEWTON_STEPS, NEWTON_TOLERANCE, SHORTEST_STEP = 50, 1e-7, 1e-6
RIDGE = 1e-9
"""Keeps the direction in which all intercepts move alike from being singular."""


@dataclass(frozen=True)
class TrainingSamples:
    """What a unit was trained on.

    Attributes:
        r: (row, channel) mean embedding of each training sample, standardised; 0 where it lacks the channel.
        known: (row, channel) bool.
        label: (row,) int.
        sample: (row,) which samples these are.
        strength: C of the unit's own classifier, or what serves in its place.
        center, spread: (channel,) of the training samples.
    """

    r: Array
    known: Array
    label: Array
    sample: Array
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
        sample=rows,
        strength=_strength(unit, samples),
        center=center,
        spread=spread,
    )


def _strength(unit: UnitTable, samples: Samples) -> float:
    if unit.linear is None:
        return DEFAULT_STRENGTH
    seen = np.flatnonzero(np.isfinite(unit.training_embedding).any(axis=1))
    label = samples.label[samples.image_sample[seen]]
    penalty = implied_penalty(unit.linear, unit.training_embedding[seen], label)
    return (2.0 if samples.num_classes == 2 else 1.0) / penalty


def fit_logistic(x: Array, label: Array, strength: float) -> LinearWeights:
    """Multinomial logistic regression that minimises C Σ_i s_i loss_i + ½ ‖coef‖², s balancing the classes.

    Newton's method with halved steps where one would overshoot. A fit of 100 × 40 × 2 takes 0.5 ms against 3.6–4.6 ms
    of scikit-learn's lbfgs, one of 300 × 40 × 3 takes 5.1–5.6 against 4.3 (independent channels) to 8.6 (correlated
    ones, as embeddings are). Two classes get −w/2 and +w/2 of the w that one logit would have.

    Args:
        x: (row, column), about standardised.
        label: (row,) int 0 … K − 1, every class occurs.
        strength: C, above 0.

    Returns:
        Weights (class, column) and (class,).
    """
    classes = int(label.max()) + 1
    own = np.equal(label[:, None], np.arange(classes)).astype(np.float64)
    if classes == 2:
        own = own[:, 1:]
    counts = np.bincount(label, minlength=classes)
    weight = strength * len(label) / (classes * counts[label])
    design = np.column_stack([x, np.ones(len(x))])
    theta = np.zeros((own.shape[1], design.shape[1]))
    penalised = np.ones(design.shape[1])
    penalised[-1] = 0.0
    value, probability = _objective(theta, design, own, weight, penalised)
    for _ in range(NEWTON_STEPS):
        slope = ((probability - own) * weight[:, None]).T @ design + theta * penalised
        if np.abs(slope).max() < NEWTON_TOLERANCE * max(1.0, strength):
            break
        step = _newton_step(slope, design, probability, weight, penalised)
        length, before = 1.0, value
        value, probability = _objective(theta - step, design, own, weight, penalised)
        while value > before and length > SHORTEST_STEP:
            length /= 2
            value, probability = _objective(theta - length * step, design, own, weight, penalised)
        theta = theta - length * step
    coef, intercept = theta[:, :-1], theta[:, -1]
    if classes == 2:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return LinearWeights(coef, intercept)


def _objective(theta: Array, design: Array, own: Array, weight: Array, penalised: Array) -> tuple[float, Array]:
    """The value, and the probabilities (row, logit) of classes, or of the second class where there is one logit."""
    logits = design @ theta.T
    if logits.shape[1] == 1:
        loss = np.logaddexp(0, logits) - own * logits
        probability = special.expit(logits)
    else:
        total = special.logsumexp(logits, axis=1, keepdims=True)
        loss = ((total - logits) * own).sum(axis=1, keepdims=True)
        probability = np.exp(logits - total)
    return float((weight[:, None] * loss).sum() + (theta**2 * penalised).sum() / 2), probability


def _newton_step(slope: Array, design: Array, probability: Array, weight: Array, penalised: Array) -> Array:
    logits, width = slope.shape
    hessian = np.zeros((logits, width, logits, width))
    for a in range(logits):
        for b in range(logits):
            curvature = weight * probability[:, a] * ((a == b) - probability[:, b])
            hessian[a, :, b] = (design * curvature[:, None]).T @ design
        hessian[a, :, a] += np.diag(penalised + RIDGE)
    step: Array = np.linalg.solve(hessian.reshape(logits * width, -1), slope.ravel()).reshape(slope.shape)
    return step
