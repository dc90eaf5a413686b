"""Verbs that look: at a run, and at the machine."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from plexrank.cli.app import app, below, reporter_of, resumed, show
from plexrank.cli.options import ClusterOption, JsonOption, QuietOption, RunArgument
from plexrank.errors import PlexrankError, StudyError

if TYPE_CHECKING:
    from plexrank.planning.plan import Plan

Shell = Literal["bash", "zsh", "fish"]
PatientsChoice = Literal["by-id", "shared", "distinct"]  # as evaluation.compare has them, which loads pandas


@app.command(epilog=below("plexrank status RUN", "plexrank status RUN --watch"))
def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 10 s until no job is left.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is done of every stage of a run, its jobs, what the failed ones said last, and what to do next."""
    from plexrank.launch.status import run_status

    while True:
        found = run_status(resumed(run))
        show(json.dumps(found.to_dict(), indent=1) if as_json else "\n".join(found.lines()))
        if not watch or not found.is_active:
            return
        time.sleep(10)
        show("")


@app.command(epilog=below("plexrank cancel RUN"))
def cancel(run: RunArgument) -> None:
    """Cancel the Slurm jobs of a run; finished work stays, and the same plexrank run goes on."""
    from plexrank.launch.submit import cancel_run

    cancelled = cancel_run(resumed(run).rundir)
    show(f"cancelled {', '.join(cancelled)}" if cancelled else "no job of this run waits or runs")


@app.command(epilog=below("plexrank doctor", "plexrank doctor --cluster profile.yaml --submit"))
def doctor(
    cluster: ClusterOption = None,
    submit: Annotated[bool, typer.Option("--submit", help="Also look on a node, by a job of one minute.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what this machine has and lacks; with a profile, whether the cluster would take its jobs."""
    from plexrank.launch.doctor import examine
    from plexrank.launch.profile import load_profile

    if submit and cluster is None:
        raise typer.BadParameter("--submit needs --cluster")
    findings = []
    for finding in examine(Path.cwd(), load_profile(cluster) if cluster else None, submit):
        findings.append(finding)
        if not as_json:
            show(finding.line())
    if as_json:
        show(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=1))
    raise typer.Exit(PlexrankError.exit_code if any(finding.is_bad for finding in findings) else 0)


@app.command(
    epilog=below(
        "plexrank evaluate RUN --truth truth.csv",
        "plexrank evaluate RUN --single-cell cells.csv --class-column cell_type --json",
    )
)
def evaluate(
    run: RunArgument,
    truth: Annotated[
        Path | None, typer.Option(help="CSV with the columns channel and informative (0/1), or grade (a number).")
    ] = None,
    single_cell: Annotated[
        Path | None, typer.Option(help="CSV with a row a cell: the class and a column for each channel.")
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(help="Column of the single-cell table with the class; the study's label by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a ranking with a truth: recall@K, average precision, Spearman, Kendall; of grades, top-10 overlap."""
    from plexrank.evaluation.single_cell import single_cell_truth
    from plexrank.evaluation.truth import evaluate as compare
    from plexrank.planning.results import read_ranking, read_ranking_and_truth

    if (truth is None) == (single_cell is None):
        raise typer.BadParameter("give one of --truth and --single-cell")
    plan = resumed(run)
    if truth is not None:
        evaluation = compare(*read_ranking_and_truth(plan, truth), str(truth))
    else:
        label = class_column or _class_column(plan)
        ranking = read_ranking(plan)
        channels = ranking.loc[ranking["position"].notna(), "channel"]
        evaluation = compare(ranking, single_cell_truth(cast(Path, single_cell), label, list(channels)))
    show(json.dumps(evaluation.to_dict(), indent=1) if as_json else evaluation.to_text())


@app.command(
    epilog=below(
        "plexrank compare run-basel run-zurich --out compared", "plexrank compare RUN RUN --patients distinct --json"
    )
)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN …", help="Two run directories or more.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write compare.csv, compare.json and compare.html there.")
    ] = None,
    patients: Annotated[
        PatientsChoice,
        typer.Option(help="Whether runs share patients: where ids are equal, or as you know it."),
    ] = "by-id",
    as_json: JsonOption = False,
) -> None:
    """Rankings side by side: how far they agree, and which channels are found in more than one run."""
    from plexrank.api.comparison import compare as compare_runs
    from plexrank.api.comparison import write_comparison
    from plexrank.evaluation.compare_text import comparison_text

    if len(runs) < 2:
        raise typer.BadParameter("give two runs or more")
    comparison = compare_runs(runs, patients=patients)
    show(json.dumps(comparison.to_dict(), indent=1) if as_json else comparison_text(comparison))
    for path in write_comparison(comparison, out) if out else ():
        show(f"wrote {path}", sys.stderr)


@app.command(epilog=below("plexrank verify RUN", "plexrank verify RUN --json"))
def verify(run: RunArgument, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Hold every file of a run against its digest, and say which are damaged and what to do; nothing is changed."""
    from plexrank.rundir import RunDir
    from plexrank.stages.verification import verify_run

    found = verify_run(RunDir(run), reporter_of(quiet, verbose=False))
    show(json.dumps(found.to_dict(), indent=1) if as_json else "\n".join(found.lines()))
    raise typer.Exit(0 if found.is_intact else PlexrankError.exit_code)


@app.command(epilog=below("plexrank view RUN CD8", "plexrank view RUN CD8 Ki67 --image patient12_roi3"))
def view(
    run: RunArgument,
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]…", help="To show; the first of the ranking by default.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE_ID", help="To open; by default where the first channel's r is highest, and where lowest."
        ),
    ] = None,
) -> None:
    """Switch channels on in the tile stores of a run, and print the command that opens images in napari."""
    from plexrank.stages.display import view as show_in_viewers

    plan = resumed(run)
    with plan.rundir.locked():
        lines = show_in_viewers(plan, channels or (), image or ())
    show("\n".join(lines))


@app.command(
    epilog=below(
        'eval "$(plexrank completion bash)"', "plexrank completion fish > ~/.config/fish/completions/plexrank.fish"
    )
)
def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print what makes a shell complete verbs and options; the examples put it to use."""
    from plexrank.cli.completing import completion_script

    show(completion_script(shell))


def _class_column(plan: Plan) -> str:
    """The label of a study, where single cells can have it."""
    cohort = plan.study.cohort
    if cohort.label is None or not cohort.has_classes:
        raise StudyError(
            f"--single-cell compares classes of cells, and the outcome of this study is {cohort.outcome}; name a "
            "column of classes by --class-column"
        )
    return cohort.label
