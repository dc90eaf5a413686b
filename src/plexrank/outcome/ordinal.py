"""Classes in an order, such as grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray, IntArray
from plexrank.outcome.base import Group, LinearWeights, Outcome
from plexrank.outcome.nominal import class_groups, log_loss, probability_columns
from plexrank.statistics.correlation import spearman, weighted_spearman
from plexrank.statistics.proportional_odds import class_probabilities, fit_proportional_odds, slope_of_log_likelihood


@dataclass(frozen=True, eq=False)
class Ordinal(Outcome):
    """Grades, lowest first; one score decides on all of them, by cumulative logits (McCullagh 1980).

    Output k is the logit of being above grade k; all outputs share their slope.
    """

    kind: ClassVar[str] = "ordinal"
    linear_model: ClassVar[str] = "proportional_odds"
    headline: ClassVar[str] = "spearman"
    chance: ClassVar[float] = 0.0
    has_classes: ClassVar[bool] = True
    shares_slope: ClassVar[bool] = True

    @property
    def groups(self) -> tuple[Group, ...]:
        """The grades."""
        return class_groups(self.levels)

    def group_of(self, label: IntArray) -> IntArray:
        """The grade."""
        return label

    def strata(self, levels: Sequence[str]) -> list[str]:
        """The levels themselves."""
        return list(levels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """A cumulative logit for each grade but the highest."""
        return tuple(f"above {name}" for name in self.levels[:-1])

    @property
    def contrast_names(self) -> tuple[str, ...]:
        """The one score."""
        return ("score",)

    def fit(
        self,
        x: FloatArray,
        label: IntArray,
        strength: float,
        stratum: IntArray | None = None,
        weight: FloatArray | None = None,
        start: LinearWeights | None = None,
    ) -> LinearWeights:
        """Proportional odds; every grade occurs."""
        near = None if start is None else (start.coef[0], start.intercept)
        coef, thresholds = fit_proportional_odds(x, label, len(self), strength, weight, near)
        return LinearWeights(np.tile(coef, (len(thresholds), 1)), thresholds)

    def slope(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Derivatives of the log likelihood by the cumulative logits."""
        return slope_of_log_likelihood(outputs, label)

    def fitting_loss(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> float:
        """Mean of minus the log likelihood."""
        return float(self.loss(self.predict(outputs), label).mean())

    def predict(self, outputs: FloatArray) -> FloatArray:
        """Probabilities of the grades."""
        return class_probabilities(outputs)

    def prediction_columns(self, prediction: FloatArray) -> dict[str, Array]:
        """``predicted``, and ``probability_<grade>`` for each."""
        return probability_columns(self.levels, prediction, self._nearest(prediction))

    def loss(self, prediction: FloatArray, label: IntArray) -> FloatArray:
        """−log of the probability of the true grade."""
        return log_loss(prediction, label)

    def measures(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> Mapping[str, FloatArray]:
        """Spearman's correlation of the expected grade, quadratic-weighted kappa of the nearest one, and accuracy."""
        nearest = self._nearest(prediction)
        return {
            "accuracy": weights @ (nearest == label) / weights.sum(axis=1),
            "kappa": weighted_kappa(nearest, label, weights),
            "spearman": weighted_spearman(self._expected(prediction), label, weights),
        }

    def headline_of(self, prediction: FloatArray, labels: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Spearman's correlation of the expected grade."""
        return spearman(self._expected(prediction), labels)

    def places(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Mid-ranks of the grades."""
        ranks: FloatArray = scipy.stats.rankdata(label)
        return ranks

    def _expected(self, prediction: FloatArray) -> FloatArray:
        """Mean grade (row,), counted from 0."""
        return prediction @ np.arange(len(self), dtype=np.float64)

    def _nearest(self, prediction: FloatArray) -> IntArray:
        """The grade nearest to the mean, which a quadratic loss asks for."""
        result: IntArray = np.floor(self._expected(prediction) + 0.5).astype(np.int64)
        return result


def weighted_kappa(predicted: IntArray, label: IntArray, weights: FloatArray) -> FloatArray:
    """Cohen's kappa with quadratic weights (Cohen 1968) for every row of weights (draw, row); NaN where all are alike.

    1 − mean (a − b)² / what it is for independent a and b, which is var a + var b + (mean a − mean b)².
    """
    total = weights.sum(axis=1)
    a, b = predicted.astype(np.float64), label.astype(np.float64)
    mean_a, mean_b = weights @ a / total, weights @ b / total
    variances = weights @ a**2 / total - mean_a**2 + weights @ b**2 / total - mean_b**2
    expected = variances + (mean_a - mean_b) ** 2
    observed = weights @ (a - b) ** 2 / total
    result: FloatArray = 1 - np.divide(observed, expected, out=np.full(len(weights), np.nan), where=expected > 1e-12)
    return result
