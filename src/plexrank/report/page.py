"""The page itself: a template filled with tables, figures as data, and plain words."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from plexrank.outcome import LINEAR_MODELS, MEASURE_NAMES
from plexrank.report.figure_files import Picture, embedded
from plexrank.report.pictures import Pictures
from plexrank.report.wording import Wording, p_value, wording_of
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
    drawn: Pictures | None = None


def render_page(content: ReportContent) -> str:
    """One HTML page that needs no other file and no network; all text from the study is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["q"] = p_value
    environment.filters["counted"] = counted
    environment.filters["embedded"] = embedded
    environment.filters["signed"] = lambda value: "–" if value is None else f"{value:+.3f}"
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
        figure=_as_data(content.figure),
        faithfulness_figure=_as_data(content.faithfulness_figure) if content.faithfulness_figure else None,
        pictures=[(picture, _as_data(picture.path)) for picture in content.pictures],
        groups=_groups(content.ranking),
        trend=bool(content.ranking["trend"].notna().any()),
        rows=content.ranking.to_dict("records"),
        classes=_top_of_each_class(content.by_class),
        found_in_words=_found_in_words(content.summary["found"], words),
        pattern_only=content.summary["found"]["pattern"],
        not_tested=_by_reason(content.summary["not_tested"]),
    )


def _as_data(figure: Path) -> str:
    return base64.b64encode(figure.read_bytes()).decode()


def _groups(ranking: pd.DataFrame) -> list[list[str]]:
    """Groups of two channels or more, the best channel first."""
    members = [list(part["channel"]) for _, part in ranking.groupby("group", sort=False)]
    return [names for names in members if len(names) > 1]


def _found_in_words(found: Mapping[str, Sequence[str]], words: Wording) -> str:
    names = [name for kind in ("both", "intensity", "pattern") for name in found[kind]]
    if not names:
        return f"No channel is found to {words.to}, neither by intensity nor by pattern."
    by = [f"{len(found[kind])} by {kind}" for kind in ("intensity", "pattern", "both") if found[kind]]
    does = f"channels {words.many}" if len(names) > 1 else f"channel {words.one}"
    return f"{len(names)} {does} ({', '.join(by)}): {', '.join(names)}."


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
