"""The ranking of a table whose outcome is grades, numbers or times to an event."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from plexrank.errors import StudyError
from plexrank.outcome import KINDS, Kind
from plexrank.ranking.features import rank_features

PATIENTS = 80
IDS = [f"p{number}" for number in range(PATIENTS)]


def table(seed: int, effect: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Eight features, of which A rises and B falls with what the outcome follows (patient,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(PATIENTS, 8))
    return pd.DataFrame(np.exp(x), columns=list("ABCDEFGH")), effect * (x[:, 0] - x[:, 1]) + rng.normal(size=PATIENTS)


def outcome_of(kind: Kind, z: np.ndarray, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    if kind == "nominal":
        return np.where(z > 0, "b", "a")
    if kind == "ordinal":
        return np.digitize(z, [-0.8, 0.8]).astype(str)
    if kind == "continuous":
        return 50 + 10 * z
    time, followed = 40 * rng.exponential(np.exp(-z)) + 0.1, rng.uniform(6, 54, PATIENTS)
    return pd.DataFrame({"time": np.minimum(time, followed).round(1), "event": (time <= followed).astype(int)})


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_follow_the_outcome_are_found_with_their_direction(kind: Kind) -> None:
    values, z = table(1, 1.2)
    ranked = rank_features(values, outcome_of(kind, z, 1), IDS, kind=kind, bootstrap=100).set_index("channel")
    assert ranked.index[:2].sort_values().tolist() == ["A", "B"]
    found = set(ranked.index[ranked["significant"]])
    assert {"A", "B"} <= found
    assert len(found) <= 3  # one in ten may be false
    up, down = {"nominal": "ba", "survival": ("early", "late")}.get(kind, ("high", "low"))
    assert ranked.loc["A", "direction"].split()[0] == up
    assert ranked.loc["B", "direction"].split()[0] == down
    if kind != "nominal":
        assert ranked.loc["A", "mean_intensity_association"] > 0 > ranked.loc["B", "mean_intensity_association"]
    assert (ranked["score_low"] <= ranked["score"]).all()
    assert (ranked["score"] <= ranked["score_high"]).all()
    assert ranked["reliance"].notna().all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_arguments_in_any_order_of_rows_give_equal_tables(kind: Kind) -> None:
    values, z = table(2, 0.8)
    outcome = outcome_of(kind, z, 2)
    order = np.random.default_rng(0).permutation(PATIENTS)
    shuffled = outcome.iloc[order].reset_index(drop=True) if kind == "survival" else outcome[order]
    first = rank_features(values, outcome, IDS, kind=kind, bootstrap=100)
    again = rank_features(
        values.iloc[order].reset_index(drop=True), shuffled, [IDS[row] for row in order], kind=kind, bootstrap=100
    )
    pd.testing.assert_frame_equal(first, again)


def test_a_null_table_is_hardly_ever_called() -> None:
    called = 0
    for kind in ("ordinal", "continuous", "survival"):
        for seed in range(3):
            values, z = table(100 + seed, 0.0)
            ranked = rank_features(values, outcome_of(kind, z, seed), IDS, kind=kind, bootstrap=100, seed=seed)
            called += bool(ranked["significant"].any())
    assert called <= 2


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ordinal", {"outcome": ["low"] * 40 + ["high"] * 40}, "outcome: 'low' is no number; give order, the lowest"),
        ("ordinal", {"outcome": ["low"] * 40 + ["high"] * 40, "order": ["low"]}, "order: 'high' is missing"),
        ("continuous", {"outcome": ["x"] * 80}, "outcome: 'x' is no number; give numbers"),
        (
            "survival",
            {"outcome": [(3, 1)] * 79 + [(0, 1)]},
            "outcome: row 79 has time 0 and event 1; give a time above",
        ),
        ("survival", {"outcome": [(3, 1)] * 79 + [(1, 2)]}, "outcome: row 79 has time 1 and event 2"),
        ("survival", {"outcome": [3] * 80}, "outcome: row 0 is 3; give the time, and 1 for the event or 0"),
        ("survival", {"outcome": [(n + 1, n < 5) for n in range(80)]}, "outcome: 5 events among 80 patients, fewer"),
        ("survival", {"outcome": [(80, 1)] * 12 + [(n + 1, 0) for n in range(68)]}, "outcome: no patient was followed"),
        ("survival", {"site": IDS}, "site: 0 of .* events have another patient of the same site at risk"),
    ],
)
def test_outcomes_that_cannot_be_analysed_are_refused(kind: Kind, change: dict[str, Any], message: str) -> None:
    values, z = table(3, 1.0)
    given = {"outcome": outcome_of(kind, z, 3), "patient": IDS, "kind": kind} | change
    with pytest.raises(StudyError, match=message):
        rank_features(values, **given)


def test_patients_without_a_time_or_event_are_left_out_and_counted() -> None:
    values, z = table(4, 1.0)
    outcome = outcome_of("survival", z, 4).astype(float)
    outcome.iloc[3, 0], outcome.iloc[9, 1] = np.nan, np.nan
    ranked = rank_features(values, outcome, IDS, kind="survival", bootstrap=100)
    assert "2 patients are left out: the outcome is empty" in ranked.attrs["warnings"]
    assert (ranked["n_patients"] == PATIENTS - 2).all()
