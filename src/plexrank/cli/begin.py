"""Verbs for before a run: a demonstration, a cohort to try, a study drafted, and one checked."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from plexrank.cli.app import app, below, reporter_of, show, with_skip_bad
from plexrank.cli.options import JsonOption, QuietOption, SetOption, SkipBadOption, StudyArgument, VerboseOption
from plexrank.errors import raise_problems
from plexrank.machine.processes import refuse_several_processes
from plexrank.planning.order import STAGES
from plexrank.simulate.scenarios import SCENARIOS, ScenarioName
from plexrank.simulate.scenarios import simulate as write_cohort


@app.command(epilog=below("plexrank demo", "plexrank demo --out somewhere --quiet"))
def demo(
    out: Annotated[Path, typer.Option(help="Where to put cohort/ and run/.")] = Path("plexrank-demo"),
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Simulate a small cohort, run the whole pipeline on it, and show the ranking beside the truth."""
    from plexrank.evaluation.beside_truth import beside_truth
    from plexrank.launch.opening import open_run, running
    from plexrank.planning.results import read_ranking_and_truth
    from plexrank.stages.pipeline import run_stages

    refuse_several_processes("demo")
    reporter = reporter_of(quiet, verbose)
    study_path = out / "cohort" / "study.yaml"
    if study_path.is_file():
        reporter.say(f"going on with the cohort in {study_path.parent}")
    else:
        reporter.say(f"simulating a cohort in {study_path.parent}")
        write_cohort("demo", study_path.parent)
    plan = open_run(out / "run", study_path, (), reporter)
    with running(plan, reporter):
        run_stages(plan, STAGES, reporter)
    ranking, truth = read_ranking_and_truth(plan, study_path.parent / "truth.csv")
    show(beside_truth(ranking, truth, plan.study.rank.fdr))
    show(f"report: {plan.rundir.report_page}")


@app.command(
    epilog=below(
        "plexrank simulate demo --out cohort",
        "plexrank simulate survival --out cohort --images 120 --channels 12 --seed 1",
        **{name: scenario.description for name, scenario in SCENARIOS.items()},
    )
)
def simulate(
    scenario: Annotated[ScenarioName, typer.Argument(metavar="SCENARIO", help="What to plant; see below.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    images: Annotated[int | None, typer.Option(min=2, help="Number of images.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Number of channels.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of an image, pixels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same cohort.")] = 0,
) -> None:
    """Write a cohort with planted channels: images, samplesheet.csv, panel.csv, study.yaml, truth.csv."""
    show(write_cohort(scenario, out, images=images, channels=channels, size_px=size, seed=seed))


@app.command(
    epilog=below(
        "plexrank init --images scans --out study --labels patients.csv --by file --label grade",
        "plexrank init --images scans --out study --labels patients.csv --by patient --time months --event died",
    )
)
def init(
    images: Annotated[Path, typer.Option(help="A folder of images, searched with all folders below it.")],
    out: Annotated[Path, typer.Option(help="Where to write samplesheet.csv, panel.csv and study.yaml.")],
    labels: Annotated[Path | None, typer.Option(metavar="TABLE", help="CSV; else samplesheet.csv there.")] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column that names images or patients.")] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column to explain.")] = None,
    patient: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column that tells patients apart.")] = None,
    site: Annotated[str | None, typer.Option(metavar="COLUMN", help="Its column of sites or batches.")] = None,
    time_: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="In the place of --label: its column of times.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --time: its column that says whether the event was seen.")
    ] = None,
) -> None:
    """Draft a study from a folder of images, and of a table of labels where there is one; then run plexrank check."""
    from plexrank.planning.draft import draft_study
    from plexrank.planning.draft_labels import TableColumns

    show(draft_study(images, out, labels, TableColumns(by, label, patient, site, time_, event)).to_text())


@app.command(epilog=below("plexrank check study.yaml", "plexrank check study.yaml --quick --set train.folds=3"))
def check(
    study: StudyArgument,
    set_: SetOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not measure what training takes.")] = False,
) -> None:
    """Show every problem of study, samplesheet, panel and images at once, then what a run would cost."""
    from plexrank.launch.opening import imagenet_folder
    from plexrank.planning.check import check_study_file
    from plexrank.planning.cost import measure_cost

    overrides = with_skip_bad(set_, skip_bad)
    result = check_study_file(study, overrides, imagenet_folder=imagenet_folder())
    result = result if quick else measure_cost(study, overrides, result)
    show(json.dumps(result.to_dict(), indent=1) if as_json else result.to_text().rstrip("\n"))
    raise_problems(result.problems)
    if not as_json:
        again = ["plexrank", "run", str(study), "--out", "RUN", *(part for one in overrides for part in ("--set", one))]
        show(f"no problem found; next: {shlex.join(again)}")
