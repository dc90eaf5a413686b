"""How far an order holds: agreement, controls, groups, conditional importance, trend, panels, faithfulness."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from fitted_cohorts import CLASS_NAMES, fit_classifier, fitted_cohort, stratified_folds, unit_table
from plexrank.errors import StudyError
from plexrank.outcome import LinearWeights
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import UnitTable, gather_samples
from plexrank.ranking.agreement import borda_points, measure_agreement, nogueira_stability
from plexrank.ranking.audit import channel_groups, site_association
from plexrank.ranking.baselines import anova, forest_baseline, linear_baseline
from plexrank.ranking.cohort_ranking import rank_cohort
from plexrank.ranking.conditional import explained_by_others
from plexrank.ranking.controls import count_called, decoy_reliance_p, draw_donors
from plexrank.ranking.panels import measure_faithfulness, smallest_panel
from plexrank.ranking.prediction import headline
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples, make_samples
from plexrank.ranking.training_samples import training_samples
from plexrank.settings import RankSettings
from plexrank.statistics.logistic import fit_logistic
from plexrank.statistics.multiple import benjamini_hochberg

CHANNELS = [f"C{i:02d}" for i in range(12)]
EVERY = np.ones(12, dtype=bool)
STRONG = {"effects": (2.0, 2.0), "strength": 0.1}


def test_agreement_of_known_orders() -> None:
    same = np.tile(np.arange(8.0), (5, 1))
    perfect = measure_agreement(same, 3)
    assert (perfect.kendall_w, perfect.nogueira, perfect.top) == (1.0, 1.0, 3)
    opposed = measure_agreement(np.stack([same[0], -same[0]]), 4)
    assert (opposed.spearman, opposed.kendall_w, opposed.nogueira) == (-1.0, 0.0, -1.0)
    rng = np.random.default_rng(0)
    loose = [measure_agreement(rng.normal(size=(6, 20)), 10).nogueira for _ in range(50)]
    assert abs(np.mean(loose)) < 0.05
    friedman = rng.normal(size=(6, 9))
    statistic = stats.friedmanchisquare(*friedman.T).statistic
    assert measure_agreement(friedman, 3).kendall_w == pytest.approx(statistic / (6 * 8))
    assert measure_agreement(same[:1], 3).kendall_w is None
    assert nogueira_stability(np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)) == pytest.approx(0.0)


def test_borda_counts_whom_a_channel_beats() -> None:
    place = np.array([[1.0, 2, 3], [2, 1, 3], [np.nan, 1, 2]])
    np.testing.assert_allclose(borda_points(place), [0.75, 2.5 / 3, 0.0])


def with_values(values: np.ndarray, fold: np.ndarray, seeds: int = 2) -> list[UnitTable]:
    """Units with these numbers as r (image, channel), each with signs of its own."""
    units = []
    for f in np.unique(fold):
        for s in range(seeds):
            signed = values * np.random.default_rng([int(f), s]).choice([-1.0, 1.0], size=values.shape[1])
            coef = np.zeros((2, values.shape[1]))
            units.append(unit_table(signed, coef, np.zeros(2), None, fold, int(f), s, np.exp(values)))
    return units


def test_groups_are_those_of_copies() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 5))
    values[:, 3] = -np.exp(values[:, 1]) + 0.01 * rng.normal(size=60)
    fold = np.arange(60) % 4
    samples = make_samples([f"p{i:02d}" for i in range(60)], ["x", "y"] * 30, (fold // 2 * 2).tolist())
    assert channel_groups(with_values(values, fold), samples).tolist() == [1, 2, 3, 2, 4]
    values[:20, 3] = np.nan
    values[:, 4] = np.nan
    assert channel_groups(with_values(values, fold), samples).tolist() == [1, 2, 3, 2, 4]
    assert channel_groups(with_values(values[:, :1], fold), samples).tolist() == [1]


def test_sites_are_told_apart_by_the_channel_that_differs_whatever_the_signs() -> None:
    sites, fold = ["a", "b", None, "b"] * 15, np.arange(60) // 4 % 3
    samples = make_samples([f"p{i:02d}" for i in range(60)], ["x", "y"] * 30, fold.tolist(), sites)
    values = np.random.default_rng(0).normal(size=(60, 3))
    values[:, 1] += 3 * (samples.image_site == 1)
    found = site_association(with_values(values, fold), samples, 999, np.random.default_rng(0))
    assert found.p[1] == pytest.approx(0.001)
    assert found.p[[0, 2]].min() > 0.01
    assert found.effect.argmax() == 1
    without = dataclasses.replace(samples, image_site=None)
    assert site_association(with_values(values, fold), without, 99, np.random.default_rng(0)) is None


def test_sites_of_one_patient_are_compared_within_the_patient() -> None:
    """Twenty patients with an image at each of two sites, brightness of their own far beyond what the sites do."""
    patients, sites = np.repeat(np.arange(20), 2), ["a", "b"] * 20
    fold = patients % 2
    samples = make_samples([f"p{i:02d}" for i in patients], np.where(patients // 2 % 2, "x", "y").tolist(),
                           fold.tolist(), sites)  # fmt: skip
    assert samples.site_names == ("a + b",)
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0, 3, size=(20, 2)), 2, axis=0) + rng.normal(0, 0.1, size=(40, 2))
    values[1::2, 0] += 2.0
    found = site_association(with_values(values, fold), samples, 999, rng)
    assert found.p[0] == pytest.approx(0.001)
    assert found.p[1] > 0.05


def test_what_a_copy_explains_counts_for_reliance_but_not_for_conditional_reliance() -> None:
    units, samples = fitted_cohort(0, effects=(2.0, 0.0, 2.0), strength=0.1)
    copied = []
    for unit in units:
        embedding, training = unit.embedding.copy(), unit.training_embedding.copy()
        embedding[:, 1], training[:, 1] = embedding[:, 0], training[:, 0]
        copied.append(dataclasses.replace(unit, embedding=embedding, training_embedding=training))
    tables = gather_samples(copied, samples, "gradient")
    explained = explained_by_others(copied, tables, samples)
    of_copy = np.corrcoef(explained[0, :, 0], tables.embedding[0, :, 0])[0, 1]
    of_single = np.corrcoef(explained[0, :, 5], tables.embedding[0, :, 5])[0, 1]
    assert of_copy > 0.9 > 0.5 > of_single
    plain = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples)
    rest = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples, explained=explained)
    assert rest.mean[0] < 0.5 * plain.mean[0]
    assert rest.mean[2] > 0.5 * plain.mean[2]


def cohort_at_two_sites(seed: int) -> tuple[list[UnitTable], Samples]:
    """80 patients, nine of ten of a class at its own site; C00 differs between classes, C01 between sites only."""
    rng = np.random.default_rng(seed)
    label = np.arange(80) % 2
    site = np.where(np.arange(80) // 2 % 10 == 0, 1 - label, label)
    fold = stratified_folds(2 * site + label, 4, rng)
    r = rng.normal(size=(80, 12))
    r[:, 0] += 2.5 * label
    r[:, 1] += 3.0 * site
    units = []
    for f in range(4):
        weights = fit_classifier(r, label, fold != f, 0.1)
        units.append(unit_table(r, *weights, LinearWeights(*weights), fold, f, 0, np.exp(r / 4)))
    names = [CLASS_NAMES[k] for k in label]
    sites = ["Basel" if k else "Bern" for k in site]
    return units, make_samples([f"p{i:02d}" for i in range(80)], names, fold.tolist(), sites, Nominal(CLASS_NAMES[:2]))


def test_a_channel_that_differs_between_sites_only_is_not_called() -> None:
    called = []
    for seed in range(6):
        units, samples = cohort_at_two_sites(seed)
        tables = gather_samples(units, samples, "gradient")
        for known in (samples, dataclasses.replace(samples, site=None)):
            p = measure_reliance(tables.embedding, tables.classify, tables.seeds, known).p
            called.append(benjamini_hochberg(p)[:2] <= 0.1)
    assert np.sum(called[::2], axis=0).tolist() == [6, 0]
    assert np.sum(called[1::2], axis=0).tolist() == [6, 6]


def test_who_is_alone_at_a_site_of_a_fold_says_nothing_of_reliance() -> None:
    units, samples = cohort_at_two_sites(0)
    alone = np.flatnonzero(samples.fold == 2)[0]
    site = samples.site.copy()
    site[alone] = 2
    tables = gather_samples(units, samples, "gradient")
    measured = [
        measure_reliance(tables.embedding, tables.classify, tables.seeds, dataclasses.replace(samples, site=where))
        for where in (site, np.arange(80))
    ]
    assert np.flatnonzero(np.isnan(measured[0].increase).all(axis=1)).tolist() == [alone]
    assert np.isfinite(measured[0].mean).all()
    assert np.isnan(measured[1].mean).all()
    assert (measured[1].p == 1).all()


def test_fitted_weights_are_those_of_the_unit() -> None:
    units, samples = fitted_cohort(3, **STRONG)
    training = training_samples(units[0], samples)
    assert training.strength == pytest.approx(0.1, rel=1e-3)
    weights = training.fit(training.r)
    np.testing.assert_allclose(weights.coef, units[0].linear.coef * training.spread, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [0.001, 0.1, 100.0])
def test_logistic_regression_is_that_of_sklearn(classes: int, strength: float) -> None:
    rng = np.random.default_rng(0)
    label = np.concatenate([np.arange(classes), rng.integers(0, classes, 50)])
    x = rng.normal(size=(50 + classes, 7)) + 1.5 * np.outer(label == 1, np.arange(7) == 2)
    weights = LinearWeights(*fit_logistic(x, label, strength))
    exact = LogisticRegression(C=strength, class_weight="balanced", tol=1e-9, max_iter=10_000).fit(x, label)
    shown = weights.coef[1:] - weights.coef[:1] if classes == 2 else weights.coef
    np.testing.assert_allclose(shown, exact.coef_, atol=2e-4 * max(1, strength**0.5))
    logits = x @ weights.coef.T + weights.intercept
    np.testing.assert_allclose(softmax(logits, axis=-1), exact.predict_proba(x), atol=1e-4)


def test_decoys_are_not_called_and_real_channels_are() -> None:
    called, real = 0, 0
    for seed in range(5):
        units, samples = fitted_cohort(seed, **STRONG)
        tables = gather_samples(units, samples, "gradient")
        p = decoy_reliance_p(units, tables, samples, np.random.default_rng(0))
        assert p.shape == (12,)
        reliance = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples)
        controls = count_called(CHANNELS, EVERY, {"reliance": reliance.p}, p, fdr=0.1)
        called += controls.decoys_called
        real += (reliance.p < 0.01).sum()
    assert real >= 9
    assert called <= 1
    bare = [dataclasses.replace(unit, training_embedding=np.full((64, 12), np.nan)) for unit in units]
    assert decoy_reliance_p(bare, tables, samples, np.random.default_rng(0)) is None


def test_a_decoy_takes_the_same_patients_in_every_unit() -> None:
    units, samples = fitted_cohort(4, effects=(2.0,), strength=0.1, seeds=1, flip_signs=False)
    again = [dataclasses.replace(unit, seed=seed) for unit in units for seed in (0, 1, 2)]
    alone, together = (
        decoy_reliance_p(of, gather_samples(of, samples, "gradient"), samples, np.random.default_rng(0))
        for of in (units, again)
    )
    np.testing.assert_allclose(together, alone)


def test_donors_of_decoys_are_other_patients_who_have_the_channel() -> None:
    ids, labels = ["a", "a", "b", "b", "c", "d", "e", "f"], ["x", "y", "x", "y", "x", "y", "x", "y"]
    samples = make_samples(ids, labels, [0] * 8)
    present = np.ones((8, 300), dtype=bool)
    present[7, :150] = False
    donor = draw_donors(present, samples, np.random.default_rng(0))
    assert (np.sort(donor, axis=0) == np.arange(8)[:, None]).all()
    assert (donor[7, :150] == 7).all()
    assert set(donor[4, :150]) == {4, 5, 6}
    assert set(donor[4, 150:]) == {4, 5, 6, 7}
    assert {tuple(pair) for pair in donor[:2].T} == {(0, 1), (2, 3)}


def test_controls_are_counted_at_the_threshold_of_the_channels_that_are_called() -> None:
    included = np.array([True, True, True, False, False])
    p, decoys = np.array([0.001, 0.02, 0.5, 0.01, 0.9]), np.array([0.3, 0.015, 0.6, 0.001, 0.001])
    result = count_called(list("abcde"), included, {"reliance": p, "intensity": p}, decoys, fdr=0.1)
    assert (result.decoys, result.decoys_called) == (3, 1)
    assert (result.excluded, result.excluded_called) == (2, ("d",))
    none = {"reliance": np.full(5, 0.5), "pattern": np.full(5, 0.5)}
    nothing = count_called(list("abcde"), included, none, decoys, fdr=0.1)
    assert (nothing.decoys_called, nothing.excluded_called) == (1, ())
    assert count_called(list("abcde"), included, none, None, fdr=0.1).decoys == 0


def test_the_smallest_panel_holds_what_was_planted() -> None:
    units, samples = fitted_cohort(1, effects=(3.0, 0, 0, 3.0), strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    panel = smallest_panel(units, tables, samples, CHANNELS, EVERY, 0.0)
    assert set(panel.channels[:2]) == {"C00", "C03"}
    assert len(panel.channels) <= 3
    assert len(panel.curve) == 12
    assert panel.curve[-1] == pytest.approx(panel.full)
    assert panel.curve[1] > 0.95
    without = smallest_panel(units, tables, samples, CHANNELS, np.arange(12) != 0, 0.0)
    assert "C00" not in without.channels
    none = smallest_panel(units, tables, samples, CHANNELS, EVERY, -1.0)
    assert (none.channels, none.curve) == ((), panel.curve)


def test_faithful_curves_fall_and_rise_at_once_and_what_is_left_is_chance() -> None:
    deletion, insertion, random = [], [], []
    for seed in range(6):
        units, samples = fitted_cohort(seed, seeds=1, **STRONG)
        tables = gather_samples(units, samples, "gradient")
        curves = measure_faithfulness(tables, samples, EVERY, np.random.default_rng(0))
        assert curves.deletion[0] == curves.insertion[-1] == pytest.approx(headline(tables.prediction, samples))
        assert curves.deletion[-1] == curves.insertion[0] == 0.5
        deletion.append(curves.deletion)
        insertion.append(curves.insertion)
        random.append(curves.deletion_random)
    fallen, risen, by_chance = (np.mean(curve, axis=0) for curve in (deletion, insertion, random))
    assert fallen[2] == pytest.approx(0.5, abs=0.07)
    assert risen[2] > 0.9 * fallen[0]
    assert by_chance[2] > fallen[2] + 0.2


def test_baselines_find_what_differs_in_brightness() -> None:
    rng = np.random.default_rng(10)
    samples = make_samples([f"p{i:02d}" for i in range(48)], ["x", "y"] * 24, [i // 2 % 4 for i in range(48)])
    means = np.exp(rng.normal(size=(48, 5)))
    means[:, 2] *= np.where(samples.label == 1, 8.0, 1.0)
    means[:9, 4] = np.nan
    for model in (linear_baseline(means, samples, 0), forest_baseline(means, samples, 0)):
        assert headline(model.prediction, samples) > 0.85
        assert model.importance.argmax() == 2
        np.testing.assert_allclose(model.prediction.sum(axis=1), 1)
    ratio, p = anova(means, samples.label)
    expected = stats.f_oneway(*(means[samples.label == k, 2] for k in (0, 1)))
    assert (ratio[2], p[2]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    known = ~np.isnan(means[:, 4])
    expected = stats.f_oneway(*(means[known & (samples.label == k), 4] for k in (0, 1)))
    assert p[4] == pytest.approx(expected.pvalue)


def test_everything_reaches_the_tables() -> None:
    units, samples = fitted_cohort(1, **STRONG)
    site = np.arange(64) % 2
    names = ("Basel", "Bern")
    at_sites = dataclasses.replace(samples, site=site, site_names=names, image_site=site, image_site_names=names)
    settings = RankSettings(bootstrap=100, permutations=100, ordered=("high", "low"))
    result = rank_cohort(units, at_sites, CHANNELS, settings, excluded=["C05"])
    table = result.ranking.set_index("channel")
    assert (table.loc[["C00", "C01"], "mean_intensity_trend"] < -0.4).all()
    assert (table.loc[["C00", "C01"], "mean_intensity_trend_q"] < 0.01).all()
    assert table["trend_q"].notna().sum() == 11
    assert (table.loc[["C00", "C01"], "adds_q"] < 0.1).all()
    assert set(table.loc[["C00", "C01"], "borda_position"]) == {1, 2}
    assert np.isnan(table.loc["C05", "site_q"])
    assert (table.loc[["C00", "C01"], "intensity_q"] < 0.1).all()
    assert result.summary.sanity is not None
    assert result.summary.panel is not None
    assert set(result.summary.panel.channels) <= set(CHANNELS) - {"C05"}
    assert result.summary.controls.excluded == 1
    assert result.baselines["channel"].tolist() == CHANNELS
    assert result.baselines["anova_position"].isna().sum() == 1
    assert result.summary.forest.measures["auc"].value > 0.8
    with pytest.raises(StudyError, match=r"rank\.ordered is low, but the classes are low, high"):
        rank_cohort(units, samples, CHANNELS, RankSettings(ordered=("low",)))


def test_channels_that_differ_between_sites_are_named() -> None:
    units, samples = fitted_cohort(1, flip_signs=False, **STRONG)
    site = np.arange(64) % 2
    shifted = [
        dataclasses.replace(unit, embedding=unit.embedding + np.where(np.arange(12) == 7, 9.0, 0) * site[:, None])
        for unit in units
    ]
    settings = RankSettings(bootstrap=100, permutations=100)
    result = rank_cohort(shifted, dataclasses.replace(samples, image_site=site), CHANNELS, settings)
    assert any("differs between sites (q ≤ 0.1) in 1 channels: C07" in text for text in result.summary.warnings)
