"""The ranking → one page."""

from __future__ import annotations

import json

import pandas as pd

from plexrank.plan import Plan
from plexrank.progress import Reporter
from plexrank.report.figures import ranking_figure
from plexrank.report.page import ReportContent, render_page
from plexrank.rundir import replacing, write_text
from plexrank.stages.todo import units_to_do
from plexrank.study import dump_study
from plexrank.tables import read_table


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    unit = plan.report()
    if not units_to_do([unit], reporter):
        return
    unit.begin()
    rundir, truth = plan.rundir, plan.study.cohort.truth
    ranking = pd.read_parquet(rundir.ranking / "ranking.parquet")
    planted = [row["channel"] for row in read_table(truth).rows if row["informative"] == "1"] if truth else []
    with replacing(rundir.figures) as temporary:
        temporary.mkdir()
        ranking_figure(ranking, temporary / "ranking.png", planted)
    commands = json.loads(rundir.provenance.read_text(encoding="utf-8"))["commands"]
    page = render_page(
        ReportContent(
            study_name=plan.study.name,
            ranking=ranking,
            by_class=pd.read_csv(rundir.ranking / "ranking_by_class.csv"),
            summary=json.loads((rundir.ranking / "summary.json").read_text(encoding="utf-8")),
            figure=rundir.figures / "ranking.png",
            planted=planted,
            study_text=dump_study(plan.study),
            provenance=commands[-1],
        )
    )
    write_text(rundir.report_page, page)
    unit.finish()
