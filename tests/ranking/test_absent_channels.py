"""Channels that some images lack: each channel rests on the patients who have it, and on nobody else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_ranking import block

from fitted_cohorts import fitted_cohort, without
from plexrank.errors import RunDirError
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import aggregate_unit, gather_samples
from plexrank.ranking.agreement import mean_agreement
from plexrank.ranking.baselines import linear_baseline
from plexrank.ranking.cohort_ranking import CohortRanking, rank_cohort
from plexrank.ranking.columns import RANKING_COLUMNS
from plexrank.ranking.prediction import headline
from plexrank.ranking.refitting import refitted_coefficients, refitted_scores
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples, make_samples
from plexrank.ranking.scores import bootstrap_scores, positions, stability
from plexrank.ranking.table import directions
from plexrank.settings import RankSettings
from plexrank.statistics.means import balanced_mean_above_zero

CHANNELS = [f"C{i:02d}" for i in range(12)]
SETTINGS = RankSettings(bootstrap=200, permutations=100, ordered=("low", "high"))
EXACT = [name for name in RANKING_COLUMNS if name.endswith(("_exact_p", "_max_p")) or name.startswith("null_")]
NOT_FINITE = ["direction", "found_by", "reads", "site_association", "site_p", "site_q", *EXACT]
HALF = 3
"""The channel that every second image lacks."""


def half_absent(images: int = 64) -> np.ndarray:
    absent = np.zeros((images, 12), dtype=bool)
    absent[::2, HALF] = True
    return absent


@pytest.fixture(scope="module")
def cohort() -> tuple[list, Samples]:
    units, samples = fitted_cohort(1, effects=(2.0, 0.0, 0.0, 2.0), strength=0.1)
    return without(units, half_absent()), samples


@pytest.fixture(scope="module")
def ranked(cohort) -> CohortRanking:
    return rank_cohort(*cohort, CHANNELS, SETTINGS)


def test_a_channel_rests_on_the_half_that_has_it(cohort, ranked) -> None:
    row = ranked.ranking.set_index("channel").loc[CHANNELS[HALF]]
    assert (row["n_patients"], row["n_images"], row["n_tiles"]) == (32, 32, 128)
    assert (ranked.ranking.set_index("channel").drop(CHANNELS[HALF])["n_patients"] == 64).all()
    tables = gather_samples(*cohort, "gradient")
    have = tables.present[:, HALF]
    assert have.sum() == 32
    label = cohort[1].label[have]
    groups = (tables.mean_intensity[have, HALF][label == k] for k in (0, 1))
    assert row["mean_intensity_association"] == pytest.approx(stats.kruskal(*groups).statistic / 31, rel=1e-9)
    per_patient = ranked.importance_per_patient
    own = per_patient[per_patient["channel"] == CHANNELS[HALF]]
    assert len(own) == 32
    assert row["score"] == pytest.approx(own["importance"].mean())
    assert row["position"] in (1, 2)
    assert row["score_low"] <= row["score"] <= row["score_high"]


def test_every_column_of_the_table_is_finite_and_the_scores_are_shares(ranked) -> None:
    table = ranked.ranking.drop(columns=["channel", *NOT_FINITE]).astype(float)
    assert np.isfinite(table).all(axis=None)
    assert table["score"].sum() == pytest.approx(1, abs=0.02)


def test_other_channels_do_not_feel_the_gap(ranked) -> None:
    units, samples = fitted_cohort(1, effects=(2.0, 0.0, 0.0, 2.0), strength=0.1)
    whole = rank_cohort(units, samples, CHANNELS, SETTINGS).ranking.set_index("channel").drop(CHANNELS[HALF])
    others = ranked.ranking.set_index("channel").drop(CHANNELS[HALF])
    same = ["mean_intensity_association", "pattern_association", "direction", "n_tiles"]
    pd.testing.assert_frame_equal(others.sort_index()[same], whole.sort_index()[same])


def test_reliance_exchanges_among_those_who_have_the_channel(cohort) -> None:
    tables = gather_samples(*cohort, "gradient")
    have = tables.present[:, HALF]
    measured = measure_reliance(tables.embedding, tables.classify, tables.seeds, cohort[1])
    assert (np.isnan(measured.increase[:, HALF]) == ~have).all()
    samples = cohort[1]
    half = dataclasses.replace(
        samples, patient=samples.patient[have], label=samples.label[have], fold=samples.fold[have]
    )
    order = np.random.default_rng(0).permutation(64)  # as measure_reliance shuffles the donors
    fold = int(samples.fold[have][0])
    rows = [row for row in order if samples.fold[row] == fold and have[row]]
    expected = []
    classify = [tables.classify[fold, seed] for seed in tables.seeds]
    for row in rows:
        losses = []
        for donor in rows:
            r = tables.embedding[:, row].copy()
            r[:, HALF] = tables.embedding[:, donor, HALF]
            logits = np.stack([unit(own[None])[0] for unit, own in zip(classify, r, strict=True)])
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses.append(-np.log(share.mean(axis=0)[samples.label[row]]))
        own = losses[rows.index(row)]
        expected.append((sum(losses) - own) / (len(rows) - 1) - own)
    np.testing.assert_allclose(measured.increase[rows, HALF], expected, rtol=1e-6)
    mean, p = balanced_mean_above_zero(measured.increase[have, HALF][:, None], half.label, half.patient, 2.0)
    assert (measured.mean[HALF], measured.p[HALF]) == (pytest.approx(mean[0]), pytest.approx(p[0]))


def test_a_channel_that_a_fold_lacks_altogether() -> None:
    units, samples = fitted_cohort(2, effects=(2.0,), strength=0.1)
    absent = np.zeros((64, 12), dtype=bool)
    absent[samples.fold == 0, HALF] = True
    table = rank_cohort(without(units, absent), samples, CHANNELS, SETTINGS).ranking.set_index("channel")
    assert table.loc[CHANNELS[HALF], "n_patients"] == 48
    assert np.isfinite(table.drop(columns=NOT_FINITE).astype(float)).all(axis=None)
    tables = gather_samples(without(units, absent), samples, "gradient")
    seen = np.nansum(np.nanmean(tables.importance[:, samples.fold == 0][..., ~absent[samples.fold == 0][0]], 1), -1)
    np.testing.assert_allclose(seen, 11 / 12)


def test_resampled_scores_are_means_over_those_drawn_who_have_the_channel(cohort) -> None:
    units, samples = cohort
    tables = gather_samples(units, samples, "gradient")
    whole, _ = fitted_cohort(1, effects=(2.0, 0.0, 0.0, 2.0), strength=0.1)
    as_fitted = [
        dataclasses.replace(unit, training_embedding=before.training_embedding)
        for unit, before in zip(units, whole, strict=True)
    ]
    refitted = refitted_scores(as_fitted, samples, "gradient", np.ones((1, 64)))[0]
    np.testing.assert_allclose(refitted, np.nanmean(tables.importance, axis=1), rtol=1e-4)
    lonely = np.full((1, 64, 2), np.nan)
    lonely[..., 0], lonely[0, 5, 1] = 1.0, 3.0
    drawn = bootstrap_scores(lonely, samples, 400, np.random.default_rng(0))
    assert (drawn[:, 0] == 1).all()
    assert np.nanmax(np.abs(drawn[:, 1] - 3)) < 1e-12
    assert 0.2 < np.isnan(drawn[:, 1]).mean() < 0.5
    place = positions(drawn, np.ones(2, bool))
    assert (np.isnan(place[:, 1]) == np.isnan(drawn[:, 1])).all()


def test_refit_takes_the_centre_for_an_absent_channel() -> None:
    units, samples = fitted_cohort(4, effects=(2.0, 1.0), strength=0.1)
    unit = units[0]
    seen = np.flatnonzero(np.isfinite(unit.training_embedding).all(axis=1))
    r, label = unit.training_embedding[seen], samples.label[seen]
    weights = np.ones((1, len(seen)))
    gaps = r.copy()
    gaps[:5, 0] = np.nan
    filled = np.where(np.isnan(gaps), np.nanmean(gaps, axis=0), gaps)
    with_gaps, without_gaps = (
        refitted_coefficients(samples.outcome, unit.linear, x, label, weights) for x in (gaps, filled)
    )
    assert np.isfinite(with_gaps).all()
    np.testing.assert_allclose(with_gaps[..., 1:], without_gaps[..., 1:], atol=0.05)


def test_a_test_on_part_of_the_samples_is_the_test_of_that_part() -> None:
    rng = np.random.default_rng(0)
    values, label = rng.normal(size=(40, 2)), np.arange(40) % 3
    gaps = values.copy()
    gaps[:13, 1] = np.nan
    mean, p = balanced_mean_above_zero(gaps + 0.3, label, np.arange(40), 2.0)
    own = balanced_mean_above_zero(values[13:, 1:] + 0.3, label[13:], np.arange(27), 2.0)
    assert (mean[1], p[1]) == (pytest.approx(own[0][0]), pytest.approx(own[1][0]))
    nobody = np.full((40, 1), np.nan)
    assert balanced_mean_above_zero(nobody, label, np.arange(40))[1][0] == 1


def test_baseline_takes_the_training_mean_for_an_absent_channel() -> None:
    rng = np.random.default_rng(10)
    samples = make_samples([f"p{i:02d}" for i in range(48)], ["x", "y"] * 24, [i // 2 % 4 for i in range(48)])
    means = np.exp(rng.normal(size=(48, 5)))
    means[:, 2] *= np.where(samples.label == 1, 8.0, 1.0)
    means[:12, 4] = np.nan
    assert headline(linear_baseline(means, samples, 0).prediction, samples) > 0.85
    means[:, 4] = np.nan
    assert np.isfinite(linear_baseline(means, samples, 0).prediction).all()


def test_direction_leaves_out_a_class_without_the_channel() -> None:
    samples = make_samples(list("abc"), ["x", "y", "z"], [0, 0, 0])
    log2, texts = directions(np.array([[1.0, 1.0], [4.0, np.nan], [np.nan, np.nan]]), samples)
    assert texts == ["y +2.0", ""]
    np.testing.assert_array_equal(log2, [2.0, np.nan])


def test_stability_and_agreement_compare_what_units_have_seen() -> None:
    order = np.tile(np.arange(1.0, 7.0), (4, 1))
    order[0, 2] = np.nan
    order[0, 3:] -= 1
    assert (stability(order) > 0.8).all()
    assert np.isnan(stability(np.where(np.arange(4)[:, None] < 3, np.nan, order))).all()
    importance = np.tile(np.arange(6.0), (3, 1))
    importance[0, 2] = np.nan
    assert mean_agreement(importance) == pytest.approx(1)


def test_tiles_without_a_channel_leave_the_image_without_it() -> None:
    whole = block([0, 1, 2])
    gone = {"gradient": whole.values["gradient"].copy()}
    gone["gradient"][2, 1] = np.nan
    embedding = whole.embedding.copy()
    embedding[2, 1] = np.nan
    torn = dataclasses.replace(whole, embedding=embedding, mean_intensity=embedding, values=gone)
    unit = aggregate_unit([torn], np.array([0, 0, 1]), 2, outcome=Nominal(()), fold=0, seed=0, classify=np.asarray)
    for table in (unit.embedding, unit.mean_intensity, unit.contrast["gradient"][..., 0]):
        assert np.isnan(table).tolist() == [[False, False], [False, True]]


def test_a_missing_embedding_of_a_channel_that_is_there_is_refused(cohort) -> None:
    units, samples = cohort
    embedding = units[0].embedding.copy()
    embedding[np.flatnonzero(samples.fold == 0)[0], 1] = np.nan
    with pytest.raises(RunDirError, match="not finite"):
        gather_samples([dataclasses.replace(units[0], embedding=embedding), *units[1:]], samples, "gradient")
