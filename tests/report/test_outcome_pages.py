"""The page of every kind of outcome speaks of that kind, and of no other."""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from plexrank.outcome import MEASURE_NAMES, Kind
from plexrank.ranking.cohort_ranking import CohortRanking
from plexrank.report.figure_files import Drawn, Picture
from plexrank.report.figures import faithfulness_figure, ranking_figure
from plexrank.report.outcome_figures import outcome_figure
from plexrank.report.page import ReportContent, render_page
from plexrank.report.wording import WORDINGS, wording_of
from ranked_outcomes import rank_outcome

KINDS: tuple[Kind, ...] = ("ordinal", "continuous", "survival")


class Ranked(NamedTuple):
    """A ranked cohort and its figures."""

    result: CohortRanking
    folder: Path
    prediction: Drawn


class Page(NamedTuple):
    """A rendered page as a reader sees it, and what it rests on."""

    text: str
    source: str
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def ranked_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Ranked]:
    return functools.cache(lambda kind: rank(kind, tmp_path_factory.mktemp("figures")))


@pytest.fixture(params=KINDS)
def ranked(request: pytest.FixtureRequest, ranked_by: Callable[[Kind], Ranked]) -> Ranked:
    return ranked_by(request.param)


def rank(kind: Kind, folder: Path) -> Ranked:
    """A cohort whose first channel, and no other, goes along with the outcome, with its figures."""
    result = rank_outcome(kind)
    return Ranked(result, *drawn(result, folder))


def drawn(result: CohortRanking, folder: Path) -> tuple[Path, Drawn]:
    """The folder with the figures, and what is said of that of the predictions."""
    summary = result.summary.to_dict()
    words = wording_of(summary)
    ranking_figure(result.ranking, folder / "ranking.png", (), words)
    measure = MEASURE_NAMES[summary["outcome"]["headline"]]
    faithfulness_figure(summary["faithfulness"], folder / "curves.png", measure, words.chance)
    prediction = outcome_figure(result.predictions, summary)
    assert prediction is not None
    prediction.figure.savefig(folder / "prediction.png")
    return folder, prediction


def page_of(ranked: Ranked, column: str = "", **changes: Any) -> Page:
    (result, folder, prediction), summary = ranked, ranked.result.summary.to_dict()
    main = summary["outcome"]["headline"]
    summary |= {"null": {"labellings": 200, "is_variance_measured": True, main: 0.51, f"{main}_p": 0.005}, **changes}
    source = render_page(
        ReportContent(
            study_name="study", ranking=result.ranking, by_class=result.by_class, summary=summary,
            figure=folder / "ranking.png", faithfulness_figure=folder / "curves.png", planted=[],
            study_text="", provenance={},
            pictures=(Picture(folder / "prediction.png", prediction.alt, prediction.caption),), column=column,
        )
    )  # fmt: skip
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", source, flags=re.DOTALL)
    return Page(" ".join(html.unescape(shown).split()), source, summary)


OPENING = {
    "ordinal": "go along with the grade (<age>): mild (12), moderate (12), severe (12)?",
    "continuous": r"go along with the value (<age>): 36 values from",
    "survival": "go along with survival (time to event (<age>)): 24 events among 36 patients, median follow-up",
}
SAID = {
    "ordinal": (
        "channel rises or falls with the grade",
        "Spearman's ρ 0.",
        "grade-permutation p",
        "proportional odds regression on channel means",
        "that of a proportional odds regression on the patients' embedding",
        "rank correlation with the grade",
        "trainings on permuted grades reach a mean Spearman's ρ of 0.510",
        "the patients with a high or in those with a low grade",
        "(log loss)",
    ),
    "continuous": (
        "channel rises or falls with the value",
        "value-permutation p",
        "ridge regression on channel means",
        "R² ",
        "trainings on permuted values reach a mean Spearman's ρ of 0.510",
        "squared deviation",
    ),
    "survival": (
        "channel is associated with the hazard",
        "Harrell's C 0.",
        "Uno's C 0.",
        "outcome-permutation p",
        "Cox regression on channel means",
        "martingale residual",
        "log likelihood of a proportional hazard",
        "Survival by held-out risk",
        "cut by rank within each fold",
    ),
}
OF_CLASSES = r"(?<!time-dependent )\bAUC\b|\bgroups?\b|\bclass(?:es)?\b|\blabels?\b|\blogistic\b|ε²"


def test_the_page_speaks_of_its_kind(ranked: Ranked) -> None:
    page = page_of(ranked, " (<age>)")
    kind = page.summary["outcome"]["kind"]
    for said in (OPENING[kind], *SAID[kind]):
        assert said in page.text
    assert "<age>" not in page.source
    assert re.findall(OF_CLASSES, page.text) == []
    assert re.findall(OF_CLASSES, " ".join(re.findall(r'alt="[^"]*"', page.source))) == []
    assert page.source.count('src="data:image/') == 3


def test_measures_stand_in_their_order_with_the_headline_first(ranked: Ranked) -> None:
    page = page_of(ranked)
    table = page.source[page.source.index('<h2 id="prediction"') : page.source.index('<h2 id="robustness"')]
    names = [html.unescape(name) for name in re.findall(r'<tr><th scope="row" class="text">([^<]*)</th>', table)]
    names = [name for name in names if not name.endswith("for comparison")]
    measures = [MEASURE_NAMES[key] for key in MEASURE_NAMES if key in page.summary["held_out"]]
    assert names[:-1] == measures
    assert names[0] == MEASURE_NAMES[page.summary["outcome"]["headline"]]
    assert len(measures) == len(page.summary["held_out"]) - 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"found": {"intensity": [], "pattern": [], "both": []}}, "No channel is found to {to}, neither by intensity"),
        (
            {"found": {"intensity": ["C0"], "pattern": ["C1"], "both": []}},
            "2 channels {many} (1 by intensity, 1 by arr",
        ),
        ({"confounded": True}, "nearly all have the same {noun}. Whether proteins or sites {relation} cannot be"),
        ({"at_chance": True}, "not shown to be better than chance"),
    ],
)
def test_what_is_found_or_not_is_said_in_words_of_the_kind(
    ranked: Ranked, changes: Mapping[str, Any], said: str
) -> None:
    page = page_of(ranked, **changes)
    words = wording_of(page.summary)
    assert said.format(**vars(words)) in page.text
    assert re.findall(OF_CLASSES, page.text) == []


@pytest.mark.parametrize("kind", [*KINDS, "nominal"])
def test_the_chance_line_is_where_the_headline_measure_knows_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[float] = []
    monkeypatch.setattr("matplotlib.axes.Axes.axhline", lambda self, y, **style: lines.append(y))
    curves = {key: [0.7, 0.2] for key in ("deletion", "insertion", "deletion_random", "insertion_random")}
    faithfulness_figure(curves, tmp_path / "curves.png", "a measure", WORDINGS[kind].chance)
    assert lines == [{"nominal": 0.5, "survival": 0.5}.get(kind, 0.0)] * 2


def test_predictions_read_back_as_text_draw_the_same(ranked: Ranked, tmp_path: Path) -> None:
    result = ranked.result
    result.predictions.to_csv(tmp_path / "predictions.csv", index=False)
    read = pd.read_csv(tmp_path / "predictions.csv", dtype=str, keep_default_na=False)
    summary = result.summary.to_dict()
    again = outcome_figure(read, summary)
    assert again is not None
    assert again.alt == ranked.prediction.alt
