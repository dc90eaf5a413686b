"""Statistics against known answers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fitted_cohorts import fitted_cohort
from plexrank.errors import StudyError
from plexrank.outcome import LinearWeights
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import gather_samples
from plexrank.ranking.agreement import mean_agreement
from plexrank.ranking.baselines import linear_baseline
from plexrank.ranking.moments import GroupMoments
from plexrank.ranking.prediction import (
    headline,
    headline_difference,
    is_confounded,
    measure_performance,
    prediction_p_value,
)
from plexrank.ranking.refitting import can_refit, refitted_coefficients, refitted_scores
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples, image_means_to_samples, make_samples
from plexrank.ranking.scores import (
    bootstrap_scores,
    patient_weights,
    positions,
    score_channels,
    stability,
)
from plexrank.readout.linear import fit_linear_classifier
from plexrank.statistics.means import balanced_mean_above_zero
from plexrank.statistics.multiple import benjamini_hochberg, cauchy_combination


def plain_samples(patients: int, classes: int = 2, folds: int = 4, sites: int = 0) -> Samples:
    ids = [f"p{i:03d}" for i in range(patients)]
    labels = ["abc"[i % classes] for i in range(patients)]
    fold = [i // classes % folds for i in range(patients)]
    site = [f"s{i * sites // patients}" for i in range(patients)] if sites else None
    return make_samples(ids, labels, fold, site)


# Samples


def test_images_of_one_patient_and_label_are_one_sample() -> None:
    samples = make_samples(["b", "a", "b", "b"], ["x", "y", "x", "y"], [1, 0, 1, 1])
    assert samples.patient_ids == ("a", "b", "b")
    assert samples.label.tolist() == [1, 0, 1]
    assert samples.fold.tolist() == [0, 1, 1]
    assert samples.image_sample.tolist() == [1, 0, 1, 2]
    means = image_means_to_samples(np.array([[1.0], [5.0], [3.0], [np.nan]]), samples)
    np.testing.assert_array_equal(means, [[5.0], [2.0], [np.nan]])


@pytest.mark.parametrize(
    ("patients", "labels", "folds", "outcome", "message"),
    [
        (["a", "a"], ["x", "y"], [0, 1], None, "patient a is held out by folds 0 and 1"),
        (["a", "b"], ["x", "x"], [0, 1], None, "two labels or more"),
        (["a", "b"], ["x", "z"], [0, 1], Nominal(("x", "y")), "labels z are not among x, y"),
    ],
)
def test_bad_samples_are_refused(patients, labels, folds, outcome, message) -> None:
    with pytest.raises(StudyError, match=message):
        make_samples(patients, labels, folds, outcome=outcome)


def test_moments_do_not_depend_on_the_split() -> None:
    rng = np.random.default_rng(3)
    group, values = rng.integers(0, 5, 200), rng.normal(1e6, 1, (200, 3)).astype(np.float32)
    group[group == 4] = 3
    whole = GroupMoments(5, (3,))
    whole.update(group, values)
    parts = GroupMoments(5, (3,))
    for rows in np.split(np.arange(200), [1, 60, 61, 150]):
        part = GroupMoments(5, (3,))
        part.update(group[rows], values[rows])
        parts.merge(part)
    np.testing.assert_allclose(parts.mean(), whole.mean(), rtol=1e-14)
    np.testing.assert_allclose(whole.mean()[0], values[group == 0].astype(float).mean(axis=0), rtol=1e-14)
    assert np.isnan(whole.mean()[4]).all()
    weighted = GroupMoments(1, (1,))
    weighted.update(np.zeros(2, dtype=int), np.array([[1.0], [5.0]]), np.array([3, 1]))
    assert weighted.mean().tolist() == [[2.0]]


# Known answers


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    p = np.random.default_rng(0).uniform(size=50) ** 2
    p[7] = p[9]
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), rtol=1e-12)
    with_gaps = np.insert(p, [0, 20], np.nan)
    q = benjamini_hochberg(with_gaps)
    np.testing.assert_allclose(q[np.isfinite(with_gaps)], stats.false_discovery_control(p), rtol=1e-12)
    assert np.isnan(q[np.isnan(with_gaps)]).all()


def test_cauchy_combination_of_known_p_values() -> None:
    p = np.array([[0.01, 0.5, np.nan, 1.0, np.nan, 1e-5], [0.01, 0.02, 0.3, 1.0, np.nan, 1.0]])
    combined = cauchy_combination(p)
    assert combined[0] == pytest.approx(0.01)
    assert combined[1] == pytest.approx(stats.cauchy.sf(np.tan((0.5 - 0.02) * np.pi) / 2))
    assert combined[2] == pytest.approx(0.3)
    assert combined[3] == pytest.approx(0.99)
    assert np.isnan(combined[4])
    assert combined[5] == pytest.approx(2e-5, rel=0.01)  # one that says nothing does not undo the other


def test_balanced_t_is_welchs_standard_error_for_single_samples() -> None:
    rng = np.random.default_rng(2)
    values, label = rng.normal(0.3, 1, (30, 1)), np.arange(30) % 3 // 2
    mean, p = balanced_mean_above_zero(values, label, np.arange(30))
    a, b = values[label == 0, 0], values[label == 1, 0]
    of_a, of_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    error = np.sqrt(of_a + of_b) / 2
    degrees = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    assert mean[0] == pytest.approx((a.mean() + b.mean()) / 2)
    assert p[0] == pytest.approx(stats.t.sf(mean[0] / error, degrees))


def test_copies_of_a_patients_samples_do_not_make_p_smaller() -> None:
    values, label = np.random.default_rng(4).normal(0.4, 1, (20, 1)), np.arange(20) % 2
    once = balanced_mean_above_zero(values, label, np.arange(20))[1]
    copied = np.repeat(np.arange(20), 5)
    thrice = balanced_mean_above_zero(values[copied], label[copied], copied)[1]
    assert thrice[0] == pytest.approx(once[0], rel=0.15)


@pytest.mark.parametrize("values", [np.zeros((6, 1)), np.full((6, 1), 0.5)])
def test_reliance_without_spread_has_p_one(values) -> None:
    assert balanced_mean_above_zero(values, np.arange(6) % 2, np.arange(6))[1][0] == 1.0


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_agrees_with_sklearn(classes) -> None:
    rng = np.random.default_rng(5)
    label = rng.permutation(np.arange(45) % classes)
    probability = rng.dirichlet(np.ones(classes), 45).round(1 if classes == 2 else 6)
    probability /= probability.sum(axis=1, keepdims=True)
    if classes == 2:
        expected = roc_auc_score(label, probability[:, 1])
    else:
        expected = roc_auc_score(label, probability, multi_class="ovr", average="macro")
    samples = plain_samples(45, classes)
    assert headline(probability, samples.relabelled(label)) == pytest.approx(expected)
    performance = measure_performance(probability, plain_samples(45, classes), 100, 100, rng)
    assert performance.main.low <= performance.main.value <= performance.main.high


def test_performance_of_known_predictions() -> None:
    samples = plain_samples(40)
    perfect = np.eye(2)[samples.label]
    good = measure_performance(perfect, samples, 100, 199, np.random.default_rng(0))
    assert (good.measures["accuracy"].value, good.measures["balanced_accuracy"].low, good.main.value) == (1.0, 1.0, 1.0)
    assert good.p_value == 1 / 200
    constant = measure_performance(np.full((40, 2), 0.5), samples, 100, 199, np.random.default_rng(0))
    assert (constant.measures["balanced_accuracy"].value, constant.main.value, constant.p_value) == (0.5, 0.5, 1.0)


def test_a_difference_of_aucs_is_paired() -> None:
    samples = plain_samples(40)
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(2), 40)
    same = headline_difference(probability, probability, samples, 100, rng)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = headline_difference(np.eye(2)[samples.label], probability, samples, 100, rng)
    assert better.value == pytest.approx(1 - headline(probability, samples))
    assert better.low > 0


def test_labels_are_permuted_within_sites_and_patients_keep_their_number_of_samples() -> None:
    ids = ["a", "a", "b", "b", "c", "d", "e", "f"]
    labels = ["x", "y", "x", "x", "x", "y", "y", "y"]
    samples = make_samples(ids, labels, [0] * 8, ["1", "1", "1", "1", "1", "1", "2", "2"])
    drawn = samples.exchange().draw(200, np.random.default_rng(0))
    assert samples.patient_ids == ("a", "a", "b", "c", "d", "e", "f")
    assert (drawn[:, 5:] == samples.label[5:]).all()
    assert (drawn.sum(axis=1) == samples.label.sum()).all()
    assert (drawn[:, :2].sum(axis=1) == 1).all()
    np.testing.assert_allclose(drawn[:, :5].mean(axis=0), [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], atol=0.1)


@pytest.mark.parametrize(
    ("sites", "confounded"),
    [
        (["1", "2"] * 20, True),
        (["1", "2"] * 19 + ["1", None], True),
        (["1", None] * 20, True),
        (["1", "1", "2", "2"] * 10, False),
        ([None] * 40, False),
    ],
)
def test_label_that_is_the_site_has_no_p_value(sites, confounded) -> None:
    labels = ["x", "y"] * 20
    samples = make_samples([f"p{i:02d}" for i in range(40)], labels, [i // 2 % 4 for i in range(40)], sites)
    assert is_confounded(samples) == confounded
    p = prediction_p_value(np.eye(2)[samples.label], samples, 100, np.random.default_rng(0))
    assert p == (None if confounded else 1 / 101)


def test_patients_without_a_site_are_a_stratum_of_their_own() -> None:
    ids = ["a", "a", "b", "c", "d", "e", "f"]
    labels = ["x", "x", "y", "x", "y", "x", "y"]
    samples = make_samples(ids, labels, [0] * 7, [None, "1", "1", "", None, "1", "1"])
    assert samples.site is not None
    assert samples.site.tolist() == [0, 0, -1, -1, 0, 0]
    drawn = samples.exchange().draw(50, np.random.default_rng(0))
    assert (drawn[:, [2, 3]].sum(axis=1) == 1).all()
    assert make_samples(ids, labels, [0] * 7, [None] * 7).site is None


def test_samples_of_one_patient_keep_their_own_sites() -> None:
    ids, labels = ["a", "a", "b", "b", "c", "d"], ["x", "y", "x", "y", "x", "y"]
    samples = make_samples(ids, labels, [0] * 6, ["1", "2", "1", "2", "1", None])
    assert samples.site.tolist() == [0, 1, 0, 1, 0, -1]
    drawn = samples.exchange().draw(50, np.random.default_rng(0))
    assert (drawn[:, :2].sum(axis=1) == 1).all()
    assert (drawn[:, 4:] == samples.label[4:]).all()


# Scores


def test_bootstrap_draws_whole_patients_and_keeps_the_classes() -> None:
    samples = make_samples(["a", "a", "b", "c", "d"], ["x", "y", "x", "x", "y"], [0, 0, 1, 0, 1])
    weights = patient_weights(samples, 500, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights @ np.eye(2)[samples.label] > 0).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.15)


def test_bootstrap_spread_is_that_of_patients_and_seeds() -> None:
    rng = np.random.default_rng(6)
    samples = plain_samples(60)
    seed_effect = np.array([-1.0, 0.0, 2.5])
    importance = rng.normal(0, 1, (1, 60, 1)) + seed_effect[:, None, None]
    drawn = bootstrap_scores(importance, samples, 8000, rng)
    expected = importance[0, :, 0].var() / 60 + seed_effect.var(ddof=1) / 3
    assert drawn.var() == pytest.approx(expected, rel=0.06)
    assert drawn.mean() == pytest.approx(importance.mean(), abs=0.05)


def test_positions_skip_what_is_not_included_and_break_ties_by_order() -> None:
    place = positions(np.array([1.0, 9.0, 2.0, 2.0]), np.array([True, False, True, True]))
    np.testing.assert_array_equal(place, [3, np.nan, 1, 2])


def test_stability_is_one_for_equal_orders_and_about_zero_for_random_ones() -> None:
    rng = np.random.default_rng(7)
    equal = np.tile(np.arange(1.0, 31.0), (8, 1))
    assert (stability(equal) == 1).all()
    random = np.stack([rng.permutation(30) + 1.0 for _ in range(8)])
    assert stability(random).mean() < 0.2
    assert np.isnan(stability(equal[:1])).all()
    assert mean_agreement(equal) == pytest.approx(1)
    expected = [stats.spearmanr(random[a], random[b]).statistic for a in range(8) for b in range(a)]
    assert mean_agreement(random) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("classes", [2, 3])
def test_refitted_coefficients_are_those_of_a_fit_to_the_drawn_images(classes) -> None:
    rng = np.random.default_rng(12)
    label = np.arange(48) % classes
    r = rng.normal(3, 2, size=(48, 6)) + np.outer(label == 1, [3, 2, 0, 0, 0, 0])
    r[:, 5] = 1.0
    fitted = fit_linear_classifier(r, label, np.arange(48).astype(str), 0, 0.1)
    linear = LinearWeights(fitted.coef.double().numpy(), fitted.intercept.double().numpy())
    spread = np.where(r.std(axis=0) > 0, r.std(axis=0), 1.0)
    weights = np.vstack([np.ones(48), patient_weights(plain_samples(48, classes), 5, rng)])
    drawn = refitted_coefficients(Nominal(tuple("abc"[:classes])), linear, r, label, weights)
    np.testing.assert_allclose(drawn[0], linear.coef, atol=1e-5)
    for weight, coef in zip(weights, drawn, strict=True):
        rows = np.repeat(np.arange(48), weight.astype(int))
        exact = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8)
        expected = exact.fit((r[rows] - r.mean(axis=0)) / spread, label[rows]).coef_ / spread
        np.testing.assert_allclose(coef[1:] * 2 if classes == 2 else coef, expected, atol=1e-3)
    assert (drawn[..., 5] == 0).all()


def test_a_draw_without_a_class_keeps_finite_coefficients() -> None:
    rng = np.random.default_rng(13)
    r, label = rng.normal(size=(12, 3)), np.arange(12) // 9
    linear = LinearWeights(np.array([[-0.2, 0.1, 0.0], [0.2, -0.1, 0.0]]), np.zeros(2))
    assert np.isfinite(
        refitted_coefficients(Nominal(("a", "b")), linear, r, label, np.where(label == 1, 0.0, 1.0)[None])
    ).all()


@pytest.mark.parametrize("kind", [{}, {"free_directions": 8}, {"classes": 3}])
def test_intervals_cover_the_mean_score_and_the_position_of_planted_channels(kind) -> None:
    score, low, high, position_low, position_high = [], [], [], [], []
    for seed in range(24):
        units, samples = fitted_cohort(seed, effects=(1.8, 1.2, 0.6), strength=0.1, **kind)
        tables = gather_samples(units, samples, "gradient")
        refit = partial(refitted_scores, units, samples, "gradient")
        rng = np.random.default_rng(seed)
        included = np.ones(12, dtype=bool)
        assert can_refit(units, "gradient")
        scores = score_channels(tables.importance, tables.unit_importance, samples, included, 200, rng, refit)
        for column, values in zip(
            (score, low, high, position_low, position_high),
            (scores.score, scores.low, scores.high, scores.position_low, scores.position_high),
            strict=True,
        ):
            column.append(values)
    truth = np.mean(score, axis=0)
    place = positions(truth, np.ones(12, dtype=bool))
    covered = (np.array(low) <= truth) & (truth <= np.array(high))
    placed = (np.array(position_low) <= place) & (place <= np.array(position_high))
    assert covered[:, :3].mean() >= 0.85
    assert placed[:, :3].mean() >= 0.85
    assert covered[:, 3:].mean() >= 0.9


# Reliance and the baseline


def test_exchange_takes_every_other_value_once() -> None:
    samples = plain_samples(8, folds=2)
    r = np.random.default_rng(9).normal(size=(1, 8, 2))
    coef = np.array([[-1.0, 0.0], [1.0, 0.0]])
    classify = {(fold, 0): lambda rows: rows @ coef.T for fold in (0, 1)}
    measured = measure_reliance(r, classify, (0,), samples)
    expected = []
    for i in range(8):
        sign = 1 if samples.label[i] else -1
        others = [j for j in range(8) if samples.fold[j] == samples.fold[i] and j != i]
        loss = np.log1p(np.exp(-2 * sign * r[0, :, 0]))
        expected.append(loss[others].mean() - loss[i])
    np.testing.assert_allclose(measured.increase[:, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(measured.increase[:, 1], 0, atol=1e-12)
    assert measured.p[1] == 1.0


def test_baseline_sees_brightness_and_nothing_else() -> None:
    samples = plain_samples(48)
    rng = np.random.default_rng(10)
    means = np.exp(rng.normal(size=(48, 5)))
    assert headline(linear_baseline(means, samples, 0).prediction, samples) < 0.75
    means[:, 2] *= np.where(samples.label == 1, 8.0, 1.0)
    assert headline(linear_baseline(means, samples, 0).prediction, samples) > 0.85
