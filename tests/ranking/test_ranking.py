"""From units to the tables of a ranking."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fitted_cohorts import fitted_cohort
from plexrank.errors import RunDirError, StudyError
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import aggregate_unit, gather_samples
from plexrank.ranking.cohort_ranking import CohortRanking, rank_cohort
from plexrank.ranking.columns import RANKING_COLUMNS
from plexrank.ranking.samples import make_samples
from plexrank.ranking.summary import LeftOut, cramers_v, patients_per_site, sample_warnings
from plexrank.ranking.table import directions
from plexrank.settings import RankSettings

SETTINGS = RankSettings(bootstrap=200, permutations=200)
CHANNELS = [f"C{i:02d}" for i in range(12)]


@pytest.fixture(scope="module")
def planted() -> CohortRanking:
    effect = np.sqrt(2) * stats.norm.ppf(0.9)
    units, samples = fitted_cohort(1, effects=(effect,) * 3)
    return rank_cohort(units, samples, CHANNELS, SETTINGS, excluded=["C11", "C02"])


def test_ranking_code_loads_no_torch() -> None:
    code = (
        "import sys, plexrank.ranking.cohort_ranking, plexrank.evaluation.truth;"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'zarr', 'dask')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_planted_channels_lead_the_table(planted) -> None:
    table = planted.ranking
    assert list(table.columns) == list(RANKING_COLUMNS)
    assert set(table["channel"][:2]) == {"C00", "C01"}
    assert table["position"][:10].tolist() == list(range(1, 11))
    assert table["significant"][:2].all()
    assert (table["direction"][:2].str.startswith("high +")).all()
    assert table["found_by"][:2].isin(["intensity", "both"]).all()
    assert (table["intensity_q"][:2] < 0.01).all()
    pd.testing.assert_series_equal(table["mean_intensity_q"], table["intensity_q"], check_names=False)
    assert (table["score_low"] <= table["score"]).all()
    assert (table["score"] <= table["score_high"]).all()
    ranked = table[~table["excluded"]]
    assert (ranked["position_low"] <= ranked["position_high"]).all()
    assert table["score"].sum() == pytest.approx(1)
    assert (table["n_patients"].iloc[0], table["n_images"].iloc[0], table["n_tiles"].iloc[0]) == (64, 64, 256)


def test_excluded_channels_stand_at_the_end_outside_of_the_tests(planted) -> None:
    last = planted.ranking.tail(2)
    assert last["channel"].tolist() == ["C02", "C11"]
    assert last["excluded"].all()
    assert not last["significant"].any()
    assert (
        last[["position", "position_low", "p_top10", "reliance_q", "intensity_q", "pattern_q", "combined_q"]]
        .isna()
        .all(axis=None)
    )
    assert last.iloc[0]["reliance_p"] < 0.05
    kept = planted.ranking[~planted.ranking["excluded"]]
    expected = stats.false_discovery_control(kept["reliance_p"])
    np.testing.assert_allclose(kept["reliance_q"], expected)
    assert set(planted.by_class["channel"]).isdisjoint({"C02", "C11"})


def test_tables_beside_the_ranking(planted) -> None:
    by_class = planted.by_class
    assert by_class["class"].tolist() == ["low"] * 10 + ["high"] * 10
    assert by_class["position"].tolist() == [*range(1, 11)] * 2
    assert (by_class.groupby("class")["score"].diff().dropna() <= 0).all()
    per_patient = planted.importance_per_patient
    assert list(per_patient.columns) == ["patient_id", "label", "fold", "channel", "importance", "r", "mean_intensity"]
    assert len(per_patient) == 64 * 12
    mean = per_patient.groupby("channel")["importance"].mean()
    by_channel = planted.ranking.set_index("channel")["score"]
    pd.testing.assert_series_equal(mean[CHANNELS], by_channel[CHANNELS], check_names=False, rtol=1e-9)
    predictions = planted.predictions
    accuracy = (predictions["predicted"] == predictions["label"]).mean()
    assert accuracy == planted.summary.held_out.measures["accuracy"].value
    total = predictions["probability_low"] + predictions["probability_high"]
    np.testing.assert_allclose(total, 1)


def test_summary_is_plain_json(planted) -> None:
    content = json.loads(json.dumps(planted.summary.to_dict(), allow_nan=False))
    assert content["held_out"]["auc"]["low"] <= content["held_out"]["auc"]["value"]
    assert set(content["mean_intensity"]) == {"accuracy", "balanced_accuracy", "auc", "p_value"}
    assert content["counts"] == {
        "patients": 64, "images": 64, "tiles": 256, "classes": {"low": 32, "high": 32},
        "background_tiles": 0, "skipped_images": 0,
    }  # fmt: skip
    assert (content["sites"], content["skipped"]) == (None, [])
    assert content["at_chance"] is False
    assert content["confounded"] is False
    assert content["warnings"] == []


def test_equal_arguments_give_equal_tables() -> None:
    units, samples = fitted_cohort(2, effects=(1.0,))
    first = rank_cohort(units, samples, CHANNELS, SETTINGS, seed=3)
    second = rank_cohort(units[::-1], samples, CHANNELS, SETTINGS, seed=3)
    pd.testing.assert_frame_equal(first.ranking, second.ranking)
    assert first.summary == second.summary


def test_significant_is_the_union_of_both_lists_and_no_gate_on_the_prediction() -> None:
    units, samples = fitted_cohort(0)
    result = rank_cohort(units, samples, CHANNELS, RankSettings(bootstrap=100, permutations=100, fdr=0.999))
    table = result.ranking
    assert result.summary.at_chance
    by_intensity, by_pattern = table["intensity_q"] <= 0.999, table["pattern_q"] <= 0.999
    assert by_intensity.any()
    assert (table["significant"] == (by_intensity | by_pattern)).all()
    assert (table["found_by"] == np.select([by_intensity & by_pattern, by_intensity, by_pattern],
                                           ["both", "intensity", "pattern"], "")).all()  # fmt: skip
    found = result.summary.found
    assert sorted([*found["intensity"], *found["pattern"], *found["both"]]) == sorted(
        table.loc[table["significant"], "channel"]
    )


def test_reliance_is_refused_where_a_class_is_tiny() -> None:
    units, samples = fitted_cohort(0, rare=7, strength=0.1)
    result = rank_cohort(units, samples, CHANNELS, SETTINGS)
    columns = ["reliance", "reliance_p", "reliance_q", "adds", "adds_p", "adds_q"]
    assert result.ranking[columns].isna().all(axis=None)
    assert result.summary.not_tested["adds"] == "class high has 7 patients, and the test needs 8 of each class"
    assert result.ranking[["intensity_q", "pattern_q"]].notna().all(axis=None)
    assert result.summary.controls.decoys == 0
    enough = rank_cohort(*fitted_cohort(0, rare=8, strength=0.1), CHANNELS, SETTINGS)
    assert enough.ranking[columns].notna().all(axis=None)
    assert enough.summary.not_tested == {}


def test_the_pattern_is_not_tested_where_folds_and_sites_leave_no_labellings() -> None:
    units, samples = fitted_cohort(1, effects=(3.0, 3.0))
    low, high = (np.flatnonzero(samples.label == k)[np.argsort(samples.fold[samples.label == k])] for k in (0, 1))
    site = np.empty_like(samples.label)
    site[low], site[np.roll(high, len(high) // 2)] = np.arange(len(low)), np.arange(len(high))
    pairs = dataclasses.replace(samples, site=site, site_names=tuple(f"site {number}" for number in range(len(low))))
    result = rank_cohort(units, pairs, CHANNELS, SETTINGS)
    assert result.summary.not_tested["pattern"] == (
        "1 labelling keeps the labels of every fold and site; the test needs 20"
    )
    assert result.ranking["pattern_p"].isna().all()
    assert result.ranking["intensity_p"].notna().all()


def test_where_label_and_site_cannot_be_told_apart_nothing_is_significant() -> None:
    units, samples = fitted_cohort(1, effects=(3.0, 3.0))
    at_sites = dataclasses.replace(samples, site=samples.label, site_names=("Basel", "Bern"))
    left_out = LeftOut(7, (("image1", "cut off"),))
    statistics = {"mean": np.random.default_rng(0).uniform(size=(len(samples.image_sample), len(CHANNELS)))}
    result = rank_cohort(units, at_sites, CHANNELS, SETTINGS, left_out=left_out, statistics=statistics)
    assert len(result.reads) == len(CHANNELS)
    assert result.reads["p"].isna().all()
    content = json.loads(json.dumps(result.summary.to_dict(), allow_nan=False))
    assert (content["confounded"], content["at_chance"], content["held_out"]["p_value"]) == (True, False, None)
    assert not result.ranking["significant"].any()
    assert result.ranking[["intensity_p", "pattern_p", "reliance_p", "adds_p"]].isna().all(axis=None)
    assert set(content["not_tested"]) == {"intensity", "pattern", "reliance", "adds"}
    assert "patients of the same sites nearly all have the same label" in content["not_tested"]["intensity"]
    assert any("Cramér's V 1.00" in warning for warning in result.summary.warnings)
    assert content["sites"] == {"Basel": {"low": 32, "high": 0}, "Bern": {"low": 0, "high": 32}}
    assert content["skipped"] == [{"image_id": "image1", "reason": "cut off"}]
    assert (content["counts"]["skipped_images"], content["counts"]["background_tiles"]) == (1, 7)


def test_any_name_serves_as_a_channel() -> None:
    units, samples = fitted_cohort(1)
    names = ["label", "fold", "patient_id", "channel", "importance", "score", *CHANNELS[6:]]
    result = rank_cohort(units, samples, names, SETTINGS)
    assert set(result.importance_per_patient["channel"]) == set(names)


def test_intervals_refit_linear_classifiers_and_are_wider_for_it() -> None:
    units, samples = fitted_cohort(3, effects=(1.5, 1.0), strength=0.1)
    refitted = rank_cohort(units, samples, CHANNELS, SETTINGS).ranking.set_index("channel").loc[CHANNELS]
    fixed = [dataclasses.replace(unit, linear=None) for unit in units]
    given = rank_cohort(fixed, samples, CHANNELS, SETTINGS).ranking.set_index("channel").loc[CHANNELS]
    np.testing.assert_array_equal(refitted["score"], given["score"])
    assert (refitted["score_low"] <= refitted["score"]).all()
    assert (refitted["score"] <= refitted["score_high"]).all()
    assert refitted["p_top10"].sum() == pytest.approx(10)
    assert (refitted.loc[["C00", "C01"], "p_top10"] == 1).all()
    assert (refitted["p_top10"] < 1).sum() > 2
    width = refitted["score_high"] - refitted["score_low"]
    assert width.mean() > 2 * (given["score_high"] - given["score_low"]).mean()


def test_one_seed_and_units_without_training_embedding_are_ranked() -> None:
    units, samples = fitted_cohort(5, effects=(2.0, 2.0), seeds=1)
    bare = [dataclasses.replace(unit, training_embedding=np.full_like(unit.embedding, np.nan)) for unit in units]
    table = rank_cohort(bare, samples, CHANNELS, SETTINGS).ranking.set_index("channel")
    assert (table.loc[["C00", "C01"], "intensity_p"] < 0.01).all()
    assert table["pattern_p"].isna().all()


def test_units_that_do_not_cover_the_cohort_are_refused() -> None:
    units, samples = fitted_cohort(6)
    with pytest.raises(RunDirError, match=r"missing \[\(3, 1\)\]"):
        gather_samples(units[:-1], samples, "gradient")
    with pytest.raises(RunDirError, match="no importance 'occlusion', only"):
        gather_samples(units, samples, "occlusion")
    torn = dataclasses.replace(units[0], n_tiles=np.zeros_like(units[0].n_tiles))
    with pytest.raises(RunDirError, match="fold 0, seed 0: 16 held-out images have no tile"):
        gather_samples([torn, *units[1:]], samples, "gradient")
    diverged = dataclasses.replace(units[0], embedding=units[0].embedding * np.nan)
    with pytest.raises(RunDirError, match="not finite"):
        gather_samples([diverged, *units[1:]], samples, "gradient")


@pytest.mark.parametrize(
    ("excluded", "message"), [(["C99"], "excluded channels C99"), (CHANNELS, "every channel is excluded")]
)
def test_bad_exclusions_are_refused(excluded, message) -> None:
    units, samples = fitted_cohort(7)
    with pytest.raises(StudyError, match=message):
        rank_cohort(units, samples, CHANNELS, SETTINGS, excluded=excluded)


@dataclass(frozen=True)
class Block:
    tile_id: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    mean_intensity: np.ndarray
    weight: np.ndarray
    values: dict[str, np.ndarray]


def block(tile_id: list[int], scale: float = 1.0) -> Block:
    tiles = np.array(tile_id, dtype=np.int64)
    values = scale * tiles[:, None, None] * np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 4.0]])
    plain = np.stack([tiles, tiles + 1.0], axis=1)
    alike = np.ones(len(tiles))
    return Block(tiles, plain, np.tile([1.0, 0.0, 0.0], (len(tiles), 1)), plain * 2, alike, {"gradient": values})


def test_tiles_are_averaged_per_image_whatever_the_slices() -> None:
    image_of_tile = np.array([0, 0, 2, 2, 2, 1])
    arguments = {"outcome": Nominal(()), "fold": 0, "seed": 0, "classify": np.asarray}
    whole = aggregate_unit([block([0, 1, 2, 3, 4])], image_of_tile, 4, **arguments)
    parts = aggregate_unit([block([3, 0]), block([]), block([1, 4, 2])], image_of_tile, 4, **arguments)
    assert whole.n_tiles.tolist() == [2, 0, 3, 0]
    np.testing.assert_array_equal(whole.embedding[:3], [[0.5, 1.5], [np.nan, np.nan], [3.0, 4.0]])
    np.testing.assert_allclose(parts.embedding, whole.embedding)
    np.testing.assert_allclose(parts.contrast["gradient"], whole.contrast["gradient"])
    np.testing.assert_allclose(whole.importance["gradient"][2], [3.0, 0.0])
    np.testing.assert_allclose(whole.importance_by_class["gradient"].sum(axis=2), whole.importance["gradient"])
    np.testing.assert_allclose(whole.mean_intensity[2], [6.0, 8.0])
    by_area = aggregate_unit(
        [block([0, 1, 2, 3, 4])], image_of_tile, 4, **arguments, tile_area=np.array([1, 1, 2, 1, 1, 1])
    )
    np.testing.assert_allclose(by_area.mean_intensity[2], [5.5, 7.5])
    np.testing.assert_array_equal(by_area.embedding, whole.embedding)
    with pytest.raises(RunDirError, match="holds no tile"):
        aggregate_unit([], image_of_tile, 4, **arguments)
    with pytest.raises(RunDirError, match="tile ids up to 6, but the cohort has 6 tiles"):
        aggregate_unit([block([5, 6])], image_of_tile, 4, **arguments)


def test_contrast_is_own_class_against_the_mean_of_the_others() -> None:
    contrast = Nominal(()).contrasts(np.array([[[1.0, -1.0, 0.0], [0.0, 2.0, 4.0]]]))
    np.testing.assert_allclose(contrast, [[[1.5, 1.5, 0.0], [3.0, 0.0, 3.0]]])


def test_directions_of_known_means() -> None:
    samples = make_samples(["a", "b", "c", "d"], ["lo", "hi", "lo", "hi"], [0, 0, 1, 1])
    means = np.array([[1.0, 3.0, 2.0, 0.0], [4.0, 1.0, 2.0, 5.0], [1.0, 3.0, 2.0, 0.0], [4.0, 0.5, 2.0, 5.0]])
    log2, texts = directions(means, samples)
    np.testing.assert_allclose(log2, [2.0, 2.0, 0.0, np.nan])
    assert texts == ["hi +2.0", "lo +2.0", "", "hi"]


def test_warnings_name_what_is_wrong() -> None:
    labels = ["x"] * 12 + ["y"] * 9
    sites = ["s1"] * 11 + ["s2"] * 10
    patients = [f"p{i:02d}" for i in range(20)] + ["p00"]
    samples = make_samples(patients, labels, [0] * 21, sites)
    tied, small = sample_warnings(samples)
    assert small.startswith("class y has 9 patients")
    assert "Cramér's V" in tied
    one_unknown = make_samples(patients, labels, [0] * 21, [*sites[:5], None, *sites[6:]])
    still_tied, unknown, _ = sample_warnings(one_unknown)
    assert unknown.startswith("1 patient has no site")
    assert patients_per_site(one_unknown)["(unknown)"] == {"x": 1, "y": 0}
    assert "Cramér's V" in still_tied
    assert cramers_v(np.array([0, 0, 1, 1]), np.array([5, 5, 7, 7]))[0] == pytest.approx(1.0)
    assert cramers_v(np.array([0, 0, 1, 1]), np.array([5, 5, 5, 5])) == (0.0, 1.0)


def test_a_class_at_a_site_of_its_own_leads_the_warnings() -> None:
    labels = list("tuvwx") * 8 + ["z"] * 8
    sites = [f"s{i // 5}" for i in range(40)] + ["s8"] * 8
    samples = make_samples([f"p{i:02d}" for i in range(48)], labels, [0] * 48, sites)
    first, *others = sample_warnings(samples)
    assert first.endswith("tests compare within sites, where 40 of 48 patients share their site with another class")
    assert first.startswith("class z is confounded with the site (8 of 8 patients at s8; Cramér's V 1.00")
    assert not any("site" in other for other in others)
