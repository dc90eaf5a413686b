"""Logistic regression with a ridge penalty and balanced classes, by Newton's method."""

from __future__ import annotations

import numpy as np
import scipy

from plexrank.arrays import Array

NEWTON_STEPS, NEWTON_TOLERANCE, SHORTEST_STEP = 50, 1e-7, 1e-6
RIDGE = 1e-9
"""Keeps the direction in which all intercepts move alike from being singular."""


def fit_logistic(x: Array, label: Array, strength: float, weight: Array | None = None) -> tuple[Array, Array]:
    """Multinomial logistic regression that minimises C Σ_i s_i loss_i + ½ ‖coef‖², s balancing the classes.

    Newton's method with halved steps where one would overshoot. A fit of 100 × 40 × 2 takes 0.5 ms against 3.6–4.6 ms
    of scikit-learn's lbfgs, one of 300 × 40 × 3 takes 5.1–5.6 against 4.3 (independent channels) to 8.6 (correlated
    ones, as embeddings are). Two classes get −w/2 and +w/2 of the w that one logit would have.

    Args:
        x: (row, column), about standardised.
        label: (row,) int 0 … K − 1, every class occurs.
        strength: C, above 0.
        weight: (row,) how often each row counts; once if absent.

    Returns:
        Weights (class, column) and (class,).
    """
    classes = int(label.max()) + 1
    own = np.equal(label[:, None], np.arange(classes)).astype(np.float64)
    if classes == 2:
        own = own[:, 1:]
    counts = np.bincount(label, weight, minlength=classes)
    balance = strength * counts.sum() / (classes * counts[label])
    weight = balance if weight is None else balance * weight
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
    return coef, intercept


def _objective(theta: Array, design: Array, own: Array, weight: Array, penalised: Array) -> tuple[float, Array]:
    """The value, and the probabilities (row, logit) of classes, or of the second class where there is one logit."""
    logits = design @ theta.T
    if logits.shape[1] == 1:
        loss = np.logaddexp(0, logits) - own * logits
        probability = scipy.special.expit(logits)
    else:
        total = scipy.special.logsumexp(logits, axis=1, keepdims=True)
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
