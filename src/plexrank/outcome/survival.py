"""Times to an event, some of them known only to be longer than a patient was followed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from plexrank.arrays import Array, BoolArray, FloatArray, IntArray
from plexrank.outcome.base import Group, LinearWeights, Outcome
from plexrank.statistics.cox import fit_cox, partial_likelihood
from plexrank.statistics.means import known_mean
from plexrank.statistics.survival import StepFunction, cumulative_hazard, martingale_residuals, median_follow_up
from plexrank.statistics.survival_metrics import (
    comparable_events,
    concordance,
    dynamic_auc,
    integrated_brier_score,
    uno_concordance,
)
from plexrank.wording import counted

EVENT, CENSORED = "event", "censored"
FOLD_BINS = 3
"""Parts of the follow-up that are spread over the folds, of events and of censored patients each."""
FEWEST_EVENTS, FEW_EVENTS = 10, 20
REFIT_STEPS = 10
"""Newton steps at most towards the optimum of a draw, from that of all patients."""
LARGEST_LOG_HAZARD = 10.0
"""Log hazards beyond it count as that in a loss, so that one patient never decides alone."""


def survival_level(time: str, is_event: bool) -> str:
    """How a time is written, such as ``34.5 event`` or ``60 censored``."""
    return f"{time} {EVENT if is_event else CENSORED}"


@dataclass(frozen=True, eq=False)
class Survival(Outcome):
    """Times to an event, right-censored. The output is the log hazard (Cox 1972), higher for earlier events.

    Attributes:
        expected: (level,) events that a patient followed so long has without regard to any channel: the cohort's
            cumulative hazard (Nelson & Aalen) at that time.
        tau: until when predictions are judged by Uno's C.
    """

    expected: FloatArray
    tau: float

    kind: ClassVar[str] = "survival"
    linear_model: ClassVar[str] = "cox"
    headline: ClassVar[str] = "c_index"
    chance: ClassVar[float] = 0.5
    is_ranked: ClassVar[bool] = False
    ends: ClassVar[tuple[str, str]] = ("late", "early")

    @functools.cached_property
    def time(self) -> FloatArray:
        """(level,)."""
        return np.array([float(level.split()[0]) for level in self.levels])

    @functools.cached_property
    def event(self) -> Array:
        """(level,) bool."""
        return np.array([level.split()[1] == EVENT for level in self.levels])

    @property
    def groups(self) -> tuple[Group, ...]:
        """Patients whose event was seen, and the others."""
        return (
            Group(EVENT, "event", least_held_out=2, is_trained_on=True),
            Group(CENSORED, "censored patient", least_held_out=0, is_trained_on=False),
        )

    def group_of(self, label: IntArray) -> IntArray:
        """0 for events, 1 for censored patients."""
        return np.where(self.event[label], 0, 1).astype(np.int64)

    def strata(self, levels: Sequence[str]) -> list[str]:
        """Thirds by time of the events, and of the censored patients."""
        label = self.labels(levels)
        group, time = self.group_of(label), self.time[label]
        third = np.zeros(len(label), dtype=np.int64)
        for own in np.unique(group):
            rows = group == own
            third[rows] = np.argsort(np.argsort(time[rows], kind="stable")) * FOLD_BINS // rows.sum()
        return [f"{own}{part}" for own, part in zip(group, third, strict=True)]

    def shortcomings(self, patients: Sequence[int]) -> tuple[list[str], list[str]]:
        """Refused under ``FEWEST_EVENTS`` events, warned of under ``FEW_EVENTS``."""
        events = patients[0]
        found = f"{events} events among {sum(patients)} patients"
        if events < FEWEST_EVENTS:
            return [f"{found}, fewer than the {FEWEST_EVENTS} that any analysis takes; wait for a longer follow-up"], []
        if events < FEW_EVENTS:
            return [], [f"{found}: with fewer than {FEW_EVENTS}, intervals are wide and most effects stay unseen"]
        return [], []

    def oddities(self, levels: Sequence[str]) -> tuple[list[str], list[str]]:
        """Refused where nobody is known to have lasted longer than any event; warned of where all events coincide."""
        label = self.labels(levels)
        time, event = self.time[label], self.event[label]
        if not event.any():
            return [], []
        first = time[event].min()
        if not np.any((time > first) | ((time == first) & ~event)):
            return [
                f"no patient was followed beyond the first event, at {first:g}; no two patients can be compared"
            ], []
        if event.sum() > 1 and time[event].max() == first:
            return [], [f"all {event.sum()} events are at one time ({first:g}); check that it is the time of the event"]
        return [], []

    def lonely(self, levels: Sequence[str], sites: Sequence[str]) -> tuple[list[str], list[str]]:
        """Hazards are compared within sites: events with nobody else at risk at their site say nothing."""
        label, stratum = self.labels(levels), np.unique(sites, return_inverse=True)[1]
        events = int(self.event[label].sum())
        count = comparable_events(self.time[label], self.event[label], stratum)
        has_sites = stratum.max(initial=0) > 0
        of_site = " of the same site" if has_sites else ""
        found = f"{count} of {counted(events, 'event', 'has')} another patient{of_site} at risk"
        if count < FEWEST_EVENTS:
            remedy = "join small sites, or leave the column site empty" if has_sites else "wait for a longer follow-up"
            return [f"{found}, and {FEWEST_EVENTS} are needed; {remedy}"], []
        if 2 * count < events:
            compared = ", since patients are compared within sites" if has_sites else ""
            return [], [f"{found}: the others say nothing{compared}"]
        return [], []

    def describe(self, levels: Sequence[str]) -> str:
        """How many events, and how long patients were followed."""
        if not levels:
            return "no patient"
        label = self.labels(levels)
        time, event = self.time[label], self.event[label]
        found = f"{counted(int(event.sum()), 'event')} among {counted(len(label), 'patient')}, median follow-up"
        median = median_follow_up(time, event)
        if np.isfinite(median):
            return f"{found} {median:g} (reverse Kaplan-Meier)"
        return f"{found} not reached by {time.max():g} (reverse Kaplan-Meier)"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The log hazard."""
        return ("log hazard",)

    def columns(self, label: IntArray) -> dict[str, Array]:
        """``time`` and ``event``, 1 where it was seen."""
        return {"time": self.time[label], "event": self.event[label].astype(np.int64)}

    def fit(
        self,
        x: FloatArray,
        label: IntArray,
        strength: float,
        stratum: IntArray | None = None,
        weight: FloatArray | None = None,
        start: LinearWeights | None = None,
    ) -> LinearWeights:
        """Cox regression with Efron's ties and a ridge penalty, each stratum with a baseline hazard of its own."""
        near = {} if start is None else {"start": start.coef[0], "steps": REFIT_STEPS}
        coef = fit_cox(x, self.time[label], self.event[label], 1 / strength, stratum, weight, **near)
        return LinearWeights(coef[None], -(coef[None] @ x.mean(axis=0)))

    def targets(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Martingale residuals, as a risk that any regression can learn (Therneau 1990)."""
        return self.places(label, stratum)

    def slope(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Derivatives of the log partial likelihood: martingale residuals."""
        return partial_likelihood(outputs[:, 0], self.time[label], self.event[label], stratum)[1][:, None]

    def fitting_loss(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> float:
        """Minus the log partial likelihood an event; NaN without events."""
        events = int(self.event[label].sum())
        likelihood = partial_likelihood(outputs[:, 0], self.time[label], self.event[label], stratum)[0]
        return -likelihood / events if events else float("nan")

    def predict(self, outputs: FloatArray) -> FloatArray:
        """The log hazard."""
        return outputs

    def prediction_columns(self, prediction: FloatArray) -> dict[str, Array]:
        """``risk``."""
        return {"risk": prediction[:, 0]}

    def loss(self, prediction: FloatArray, label: IntArray) -> FloatArray:
        """Minus the log likelihood of the events that are seen, given those to be expected at this hazard.

        expected × exp(log hazard) − event × log hazard: the full likelihood of a proportional hazard for a known
        baseline (a Poisson likelihood, Holford 1980), so that every patient has a loss of its own. It is least at the
        true hazards where the baseline is that of log hazard 0, see :meth:`calibrated`; the cohort's own baseline,
        which knows no hazards, asks for smaller ones.
        """
        log_hazard = np.clip(prediction[:, 0], -LARGEST_LOG_HAZARD, LARGEST_LOG_HAZARD)
        result: FloatArray = self.expected[label] * np.exp(log_hazard) - self.event[label] * log_hazard
        return result

    def held_out_losses(
        self, outputs: FloatArray, label: IntArray, fitted: BoolArray, stratum: IntArray | None = None
    ) -> FloatArray:
        """Cross-validated partial likelihood: of all rows less that of the fitted (Verweij & van Houwelingen 1993).

        Every held-out row gets the same share of it.
        """
        of_all, of_fitted = (
            partial_likelihood(outputs[rows, 0], self.time[label[rows]], self.event[label[rows]], own)[0]
            for rows, own in (
                (np.ones(len(label), dtype=bool), stratum),
                (fitted, None if stratum is None else stratum[fitted]),
            )
        )
        held_out = int((~fitted).sum())
        return np.full(held_out, (of_fitted - of_all) / max(held_out, 1))

    def calibrated(self, prediction: FloatArray, label: IntArray) -> Survival:
        """With the baseline that these log hazards leave (Breslow 1972); for patients of one stratum."""
        return replace(self, expected=self._baseline(prediction, label).at(self.time))

    def _baseline(self, prediction: FloatArray, label: IntArray) -> StepFunction:
        log_hazard = np.clip(prediction[:, 0], -LARGEST_LOG_HAZARD, LARGEST_LOG_HAZARD)
        return cumulative_hazard(self.time[label], self.event[label], log_hazard)

    def measures(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> Mapping[str, FloatArray]:
        """Harrell's C, Uno's C up to τ, and over the events until then the mean dynamic AUC and the Brier score.

        Both C compare patients of a stratum, since baseline hazards of different ones say nothing of each other.

        None is ever turned round after a look at it. The chances to survive behind the Brier score are those of the
        baseline hazard that the predictions leave, within strata, times exp(log hazard): since that baseline is of the
        patients who are predicted, the score is a little too good.
        """
        risk, time, event = prediction[:, 0], self.time[label], self.event[label]
        times = self._horizons(label)
        measures = {
            "c_index": self.headline_over(prediction, label, weights, stratum),
            "uno_c": uno_concordance(risk, time, event, weights, self.tau, stratum),
        }
        if len(times) < 2:
            return measures | dict.fromkeys(("dynamic_auc", "brier"), np.full(len(weights), np.nan))
        stratum = np.zeros(len(label), dtype=np.int64) if stratum is None else stratum
        hazard = np.empty((len(label), len(times)))
        for place in np.unique(stratum):
            rows = stratum == place
            hazard[rows] = self._baseline(prediction[rows], label[rows]).at(times)
        survival = np.exp(-hazard * np.exp(np.clip(risk, -LARGEST_LOG_HAZARD, LARGEST_LOG_HAZARD))[:, None])
        return measures | {
            "dynamic_auc": known_mean(dynamic_auc(risk, time, event, weights, times), axis=1),
            "brier": integrated_brier_score(survival, time, event, weights, times),
        }

    def without_channels(self, label: IntArray, stratum: IntArray | None = None) -> dict[str, float | int]:
        """``brier`` of the same hazard for all, within strata (Nelson & Aalen), ``tau``, and the ``horizons``.

        These are the times of the events until τ, from ``first_horizon`` to ``last_horizon``, over which the Brier
        score and the dynamic AUC are averaged. Empty with fewer than two of them, where neither is measured.
        """
        times = self._horizons(label)
        if len(times) < 2:
            return {}
        same = np.zeros((len(label), 1))
        brier = float(self.measures(same, label, np.ones((1, len(label))), stratum)["brier"][0])
        return {
            **({"brier": brier} if np.isfinite(brier) else {}),
            "tau": float(self.tau),
            "horizons": len(times),
            "first_horizon": float(times[0]),
            "last_horizon": float(times[-1]),
        }

    def _horizons(self, label: IntArray) -> Array:
        """Times of the events until τ, each once, in order."""
        time = self.time[label]
        horizons: Array = np.unique(time[self.event[label] & (time <= self.tau)])
        return horizons

    def headline_over(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> FloatArray:
        """Harrell's C."""
        return concordance(prediction[:, 0], self.time[label], self.event[label], weights, stratum)

    def headline_of(self, prediction: FloatArray, labels: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Harrell's C."""
        once = np.ones((1, labels.shape[1]))
        return np.array(
            [concordance(prediction[:, 0], self.time[own], self.event[own], once, stratum)[0] for own in labels]
        )

    def places(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Martingale residuals of the null model: events seen less events to be expected (Therneau 1990)."""
        return martingale_residuals(self.time[label], self.event[label], stratum)
