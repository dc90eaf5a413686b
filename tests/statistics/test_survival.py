"""Hazards, survival curves, residuals and log-rank, by hand and against lifelines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import logrank_test, multivariate_logrank_test

from plexrank.statistics.risk_sets import RiskSets, logarithm
from plexrank.statistics.survival import (
    censoring_survival,
    cumulative_hazard,
    kaplan_meier,
    log_rank,
    martingale_residuals,
    median_follow_up,
)
from survival_samples import tied_survival

TIME = np.array([3.0, 1.0, 2.0, 2.0, 4.0])
EVENT = np.array([True, True, True, False, False])
"""At risk 5, 4, 2, 1 at times 1 to 4; the sample censored at 2 is at risk of the event at 2."""

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:::lifelines"),
]


@pytest.mark.parametrize("stratum", [None, np.array([0, 1, 0, 1, 1])])
def test_sums_over_risk_sets_are_those_of_a_loop(stratum) -> None:
    sets = RiskSets.of(TIME, stratum)
    values = np.arange(1.0, 6.0)
    same = np.ones((5, 5), dtype=bool) if stratum is None else stratum[:, None] == stratum
    onwards, until = (same & (TIME[:, None] <= TIME)) @ values, (same & (TIME[:, None] >= TIME)) @ values
    np.testing.assert_array_equal(sets.onwards(values[sets.order]), onwards[sets.order])
    np.testing.assert_array_equal(sets.until(values[sets.order]), until[sets.order])
    logs = sets.onwards(logarithm(values)[sets.order], np.logaddexp)
    np.testing.assert_allclose(np.exp(logs), onwards[sets.order], rtol=1e-14)
    columns = np.column_stack([values, values**2])[sets.order]
    np.testing.assert_array_equal(sets.onwards(columns)[:, 0], onwards[sets.order])


def test_strata_and_times_belong_to_the_same_samples() -> None:
    with pytest.raises(ValueError, match="one entry a sample"):
        RiskSets.of(TIME, np.zeros(4, dtype=int))


# Hazards and residuals


def test_hazard_of_five_samples() -> None:
    hazard = cumulative_hazard(TIME, EVENT)
    np.testing.assert_array_equal(hazard.times, [1, 2, 3, 4])
    np.testing.assert_allclose(hazard.at([0.5, 1, 1.5, 2, 3, 9]), np.cumsum([0, 1 / 5, 0, 1 / 4, 1 / 2, 0]))
    np.testing.assert_allclose(hazard.before([1.0, 2.0]), [0, 1 / 5])
    risk, weight = np.log([1.0, 2, 3, 4, 5]), np.array([1.0, 2, 1, 1, 0])
    steps = [0, 2 / (1 + 4 + 3 + 4), 1 / (1 + 3 + 4), 1 / 1]
    np.testing.assert_allclose(cumulative_hazard(TIME, EVENT, risk, weight).at([0, 1, 2, 3]), np.cumsum(steps))


def test_residuals_of_five_samples_in_one_and_in_two_strata() -> None:
    hazard = np.array([0.95, 0.2, 0.45, 0.45, 0.95])
    np.testing.assert_allclose(martingale_residuals(TIME, EVENT), EVENT - hazard, rtol=1e-14)
    stratum = np.array([0, 0, 0, 1, 1])
    expected = EVENT - np.array([1 / 3 + 1 / 2 + 1, 1 / 3, 1 / 3 + 1 / 2, 0, 0])
    np.testing.assert_allclose(martingale_residuals(TIME, EVENT, stratum), expected, atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_hazards_and_residuals_are_those_of_lifelines(seed) -> None:
    data = tied_survival(seed)
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(data.time, data.event)
    times = np.arange(0.0, 14.0, 0.5)
    expected = fitted.cumulative_hazard_at_times(times).to_numpy()
    np.testing.assert_allclose(cumulative_hazard(data.time, data.event).at(times), expected, rtol=1e-9)
    residuals = martingale_residuals(data.time, data.event, data.stratum)
    for own in range(3):
        rows = data.stratum == own
        assert residuals[rows].sum() == pytest.approx(0, abs=1e-12)
    table = pd.DataFrame({"time": data.time, "event": data.event, "stratum": data.stratum, "x": data.x[:, 0]})
    null = CoxPHFitter(penalizer=1e9).fit(table, "time", "event", strata=["stratum"])
    expected = null.compute_residuals(table, "martingale")["martingale"].sort_index().to_numpy()
    np.testing.assert_allclose(residuals, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_breslow_hazard_is_that_of_lifelines(seed) -> None:
    data = tied_survival(seed)
    table = pd.DataFrame({"time": data.time, "event": data.event, "x": data.x[:, 0]})
    fitted = CoxPHFitter().fit(table, "time", "event")
    risk = fitted.predict_log_partial_hazard(table).to_numpy()
    expected = fitted.baseline_cumulative_hazard_.iloc[:, 0]
    np.testing.assert_allclose(cumulative_hazard(data.time, data.event, risk).at(expected.index), expected, rtol=1e-9)


def test_hazard_without_events_is_zero_and_large_risks_do_no_harm() -> None:
    none = np.zeros(5, dtype=bool)
    np.testing.assert_array_equal(cumulative_hazard(TIME, none).at(TIME), 0)
    np.testing.assert_array_equal(martingale_residuals(TIME, none), 0)
    spread = np.array([-600.0, 700, 0, 0, -800])
    steps = [np.exp(-700), 1 / 2, np.exp(600)]
    np.testing.assert_allclose(np.diff(cumulative_hazard(TIME, EVENT, spread).at([0, 1, 2, 3])), steps, rtol=1e-9)


# Survival curves


def test_survival_of_five_samples() -> None:
    curve = kaplan_meier(TIME, EVENT)
    np.testing.assert_allclose(curve.survival.at([0, 1, 2, 3, 9]), [1, 4 / 5, 3 / 5, 3 / 10, 3 / 10])
    np.testing.assert_array_equal(curve.at_risk([0, 1, 2, 2.5, 3, 4, 5]), [5, 5, 4, 2, 2, 1, 0])
    assert curve.median() == 3
    assert kaplan_meier(TIME, np.zeros(5, dtype=bool)).median() == np.inf


def test_samples_with_an_event_are_not_at_risk_of_censoring_at_that_time() -> None:
    censoring = censoring_survival(TIME, EVENT)
    np.testing.assert_allclose(censoring.at([1, 2, 3, 4]), [1, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(censoring.before([1, 2, 3, 4]), [1, 1, 2 / 3, 2 / 3])
    assert median_follow_up(TIME, EVENT) == 4
    assert median_follow_up(TIME, np.ones(5, dtype=bool)) == np.inf


@pytest.mark.parametrize("seed", range(4))
def test_survival_curves_are_those_of_lifelines(seed) -> None:
    data = tied_survival(seed)
    curve, fitted = kaplan_meier(data.time, data.event), KaplanMeierFitter().fit(data.time, data.event)
    times = np.arange(0.0, 14.0, 0.5)
    np.testing.assert_allclose(curve.survival.at(times), fitted.survival_function_at_times(times), rtol=1e-9)
    interval = fitted.confidence_interval_
    for bound, expected in ((curve.low, interval.iloc[:, 0]), (curve.high, interval.iloc[:, 1])):
        np.testing.assert_allclose(bound.at(interval.index.to_numpy()), expected, rtol=1e-9)
    assert curve.median() == fitted.median_survival_time_
    apart = np.where(data.event, data.time - 1e-6, data.time)
    reverse = KaplanMeierFitter().fit(apart, np.logical_not(data.event))
    censoring = censoring_survival(data.time, data.event)
    np.testing.assert_allclose(censoring.at(times), reverse.survival_function_at_times(times), rtol=1e-9)
    assert median_follow_up(data.time, data.event) == reverse.median_survival_time_


def test_interval_is_open_where_nobody_survives() -> None:
    curve = kaplan_meier(np.array([1.0, 2, 3]), np.array([False, True, True]))
    np.testing.assert_array_equal(curve.low.at([0, 1]), 1)
    assert 0 < curve.low.at(2) < curve.high.at(2) < 1
    assert np.isnan(curve.low.at(3))


# Log-rank


def test_log_rank_of_four_samples() -> None:
    """Events at 1 (2 of 4 at risk in group 0), 2 (1 of 3) and 3 (1 of 2): expected 4/3 against 2 observed."""
    time, event = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, True, False])
    chi2, p = log_rank(time, event, np.array([0, 1, 0, 1]))
    variance = 1 / 4 + 2 / 9 + 1 / 4
    assert chi2 == pytest.approx((2 - 4 / 3) ** 2 / variance)
    assert 0 < p < 1
    assert log_rank(time, event, np.zeros(4, dtype=int)) == pytest.approx((np.nan, np.nan), nan_ok=True)
    assert log_rank(time, np.zeros(4, dtype=bool), np.array([0, 1, 0, 1])) == pytest.approx(
        (np.nan, np.nan), nan_ok=True
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("groups", [2, 4])
def test_log_rank_is_that_of_lifelines(seed, groups) -> None:
    data = tied_survival(seed)
    group = np.random.default_rng(seed).integers(0, groups, len(data.time))
    expected = multivariate_logrank_test(data.time, group, data.event)
    assert log_rank(data.time, data.event, group) == pytest.approx(
        (expected.test_statistic, expected.p_value), rel=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_strata_of_log_rank_add_up(seed) -> None:
    """Groups of lifelines' test are samples of one stratum each: statistic and variance of two groups are sums."""
    data = tied_survival(seed)
    group = (data.x[:, 1] > 0).astype(int)
    excess = variance = 0.0
    for own in range(3):
        rows = data.stratum == own
        one = group[rows] == 1
        chi2 = logrank_test(data.time[rows][one], data.time[rows][~one], data.event[rows][one], data.event[rows][~one])
        hazard = cumulative_hazard(data.time[rows], data.event[rows]).at(data.time[rows])
        own_excess = (data.event[rows] - hazard)[one].sum()
        excess += own_excess
        variance += own_excess**2 / chi2.test_statistic
    assert log_rank(data.time, data.event, group, data.stratum)[0] == pytest.approx(excess**2 / variance, rel=1e-9)


def test_groups_that_never_meet_give_no_degrees_of_freedom() -> None:
    data = tied_survival(0, strata=2)
    within = (data.x[:, 1] > 0).astype(int)
    apart = within + 2 * data.stratum
    chi2, p = log_rank(data.time, data.event, apart, data.stratum)
    parts = [
        log_rank(data.time[rows], data.event[rows], within[rows]) for rows in (data.stratum == 0, data.stratum == 1)
    ]
    assert chi2 == pytest.approx(parts[0][0] + parts[1][0], rel=1e-9)
    assert p == pytest.approx(np.exp(-chi2 / 2), rel=1e-9)  # two degrees of freedom
    assert np.isnan(log_rank(data.time, data.event, data.stratum, data.stratum)).all()
