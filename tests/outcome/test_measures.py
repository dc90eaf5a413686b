"""Predictions of each kind of outcome, and how well they fit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from lifelines.utils import concordance_index
from scipy import stats
from sklearn.metrics import cohen_kappa_score, r2_score

from plexrank.outcome import MEASURE_NAMES, make_outcome
from plexrank.outcome.ordinal import weighted_kappa
from plexrank.outcome.survival import FEW_EVENTS, FEWEST_EVENTS, survival_level
from plexrank.statistics.correlation import spearman, weighted_spearman


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_that_of_scipy_and_of_repeated_rows(ties: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30)).round(0 if ties else 9)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5).astype(float)
    assert spearman(a, b[None])[0] == pytest.approx(stats.spearmanr(a, b).statistic)
    found = weighted_spearman(a, b, np.vstack([np.ones(30), weights]))
    assert found[0] == pytest.approx(stats.spearmanr(a, b).statistic)
    for weight, value in zip(weights, found[1:], strict=True):
        rows = np.repeat(np.arange(30), weight.astype(int))
        assert value == pytest.approx(stats.spearmanr(a[rows], b[rows]).statistic)
    assert np.isnan(weighted_spearman(a, np.ones(30), weights)).all()


def test_kappa_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 50)
    predicted = np.clip(label + rng.integers(-1, 2, 50), 0, 3)
    weights = rng.multinomial(50, np.full(50, 0.02), size=3).astype(float)
    expected = [cohen_kappa_score(label, predicted, weights="quadratic", sample_weight=own) for own in weights]
    np.testing.assert_allclose(weighted_kappa(predicted, label, weights), expected)
    assert np.isnan(weighted_kappa(np.ones(50, int), np.ones(50, int), weights)).all()


def test_measures_of_numbers() -> None:
    outcome = make_outcome("continuous", ["1", "2.5", "4", "10"])
    label = outcome.labels(["10", "1", "4", "2.5"])
    prediction = outcome.predict(np.array([[1.6], [-1.0], [0.1], [-0.4]]))
    measures = outcome.measures(prediction, label, np.ones((1, 4)))
    assert measures["r2"][0] == pytest.approx(r2_score([10, 1, 4, 2.5], prediction[:, 0]))
    assert measures["spearman"][0] == pytest.approx(1.0)
    assert outcome.loss(prediction, label).mean() == pytest.approx(1 - measures["r2"][0])


def survival_cohort(seed: int, patients: int = 60) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=patients)
    time, followed = rng.exponential(np.exp(-risk)) * 10 + 0.1, rng.uniform(1, 20, patients)
    return [survival_level(f"{min(own, end):.1f}", own <= end) for own, end in zip(time, followed, strict=True)], risk


def test_concordance_is_never_turned_round() -> None:
    levels, risk = survival_cohort(0)
    outcome = make_outcome("survival", levels)
    label = outcome.labels(levels)
    time = np.array([float(level.split()[0]) for level in levels])
    event = np.array([level.endswith("event") for level in levels])
    for sign in (1, -1):
        measures = outcome.measures(sign * risk[:, None], label, np.ones((1, len(label))))
        assert measures["c_index"][0] == pytest.approx(concordance_index(time, -sign * risk, event))
    assert measures["c_index"][0] < 0.4
    assert outcome.headline_of(risk[:, None], label[None])[0] > 0.6


def test_measures_of_survival_know_good_predictions_from_bad_ones() -> None:
    levels, risk = survival_cohort(5, patients=200)
    outcome = make_outcome("survival", levels)
    good, none, bad = (
        outcome.measures(k * risk[:, None], outcome.labels(levels), np.ones((1, 200))) for k in (1, 0, -1)
    )
    for name in ("c_index", "uno_c", "dynamic_auc"):
        assert good[name][0] > 0.65
        assert none[name][0] == pytest.approx(0.5)
        assert bad[name][0] == pytest.approx(1 - good[name][0])
    assert good["brier"][0] < none["brier"][0] < bad["brier"][0]


def test_measures_that_need_several_event_times_are_left_open() -> None:
    levels = [survival_level("5", n < 12) for n in range(20)] + [survival_level("9", False)]
    outcome = make_outcome("survival", levels)
    measures = outcome.measures(np.arange(21.0)[:, None], outcome.labels(levels), np.ones((1, 21)))
    assert np.isfinite(measures["c_index"]).all()
    assert np.isnan(measures["brier"]).all()


def test_a_patients_loss_in_survival_is_least_at_its_hazard() -> None:
    levels, risk = survival_cohort(1, patients=400)
    outcome = make_outcome("survival", levels)
    label = outcome.labels(levels)
    right, none, wrong = (outcome.loss(k * risk[:, None], label).mean() for k in (1, 0, -1))
    assert right < none < wrong
    assert np.isfinite(outcome.loss(np.full((len(label), 1), 1e4), label)).all()
    assert outcome.expected[label].sum() == pytest.approx(outcome.event[label].sum())  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["nominal", "ordinal", "continuous", "survival"])
def test_every_kind_has_names_for_what_it_measures_and_predicts(kind: str) -> None:
    levels = survival_cohort(2)[0] if kind == "survival" else [str(number % 5) for number in range(60)]
    outcome = make_outcome(kind, levels, "01234")  # type: ignore[arg-type]
    label = outcome.labels(levels)
    outputs = np.random.default_rng(0).normal(size=(60, len(outcome.output_names)))
    prediction = outcome.predict(outputs)
    measures = outcome.measures(prediction, label, np.ones((2, 60)))
    assert outcome.headline in measures
    assert measures.keys() <= MEASURE_NAMES.keys()
    assert measures[outcome.headline][0] == pytest.approx(outcome.headline_of(prediction, label[None])[0])
    assert all(
        len(column) == 60 for column in {**outcome.columns(label), **outcome.prediction_columns(prediction)}.values()
    )
    assert outcome.contrasts(np.ones((3, 2, outputs.shape[1]))).shape == (3, 2, len(outcome.contrast_names))
    assert outcome.loss(prediction, label).shape == (60,)


def test_strata_spread_events_and_times() -> None:
    levels, _ = survival_cohort(3)
    counts = Counter(make_outcome("survival", levels).strata(levels))
    events = sum(level.endswith("event") for level in levels)
    assert sum(count for stratum, count in counts.items() if stratum[0] == "0") == events
    assert max(counts.values()) - min(counts.values()) <= abs(60 - 2 * events) / 3 + 1
    numbers = [str(number) for number in range(50)]
    assert set(Counter(make_outcome("continuous", numbers).strata(numbers)).values()) == {10}


@pytest.mark.parametrize(("events", "refused", "warned"), [(9, 1, 0), (10, 0, 1), (19, 0, 1), (20, 0, 0)])
def test_few_events_are_refused_or_warned_of(events: int, refused: int, warned: int) -> None:
    levels = [survival_level(str(n + 1), n < events) for n in range(40)]
    problems, warnings = make_outcome("survival", levels).shortcomings([events, 40 - events])
    assert (len(problems), len(warnings)) == (refused, warned)
    assert (FEWEST_EVENTS, FEW_EVENTS) == (10, 20)


def test_the_calibrated_loss_is_least_at_the_true_hazards() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(0, 1.5, 4000)
    time, followed = rng.exponential(np.exp(-risk)), rng.uniform(0.1, 4, 4000)
    levels = [survival_level(f"{min(own, end):.6f}", own <= end) for own, end in zip(time, followed, strict=True)]
    outcome = make_outcome("survival", levels)
    label, scales = outcome.labels(levels), (0.7, 0.85, 1.0, 1.15, 1.3)
    calibrated = outcome.calibrated(risk[:, None], label)
    assert calibrated.expected[label] @ np.exp(risk) == pytest.approx(outcome.event[label].sum())  # type: ignore[attr-defined]
    losses = [calibrated.loss(scale * risk[:, None], label).mean() for scale in scales]
    assert scales[int(np.argmin(losses))] == 1.0


def test_held_out_losses_of_survival_are_the_cross_validated_partial_likelihood() -> None:
    levels, risk = survival_cohort(7)
    outcome = make_outcome("survival", levels)
    label, fitted, outputs = outcome.labels(levels), np.arange(60) % 4 > 0, risk[:, None]
    events = [int(outcome.event[label[rows]].sum()) for rows in (np.ones(60, bool), fitted)]  # type: ignore[attr-defined]
    of_all = outcome.fitting_loss(outputs, label) * events[0]
    of_fitted = outcome.fitting_loss(outputs[fitted], label[fitted]) * events[1]
    losses = outcome.held_out_losses(outputs, label, fitted)
    assert losses.shape == (15,)
    assert losses.sum() == pytest.approx(of_all - of_fitted)


def test_a_survival_score_without_channels_has_its_horizons() -> None:
    time = np.arange(1.0, 41.0)
    levels = [survival_level(f"{value:g}", value % 2 == 0) for value in time]
    outcome = make_outcome("survival", levels)
    label = outcome.labels(levels)
    found = outcome.without_channels(label)
    assert found["tau"] == found["last_horizon"] == 36
    assert (found["first_horizon"], found["horizons"]) == (2, 18)
    same = outcome.measures(np.full((40, 1), 3.0), label, np.ones((1, 40)))
    assert found["brier"] == pytest.approx(float(same["brier"][0]))  # whatever the hazard, if it is that of all
    assert 0 < found["brier"] < 0.25
    assert make_outcome("nominal", ["a", "b"]).without_channels(np.array([0, 1])) == {}
