"""The linear models behind each kind of outcome: optima, slopes, refits, and the strength that they imply."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from plexrank.outcome import Outcome, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.statistics.proportional_odds import class_probabilities, fit_proportional_odds
from plexrank.statistics.ridge import fit_ridge

KINDS = ("nominal", "ordinal", "continuous", "survival")


def cohort(kind: str, rows: int = 80) -> tuple[Outcome, np.ndarray, np.ndarray]:
    """An outcome, features (row, column) of which the first decides on it, and labels (row,)."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 5))
    z = 1.5 * x[:, 0] + rng.normal(size=rows)
    if kind in ("nominal", "ordinal"):
        levels = [str(grade) for grade in np.digitize(z, [-0.7, 0.8])]
    elif kind == "continuous":
        levels = [f"{value:.3f}" for value in 30 + 4 * z]
    else:
        levels = [survival_level(f"{np.exp(3 - value / 2):.0f}", bool(value > -0.5)) for value in z]
    outcome = make_outcome(kind, levels, sorted(set(levels)))  # type: ignore[arg-type]
    return outcome, x, outcome.labels(levels)


def numeric_slope(loss, outputs: np.ndarray) -> np.ndarray:
    """Derivatives of minus a function of outputs (row, output), by central differences."""
    slope = np.zeros_like(outputs)
    for place in np.ndindex(*outputs.shape):
        step = np.zeros_like(outputs)
        step[place] = 1e-5
        slope[place] = -(loss(outputs + step) - loss(outputs - step)) / 2e-5
    return slope


def minimised(outcome: Outcome, outputs: np.ndarray, label: np.ndarray) -> float:
    """What :meth:`fit` minimises beside the penalty."""
    if outcome.kind == "continuous":
        return float(((outputs[:, 0] - outcome.standardised[label]) ** 2).sum() / 2)  # type: ignore[attr-defined]
    if outcome.kind == "survival":
        return outcome.fitting_loss(outputs, label) * int((outcome.group_of(label) == 0).sum())
    return float((outcome.weights(label) * outcome.loss(outcome.predict(outputs), label)).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_loss(kind: str) -> None:
    outcome, x, label = cohort(kind, rows=30)
    fitted = outcome.fit(x, label, 0.1)
    outputs = fitted.outputs(x)
    slope = outcome.slope(outputs, label)
    np.testing.assert_allclose(slope, numeric_slope(lambda o: minimised(outcome, o, label), outputs), atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.03, 1.0])
def test_a_fit_is_where_loss_and_penalty_pull_alike_and_tells_its_strength(kind: str, strength: float) -> None:
    outcome, x, label = cohort(kind)
    fitted = outcome.fit(x, label, strength)
    pull = strength * outcome.slope(fitted.outputs(x), label).T @ x
    if outcome.shares_slope:
        np.testing.assert_allclose(pull.sum(axis=0), fitted.coef[0], atol=1e-5)
    else:
        shown = fitted.coef * (2 if kind == "nominal" and len(outcome) == 2 else 1)
        np.testing.assert_allclose(pull, shown, atol=1e-5)
    assert outcome.implied_strength(fitted, x, label) == pytest.approx(strength, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_refits_to_drawn_rows_are_close_to_fits_of_these_rows(kind: str) -> None:
    outcome, x, label = cohort(kind)
    fitted = outcome.fit(x, label, 0.3)
    rows = len(label)
    weights = np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=4).astype(float)
    drawn = outcome.refitting(fitted, x, label)(np.vstack([np.ones(rows), weights]))
    np.testing.assert_allclose(drawn[0], fitted.coef, atol=2e-4)
    for weight, coef in zip(weights, drawn[1:], strict=True):
        expected = outcome.fit(x, label, 0.3, weight=weight)
        np.testing.assert_allclose(coef, expected.coef, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_columns_predicts_the_same_for_all(kind: str) -> None:
    outcome, x, label = cohort(kind)
    outputs = outcome.fit(x[:, :0], label, 1.0).outputs(x[:, :0])
    assert outputs.shape == (len(label), len(outcome.output_names))
    assert np.ptp(outputs, axis=0).max() < 1e-9


def test_two_grades_are_a_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3))
    label = (x[:, 0] + rng.normal(size=60) > 0.3).astype(int)
    coef, thresholds = fit_proportional_odds(x, label, 2, 0.5)
    exact = LogisticRegression(C=0.5, tol=1e-10).fit(x, label)
    np.testing.assert_allclose(coef, exact.coef_[0], atol=1e-5)
    np.testing.assert_allclose(thresholds, exact.intercept_, atol=1e-5)


def test_probabilities_of_grades_by_hand() -> None:
    probability = class_probabilities(np.array([[np.log(3), -np.log(3)], [0.0, 1.0]]))
    np.testing.assert_allclose(probability[0], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(probability[1], [0.5, 0.0, 0.5])  # logits out of order leave nothing in between


def test_ridge_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(2)
    x, y, weight = rng.normal(size=(40, 6)), rng.normal(size=40), rng.integers(0, 3, 40).astype(float)
    coef, intercept = fit_ridge(x, y, 0.25, weight)
    exact = Ridge(alpha=4.0).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(coef, exact.coef_, atol=1e-9)
    assert intercept == pytest.approx(exact.intercept_)
