"""Concordance, AUC and Brier scores of survival, by hand and against lifelines and torchsurv."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index
from torchsurv.metrics.auc import Auc
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.ipcw import get_ipcw

from plexrank.statistics.survival import censoring_survival
from plexrank.statistics.survival_metrics import (
    brier_score,
    comparable_events,
    concordance,
    dynamic_auc,
    horizon,
    integrated_brier_score,
    uno_concordance,
)
from survival_samples import Survival, tied_survival

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:::lifelines"),
]

TIME = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
EVENT = np.array([True, True, False, True, False])
RISK = np.array([5.0, 1.0, 1.0, 4.0, 2.0])
"""G is 1 before 2, 2/3 from 2 on: the event at 2 is no longer at risk of the censoring at 2."""
ONES = np.ones((1, 5))


def untied(seed: int) -> Survival:
    """Events and censoring never at the same time, where G(T) and G(T−) are the same; ties among events are left."""
    data = tied_survival(seed)
    return data._replace(time=np.where(data.event, data.time, data.time + 0.5))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array, dtype=torch.bool if array.dtype == bool else torch.float32) for array in arrays]


# Horizon


def test_horizon_is_the_last_event_that_a_tenth_reaches() -> None:
    time = np.arange(1.0, 31.0)
    assert horizon(time, np.ones(30, dtype=bool)) == 28
    assert horizon(time, time < 20) == 19
    assert np.isnan(horizon(time, time == 29))
    assert np.isnan(horizon(time, time == 0))
    assert horizon(TIME, EVENT) == 3


def test_horizon_has_somebody_after_it() -> None:
    time, event = np.array([1.0, 2, 5, 5, 5]), np.array([True, True, True, False, False])
    assert horizon(time, event) == 2


# By hand


def test_concordance_of_five_samples() -> None:
    """Pairs: 1 before all four, 2 before its own censored (equal risks), 3 and 4, 3 before 4."""
    assert concordance(RISK, TIME, EVENT, ONES)[0] == pytest.approx((4 + 0.5 + 0 + 0 + 1) / 8)
    expected = (4 + 0.5 + 1 * 1.5**2) / (4 + 3 + 1 * 1.5**2)
    assert uno_concordance(RISK, TIME, EVENT, ONES, 3.5)[0] == pytest.approx(expected)
    assert uno_concordance(RISK, TIME, EVENT, ONES, 3.0)[0] == pytest.approx(4.5 / 7)


def test_auc_of_five_samples() -> None:
    """At 2: cases 1 and 2 of weight 1, controls 3 and 4. At 3: cases 1, 2 and 3 of weight 1, 1 and 3/2, control 4."""
    result = dynamic_auc(RISK, TIME, EVENT, ONES, np.array([0.5, 2, 3, 4]))
    np.testing.assert_allclose(result, [[np.nan, 2 / 4, 2.5 / 3.5, np.nan]])


def test_brier_score_of_five_samples() -> None:
    survival = np.tile([0.9, 0.5, 0.2, 0.1], (5, 1))
    result = brier_score(survival, TIME, EVENT, ONES, np.array([1.0, 2, 3, 4]))
    expected = [
        (0.9**2 + 4 * 0.1**2) / 5,
        (2 * 0.5**2 + 2 * 1.5 * 0.5**2) / 5,
        ((1 + 1 + 1.5) * 0.2**2 + 1.5 * 0.8**2) / 5,
        np.nan,
    ]
    np.testing.assert_allclose(result[0], expected)
    mean = integrated_brier_score(survival[:, :3], TIME, EVENT, ONES, np.array([1.0, 2, 3]))
    assert mean[0] == pytest.approx((expected[0] / 2 + expected[1] + expected[2] / 2) / 2)


def test_weights_of_brier_scores_add_up_to_the_number_of_samples() -> None:
    """With 1 / G(T−) they do so at all times, also where events and censoring meet; with 1 / G(T) they do not."""
    data, times = tied_survival(0), np.arange(1.0, 12.0)
    none, all_of_them = (
        brier_score(np.full((80, 11), share), data.time, data.event, np.ones((1, 80)), times)[0] for share in (0, 1)
    )
    np.testing.assert_allclose(none + all_of_them, 1, rtol=1e-12)
    censoring = censoring_survival(data.time, data.event)
    cases = np.array([(1 / censoring.at(data.time[data.event & (data.time <= t)])).sum() for t in times])
    controls = np.array([(data.time > t).sum() / censoring.at(t) for t in times])
    assert (cases + controls)[-1] > 80 * 1.02


# Other packages


@pytest.mark.parametrize("seed", range(5))
def test_concordance_is_that_of_lifelines(seed) -> None:
    data = tied_survival(seed)
    risk = np.round(data.x[:, 0], 1)
    expected = concordance_index(data.time, -risk, data.event)
    assert concordance(risk, data.time, data.event, np.ones((1, 80)))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_torchsurv_where_events_and_censoring_do_not_meet(seed) -> None:
    data = untied(seed)
    risk, ones = np.round(data.x[:, 0], 1), np.ones((1, 80))
    tau, times = horizon(data.time, data.event), np.array([1.0, 3.0, 4.7, 8.0])
    survival = np.random.default_rng(seed).uniform(size=(80, 4))
    event, time, score, at, predicted = tensors(data.event, data.time, risk, times, survival)
    weight, weight_at = get_ipcw(event, time), get_ipcw(event, time, at)
    uno = ConcordanceIndex()(score, event, time, weight=weight, tmax=torch.tensor(tau))
    assert uno_concordance(risk, data.time, data.event, ones, tau)[0] == pytest.approx(uno.item(), abs=1e-6)
    auc = Auc()(score, event, time, new_time=at, weight=weight, weight_new_time=weight_at)
    np.testing.assert_allclose(dynamic_auc(risk, data.time, data.event, ones, times)[0], auc, atol=1e-6)
    brier = BrierScore()
    scores = brier(predicted, event, time, at, weight, weight_at)
    np.testing.assert_allclose(brier_score(survival, data.time, data.event, ones, times)[0], scores, atol=1e-6)
    mean = integrated_brier_score(survival, data.time, data.event, ones, times)[0]
    assert mean == pytest.approx(brier.integral().item(), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_torchsurv_with_weights_just_before_events(seed) -> None:
    """Given 1 / G(T−) it comes to the same numbers with all kinds of ties."""
    data = tied_survival(seed)
    risk, ones, times = np.round(data.x[:, 0], 1), np.ones((1, 80)), np.array([2.0, 5.0, 9.0])
    survival = np.random.default_rng(seed).uniform(size=(80, 3))
    censoring = censoring_survival(data.time, data.event)
    event, time, score, at, predicted = tensors(data.event, data.time, risk, times, survival)
    weight, weight_at = tensors(1 / censoring.before(data.time), 1 / censoring.at(times))
    uno = ConcordanceIndex()(score, event, time, weight=weight, tmax=torch.tensor(9.0))
    assert uno_concordance(risk, data.time, data.event, ones, 9.0)[0] == pytest.approx(uno.item(), abs=1e-6)
    auc = Auc()(score, event, time, new_time=at, weight=weight, weight_new_time=weight_at)
    np.testing.assert_allclose(dynamic_auc(risk, data.time, data.event, ones, times)[0], auc, atol=1e-6)
    scores = BrierScore()(predicted, event, time, at, weight, weight_at)
    np.testing.assert_allclose(brier_score(survival, data.time, data.event, ones, times)[0], scores, atol=1e-6)


def test_censoring_at_the_time_of_an_event_is_censoring_just_after_it() -> None:
    """Events come first: censored half a month later, all is the same where metrics are taken between months."""
    data, later, ones = tied_survival(6), untied(6), np.ones((1, 80))
    times, survival = np.array([2.7, 5.7, 8.7]), np.random.default_rng(6).uniform(size=(80, 3))
    assert (data.time != later.time).any()
    for tie, apart in (
        (concordance(data.x[:, 0], *data[:2], ones), concordance(data.x[:, 0], *later[:2], ones)),
        (uno_concordance(data.x[:, 0], *data[:2], ones, 10), uno_concordance(data.x[:, 0], *later[:2], ones, 10)),
        (dynamic_auc(data.x[:, 0], *data[:2], ones, times), dynamic_auc(data.x[:, 0], *later[:2], ones, times)),
        (brier_score(survival, *data[:2], ones, times), brier_score(survival, *later[:2], ones, times)),
    ):
        np.testing.assert_allclose(tie, apart, rtol=1e-12)


# Weights


def test_draws_weigh_pairs_of_different_samples() -> None:
    """A sample drawn twice is no pair with itself: a loop over pairs of samples."""
    data = tied_survival(0, samples=30)
    risk = np.round(data.x[:, 0], 1)
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    ipcw = 1 / censoring_survival(data.time, data.event).before(data.time)
    for measured, pair_weight in (
        (concordance(risk, data.time, data.event, weights), np.ones(30)),
        (uno_concordance(risk, data.time, data.event, weights, 8.0), np.where(data.time < 8, ipcw**2, 0)),
    ):
        for weight, found in zip(weights, measured, strict=True):
            good = total = 0.0
            for i in np.flatnonzero(data.event):
                for j in range(30):
                    lasted = data.time[j] > data.time[i] or (data.time[j] == data.time[i] and not data.event[j])
                    pair = lasted * weight[i] * weight[j] * pair_weight[i]
                    total += pair
                    good += pair * ((risk[i] > risk[j]) + (risk[i] == risk[j]) / 2)
            assert found == pytest.approx(good / total, rel=1e-12)


def test_weights_of_whole_numbers_are_repeated_samples() -> None:
    """For AUC and Brier score, whose sums have no pairs within cases; G is that of the samples as they are."""
    data = tied_survival(1)
    weights = np.random.default_rng(1).integers(0, 3, (3, 80)).astype(float)
    times, survival = np.array([2.0, 6.0]), np.random.default_rng(1).uniform(size=(80, 2))
    auc = dynamic_auc(data.x[:, 0], data.time, data.event, weights, times)
    brier = brier_score(survival, data.time, data.event, weights, times)
    inverse = 1 / censoring_survival(data.time, data.event).before(data.time)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(80), weight.astype(int))
        time, event, risk, ipcw = data.time[rows], data.event[rows], data.x[rows, 0], inverse[rows]
        for column, t in enumerate(times):
            case, control = event & (time <= t), time > t
            ordered = (risk[case][:, None] > risk[control]) + (risk[case][:, None] == risk[control]) / 2
            expected = ipcw[case] @ ordered.sum(axis=1) / (ipcw[case].sum() * control.sum())
            assert auc[draw, column] == pytest.approx(expected, rel=1e-12)
            followed = control / censoring_survival(data.time, data.event).at(t)
            predicted = survival[rows, column]
            expected = (case * ipcw * predicted**2 + followed * (1 - predicted) ** 2).mean()
            assert brier[draw, column] == pytest.approx(expected, rel=1e-12)


def test_nothing_to_compare_is_nan() -> None:
    none = np.zeros(5, dtype=bool)
    weights = np.array([[1.0, 1, 1, 1, 1], [0, 0, 0, 0, 3], [0, 0, 0, 0, 0]])
    assert np.isnan(concordance(RISK, TIME, none, weights)).all()
    np.testing.assert_array_equal(np.isnan(concordance(RISK, TIME, EVENT, weights)), [False, True, True])
    np.testing.assert_array_equal(np.isnan(uno_concordance(RISK, TIME, EVENT, weights, 9.0)), [False, True, True])
    assert np.isnan(uno_concordance(RISK, TIME, EVENT, weights, np.nan)).all()
    times = np.array([2.0, np.nan])
    auc = dynamic_auc(RISK, TIME, EVENT, weights, times)
    np.testing.assert_array_equal(np.isnan(auc), [[False, True], [True, True], [True, True]])
    brier = brier_score(np.full((5, 2), 0.5), TIME, EVENT, weights, times)
    np.testing.assert_array_equal(np.isnan(brier), [[False, True], [False, True], [True, True]])


def test_concordance_within_strata_is_that_of_their_pairs() -> None:
    time, event, stratum = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.ones(5, bool), np.array([0, 1, 0, 1, 0])
    risk = np.array([0.0, 9.0, 2.0, 8.0, 1.0])
    once = np.ones((1, 5))
    assert concordance(risk, time, event, once, stratum)[0] == pytest.approx(2 / 4)  # 3 before 5, and 2 before 4
    assert uno_concordance(risk, time, event, once, 9.0, stratum)[0] == pytest.approx(2 / 4)
    assert comparable_events(time, event, stratum) == 3
    assert np.isnan(concordance(risk, time, event, once, np.arange(5))[0])
