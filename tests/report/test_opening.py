"""The first sentences of the page, and what they rest on."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from plexrank.outcome import Kind
from plexrank.report.anchors import channel_anchor
from plexrank.report.opening import make_opening
from plexrank.report.power import detectable, first_threshold
from plexrank.report.ranking_table import CONTRADICTION, agreed_direction
from plexrank.report.wording import WORDINGS


def test_anchors_are_safe_and_differ() -> None:
    names = ["CD3", "cd3", "CD-3", "<script>", "", '"', "Ki67-β", "بروتين", "W" * 80, "W" * 81, "a b", "\ud800"]
    anchors = [channel_anchor(name) for name in names]
    assert len(set(anchors)) == len(names)
    assert all(anchor.replace("-", "").isalnum() and anchor.isascii() for anchor in anchors)
    assert channel_anchor("CD3").startswith("channel-cd3-")
    assert max(map(len, anchors)) <= 50


def test_what_could_be_seen_is_that_of_textbooks() -> None:
    # 64 patients in each class find half a standard deviation by a t-test at 0.05 with a chance of 80 % (Cohen 1988).
    found = detectable("nominal", {"a": 64, "b": 64}, 0.05)
    assert found is not None
    assert found / math.sqrt(math.pi / 3) == pytest.approx(0.5, abs=0.01)
    # Schoenfeld (1983): 66 events find a hazard ratio of 2 between halves, whose covariate has a variance of a quarter.
    survival = detectable("survival", {"event": 66, "censored": 10}, 0.05)
    assert survival is not None
    assert math.log(survival) / 0.5 == pytest.approx(math.log(2), rel=0.01)
    # A correlation of 0.3 takes 85 patients at 0.05 with a chance of 80 % (Cohen 1988), a few more by ranks.
    assert detectable("continuous", {"all": 85}, 0.05) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "patients"), [("nominal", {"a": 1, "b": 30}), ("survival", {"event": 0}), ("ordinal", {"a": 2, "b": 2})]
)
def test_of_too_few_patients_nothing_is_said(kind: Kind, patients: dict[str, int]) -> None:
    assert detectable(kind, patients, 0.05) is None


def test_the_best_of_many_needs_the_rate_over_their_number() -> None:
    assert first_threshold(0.1, 40) == pytest.approx(0.0025)


@pytest.mark.parametrize(
    ("kind", "direction", "rho", "shown"),
    [
        ("ordinal", "high +0.8", 0.4, "high +0.8"),
        ("ordinal", "low +0.8", 0.4, CONTRADICTION),
        ("survival", "early +0.1", -0.2, CONTRADICTION),
        ("survival", "late +0.1", -0.2, "late +0.1"),
        ("continuous", "high +0.8", float("nan"), "high +0.8"),
        ("nominal", "low +0.8", 0.4, "low +0.8"),
    ],
)
def test_a_direction_is_shown_where_ranks_agree(kind: str, direction: str, rho: float, shown: str) -> None:
    record = {"direction": direction, "mean_intensity_association": rho}
    assert agreed_direction(record, WORDINGS[kind]) == shown


def summary_of(**changes: Any) -> dict[str, Any]:
    estimate = {"value": 0.7, "low": 0.6, "high": 0.8}
    return {
        "outcome": {"kind": "nominal", "described": "", "linear_model": "logistic", "headline": "auc"},
        "held_out": {"auc": estimate, "p_value": 0.01},
        "mean_intensity": {"auc": estimate, "p_value": 0.01},
        "auc_difference": {"value": 0.0, "low": -0.1, "high": 0.1},
        "at_chance": False,
        "confounded": False,
        "fdr": 0.1,
        "found": {"intensity": [], "pattern": [], "both": []},
        "counts": {"patients": 50, "classes": {"a": 25, "b": 25}},
        "sites": None,
        "warnings": [],
        "not_tested": {},
    } | changes


RANKING = pd.DataFrame(
    {
        "channel": ["A", "B", "C"],
        "excluded": [False, False, True],
        "intensity_p": [0.03, 0.2, 0.001],
        "intensity_q": [0.06, 0.2, float("nan")],
        "pattern_p": [0.4, 0.02, 0.5],
        "pattern_q": [0.4, 0.04, float("nan")],
        "mean_intensity_association": [0.3, 0.1, 0.2],
        "direction": ["a +1.0", "b +0.2", "a +0.1"],
        "trend": [float("nan")] * 3,
        "reads": ["brightness (r² 0.9)", "brightness (r² 0.5) and, beyond it, clustering at 10 µm (r² 0.4)", ""],
    }
)


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (0.01, 0.05, 0.1, "It is better than with plain channel means"),
        (-0.1, -0.05, -0.01, "It is worse than with plain channel means"),
        (-0.1, -0.05, 0.1, "It is not better than with plain channel means"),
        (-0.1, 0.05, 0.1, "It is not shown to be better than with plain channel means"),
        (None, 0.05, None, "Whether that is better than plain channel means is not known"),
    ],
)
def test_the_verdict_on_channel_means(low: float | None, value: float, high: float | None, said: str) -> None:
    summary = summary_of(auc_difference={"value": value, "low": low, "high": high})
    against_means = make_opening(RANKING, summary, WORDINGS["nominal"]).against_means
    assert against_means.startswith(f"{said}: ")
    assert ("difference" in against_means) == (low is not None)


def test_found_channels_come_with_their_evidence() -> None:
    summary = summary_of(found={"intensity": ["A"], "pattern": ["B"], "both": []})
    found = make_opening(RANKING, summary, WORDINGS["nominal"]).found
    assert [(one.by, one.channels) for one in found] == [
        ("intensity", (("A", "higher in a, q 0.060"),)),
        ("arrangement", (("B", "clustering at 10 µm, q 0.040"),)),
    ]


def test_where_nothing_is_found_the_nearest_channel_is_named_and_no_control() -> None:
    opening = make_opening(RANKING, summary_of(), WORDINGS["nominal"])
    assert "Nearest comes B, by arrangement: p 0.020, q 0.040." in opening.not_found[0]
    assert "needs p ≤ 0.05. With 25 patients of class a against 25 others" in opening.not_found[1]
    assert opening.prediction.endswith(
        "Both can be true: weak differences of many channels together can predict, while none is strong enough alone."
    )


def test_a_test_that_was_not_made_is_not_claimed() -> None:
    opening = make_opening(RANKING, summary_of(not_tested={"pattern": "too few"}), WORDINGS["nominal"])
    assert opening.headline.endswith("differ between the groups by intensity: arrangement was not tested")
    assert "each by its mean intensity, at a false" in opening.not_found[0]


def test_with_too_few_patients_for_any_channel_that_is_said() -> None:
    few = summary_of(counts={"patients": 8, "classes": {"a": 4, "b": 4}}, fdr=0.01)
    assert "labels exchanged give no p below 0.029" in make_opening(RANKING, few, WORDINGS["nominal"]).not_found[1]
    sites = summary_of(
        sites={"S": {"a": 1, "b": 2}, "T": {"a": 1, "b": 3}}, counts={"patients": 7, "classes": {"a": 2, "b": 5}}
    )
    said = make_opening(RANKING, sites, WORDINGS["nominal"]).not_found[1]
    assert "labels exchanged within sites give no p below 0.083" in said


def test_classes_that_are_numbers_are_said_to_have_no_order() -> None:
    graded = summary_of(counts={"patients": 50, "classes": {"1": 10, "2": 20, "3": 20}})
    (said,) = make_opening(RANKING, graded, WORDINGS["nominal"]).obstacles
    assert said.startswith("The classes 1, 2, 3 were taken as groups without an order")
    assert not make_opening(RANKING.assign(trend=0.1), graded, WORDINGS["nominal"]).obstacles
    assert (
        "(mean over the classes, each against the others; 0.5 is chance)"
        in make_opening(RANKING, graded, WORDINGS["nominal"]).prediction
    )


def test_long_lists_are_cut_and_warnings_are_sentences() -> None:
    names = [f"C{k}" for k in range(12)]
    ranking = pd.concat([RANKING.head(1)] * 12).assign(channel=names)
    summary = summary_of(found={"intensity": names, "pattern": [], "both": []}, warnings=["two images", "a_b: odd"])
    opening = make_opening(ranking, summary, WORDINGS["nominal"])
    assert (len(opening.found[0].channels), opening.found[0].more) == (8, 4)
    assert opening.obstacles == ("Two images.", "a_b: odd.")
