"""The ranking → one page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from plexrank.cohorts.event_words import words_of_event
from plexrank.cohorts.tables import read_table
from plexrank.outcome import MEASURE_NAMES
from plexrank.planning.plan import Plan
from plexrank.progress import Reporter
from plexrank.ranking.columns import COLUMNS
from plexrank.report.figure_files import Picture, save_figure
from plexrank.report.figures import faithfulness_figure, ranking_figure
from plexrank.report.gallery import top_channels
from plexrank.report.methods_text import RunFacts, describe_methods
from plexrank.report.multiqc import multiqc_table
from plexrank.report.outcome_figures import channels_figure, outcome_figure
from plexrank.report.page import ReportContent, render_page
from plexrank.report.prediction_figures import roc_figure
from plexrank.report.wording import wording_of
from plexrank.rundir import read_text, replacing, write_text
from plexrank.settings import CohortSettings
from plexrank.stages.display import SHOWN, show_channels
from plexrank.stages.report_pictures import draw_pictures
from plexrank.stages.todo import units_to_do
from plexrank.study import dump_study


@dataclass(frozen=True)
class _Tables:
    """What the rank stage wrote."""

    ranking: pd.DataFrame
    by_class: pd.DataFrame
    per_patient: pd.DataFrame
    predictions: pd.DataFrame
    reads: pd.DataFrame
    summary: dict[str, Any]


def _read_tables(plan: Plan) -> _Tables:
    """Read them, each held against its digest before.

    Raises:
        DamagedOutputError: one is missing or damaged.
    """
    unit = plan.rank()
    readers: dict[str, Callable[[Path], Any]] = {
        "ranking.parquet": pd.read_parquet,
        "ranking_by_class.csv": partial(pd.read_csv, keep_default_na=False),
        "importance_per_patient.parquet": pd.read_parquet,
        "predictions.csv": partial(pd.read_csv, dtype=str, keep_default_na=False),
        "reads.csv": partial(pd.read_csv, dtype={"channel": str}, keep_default_na=False, na_values=[""]),
        "summary.json": lambda path: json.loads(read_text(path)),
    }
    found = []
    for name, read in readers.items():
        with unit.reading(path := plan.rundir.ranking / name):
            found.append(read(path))
    return _Tables(*found)


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    unit = plan.report()
    if not units_to_do("report", [unit], reporter):
        return
    unit.begin()
    rundir, truth = plan.rundir, plan.study.cohort.truth
    tables = _read_tables(plan)
    ranking, summary, predictions = tables.ranking, tables.summary, tables.predictions
    planted = [row["channel"] for row in read_table(truth).rows if row.get("informative") == "1"] if truth else []
    words, measure = wording_of(summary), MEASURE_NAMES[summary["outcome"]["headline"]]
    channels = ranking.loc[ranking["position"].notna(), "channel"].tolist()
    time = plan.study.cohort.time or "time"
    drawn = {
        "roc": roc_figure(predictions) if summary["outcome"]["kind"] == "nominal" else None,
        "prediction": outcome_figure(predictions, summary, time),
        "channels": channels_figure(tables.per_patient, channels, summary["outcome"]["kind"], time),
    }
    figures = {name: figure for name, figure in drawn.items() if figure}
    with replacing(rundir.figures) as temporary:
        temporary.mkdir()
        ranking_figure(ranking, temporary / "ranking.png", planted, words, summary["fdr"])
        if summary["faithfulness"]:
            faithfulness_figure(summary["faithfulness"], temporary / "faithfulness.png", measure, words.chance)
        for name, one in figures.items():
            save_figure(one.figure, temporary / f"{name}.png")
        pictures = draw_pictures(plan, ranking, tables.reads, temporary)
    provenance = rundir.add_to_last_command(**{"trained on": plan.trained_on()})
    facts = RunFacts(
        channels=len(channels),
        controls=len(ranking) - len(channels),
        pixel_sizes_um=[notes.pixel_size_um for notes in plan.image_notes.values()],
        versions=provenance,
    )
    page = render_page(
        ReportContent(
            study_name=plan.study.name,
            ranking=ranking,
            by_class=tables.by_class,
            summary=summary,
            figure=rundir.figures / "ranking.png",
            faithfulness_figure=rundir.figures / "faithfulness.png" if summary["faithfulness"] else None,
            planted=planted,
            study_text=dump_study(plan.study),
            provenance=provenance,
            pictures=tuple(
                Picture(rundir.figures / f"{name}.png", one.alt, one.caption) for name, one in figures.items()
            ),
            column=_column(plan.study.cohort),
            time_name=plan.study.cohort.time or "",
            described=COLUMNS,
            methods=describe_methods(plan.study, summary, facts),
            drawn=pictures,
        )
    )
    write_text(rundir.report_page, page)
    meanings = {column.name: column.meaning for column in COLUMNS}
    write_text(rundir.multiqc, json.dumps(multiqc_table(plan.study.name, ranking, summary, meanings), indent=1) + "\n")
    show_channels(plan, top_channels(ranking, SHOWN))
    unit.finish()


def _column(cohort: CohortSettings) -> str:
    """Where the samplesheet has the outcome."""
    if cohort.event is not None:
        return f" in {cohort.time}; {cohort.event} = {words_of_event(cohort.event_values)} is the event"
    return f" ({cohort.label})" if cohort.label else ""
