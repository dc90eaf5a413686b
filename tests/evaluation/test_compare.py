"""Rankings side by side: known answers, what is refused, and hostile names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from plexrank.errors import PlexrankError
from plexrank.evaluation.compare import compare_rankings
from plexrank.evaluation.compare_text import WIDTH, comparison_text
from plexrank.evaluation.ranked_run import RankedRun
from plexrank.report.compare_page import render_comparison


def ranked_run(
    name: str,
    channels: Sequence[str],
    *,
    effect: Sequence[float] | None = None,
    intensity_p: Sequence[float] | None = None,
    patients: str = "",
    kind: str = "continuous",
    found: str = "",
) -> RankedRun:
    """A ranking in the order of its channels."""
    number = len(channels)
    effects = [0.5] * number if effect is None else effect
    ranking = pd.DataFrame(
        {
            "position": pd.array(range(1, number + 1), dtype="Int64"),
            "channel": list(channels),
            "score": [1 / (place + 1) for place in range(number)],
            "significant": [channel in found for channel in channels],
            "found_by": ["intensity" if channel in found else "" for channel in channels],
            "mean_intensity_association": effects,
            "intensity_p": [0.5] * number if intensity_p is None else intensity_p,
            "pattern_p": [0.8] * number,
            "direction": [f"{'high' if value > 0 else 'low'} +0.3" for value in effects],
            "n_patients": 50,
        },
        index=[channel.casefold() for channel in channels],
    )
    ids = frozenset(patients or [f"{name}{number}" for number in range(50)])
    return RankedRun(name, f"/runs/{name}", ranking, kind, f"{kind} outcome", (), ids, 0.1)


def test_two_cohorts_give_known_answers() -> None:
    first = ranked_run(
        "one", "ABCDE", effect=[0.5, -0.4, 0.3, 0.2, 0.1], intensity_p=[0.001, 0.01, 0.2, 0.6, 0.9], found="AB"
    )
    second = ranked_run(
        "two", "bacdf", effect=[0.4, 0.6, 0.2, 0.1, 0.3], intensity_p=[0.02, 0.004, 0.3, 0.7, 0.1], found="ab"
    )
    found = compare_rankings([first, second])
    (pair,) = found.pairs
    assert (pair.channels, pair.shared_patients, pair.top, pair.top_shared) == (4, 0, 2, 2)
    assert pair.top_p == pytest.approx(1 / 6)
    assert pair.scores.value == pytest.approx(stats.spearmanr([4, 3, 2, 1], [3, 4, 2, 1]).statistic)
    assert [(one.channel, one.same_direction) for one in pair.found_in_both] == [("A", True), ("B", False)]
    table = found.channels.set_index("channel")
    assert table["intensity_replicated_p"].to_dict() == pytest.approx(
        {"A": 0.004, "B": 1.0, "C": 0.3, "D": 0.7}, abs=0.02
    )
    assert table.loc["A", "replicated_p"] == pytest.approx(0.008)
    assert found.replicated == ["A"]
    z = (stats.norm.isf(0.0005) + stats.norm.isf(0.002)) / np.sqrt(2)
    assert table.loc["A", "intensity_p"] == pytest.approx(2 * stats.norm.sf(z))
    assert found.only_in == {"one": ("E",), "two": ("f",)}
    assert table.loc["B", ["position_one", "position_two"]].tolist() == [2, 1]


def test_shared_patients_are_combined_as_dependent_and_reported() -> None:
    runs = [
        ranked_run(name, "ABCDE", intensity_p=p, patients="xyz")
        for name, p in (("one", [0.01] * 5), ("two", [0.02] * 5))
    ]
    shared, distinct = compare_rankings(runs), compare_rankings(runs, "distinct")
    cauchy = stats.cauchy.sf(np.mean(np.tan((0.5 - np.array([0.01, 0.02])) * np.pi)))
    assert shared.channels["intensity_p"].tolist() == pytest.approx([cauchy] * 5)
    assert (distinct.channels["intensity_p"] < 0.001).all()
    assert "have 3 patient ids in common" in shared.notes[0]
    assert "do not account for patients that runs share" in shared.notes[1]
    assert distinct.notes == ()


def test_outcomes_of_other_kinds_have_no_common_direction() -> None:
    first, second = (
        ranked_run("one", "ABCD", found="A"),
        ranked_run("two", "ABCD", kind="survival", effect=[-0.5, 0.1, 0.2, 0.3], found="A"),
    )
    found = compare_rankings([first, second])
    assert found.pairs[0].found_in_both[0].same_direction is None
    assert found.channels["intensity_replicated_p"].tolist() == [0.5] * 4
    assert "no common direction" in found.notes[0]


def of_two_classes(name: str, direction: str, signs: Sequence[float] | None) -> RankedRun:
    """Channel A with p 0.0001, found; whatever ``direction``, the mean ranks differ as ``signs`` say."""
    run = ranked_run(name, "ABCD", intensity_p=[1e-4, 0.5, 0.6, 0.7], kind="nominal", found="A")
    ranking = run.ranking.assign(direction=direction)
    ranking["score"] += len(name)
    of_channels = None if signs is None else pd.Series(signs, ranking.index)
    return replace(run, ranking=ranking, classes=("A", "B"), rank_signs=of_channels)


@pytest.mark.parametrize(("second", "p", "same"), [(1.0, 1e-4, True), (-1.0, 1.0, False)])
def test_two_classes_go_the_way_of_their_ranks(second: float, p: float, same: bool) -> None:
    runs = [
        of_two_classes("one", "A +0.2", [1.0] * 4),
        of_two_classes("other", "B +0.2", [second] * 4),
    ]
    found = compare_rankings(runs)
    first = found.channels.set_index("channel").loc["A"]
    assert first["intensity_replicated_p"] == pytest.approx(p, rel=1e-3)
    z = stats.norm.isf(5e-5) * (1 + second) / np.sqrt(2)
    assert first["intensity_p"] == pytest.approx(2 * stats.norm.sf(z))
    assert [one.same_direction for one in found.pairs[0].found_in_both] == [same]
    assert found.notes == ()


def test_two_classes_without_ranks_have_no_direction() -> None:
    found = compare_rankings([of_two_classes("one", "A +0.2", [1.0] * 4), of_two_classes("other", "B +0.2", None)])
    assert found.channels["intensity_replicated_p"].iloc[0] == pytest.approx(1e-4)
    assert found.pairs[0].effects is None
    assert [one.same_direction for one in found.pairs[0].found_in_both] == [None]
    assert "other of an older version" in found.notes[0]


@pytest.mark.parametrize(
    ("kind", "one", "other", "why"),
    [
        ("ordinal", {"order": ("1", "2", "3")}, {"order": ("3", "2", "1")}, "of them: 1 < 2 < 3; 3 < 2 < 1"),
        ("continuous", {"columns": ("age",)}, {"columns": ("tumour size",)}, "other columns: age; tumour size"),
        ("nominal", {"classes": ("A", "B")}, {"classes": ("A", "C")}, "other classes: A, B; A, C"),
    ],
)
def test_other_outcomes_have_no_common_direction(
    kind: str, one: dict[str, Any], other: dict[str, Any], why: str
) -> None:
    first = ranked_run("one", "ABCD", kind=kind, intensity_p=[1e-4] * 4, found="A")
    second = ranked_run("two", "ABCD", kind=kind, intensity_p=[1e-3] * 4, found="A", effect=[-0.5] * 4)
    found = compare_rankings([replace(first, **one), replace(second, **other)])
    assert found.channels["intensity_replicated_p"].tolist() == pytest.approx([1e-3] * 4)
    assert found.pairs[0].found_in_both[0].same_direction is None
    assert found.pairs[0].effects is None
    assert why in found.notes[0]
    alike = compare_rankings([replace(first, kind="ordinal", **one), replace(second, kind="ordinal", **one)])
    assert alike.channels["intensity_replicated_p"].tolist() == [1.0] * 4
    assert alike.notes == ()


def test_found_in_shared_patients_is_called_no_replication() -> None:
    runs = [
        ranked_run(name, "ABCD", intensity_p=[1e-6, p, 0.6, 0.7], patients="xyz")
        for name, p in (("one", 0.5), ("two", 0.4))
    ]
    for patients, words in (("shared", ", which is no replication where these share patients"), ("distinct", "")):
        found = compare_rankings(runs, patients)  # type: ignore[arg-type]
        assert found.replicated == ["A"]
        assert f"<b>1 channel is found in at least two runs{words}</b>" in render_comparison(found.to_dict())
        assert f"found in at least two runs{words} (replicated" in " ".join(comparison_text(found).split())


def test_what_cannot_be_compared_is_refused() -> None:
    first = ranked_run("one", "ABCD")
    with pytest.raises(PlexrankError, match="the first has A, B, C, D; the second W, X, Y, Z"):
        compare_rankings([first, ranked_run("two", "WXYZ")])
    with pytest.raises(PlexrankError, match="/runs/one: given twice"):
        compare_rankings([first, first])
    with pytest.raises(PlexrankError, match="/runs/two: holds the ranking of /runs/one"):
        compare_rankings([first, ranked_run("two", "ABCD")])


def test_text_fits_a_terminal_and_all_is_json() -> None:
    names = [f"a protein with a long name {number}" for number in range(30)]
    runs = [ranked_run(f"a-run-with-a-name-{n}", np.roll(names, n).tolist()) for n in range(4)]
    found = compare_rankings(runs)
    lines = comparison_text(found).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "… and 10 more in compare.csv (--out DIR)" in lines
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(content["pairs"]) == 6
    assert len(content["channels"]) == 30


def test_hostile_names_are_escaped_on_the_page() -> None:
    names = ["<script>alert(1)</script>", '"><img src=x>', "{{ 7 * 7 }}", "</title>&"]
    first = ranked_run("<b>one</b>", names, found=names[0])
    page = render_comparison(compare_rankings([first, ranked_run("two", names[::-1], found=names[0])]).to_dict())
    for name in (*names[:2], names[3], "<b>one</b>"):
        assert name not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<circle") == 4
    assert page.count('role="img"') == 1
    assert "prefers-color-scheme: dark" in page
