"""The page itself: a template filled with tables, figures as data, and plain words."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from plexrank.outcome import LINEAR_MODELS, MEASURE_NAMES
from plexrank.report.figure_files import Picture, embedded
from plexrank.report.methods_text import Methods, left_out
from plexrank.report.opening import MOST_WARNINGS, make_opening
from plexrank.report.pictures import Pictures
from plexrank.report.ranking_table import DescribedColumn, ranking_table
from plexrank.report.wording import p_value, wording_of
from plexrank.wording import counted

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class ReportContent:
    """What the page shows.

    Attributes:
        ranking: the ranking table, best channel first.
        by_class: the ranking of every class.
        summary: content of ``summary.json``.
        figure: the ranking figure, PNG.
        faithfulness_figure: deletion and insertion curves, PNG; None where there are none.
        planted: channels that truly differ, where the cohort is simulated.
        study_text: the resolved study, YAML.
        provenance: version, host and time of the run.
        pictures: of the held-out predictions, and of single channels, where the kind of outcome has such figures.
        column: where the samplesheet has the outcome, in the words that go into ``Wording.question``.
        time_name: the column of times, where the outcome is survival.
        described: units and meanings of the columns of the ranking.
        methods: a paragraph for a paper, and what it cites; None where nothing but the ranking is known.
        drawn: tiles, images, patients and trainings; None where only tables are known.
    """

    study_name: str
    ranking: pd.DataFrame
    by_class: pd.DataFrame
    summary: Mapping[str, Any]
    figure: Path
    faithfulness_figure: Path | None
    planted: Collection[str]
    study_text: str
    provenance: Mapping[str, str]
    pictures: tuple[Picture, ...] = ()
    column: str = ""
    time_name: str = ""
    described: Sequence[DescribedColumn] = ()
    methods: Methods | None = None
    drawn: Pictures | None = None


def render_page(content: ReportContent) -> str:
    """One HTML page that needs no other file and no network; all text from the study is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["q"] = p_value
    environment.filters["counted"] = counted
    environment.filters |= {"brief": "{:g}".format, "code": _code, "ids": _ids, "embedded": embedded}
    template = environment.get_template("page.html")
    words, outcome = wording_of(content.summary), content.summary["outcome"]
    return template.render(
        content=content,
        summary=content.summary,
        words=words,
        question=words.question.format(column=content.column),
        measure=MEASURE_NAMES[outcome["headline"]],
        measures=[(key, name) for key, name in MEASURE_NAMES.items() if key in content.summary["held_out"]],
        linear_model=LINEAR_MODELS[outcome["linear_model"]],
        groups=_groups(content.ranking),
        reliant=bool((content.ranking["reliance_q"] <= content.summary["fdr"]).any()),
        trend=bool(content.ranking["trend"].notna().any()),
        rows=content.ranking.to_dict("records"),
        classes=_top_of_each_class(content.by_class),
        opening=make_opening(content.ranking, content.summary, words),
        most_warnings=MOST_WARNINGS,
        table=ranking_table(content.ranking, content.described, words, content.planted),
        described=content.described,
        without=content.summary.get("without_channels", {}),
        left_out=left_out(content.summary),
        not_tested=_by_reason(content.summary["not_tested"]),
    )


def _groups(ranking: pd.DataFrame) -> list[list[str]]:
    """Groups of two channels or more, the best channel first."""
    members = [list(part["channel"]) for _, part in ranking.groupby("group", sort=False)]
    return [names for names in members if len(names) > 1]


def _code(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _ids(markup: str) -> frozenset[str]:
    """What links may lead to in a part of the page."""
    return frozenset(re.findall(r"""\sid="([^"]+)\"""", markup))


def _by_reason(not_tested: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Reasons, each with the tests that were not made for it."""
    tests: dict[str, list[str]] = {}
    for test, reason in not_tested.items():
        tests.setdefault(reason, []).append(test.replace("_", " "))
    return list(tests.items())


def _top_of_each_class(by_class: pd.DataFrame, count: int = 10) -> Sequence[tuple[str, list[str]]]:
    return [
        (str(label), [str(channel) for channel in part.sort_values("position")["channel"].head(count)])
        for label, part in by_class.groupby("class", sort=True)
    ]


def _number(value: Any, digits: int = 3) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"
