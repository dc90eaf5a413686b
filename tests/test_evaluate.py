"""A ranking against a truth: known answers and bad input."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from plexrank.errors import StudyError
from plexrank.ranking.evaluate import evaluate


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
    assert result.spearman == pytest.approx(0.866 * 2 / 3, abs=0.001)
    assert (result.num_channels, result.num_informative, result.top10_overlap) == (5, 2, None)
    assert json.loads(json.dumps(result.to_dict()))["recall_at"]["3"] == 1.0


def test_grades_give_spearman_and_overlap() -> None:
    channels = "ABCDEFGHIJKL"
    truth = pd.DataFrame({"channel": list(channels), "grade": range(12, 0, -1)})
    best = evaluate(ranking_of(channels), truth)
    assert (best.spearman, best.top10_overlap, best.average_precision) == (pytest.approx(1.0), 10, 1.0)
    worst = evaluate(ranking_of(channels[::-1]), truth)
    assert (worst.spearman, worst.top10_overlap) == (pytest.approx(-1.0), 8)
    assert max(worst.recall_at) == 12


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
