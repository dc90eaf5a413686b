"""Logistic regressions refitted to resampled rows, from weights that were fitted to all of them."""

from __future__ import annotations

import numpy as np
import scipy

from plexrank.arrays import Array

REFIT_STEPS = 12
"""Steps towards the optimum of a draw; further ones no longer move the intervals."""
NO_SPREAD = 1e-12


class LogisticRefit:
    """Refits from the weights ``coef`` (class, column) and ``intercept`` (class,) that were fitted to all rows.

    Args:
        x: (row, column) standardised.
        label: (row,) int.
    """

    def __init__(self, coef: Array, intercept: Array, x: Array, label: Array) -> None:
        classes, columns = coef.shape
        self.x = np.column_stack([x, np.ones(len(x))])
        self.own = np.equal(label[:, None], np.arange(classes)).astype(np.float64)
        self.theta = np.column_stack([coef, intercept])
        self.penalty = np.zeros(columns + 1)
        importance = self._balanced(np.ones((1, len(x))))[0]
        probability = scipy.special.softmax(self.x @ self.theta.T, axis=-1)
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
        """Coefficients (draw, class, column) for weights (draw, row) of the rows; a class that is not drawn keeps 1.

        Gradient steps in the metric of the Hessian, of the length of Barzilai & Borwein (1988).
        """
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
        coef: Array = theta.reshape(-1, *self.theta.shape)[..., :-1]
        return coef

    def _slope(self, theta: Array, balanced: Array) -> Array:
        draws, (classes, width) = len(theta), self.theta.shape
        logits = (theta.reshape(-1, width) @ self.x.T).reshape(draws, classes, -1).transpose(0, 2, 1)
        residual = (scipy.special.softmax(logits, axis=-1) - self.own) * balanced
        slope = residual.transpose(0, 2, 1).reshape(draws * classes, -1) @ self.x
        result: Array = slope.reshape(draws, -1) + theta * np.tile(self.penalty, classes)
        return result
