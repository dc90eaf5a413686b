"""The tests for a table of features made elsewhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import plexrank
from plexrank.errors import StudyError
from plexrank.ranking.columns import RANKING_COLUMNS

PATIENTS = [f"p{i:02d}" for i in range(40)]
OUTCOME = ["a", "b"] * 20


def table(effect: float = 2.0) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(40, 6))
    values[1::2, 0] += effect
    return pd.DataFrame(values, columns=list("ABCDEF"))


@pytest.fixture(scope="module")
def ranked() -> pd.DataFrame:
    return plexrank.rank_features(table(), OUTCOME, PATIENTS, bootstrap=200)


def test_the_feature_that_differs_is_found_and_no_other(ranked: pd.DataFrame) -> None:
    assert list(ranked.columns) == list(RANKING_COLUMNS)
    first = ranked.iloc[0]
    assert (first["channel"], first["position"], first["found_by"]) == ("A", 1, "intensity")
    assert ranked["significant"].sum() == 1
    assert first["reliance_q"] < 0.1
    assert first["adds_q"] < 0.1
    exact = stats.mannwhitneyu(table()["A"][::2], table()["A"][1::2], method="exact").pvalue
    assert first["intensity_p"] == pytest.approx(exact, abs=2e-5)
    assert ranked["pattern_p"].isna().all()
    assert ranked.attrs["not_tested"] == {"pattern": "no embedding was trained"}


def test_names_rows_and_equal_arguments(ranked: pd.DataFrame) -> None:
    as_array = plexrank.rank_features(
        table().to_numpy(), np.array(OUTCOME), PATIENTS, features=list("ABCDEF"), bootstrap=200
    )
    pd.testing.assert_frame_equal(as_array, ranked)
    shuffled = np.random.default_rng(1).permutation(40)
    moved = plexrank.rank_features(
        table().iloc[shuffled], [OUTCOME[i] for i in shuffled], [PATIENTS[i] for i in shuffled], bootstrap=200
    )
    pd.testing.assert_series_equal(moved["score"], ranked["score"])


def test_constant_and_empty_features_are_no_discoveries() -> None:
    values = table().assign(B=3.0, C=np.nan)
    found = plexrank.rank_features(values, OUTCOME, PATIENTS, bootstrap=200).set_index("channel")
    assert (found.loc["B", "intensity_p"], found.loc["B", "reliance_p"], found.loc["B", "adds_p"]) == (1, 1, 1)
    assert np.isnan(found.loc["C", "intensity_p"])
    assert found.loc["C", "n_patients"] == 0
    assert not found.loc[["B", "C"], "significant"].any()
    assert found.loc["A", "significant"]


def test_patients_are_compared_within_sites() -> None:
    values, site = table(0.0), np.repeat(["Basel", "Bern"], 20)
    outcome = ["a"] * 17 + ["b"] * 3 + ["b"] * 17 + ["a"] * 3
    values.loc[20:, "D"] += 4.0
    regardless = plexrank.rank_features(values, outcome, PATIENTS, bootstrap=100).set_index("channel")
    within = plexrank.rank_features(values, outcome, PATIENTS, site, bootstrap=100).set_index("channel")
    assert regardless.loc["D", "intensity_q"] < 0.01
    assert within.loc["D", "intensity_q"] > 0.2
    assert "confounded with the site" in within.attrs["warnings"][0]
    tied = plexrank.rank_features(values, np.repeat(["a", "b"], 20), PATIENTS, site, bootstrap=100)
    assert tied["intensity_p"].isna().all()
    assert "patients of the same sites nearly all have the same label" in tied.attrs["not_tested"]["intensity"]


def test_small_classes_get_the_tests_that_they_allow() -> None:
    outcome = ["rare" if i in (3, 17, 30) else "common" for i in range(40)]
    found = plexrank.rank_features(table(), outcome, PATIENTS, bootstrap=100)
    assert found["reliance_p"].isna().all()
    assert found["intensity_p"].notna().all()
    assert "class rare has 3 patients" in found.attrs["not_tested"]["reliance"]


def test_patients_without_an_outcome_are_left_out_and_counted() -> None:
    outcome = [None, float("nan"), "", *OUTCOME[3:]]
    found = plexrank.rank_features(table(), outcome, PATIENTS, bootstrap=100)
    assert (found["n_patients"] == 37).all()
    assert "3 patients are left out: the outcome is empty" in found.attrs["warnings"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient": [*PATIENTS[:39], "p03"]}, "patient: 'p03' stands in rows 3 and 39; give one row a patient"),
        ({"patient": [*PATIENTS[:39], None]}, "patient: row 39 is empty"),
        ({"outcome": OUTCOME[:39]}, "outcome: 39 entries for 40 rows"),
        ({"outcome": ["a"] * 40}, "outcome: found only a; give two groups or more"),
        ({"outcome": [*["a"] * 39, "b"]}, "outcome: 'b' has one patient"),
        (
            {"outcome": np.arange(40) / 7},
            "outcome: has 40 different numbers for 40 patients, which make no classes; give kind",
        ),
        ({"values": table().assign(A="x")}, "values: column 'A' holds no numbers"),
        ({"values": table().replace(table().iloc[4, 2], np.inf)}, "values: row 4, column 'C' is infinite"),
        ({"values": np.zeros(40)}, "expected patients × features"),
        ({"values": np.zeros((40, 0))}, "no column"),
        ({"values": table().to_numpy(), "features": ["A", "A", *"BCDE"]}, "two columns are called 'A'"),
        ({"values": table().to_numpy(), "features": ["A"]}, "1 names for 6 columns"),
        ({"values": table().to_numpy() * 1j}, "values: complex numbers"),
        ({"values": table().assign(A=1j)}, "values: column 'A' holds no numbers"),
        ({"outcome": 5}, "outcome: found 5; give one entry a row"),
        ({"folds": 1}, "folds: found 1; give 2 or more"),
        ({"fdr": 2}, "fdr: found 2; give a number between 0 and 1"),
        ({"bootstrap": 1}, "bootstrap: found 1; give 100 or more"),
        ({"seed": -1}, "seed: found -1; give 0 or more"),
        (
            {"values": table().set_axis(PATIENTS), "outcome": pd.Series(OUTCOME, index=PATIENTS[::-1])},
            "outcome: its index differs from that of values, and rows are matched by place",
        ),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(change: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        plexrank.rank_features(**{"values": table(), "outcome": OUTCOME, "patient": PATIENTS} | change)


def test_missing_entries_of_any_type_are_missing() -> None:
    outcome = np.array([0.0, 1.0] * 20, dtype=np.float32)
    outcome[3] = np.nan
    site = np.array(["2026-01-01", "NaT"] * 20, dtype="datetime64[D]")
    found = plexrank.rank_features(table(), outcome, PATIENTS, site, bootstrap=100)
    assert (found["n_patients"] == 39).all()
    assert found.attrs["warnings"][-1] == "1 patient is left out: the outcome is empty"


def test_a_feature_that_few_of_a_class_have_is_tested_only_as_far_as_they_allow() -> None:
    values = table()
    values.loc[7:, "A"] = np.where(np.array(OUTCOME[7:]) == "a", np.nan, values["A"][7:])
    values.loc[np.array(OUTCOME) == "b", "B"] = np.nan
    found = plexrank.rank_features(values, OUTCOME, PATIENTS, bootstrap=100).set_index("channel")
    assert found.loc["A", ["reliance_p", "adds_p"]].isna().all()
    assert 0 < found.loc["A", "intensity_p"] < 1
    assert found.loc["B", ["intensity_p", "reliance_p", "adds_p"]].isna().all()
    assert found.loc["C", ["intensity_p", "reliance_p", "adds_p"]].notna().all()


def test_it_loads_no_torch() -> None:
    code = "import sys, plexrank; plexrank.rank_features; sys.exit(sum(m in sys.modules for m in ('torch', 'zarr')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = plexrank.nothing
