"""The page says what the tables say, and shows names as they are."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fitted_cohorts import fitted_cohort
from plexrank.ranking.cohort_ranking import rank_cohort
from plexrank.ranking.columns import RANKING_COLUMNS
from plexrank.ranking.summary import LeftOut
from plexrank.report.figures import faithfulness_figure, ranking_figure
from plexrank.report.page import ReportContent, render_page
from plexrank.settings import RankSettings

CHANNELS = ["<b>", "$x_1$", *(f"C{i:02d}" for i in range(2, 12))]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    units, samples = fitted_cohort(1, effects=(2.0, 2.0), strength=0.1)
    settings = RankSettings(bootstrap=100, permutations=100, fdr=0.2)
    at_sites = dataclasses.replace(samples, site=np.arange(64) % 2, site_names=("<Basel>", "Bern"))
    left_out = LeftOut(12, (("img<7>", "cut & torn"),))
    result = rank_cohort(
        units, at_sites, CHANNELS, settings, excluded=["C11"], left_out=left_out, warnings=["<i>odd</i>"]
    )
    figure = tmp_path_factory.mktemp("report") / "ranking.png"
    ranking_figure(result.ranking, figure, ["<b>"])
    curves = figure.with_name("faithfulness.png")
    faithfulness_figure(result.summary.to_dict()["faithfulness"], curves)
    return {
        "study_name": "a & b",
        "ranking": result.ranking,
        "by_class": result.by_class,
        "summary": result.summary.to_dict(),
        "figure": figure,
        "faithfulness_figure": curves,
        "planted": ["<b>"],
        "study_text": "name: <study>",
        "provenance": {"host": "<host>"},
    }


def headline(content: dict[str, Any]) -> str:
    """What was found, and what is said of the prediction, as a reader sees it."""
    page = render_page(ReportContent(**content))
    shown = page[page.index('<section class="statement') : page.index('<h2 id="ranking"')]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", shown)).split())


def test_names_are_shown_as_they_are(content: dict[str, Any]) -> None:
    page = render_page(ReportContent(**content))
    for shown in ("★ &lt;b&gt;</bdi>", "a &amp; b", "&lt;i&gt;odd", "name: &lt;study&gt;", "&lt;host&gt;"):
        assert shown in page
    for raw in ("★ <b>", "<i>odd", "<study>", "<host>"):
        assert raw not in page
    assert page.count('<tr class="control">') == 1
    assert "<small>negative control</small>" in page
    assert 'src="data:image/' in page
    assert "http" not in page


def test_counts_sites_and_what_was_left_out(content: dict[str, Any]) -> None:
    ranking = content["ranking"].copy()
    ranking.loc[0, ["n_patients", "n_images", "n_tiles"]] = (33, 34, 135)
    page = " ".join(render_page(ReportContent(**content | {"ranking": ranking})).split())
    for shown in (
        'data-value="33">33</td>',
        'data-value="135" hidden>135</td>',
        "12 tiles are left out as background",
        "<b>1 image is left out</b>",
        '<td class="text">img&lt;7&gt;</td><td class="text">cut &amp; torn</td>',
        '<th scope="row" class="text">&lt;Basel&gt;</th><td>',
    ):
        assert shown in page
    nothing = content["summary"] | {"sites": None, "skipped": []}
    nothing["counts"] = nothing["counts"] | {"background_tiles": 0, "skipped_images": 0}
    page = render_page(ReportContent(**content | {"summary": nothing}))
    for absent in ("left out:", "is left out", "are left out", "<h3>Sites"):
        assert absent not in page
    assert "Nothing: every image, tile and test counts." in page


def test_that_no_small_panel_keeps_the_auc_is_said(content: dict[str, Any]) -> None:
    panel = {"channels": [], "tolerance": 0.04, "full_auc": 0.95, "auc": [0.6, 0.8, 0.75]}
    page = render_page(ReportContent(**content | {"summary": content["summary"] | {"panel": panel}}))
    page = " ".join(page.split())
    assert "No panel of up to 3 channels keeps the held-out AUC (within 0.040 of 0.950, that of" in page
    assert "all channels); the best has 0.800.</li>" in page


def test_how_far_the_order_holds(content: dict[str, Any]) -> None:
    ranking = content["ranking"].assign(trend=0.5, trend_q=0.01)
    ranking.loc[[1, 3], "group"] = 99
    summary = content["summary"] | {
        "panel": {"channels": ["<b>", "C02"], "tolerance": 0.04, "full_auc": 0.9, "auc": [0.8, 0.89]},
        "controls": {"decoys": 11, "decoys_called": 1, "excluded": 1, "excluded_called": []},
        "null": {"labellings": 200, "is_variance_measured": True, "auc": 0.51, "auc_p": 0.005},
        "pattern_variance": 1.62,
        "agreement": {"kendall_w": 0.81, "nogueira": 0.62, "spearman": 0.8, "top": 5},
    }
    page = " ".join(render_page(ReportContent(**content | {"ranking": ranking, "summary": summary})).split())
    names = [str(name).replace("<", "&lt;").replace(">", "&gt;") for name in ranking["channel"][[1, 3]]]
    for shown in (
        "&lt;b&gt;, C02 (chosen on the same patients",
        "Kendall's W 0.81, on the first 5 with Nogueira's stability 0.62",
        "1 of 11 decoy channels (real channels shuffled over patients) was called by reliance",
        "Excluded channels that would be found to differ, of 1: none",
        f"treat their order as interchangeable: {', '.join(names)}.",
        "200 trainings on permuted labels reach a mean AUC of 0.510; exact p of the prediction 0.005",
        "The variance factor λ of the pattern test is 1.62 as measured from them",
        "Trend over the ordered labels",
    ):
        assert shown in page
    assert "Trend over" not in render_page(ReportContent(**content))


FOUND = {"intensity": ["C02"], "pattern": ["<b>"], "both": []}
NOTHING = {"intensity": [], "pattern": [], "both": []}


def test_headline_names_what_differs_and_what_intensities_do_not_show(content: dict[str, Any]) -> None:
    text = headline(content | {"summary": content["summary"] | {"found": FOUND}})
    assert "2 channels differ between the groups (1 by intensity, 1 by arrangement)." in text
    assert re.search(r"By intensity \(their mean intensity differs\): C02 \(higher in \w+, q [<0-9. ]+\)\.", text)
    assert re.search(r"the test of mean intensity finds nothing, q > 0\.2\): <b> \(.*q [<0-9. ]+\)\.", text)
    assert "at most 20 % are expected to be false (false-discovery rate 0.2)" in text
    by_both = headline(content | {"summary": content["summary"] | {"found": NOTHING | {"both": ["C02"]}}})
    assert "1 channel differs between the groups (1 by both)." in by_both
    assert "the test of mean intensity finds nothing" not in by_both
    nothing = headline(content | {"summary": content["summary"] | {"found": NOTHING}})
    assert "No channel is found to differ between the groups, neither by intensity nor by arrangement." in nothing
    assert "Tested: 11 channels on 64 patients, within sites" in nothing
    assert re.search(r"Nearest comes .+, by (intensity|arrangement): p [<0-9. ]+, q [<0-9. ]+\.", nothing)
    assert "the best of 11 channels needs p ≤ 0.018. With 32 patients of class" in nothing


def test_headline_of_the_prediction_has_the_paired_difference_even_where_it_loses(content: dict[str, Any]) -> None:
    difference = {"value": -0.031, "low": -0.09, "high": 0.02}
    summary = content["summary"] | {"auc_difference": difference}
    assert "the difference is −0.031 (−0.090 to +0.020, paired over patients)" in headline(
        content | {"summary": summary}
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "Held-out prediction is better than chance"),
        ({"at_chance": True}, "Held-out prediction is not shown to be better than chance"),
        ({"confounded": True}, "Label and site cannot be distinguished"),
    ],
)
def test_headline_of_every_kind_of_prediction(content: dict[str, Any], changes: dict[str, Any], wanted: str) -> None:
    summary = content["summary"] | changes
    if changes.get("confounded"):
        summary["held_out"] = summary["held_out"] | {"p_value": None}
    text = headline(content | {"summary": summary})
    assert wanted in text
    others = {"is better than chance", "is not shown to be better than chance", "cannot be distinguished"}
    assert sum(other in text for other in others) == 1


def test_why_a_test_is_missing_stands_below_the_table(content: dict[str, Any]) -> None:
    reasons = {"reliance": "class <x> has 3 patients", "adds": "class <x> has 3 patients"}
    page = render_page(ReportContent(**content | {"summary": content["summary"] | {"not_tested": reasons}}))
    assert "Not tested: reliance, adds (class &lt;x&gt; has 3 patients)." in page


def test_the_dashed_line_is_where_equal_scores_would_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = pd.DataFrame({column: [0.25] * 4 for column in RANKING_COLUMNS})
    ranking = ranking.assign(channel=list("abcd"), found_by="", excluded=[False, False, False, True])
    lines: list[float] = []
    monkeypatch.setattr("matplotlib.axes.Axes.axvline", lambda self, x, **style: lines.append(x))
    ranking_figure(ranking, tmp_path / "ranking.png")
    assert lines == [0.25]
    assert (tmp_path / "ranking.png").stat().st_size > 0
