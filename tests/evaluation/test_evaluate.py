"""A ranking against a truth: known answers and bad input."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from plexrank.errors import MissingInputError, StudyError
from plexrank.evaluation.single_cell import single_cell_truth
from plexrank.evaluation.truth import evaluate


def ranking_of(order: str, excluded: str = "") -> pd.DataFrame:
    channels = [*order, *excluded]
    position = pd.array([*range(1, len(order) + 1), *[None] * len(excluded)], dtype="Int64")
    return pd.DataFrame(
        {"position": position, "channel": channels, "score": [1 / (i + 1) for i in range(len(channels))]}
    )


def test_known_answer() -> None:
    truth = pd.DataFrame({"channel": list("ABCDE"), "informative": [1, 0, 1, 0, 0], "kind": "mean"})
    result = evaluate(ranking_of("AECBD"), truth)
    assert result.recall_at == {1: 0.5, 2: 0.5, 3: 1.0, 4: 1.0, 5: 1.0}
    assert result.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert result.spearman.value == pytest.approx(0.866 * 2 / 3, abs=0.001)
    assert (result.num_channels, result.num_informative, result.top10_overlap) == (5, 2, None)
    assert json.loads(json.dumps(result.to_dict()))["recall_at"]["3"] == 1.0


def test_grades_give_spearman_and_overlap() -> None:
    channels = "ABCDEFGHIJKL"
    truth = pd.DataFrame({"channel": list(channels), "grade": range(12, 0, -1)})
    best = evaluate(ranking_of(channels), truth)
    assert (best.spearman.value, best.top10_overlap, best.average_precision) == (pytest.approx(1.0), 10, 1.0)
    assert best.kendall.low == best.kendall.value == pytest.approx(1.0)
    assert best.top10_overlap_p == pytest.approx(1 / 66)
    worst = evaluate(ranking_of(channels[::-1]), truth)
    assert (worst.spearman.value, worst.top10_overlap) == (pytest.approx(-1.0), 8)
    assert worst.top10_overlap_p == pytest.approx(1)
    assert max(worst.recall_at) == 12


@pytest.mark.parametrize(
    ("grades", "graded"),
    [
        ([3.0] * 6 + [1.0] * 24, 6),
        ([5.0] * 4 + [4.0] * 12 + [0.0] * 14, 4),
        ([2.0] * 13 + [1.0] * 10 + [0.0] * 7, 13),
        ([1.0] * 30, 0),
        ([float(k) for k in range(30)], 10),
    ],
)
def test_grades_that_tie_do_not_favour_the_ranking_that_is_judged(
    grades: list[float], graded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plexrank.evaluation.truth.RESAMPLINGS", 2)
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"channel": [f"C{i:02d}" for i in range(30)], "grade": grades})
    found = []
    for _ in range(60):
        order = rng.permutation(truth["channel"])
        ranking = pd.DataFrame({"channel": order, "position": range(1, 31), "score": range(30, 0, -1)})
        found.append(evaluate(ranking, truth))
    assert {(result.top10_graded, result.num_informative) for result in found} == {(graded, graded)}
    assert np.mean([result.top10_overlap for result in found]) == pytest.approx(graded / 3, abs=0.5)
    expected = [stats.hypergeom.sf(result.top10_overlap - 1, 30, graded, 10) for result in found]
    assert [result.top10_overlap_p for result in found] == pytest.approx(expected)


def test_correlations_agree_with_scipy_and_are_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    grade, score = rng.integers(0, 6, 26).astype(float), rng.normal(size=26).round(1)
    channels = [f"C{i}" for i in range(26)]
    ranking = pd.DataFrame({"channel": channels, "score": score, "position": stats.rankdata(-score)})
    result = evaluate(ranking, pd.DataFrame({"channel": channels, "grade": grade}))
    assert result.spearman.value == pytest.approx(stats.spearmanr(score, grade).statistic)
    assert result.kendall.value == pytest.approx(stats.kendalltau(score, grade).statistic)
    for correlation in (result.spearman, result.kendall):
        assert correlation.low < correlation.value < correlation.high
        assert correlation.high - correlation.low > 0.3


def test_figure_5_of_the_paper() -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / "miccai2020" / "figure5.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    figure = pd.read_csv(path)
    ranking = pd.DataFrame(
        {"channel": figure["protein"], "position": figure["ours_rank"], "score": -figure["ours_rank"]}
    )
    result = evaluate(ranking, pd.DataFrame({"channel": figure["protein"], "grade": -figure["gt_rank"]}))
    assert round(result.spearman.value, 3) == 0.366
    assert (result.spearman.low, result.spearman.high) == (
        pytest.approx(-0.03, abs=0.05),
        pytest.approx(0.68, abs=0.05),
    )
    assert result.top10_overlap == 7
    assert result.top10_overlap_p == pytest.approx(0.00382, abs=1e-5)
    assert "0.366" in result.to_text()


CELLS = "cell,grade,A,B,C\n" + "".join(
    f"{i},{grade},{a},{b},{c}\n"
    for i, (grade, a, b, c) in enumerate(
        [(1, 1, 4, 2), (1, 3, 4, 2), (2, 4, 4, 2), (3, 1, 4, 2), (3, 1, 4, 5), (3, 1, 4, 8), ("", 99, 99, 99)]
    )
)


def test_importance_from_single_cells_is_that_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells.csv").write_text(CELLS)
    monkeypatch.setattr("plexrank.evaluation.single_cell.CELLS_AT_ONCE", 2)
    truth = single_cell_truth(tmp_path / "cells.csv", "grade", ["C", "A", "B"])
    assert truth["channel"].tolist() == ["C", "A", "B"]
    assert truth["grade"].tolist() == [(0 + 3 + 3) / 2, (2 + 3 + 1) / 2, 0.0]


def test_missing_intensities_of_cells_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells.csv").write_text("grade,A,B\n2,6,8\n1,2,4\n1,,4\n2,6,8\n1,2,\n2,6,\n")
    monkeypatch.setattr("plexrank.evaluation.single_cell.CELLS_AT_ONCE", 1)
    assert single_cell_truth(tmp_path / "cells.csv", "grade", ["A", "B"])["grade"].tolist() == [2.0, 1.0]


def test_a_large_single_cell_table_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"grade": ["1", "2"] * 60_000, "A": np.arange(120_000.0), "B": 1.0})
    rows.to_csv(tmp_path / "cells.csv", index=False)
    monkeypatch.setattr("plexrank.evaluation.single_cell.CELLS_AT_ONCE", 1000)
    tracemalloc.start()
    single_cell_truth(tmp_path / "cells.csv", "grade", ["A", "B"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * rows.memory_usage(deep=True).sum()


@pytest.mark.parametrize(
    ("table", "label", "message"),
    [
        (CELLS, "class", "missing columns class; found cell, grade, A, B, C"),
        (CELLS.replace("cell,grade,A", "cell,grade,X"), "grade", "missing columns A"),
        (CELLS.replace("1,3,4,2", "1,many,4,2"), "grade", "not a number"),
        ("grade,A\n1,2\n1,3\n", "grade", "grade has 1 classes"),
        ("grade,A\n1,0\n2,3\n", "grade", "no intensity above 0 in class 1 for A"),
        ("grade,A\n1,4\n2,\n2,\n", "grade", "no cell has an intensity of A in class 2"),
    ],
)
def test_bad_single_cell_tables_are_refused(tmp_path: Path, table: str, label: str, message: str) -> None:
    (tmp_path / "cells.csv").write_text(table)
    with pytest.raises(StudyError, match=message):
        single_cell_truth(tmp_path / "cells.csv", label, ["A"])


def test_a_missing_single_cell_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.csv"):
        single_cell_truth(tmp_path / "none.csv", "grade", ["A"])


def test_excluded_channels_do_not_count() -> None:
    truth = pd.DataFrame({"channel": list("ABN"), "informative": [1, 0, 0]})
    assert evaluate(ranking_of("AB", excluded="N"), truth).num_channels == 2
    assert evaluate(ranking_of("AB", excluded="N"), truth[:2]).num_channels == 2


def test_truth_without_informative_channels_has_no_average_precision() -> None:
    truth = pd.DataFrame({"channel": list("AB"), "informative": [0, 0]})
    result = evaluate(ranking_of("AB"), truth)
    assert (result.average_precision, result.spearman, result.recall_at[2]) == (None, None, 0.0)


BAD = [
    ("AB", {"channel": list("AC"), "informative": [1, 0]}, "only in the ranking: B; only in the truth: C"),
    ("AB", {"channel": list("A"), "informative": [1]}, "only in the ranking: B"),
    ("AB", {"channel": list("AAB"), "informative": [1, 0, 0]}, "more than once: A"),
    ("AB", {"channel": list("AB"), "informative": [1, 2]}, "must be 0 or 1, and is not for B"),
    ("AB", {"channel": list("AB"), "informative": ["yes", 0]}, "informative is not a number for A"),
    ("AB", {"channel": list("AB"), "grade": [1.0, None]}, "grade is not a number for B"),
    ("AB", {"channel": list("AB"), "kind": ["x", "y"]}, "neither a column informative"),
    ("AB", {"name": list("AB"), "informative": [1, 0]}, "truth: missing columns channel; found name, informative"),
]


@pytest.mark.parametrize(("order", "truth", "message"), BAD)
def test_bad_truth_is_refused(order, truth, message) -> None:
    with pytest.raises(StudyError, match=message):
        evaluate(ranking_of(order), pd.DataFrame(truth))
