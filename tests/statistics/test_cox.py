"""Cox regression by hand, by finite differences, and against lifelines and torchsurv."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from torchsurv.loss.cox import neg_partial_log_likelihood

from plexrank.statistics.cox import fit_cox, partial_likelihood
from survival_samples import Survival, tied_survival

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:::lifelines"),
]

PENALTY = 0.05
"""That of lifelines, which multiplies it by the number of samples."""


def scaled(data: Survival) -> np.ndarray:
    """Columns of x with standard deviation 1, to which lifelines' penalty refers."""
    return (data.x - data.x.mean(axis=0)) / data.x.std(axis=0, ddof=1)


def lifelines_fit(data: Survival, strata: bool, weight: np.ndarray | None = None, penalizer: float = PENALTY):
    table = pd.DataFrame(scaled(data), columns=[f"x{i}" for i in range(data.x.shape[1])])
    table = table.assign(time=data.time, event=data.event)
    if strata:
        table["stratum"] = data.stratum
    if weight is not None:
        table["weight"] = weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are not whole numbers
        return CoxPHFitter(penalizer=penalizer).fit(
            table,
            "time",
            "event",
            strata=["stratum"] if strata else None,
            weights_col=None if weight is None else "weight",
            fit_options={"precision": 1e-13},
        )


def test_likelihood_of_three_samples() -> None:
    eta = np.log([2.0, 3.0, 5.0])
    value, gradient = partial_likelihood(eta, np.array([1.0, 2, 3]), np.array([True, False, True]))
    assert value == pytest.approx(np.log(2 / 10))
    np.testing.assert_allclose(gradient, [1 - 2 / 10, -3 / 10, 1 - 5 / 10 - 1], rtol=1e-13)


def test_likelihood_of_a_tie_with_weights() -> None:
    """Two deaths with weights 1 and 3 at once, one sample of weight 2 censored at the same time."""
    hazard, weight = np.array([2.0, 3.0, 5.0]), np.array([1.0, 3.0, 2.0])
    value, _ = partial_likelihood(np.log(hazard), np.ones(3), np.array([True, True, False]), None, weight)
    numerator = 1 * np.log(2) + 3 * np.log(3)
    denominator = np.log(2 + 9 + 10) + np.log((2 + 9) / 2 + 10)
    assert value == pytest.approx(numerator - (1 + 3) / 2 * denominator)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stratified", [False, True])
def test_gradient_is_the_slope(seed, stratified) -> None:
    data = tied_survival(seed, samples=40)
    rng = np.random.default_rng(seed)
    eta, weight = rng.normal(size=40), rng.integers(0, 3, 40) * rng.uniform(0.5, 1, 40)
    rest = data.time, data.event, data.stratum if stratified else None, weight
    _, gradient = partial_likelihood(eta, *rest)
    for i, step in enumerate(1e-5 * np.eye(40)):
        slope = (partial_likelihood(eta + step, *rest)[0] - partial_likelihood(eta - step, *rest)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stratified", [False, True])
def test_likelihood_is_that_of_lifelines(seed, stratified) -> None:
    data = tied_survival(seed)
    fitted = lifelines_fit(data, stratified, penalizer=0.0)
    eta = scaled(data) @ fitted.params_.to_numpy()
    value, gradient = partial_likelihood(eta, data.time, data.event, data.stratum if stratified else None)
    assert value == pytest.approx(fitted.log_likelihood_, rel=1e-9)
    np.testing.assert_allclose(scaled(data).T @ gradient, 0, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_is_that_of_lifelines(seed, stratified, weighted) -> None:
    data = tied_survival(seed)
    weight = np.random.default_rng(seed).uniform(0.2, 3, 80) if weighted else None
    stratum = data.stratum if stratified else None
    coef = fit_cox(scaled(data), data.time, data.event, PENALTY * 80, stratum, weight)
    np.testing.assert_allclose(coef, lifelines_fit(data, stratified, weight).params_, atol=1e-7)
    slope = partial_likelihood(scaled(data) @ coef, data.time, data.event, stratum, weight)[1] @ scaled(data)
    np.testing.assert_allclose(slope, PENALTY * 80 * coef, atol=1e-11)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("ends", ["months", "days"])
def test_likelihood_is_the_training_loss_of_torchsurv(stratified, ends) -> None:
    """Its loss works in 32 bits only where events are tied, and takes the exponential as it is."""
    data = tied_survival(5)
    time = data.time if ends == "months" else data.time + np.arange(80) / 100
    eta = np.random.default_rng(5).normal(size=80).astype(np.float32)
    log_hazard = torch.tensor(eta, requires_grad=True)
    strata = torch.tensor(data.stratum) if stratified else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are ties
        loss = neg_partial_log_likelihood(
            log_hazard, torch.tensor(data.event), torch.tensor(time), reduction="sum", strata=strata
        )
    loss.backward()
    value, gradient = partial_likelihood(eta, time, data.event, data.stratum if stratified else None)
    assert value == pytest.approx(-loss.item(), rel=1e-6)
    np.testing.assert_allclose(gradient, -log_hazard.grad.numpy(), atol=2e-6)


def test_a_weight_of_0_leaves_a_sample_out() -> None:
    data = tied_survival(1)
    weight = np.random.default_rng(1).integers(0, 3, 80).astype(float)
    kept = weight > 0
    eta = np.where(kept, data.x[:, 0], 900.0)
    value, gradient = partial_likelihood(eta, data.time, data.event, data.stratum, weight)
    fewer = data.time[kept], data.event[kept], data.stratum[kept], weight[kept]
    expected = partial_likelihood(eta[kept], *fewer)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient[kept], expected[1], atol=1e-12)
    np.testing.assert_array_equal(gradient[~kept], 0)
    coef = fit_cox(data.x, data.time, data.event, 1.0, data.stratum, weight)
    np.testing.assert_allclose(coef, fit_cox(data.x[kept], *fewer[:2], 1.0, *fewer[2:]), atol=1e-10)


def test_a_weight_of_2_is_a_sample_twice_where_there_are_no_ties() -> None:
    """Without ties among events: two of the same event are themselves a tie, so only censored samples are doubled."""
    data = tied_survival(2)
    time = data.time + np.arange(80) / 100
    weight = np.where(data.event, 1, 2)
    rows = np.repeat(np.arange(80), weight)
    once = fit_cox(data.x, time, data.event, 1.0, None, weight)
    np.testing.assert_allclose(once, fit_cox(data.x[rows], time[rows], data.event[rows], 1.0), atol=1e-10)


def test_hazards_of_any_size_neither_overflow_nor_vanish() -> None:
    data = tied_survival(3)
    for factor in (1.0, 500.0):
        value, gradient = partial_likelihood(factor * data.x[:, 0], data.time, data.event, data.stratum)
        shifted = partial_likelihood(factor * data.x[:, 0] + 5000.0, data.time, data.event, data.stratum)
        assert np.isfinite(value)
        assert shifted[0] == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(shifted[1], gradient, atol=1e-9)
        assert gradient.sum() == pytest.approx(0, abs=1e-9)


def test_without_events_nothing_is_learned() -> None:
    none = np.zeros(6, dtype=bool)
    value, gradient = partial_likelihood(np.arange(6.0), np.arange(1.0, 7.0), none)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    x = np.random.default_rng(0).normal(size=(6, 2))
    np.testing.assert_array_equal(fit_cox(x, np.arange(1.0, 7.0), none, 1.0, start=np.ones(2)), 0)
    weight = np.array([0.0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(fit_cox(x, np.arange(1.0, 7.0), np.arange(6) == 0, 1.0, None, weight), 0)


def test_minimum_is_found_where_newton_steps_are_too_long() -> None:
    """A perfect order of risks, hardly any penalty, large columns and a start far away."""
    time, event = np.arange(1.0, 31.0), np.ones(30, dtype=bool)
    x = np.column_stack([-time * 100, np.ones(30), -time * 100])
    for start in (None, np.array([-0.05, 40.0, 0.02])):
        coef = fit_cox(x, time, event, 1e-3, start=start)
        slope = x.T @ partial_likelihood(x @ coef, time, event)[1] - 1e-3 * coef
        np.testing.assert_allclose(slope, 0, atol=1e-6)
        assert coef[0] == pytest.approx(coef[2], rel=1e-6)
        assert coef[1] == pytest.approx(0, abs=1e-9)


def test_more_columns_than_samples_and_a_warm_start() -> None:
    data = tied_survival(4, samples=30, columns=100)
    coef = fit_cox(data.x, data.time, data.event, 1.0, data.stratum)
    slope = data.x.T @ partial_likelihood(data.x @ coef, data.time, data.event, data.stratum)[1] - coef
    np.testing.assert_allclose(slope, 0, atol=1e-8)
    again = fit_cox(data.x, data.time, data.event, 1.0, data.stratum, start=coef, steps=1)
    np.testing.assert_allclose(again, coef, atol=1e-9)


@pytest.mark.parametrize("penalty", [0.0, -1.0, np.nan])
def test_a_penalty_is_needed(penalty) -> None:
    with pytest.raises(ValueError, match="above 0"):
        fit_cox(np.ones((2, 1)), np.ones(2), np.ones(2, dtype=bool), penalty)


def test_times_and_events_belong_to_the_same_samples() -> None:
    with pytest.raises(ValueError, match="one entry a sample"):
        partial_likelihood(np.ones(3), np.ones(3), np.ones(2, dtype=bool))
