"""Numbers, such as an age or a score."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray, IntArray
from plexrank.outcome.base import Group, LinearWeights, Outcome
from plexrank.statistics.correlation import spearman, weighted_spearman
from plexrank.statistics.ridge import fit_ridge
from plexrank.wording import counted

FOLD_BINS = 5
"""Quantiles that are spread over the folds."""
HUBER = 1.5
"""Standard deviations beyond which a training counts a deviation no longer by its square (Huber 1964)."""


@dataclass(frozen=True, eq=False)
class Continuous(Outcome):
    """Numbers. The output is the number in standard deviations from the cohort's mean.

    Attributes:
        center, spread: mean and standard deviation over the patients.
    """

    center: float
    spread: float

    kind: ClassVar[str] = "continuous"
    linear_model: ClassVar[str] = "ridge"
    headline: ClassVar[str] = "spearman"
    chance: ClassVar[float] = 0.0

    @functools.cached_property
    def values(self) -> FloatArray:
        """(level,) as numbers."""
        return np.array([float(level) for level in self.levels])

    @functools.cached_property
    def standardised(self) -> FloatArray:
        """(level,) in standard deviations from the mean."""
        result: FloatArray = (self.values - self.center) / self.spread
        return result

    @property
    def groups(self) -> tuple[Group, ...]:
        """All patients."""
        return (Group("all", "patient", least_held_out=2, is_trained_on=True),)

    def group_of(self, label: IntArray) -> IntArray:
        """The one group."""
        return np.zeros(len(label), dtype=np.int64)

    def strata(self, levels: Sequence[str]) -> list[str]:
        """Fifths by size."""
        ranks = np.argsort(np.argsort([float(level) for level in levels], kind="stable"))
        return [str(int(rank * FOLD_BINS // len(levels))) for rank in ranks]

    def describe(self, levels: Sequence[str]) -> str:
        """How many values, their median and range."""
        if not levels:
            return "no value"
        values = np.array([float(level) for level in levels])
        return (
            f"{counted(len(values), 'value')} from {values.min():g} to {values.max():g}, median {np.median(values):g}"
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The number."""
        return ("value",)

    def columns(self, label: IntArray) -> dict[str, Array]:
        """``label``, as numbers."""
        return {"label": self.values[label]}

    def fit(
        self,
        x: FloatArray,
        label: IntArray,
        strength: float,
        stratum: IntArray | None = None,
        weight: FloatArray | None = None,
        start: LinearWeights | None = None,
    ) -> LinearWeights:
        """Ridge regression (Hoerl & Kennard 1970)."""
        coef, intercept = fit_ridge(x, self.standardised[label], strength, weight)
        return LinearWeights(coef[None], np.array([intercept]))

    def targets(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """The numbers themselves."""
        return self.values[label]

    def slope(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """What is left to explain."""
        result: FloatArray = self.standardised[label][:, None] - outputs
        return result

    def fitting_loss(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> float:
        """Mean of Huber's loss."""
        deviation = np.abs(outputs[:, 0] - self.standardised[label])
        return float(np.where(deviation <= HUBER, deviation**2 / 2, HUBER * (deviation - HUBER / 2)).mean())

    def predict(self, outputs: FloatArray) -> FloatArray:
        """The number."""
        result: FloatArray = self.center + self.spread * outputs
        return result

    def prediction_columns(self, prediction: FloatArray) -> dict[str, Array]:
        """``predicted``."""
        return {"predicted": prediction[:, 0]}

    def loss(self, prediction: FloatArray, label: IntArray) -> FloatArray:
        """Squared deviation in units of the cohort's variance."""
        result: FloatArray = ((prediction[:, 0] - self.values[label]) / self.spread) ** 2
        return result

    def measures(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> Mapping[str, FloatArray]:
        """Share of the variance that is explained (R², below 0 where the mean would do better), and Spearman's ρ."""
        true, total = self.values[label], weights.sum(axis=1)
        center = weights @ true / total
        variance = weights @ true**2 - total * center**2
        rest = weights @ (prediction[:, 0] - true) ** 2
        explained = 1 - np.divide(rest, variance, out=np.full(len(weights), np.nan), where=variance > 0)
        return {"r2": explained, "spearman": weighted_spearman(prediction[:, 0], true, weights)}

    def headline_of(self, prediction: FloatArray, labels: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Spearman's correlation."""
        return spearman(prediction[:, 0], self.values[labels])

    def places(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Mid-ranks."""
        ranks: FloatArray = scipy.stats.rankdata(self.values[label])
        return ranks
