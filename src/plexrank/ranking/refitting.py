"""Linear classifiers refitted to resampled patients: the part of training that a bootstrap can afford to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import softmax

from plexrank.arrays import Array
from plexrank.attribution.methods import METHODS
from plexrank.machine.cores import usable_cores
from plexrank.ranking.aggregate import LinearWeights, UnitTable, scaled_to_one
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.ranking.scores import weighted_mean
from plexrank.statistics.means import known_mean

REFIT_STEPS = 12
"""Steps towards the optimum of a draw; further ones no longer move the intervals."""
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
    coef = refitted_coefficients(unit.linear, unit.training_embedding[seen], samples.label[sample], weights[:, sample])
    fitted = np.abs(unit.linear.coef)
    growth = np.divide(np.abs(coef), fitted, out=np.zeros_like(coef), where=fitted > 0)
    held_out = samples.fold == unit.fold
    by_class = image_means_to_samples(unit.importance_by_class[method], samples)[held_out]
    _, channels, classes = by_class.shape
    drawn = weighted_mean(weights[:, held_out], by_class.reshape(-1, channels * classes))
    importance = (drawn.reshape(-1, channels, classes) * growth.transpose(0, 2, 1)).sum(axis=2)
    share = weights[:, held_out] @ np.isfinite(by_class[..., 0]).astype(np.float64)
    return scaled_to_one(importance), share


def refitted_coefficients(linear: LinearWeights, r: Array, label: Array, weights: Array) -> Array:
    """Coefficients of the penalised logistic regression of every draw.

    The classifier minimises C Σ_i s_i loss_i + ½ ‖coef‖² over standardised channels, s balancing the classes.
    C follows from the fitted weights, where the gradient of that sum vanishes. Each draw starts from the fitted
    weights and takes ``REFIT_STEPS`` quasi-Newton steps with the Hessian at these weights; one such step would be the
    infinitesimal jackknife.

    Args:
        linear: as fitted to all training images, each with weight 1.
        r: (image, channel) of the training images, NaN where an image lacks the channel: it counts as the mean.
        label: (image,) int.
        weights: (draw, image) how often each image is drawn. A class that is not drawn keeps weight 1.

    Returns:
        (draw, class, channel).
    """
    fit = _Fit(linear, r, label)
    parts = [weights[start : start + DRAWS_AT_ONCE] for start in range(0, len(weights), DRAWS_AT_ONCE)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        return np.concatenate(list(pool.map(fit.refit, parts)))


def implied_penalty(linear: LinearWeights, r: Array, label: Array) -> float:
    """Strength of the L2 penalty that the fitted weights imply, over the loss of images with balanced weights.

    Args:
        linear, r, label: as for :func:`refitted_coefficients`.
    """
    return float(_Fit(linear, r, label).penalty[0])


class _Fit:
    def __init__(self, linear: LinearWeights, r: Array, label: Array) -> None:
        classes, channels = linear.coef.shape
        known = ~np.isnan(r)
        center = np.nan_to_num(known_mean(r))
        r = np.where(np.isnan(r), center, r)
        spread = np.sqrt(known_mean(np.where(known, (r - center) ** 2, np.nan)))
        self.spread = np.where(spread > NO_SPREAD * (1 + np.abs(center)), spread, np.inf)
        self.x = np.column_stack([(r - center) / self.spread, np.ones(len(r))])
        self.own = np.equal(label[:, None], np.arange(classes)).astype(np.float64)
        coef = np.where(np.isfinite(self.spread), linear.coef * np.where(np.isfinite(self.spread), self.spread, 0), 0)
        self.theta = np.column_stack([coef, linear.intercept + linear.coef @ center])
        self.penalty = np.zeros(channels + 1)
        importance = self._balanced(np.ones((1, len(r))))[0]
        probability = softmax(self.x @ self.theta.T, axis=-1)
        pull = ((self.own - probability) * importance[:, None]).T @ self.x[:, :-1]
        along = (pull * coef).sum()
        self.penalty[:-1] = along / (coef**2).sum() if along > 0 else 1.0
        self.inverse = self._inverse_hessian(probability, importance)

    def _balanced(self, weights: Array) -> Array:
        """Weights (draw, image) with those of each class scaled to the same sum, as class_weight="balanced"."""
        of_class = weights @ self.own
        missing = of_class == 0
        weights = weights + missing @ self.own.T
        of_class = np.where(missing, self.own.sum(axis=0), of_class)
        total = of_class.sum(axis=1, keepdims=True)
        balanced: Array = weights * ((total / (of_class * self.own.shape[1])) @ self.own.T)
        return balanced

    def _inverse_hessian(self, probability: Array, importance: Array) -> Array:
        classes, width = self.theta.shape
        hessian = np.zeros((classes, width, classes, width))
        for a in range(classes):
            for b in range(classes):
                curvature = importance * probability[:, a] * ((a == b) - probability[:, b])
                hessian[a, :, b] = (self.x * curvature[:, None]).T @ self.x
            hessian[a, :, a] += np.diag(self.penalty)
        return np.linalg.pinv(hessian.reshape(classes * width, classes * width), hermitian=True)

    def refit(self, weights: Array, steps: int = REFIT_STEPS) -> Array:
        """Gradient steps in the metric of the Hessian, of the length of Barzilai & Borwein (1988)."""
        balanced = self._balanced(weights)[..., None]
        theta = np.tile(self.theta.ravel(), (len(weights), 1))
        slope = self._slope(theta, balanced)
        direction = slope @ self.inverse
        length = np.ones((len(weights), 1))
        for _ in range(steps):
            theta -= length * direction
            turned = self._slope(theta, balanced)
            next_direction = turned @ self.inverse
            change, next_change = turned - slope, next_direction - direction
            curvature = (change * next_change).sum(axis=1, keepdims=True)
            along = -length * (direction * change).sum(axis=1, keepdims=True)
            length = np.divide(along, curvature, out=np.ones_like(length), where=curvature > NO_SPREAD)
            slope, direction = turned, next_direction
        coef: Array = theta.reshape(-1, *self.theta.shape)[..., :-1] / self.spread
        return coef

    def _slope(self, theta: Array, balanced: Array) -> Array:
        draws, (classes, width) = len(theta), self.theta.shape
        logits = (theta.reshape(-1, width) @ self.x.T).reshape(draws, classes, -1).transpose(0, 2, 1)
        residual = (softmax(logits, axis=-1) - self.own) * balanced
        slope = residual.transpose(0, 2, 1).reshape(draws * classes, -1) @ self.x
        result: Array = slope.reshape(draws, -1) + theta * np.tile(self.penalty, classes)
        return result
