"""Times to an event, censored: hazard, survival curves, residuals, log-rank.

Everywhere: time (sample,) float > 0; event (sample,) bool, False where censored; at equal times events come before
censoring, so that samples censored at a time are at risk of the events at that time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray
from plexrank.statistics.risk_sets import RiskSets, logarithm

ROUNDING = 1e-9
"""Share of the largest variance, or of a level, below which a difference is rounding."""


@dataclass(frozen=True)
class StepFunction:
    """Constant from each time to the next, continuous from the right.

    Attributes:
        times: (step,) ascending.
        values: (step,) from each of them on.
        start: value before the first.
    """

    times: FloatArray
    values: FloatArray
    start: float

    def at(self, t: Array | float) -> Array:
        """Values at times of any shape."""
        return self._values(np.searchsorted(self.times, t, side="right"))

    def before(self, t: Array | float) -> Array:
        """Limits from the left, at times of any shape."""
        return self._values(np.searchsorted(self.times, t, side="left"))

    def falls_to(self, level: float) -> float:
        """First time with a value of at most ``level``; infinite where there is none."""
        reached = self.times[self.values <= level * (1 + ROUNDING)]
        return float(reached[0]) if len(reached) else np.inf

    def _values(self, steps: Array) -> Array:
        values: Array = np.concatenate([[self.start], self.values])[steps]
        return values


@dataclass(frozen=True)
class SurvivalCurve:
    """Kaplan & Meier's estimate (1958) of the share without an event.

    Attributes:
        survival: the curve.
        low, high: bounds of its pointwise 95 % interval, symmetric in log(−log S) (Greenwood 1926; Kalbfleisch &
            Prentice 1980); 1 before the first event, NaN once the curve is 0, where there is none.
        observed: (sample,) times, ascending.
    """

    survival: StepFunction
    low: StepFunction
    high: StepFunction
    observed: FloatArray

    def at_risk(self, t: Array | float) -> Array:
        """How many samples have neither had an event nor been censored before each time."""
        return len(self.observed) - np.searchsorted(self.observed, t, side="left")

    def median(self) -> float:
        """First time at which at most half survive; infinite where the curve stays above."""
        return self.survival.falls_to(0.5)


def kaplan_meier(time: Array, event: Array) -> SurvivalCurve:
    """The survival curve of all samples."""
    curve = scipy.stats.ecdf(scipy.stats.CensoredData(uncensored=time[event], right=time[np.logical_not(event)])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined at 0 and 1
        interval = curve.confidence_interval(0.95, method="log-log")
    bounds = (np.where(curve.probabilities == 1, 1.0, bound.probabilities) for bound in interval)
    low, high = (StepFunction(curve.quantiles, bound, 1.0) for bound in bounds)
    return SurvivalCurve(StepFunction(curve.quantiles, curve.probabilities, 1.0), low, high, np.sort(time))


def censoring_survival(time: Array, event: Array) -> StepFunction:
    """Share not yet censored: Kaplan & Meier's estimate with events and censoring exchanged.

    Who has an event leaves before those censored at the same time, and is not at risk of it; scipy's ``ecdf`` of
    exchanged data would count them.
    """
    times, place = np.unique(time, return_inverse=True)
    events = np.bincount(place, weights=event, minlength=len(times))
    observed = np.bincount(place, minlength=len(times))
    left = len(time) - np.cumsum(observed) + observed - events
    share = np.divide(observed - events, left, out=np.zeros(len(times)), where=left > 0)
    return StepFunction(times, np.cumprod(1 - share), 1.0)


def median_follow_up(time: Array, event: Array) -> float:
    """Median time to censoring, by the reverse Kaplan-Meier estimate (Schemper & Smith 1996).

    Infinite where fewer than half are censored in the estimate.
    """
    return censoring_survival(time, event).falls_to(0.5)


def cumulative_hazard(
    time: Array, event: Array, risk: Array | None = None, weight: Array | None = None
) -> StepFunction:
    """Breslow's estimate (1972) of the cumulative baseline hazard: a step of events / Σ exp(risk) at risk.

    Args:
        risk: (sample,) log hazards; None: all equal, which is the estimate of Nelson (1969) and Aalen (1978).
        weight: (sample,) how often each sample counts, ≥ 0.
    """
    sets = RiskSets.of(time)
    weight = np.ones(len(time)) if weight is None else np.asarray(weight, dtype=np.float64)
    exposure = logarithm(weight) if risk is None else logarithm(weight) + risk
    starts = sets.starts()
    deaths = np.add.reduceat(np.where(event, weight, 0.0)[sets.order], starts)
    at_risk = np.where(deaths > 0, sets.onwards(exposure[sets.order], np.logaddexp)[starts], 0.0)
    steps = np.exp(logarithm(deaths) - at_risk)
    return StepFunction(time[sets.order][starts][::-1], np.cumsum(steps[::-1]), 0.0)


def martingale_residuals(time: Array, event: Array, stratum: Array | None = None) -> FloatArray:
    """Event minus the cumulative hazard at the sample's time, all samples of a stratum with one hazard.

    The residuals of the null model (Therneau, Grambsch & Fleming 1990): how much earlier than expected the event
    came, at most 1; they sum to 0 in each stratum.

    Args:
        stratum: (sample,) int, such as sites; None: one.
    """
    stratum = np.zeros(len(time), dtype=np.int64) if stratum is None else stratum
    residuals = event.astype(np.float64)
    for rows in (stratum == own for own in np.unique(stratum)):
        residuals[rows] -= cumulative_hazard(time[rows], event[rows]).at(time[rows])
    return residuals


def log_rank(time: Array, event: Array, group: Array, stratum: Array | None = None) -> tuple[float, float]:
    """Whether events come at different times in groups: the log-rank test (Mantel 1966).

    For any number of groups (Peto & Peto 1972). By hand, since ``scipy.stats.logrank`` knows two groups and no strata.

    Args:
        group: (sample,) int.
        stratum: (sample,) int; events compare within strata only.

    Returns:
        χ² and its p-value. The degrees of freedom are the rank of the variance: number of groups − 1, less where
        groups never are at risk together. Both are NaN where no two groups ever are when there is an event.
    """
    sets = RiskSets.of(time, stratum)
    members = (group[:, None] == np.unique(group)).astype(np.float64)[sets.order]
    starts = sets.starts()
    at_risk = sets.onwards(members)[starts]
    observed = np.add.reduceat(np.where(event[sets.order, None], members, 0.0), starts)
    total, deaths = at_risk.sum(axis=1), observed.sum(axis=1)
    share = at_risk / total[:, None]
    excess = (observed - deaths[:, None] * share).sum(axis=0)
    scale = deaths * (total - deaths) / np.maximum(total - 1, 1)
    variance = np.diag(scale @ share) - (share.T * scale) @ share
    inverse, rank = scipy.linalg.pinvh(variance, rtol=ROUNDING, atol=ROUNDING, return_rank=True)
    if rank == 0:
        return np.nan, np.nan
    chi2 = float(excess @ inverse @ excess)
    return chi2, float(scipy.stats.chi2.sf(chi2, rank))
