"""Cox regression: partial likelihood with Efron's ties, and its fit with a ridge penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray, IntArray
from plexrank.statistics.risk_sets import RiskSets, logarithm

STEPS = 50
HALVINGS = 40
CONVERGED = 1e-14
"""Newton decrement, relative to the objective, after which the next step would change nothing but rounding."""
DECREASE = 1e-4
"""Share of the decrease foreseen by the gradient that a step must bring (Armijo 1966)."""
LONGEST_STEP = 30.0
"""Difference between log hazards that one step may bring: beyond some hundreds the likelihood is flat, all risk being
that of one sample, and Newton steps are of no use."""
STEADY = 1e-12
"""Share of the largest curvature added to all: above its rounding, and too little to matter to a step."""


@dataclass(frozen=True)
class PartialLikelihood:
    """What does not depend on the hazards. Rows are those of the risk sets; ``death`` are those with an event.

    Attributes:
        weight, log_weight: (row,) how often each sample counts.
        deaths: (death,) int rows.
        starts: (tie,) int, the first of the deaths at each time of each stratum.
        tie: (death,) int, which of these it belongs to.
        share: (death,) 0, 1/d, …, (d − 1)/d of the d deaths at the same time, which Efron (1977) takes from the risk
            set one after the other.
        mean_weight: (death,) mean weight of the deaths at the same time.
    """

    sets: RiskSets
    weight: FloatArray
    log_weight: FloatArray
    deaths: IntArray
    starts: IntArray
    tie: IntArray
    share: FloatArray
    mean_weight: FloatArray

    @classmethod
    def of(cls, time: Array, event: Array, stratum: Array | None = None, weight: Array | None = None) -> Self:
        """Args: as for :func:`partial_likelihood`."""
        if time.shape != event.shape:
            raise ValueError(f"one entry a sample: time {time.shape}, event {event.shape}")
        sets = RiskSets.of(time, stratum)
        weight = np.ones(len(time)) if weight is None else np.asarray(weight, dtype=np.float64)[sets.order]
        deaths = np.flatnonzero(np.logical_and(event[sets.order], weight > 0))
        _, starts, tie, sizes = np.unique(
            sets.first[deaths], return_index=True, return_inverse=True, return_counts=True
        )
        share = (np.arange(len(deaths)) - starts[tie]) / sizes[tie]
        mean_weight = np.bincount(tie, weights=weight[deaths], minlength=len(sizes)) / sizes
        return cls(sets, weight, logarithm(weight), deaths, starts, tie, share, mean_weight[tie])

    def log_totals(self, exposure: Array) -> Array:
        """Logarithm of what each death stands against, (death,): the sum of exp(exposure) (row,) over its risk set."""
        at_risk = self.sets.onwards(exposure, np.logaddexp)[self.deaths]
        tied = np.logaddexp.reduceat(exposure[self.deaths], self.starts)[self.tie]
        totals: Array = at_risk + np.log1p(-self.share * np.exp(tied - at_risk))
        return totals

    def value(self, log_hazard: Array, log_totals: Array) -> float:
        """The log likelihood, log_hazard (row,)."""
        return float(self.weight[self.deaths] @ log_hazard[self.deaths] - self.mean_weight @ log_totals)

    def expected(self, exposure: Array, log_totals: Array) -> Array:
        """How many events each row was to have, (row,): its hazards up to its time."""
        rate = np.log(self.mean_weight) - log_totals
        hazard = np.full(len(exposure), -np.inf)
        hazard[self.deaths] = rate
        expected: Array = np.exp(exposure + self.sets.until(hazard, np.logaddexp))
        tied = np.logaddexp.reduceat(logarithm(self.share) + rate, self.starts)[self.tie]
        expected[self.deaths] -= np.exp(exposure[self.deaths] + tied)
        return expected

    def gradient(self, expected: Array) -> Array:
        """Of the log likelihood by the log hazards, (row,)."""
        gradient: Array = -expected
        gradient[self.deaths] += self.weight[self.deaths]
        return gradient

    def curvature(self, x: Array, exposure: Array, log_totals: Array, expected: Array) -> Array:
        """Minus the second derivatives of the log likelihood by the coefficients of x (row, column)."""
        largest = exposure.max()
        weighted = np.exp(exposure - largest)[:, None] * x
        at_risk = self.sets.onwards(weighted)[self.deaths]
        at_risk -= self.share[:, None] * np.add.reduceat(weighted[self.deaths], self.starts)[self.tie]
        total = np.exp(log_totals - largest)
        scale = np.divide(np.sqrt(self.mean_weight), total, out=np.zeros(len(total)), where=total > 0)
        means = at_risk * scale[:, None]
        curvature: Array = (x.T * expected) @ x - means.T @ means
        return curvature


def partial_likelihood(
    log_hazard: Array, time: Array, event: Array, stratum: Array | None = None, weight: Array | None = None
) -> tuple[float, FloatArray]:
    """Cox's log partial likelihood (1972, 1975) with Efron's approximation (1977) for ties.

    Sums are of logarithms: hazards of any size neither overflow nor vanish.

    With weights, the convention of R's survival (Therneau & Grambsch 2000, section 3.3): an event counts weight times
    in the numerator, exposures of the risk set and of the d tied deaths are weighted, and each of the d terms of a tie
    counts with the mean weight of the tied deaths. A weight of 2 is therefore a sample twice only where it is in no
    tie. A weight of 0 is a sample left out, which does not count among d (in R it does).

    Args:
        log_hazard: (sample,) float.
        time: (sample,) float > 0.
        event: (sample,) bool; at equal times events come before censoring.
        stratum: (sample,) int, each with a baseline hazard of its own; None: one.
        weight: (sample,) how often each sample counts, ≥ 0; None: once.

    Returns:
        The log likelihood, summed, and its gradient by ``log_hazard`` (sample,); 0 without events.
    """
    likelihood = PartialLikelihood.of(time, event, stratum, weight)
    gradient = np.zeros(len(time))
    if not len(likelihood.deaths):
        return 0.0, gradient
    ordered = np.asarray(log_hazard, dtype=np.float64)[likelihood.sets.order]
    exposure = ordered + likelihood.log_weight
    log_totals = likelihood.log_totals(exposure)
    gradient[likelihood.sets.order] = likelihood.gradient(likelihood.expected(exposure, log_totals))
    return likelihood.value(ordered, log_totals), gradient


def fit_cox(
    x: Array,
    time: Array,
    event: Array,
    penalty: float,
    stratum: Array | None = None,
    weight: Array | None = None,
    start: Array | None = None,
    steps: int = STEPS,
) -> FloatArray:
    """Coefficients that minimise −log partial likelihood + penalty / 2 · ‖coef‖², by Newton's method with halved steps.

    The likelihood is a sum over events, not a mean: the same penalty weighs less where there are more of them. Columns
    are centred and not scaled.

    Args:
        x: (sample, column) float.
        time, event, stratum, weight: as for :func:`partial_likelihood`.
        penalty: above 0, which makes the minimum the only one.
        start: (column,) where to begin; 0 where it is None.
        steps: at most; 5 to 8 are enough from 0.

    Returns:
        (column,) log hazard ratios for one unit of x; 0 without events.

    Raises:
        ValueError: the penalty is not above 0.
    """
    if not penalty > 0:
        raise ValueError(f"penalty {penalty}: must be above 0")
    coef = np.zeros(x.shape[1]) if start is None else np.array(start, dtype=np.float64)
    likelihood = PartialLikelihood.of(time, event, stratum, weight)
    if not len(likelihood.deaths) or not x.shape[1]:
        return np.zeros(x.shape[1])
    rows = np.asarray(x, dtype=np.float64)[likelihood.sets.order]
    rows = rows - rows.mean(axis=0)
    here = _Point.of(likelihood, rows, coef, penalty)
    for _ in range(steps):
        gradient, curvature = here.derivatives(likelihood, rows, penalty)
        factor = scipy.linalg.cho_factor(curvature, check_finite=False)
        step = -scipy.linalg.cho_solve(factor, gradient, check_finite=False)
        decrement = -float(gradient @ step)
        there = _halved(likelihood, rows, penalty, here, step, decrement)
        if there is None:
            break
        here = there
        if decrement <= CONVERGED * (1 + abs(here.objective)):
            break
    return here.coef


@dataclass(frozen=True)
class _Point:
    """Where the fit stands: coef (column,), exposure (row,), log_totals (death,)."""

    coef: FloatArray
    exposure: FloatArray
    log_totals: FloatArray
    objective: float

    @classmethod
    def of(cls, likelihood: PartialLikelihood, rows: Array, coef: Array, penalty: float) -> Self:
        log_hazard = rows @ coef
        exposure = log_hazard + likelihood.log_weight
        log_totals = likelihood.log_totals(exposure)
        objective = penalty / 2 * float(coef @ coef) - likelihood.value(log_hazard, log_totals)
        return cls(coef, exposure, log_totals, objective)

    def derivatives(self, likelihood: PartialLikelihood, rows: Array, penalty: float) -> tuple[Array, Array]:
        """First (column,) and second (column, column) of the objective."""
        expected = likelihood.expected(self.exposure, self.log_totals)
        curvature = likelihood.curvature(rows, self.exposure, self.log_totals, expected)
        curvature.flat[:: len(curvature) + 1] += penalty + STEADY * curvature.diagonal().max()
        return penalty * self.coef - likelihood.gradient(expected) @ rows, curvature


def _halved(
    likelihood: PartialLikelihood, rows: Array, penalty: float, here: _Point, step: Array, decrement: float
) -> _Point | None:
    """The point after the step, which is halved until the objective falls; None where it does not."""
    longest = min(1.0, LONGEST_STEP / max(float(np.ptp(rows @ step)), 1.0))
    allowed = CONVERGED * (1 + abs(here.objective))
    for halving in range(HALVINGS):
        share = longest * 0.5**halving
        there = _Point.of(likelihood, rows, here.coef + share * step, penalty)
        if there.objective <= here.objective - DECREASE * share * decrement + allowed:
            return there
    return None
