"""Proportional odds: one slope for all thresholds between ordered classes (McCullagh 1980), by Newton's method.

Class y of K is reached by the cumulative logits o_k = x · coef + threshold_k, k = 0 … K − 2, falling in k:
P(y > k) = 1 / (1 + exp(−o_k)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray, IntArray

NEWTON_STEPS, REFIT_STEPS, NEWTON_TOLERANCE, SHORTEST_STEP = 50, 10, 1e-7, 1e-6
SMALLEST_PROBABILITY = 1e-12
RIDGE = 1e-9


def class_probabilities(outputs: FloatArray) -> FloatArray:
    """Probabilities (…, class) of cumulative logits (…, class − 1); 0 where these are out of order, and sum 1."""
    above = scipy.special.expit(outputs)
    ends = np.ones((*outputs.shape[:-1], 1))
    # Means of logits over tiles keep their order; those of a network need not have any.
    above = np.minimum.accumulate(np.concatenate([ends, above, 0 * ends], axis=-1), axis=-1)
    probability: FloatArray = above[..., :-1] - above[..., 1:]
    return probability


def slope_of_log_likelihood(outputs: FloatArray, label: IntArray) -> FloatArray:
    """Derivatives (row, class − 1) of the log likelihood by the cumulative logits (row, class − 1)."""
    terms = _Terms.of(outputs, label)
    slope = np.zeros(outputs.shape)
    rows = np.arange(len(label))
    slope[rows[terms.has_upper], label[terms.has_upper] - 1] += terms.by_upper[terms.has_upper]
    slope[rows[terms.has_lower], label[terms.has_lower]] += terms.by_lower[terms.has_lower]
    return slope


def fit_proportional_odds(
    x: Array,
    label: Array,
    classes: int,
    strength: float,
    weight: Array | None = None,
    start: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Minimises −C Σ_i weight_i log P(label_i) + ½ ‖coef‖².

    Args:
        x: (row, column), about standardised.
        label: (row,) int 0 … classes − 1, every class occurs.
        classes: K, 2 or more.
        strength: C, above 0.
        weight: (row,) how often each row counts; once if absent. A class whose rows all have weight 0 keeps 1.
        start: weights and thresholds nearby; then ``REFIT_STEPS`` steps are enough, as for a bootstrap.

    Returns:
        Weights (column,), the same for all cumulative logits, and thresholds (K − 1,).
    """
    weight = strength * (np.ones(len(label)) if weight is None else weight)
    counts = np.bincount(label, weight, minlength=classes)
    weight = np.where(counts[label] > 0, weight, strength)
    if start is None:
        counts = np.where(counts > 0, counts, np.bincount(label, minlength=classes))
        above = 1 - np.cumsum(counts)[:-1] / counts.sum()
        start = np.zeros(x.shape[1]), np.log(above / (1 - above))
        steps = NEWTON_STEPS
    else:
        steps = REFIT_STEPS
    theta = np.concatenate(start)
    value = _value(theta, x, label, weight)
    for _ in range(steps):
        slope, hessian = _derivatives(theta, x, label, weight)
        if np.abs(slope).max() < NEWTON_TOLERANCE * max(1.0, strength):
            break
        step = np.linalg.solve(hessian, slope)
        length, before = 1.0, value
        value = _value(theta - step, x, label, weight)
        while value > before and length > SHORTEST_STEP:
            length /= 2
            value = _value(theta - length * step, x, label, weight)
        if value > before:
            break
        theta = theta - length * step
    return theta[: x.shape[1]], theta[x.shape[1] :]


def _outputs(theta: FloatArray, x: Array) -> FloatArray:
    result: FloatArray = (x @ theta[: x.shape[1]])[:, None] + theta[x.shape[1] :]
    return result


def _value(theta: FloatArray, x: Array, label: IntArray, weight: FloatArray) -> float:
    thresholds = theta[x.shape[1] :]
    if (np.diff(thresholds) >= 0).any():
        return float("inf")
    terms = _Terms.of(_outputs(theta, x), label)
    return float(-(weight * np.log(terms.probability)).sum() + (theta[: x.shape[1]] ** 2).sum() / 2)


def _derivatives(theta: FloatArray, x: Array, label: IntArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope (parameter,) and Hessian (parameter, parameter) of what is minimised."""
    columns = x.shape[1]
    terms = _Terms.of(_outputs(theta, x), label)
    thresholds = np.arange(len(theta) - columns)
    upper = np.column_stack([x, np.equal(label[:, None] - 1, thresholds)]) * terms.has_upper[:, None]
    lower = np.column_stack([x, np.equal(label[:, None], thresholds)]) * terms.has_lower[:, None]
    penalty = np.concatenate([np.ones(columns), np.zeros(len(thresholds))])
    slope = theta * penalty - upper.T @ (weight * terms.by_upper) - lower.T @ (weight * terms.by_lower)
    mixed = (upper * (weight * terms.by_both)[:, None]).T @ lower
    hessian = np.diag(penalty + RIDGE) - (
        (upper * (weight * terms.twice_upper)[:, None]).T @ upper
        + (lower * (weight * terms.twice_lower)[:, None]).T @ lower
        + mixed
        + mixed.T
    )
    return slope, hessian


@dataclass(frozen=True)
class _Terms:
    """Of each row (row,): the log likelihood's derivatives by the logits above and below its class.

    The likelihood is F(upper) − F(lower), where F is the logistic function, upper the logit of being above the class
    before, and lower that of being above the class itself.
    """

    probability: FloatArray
    has_upper: Array
    has_lower: Array
    by_upper: FloatArray
    by_lower: FloatArray
    twice_upper: FloatArray
    twice_lower: FloatArray
    by_both: FloatArray

    @classmethod
    def of(cls, outputs: FloatArray, label: IntArray) -> _Terms:
        rows = np.arange(len(label))
        has_upper, has_lower = label > 0, label < outputs.shape[1]
        upper = np.where(has_upper, scipy.special.expit(outputs[rows, np.maximum(label - 1, 0)]), 1.0)
        lower = np.where(has_lower, scipy.special.expit(outputs[rows, np.minimum(label, outputs.shape[1] - 1)]), 0.0)
        probability = np.maximum(upper - lower, SMALLEST_PROBABILITY)
        upper_slope, lower_slope = upper * (1 - upper), lower * (1 - lower)
        by_upper, by_lower = upper_slope / probability, -lower_slope / probability
        return cls(
            probability=probability,
            has_upper=has_upper,
            has_lower=has_lower,
            by_upper=by_upper,
            by_lower=by_lower,
            twice_upper=upper_slope * (1 - 2 * upper) / probability - by_upper**2,
            twice_lower=-lower_slope * (1 - 2 * lower) / probability - by_lower**2,
            by_both=-by_upper * by_lower,
        )
