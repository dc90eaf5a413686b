"""The command line: one verb per stage and per user question. Thin: parse → call → exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

import plexrank
from plexrank.errors import PlexrankError, StudyError, raise_problems
from plexrank.machine.allocator import share_one_arena
from plexrank.machine.environment_names import SRUN_NAMES
from plexrank.machine.processes import refuse_several_processes, several_started_by
from plexrank.planning.order import ABOUT_STAGES, STAGES, StageName
from plexrank.progress import Reporter
from plexrank.simulate.scenarios import SCENARIOS, ScenarioName
from plexrank.simulate.scenarios import simulate as write_cohort

if TYPE_CHECKING:
    from plexrank.planning.plan import Plan

BUG_EXIT_CODE, STOPPED_EXIT_CODE = 70, 75

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which protein channels of multiplexed tissue images separate patient groups, and how sure that is.",
)


StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
UnitsOption = Annotated[
    Path | None,
    typer.Option(help="A file with a done-record of RUN on each line: work on these units only, as a job array does."),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="section.key=value", help="Override the study.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, and count them, instead of stopping.")
]
ClusterOption = Annotated[
    Path | None, typer.Option(metavar="PROFILE.yaml", help="A cluster profile; see slurm/README.md.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _listed(meanings: Mapping[str, str]) -> str:
    """What each choice means, below the help of a command."""
    return "\n\n".join(f"{name}: {meaning}" for name, meaning in meanings.items())


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """plexrank ranks protein channels; every command has its own --help."""
    if show:
        print(f"plexrank {plexrank.__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to put cohort/ and run/.")] = Path("plexrank-demo"),
) -> None:
    """Simulate a small cohort, run the whole pipeline on it, and show the ranking beside the truth."""
    from plexrank.evaluation.beside_truth import beside_truth
    from plexrank.launch.opening import open_run, running
    from plexrank.planning.results import read_ranking_and_truth
    from plexrank.simulate.scenarios import simulate as write_cohort

    refuse_several_processes("demo")
    reporter = Reporter()
    study_path = out / "cohort" / "study.yaml"
    if study_path.is_file():
        reporter.say(f"going on with the cohort in {study_path.parent}")
    else:
        reporter.say(f"simulating a cohort in {study_path.parent}")
        write_cohort("demo", study_path.parent)
    plan = open_run(out / "run", study_path, (), reporter)
    with running(plan):
        _run_stages(plan, STAGES)
    ranking, truth = read_ranking_and_truth(plan, study_path.parent / "truth.csv")
    print(beside_truth(ranking, truth, plan.study.rank.fdr))
    print(f"report: {plan.rundir.report_page}")


@app.command(epilog=_listed({name: scenario.description for name, scenario in SCENARIOS.items()}))
def simulate(
    scenario: Annotated[ScenarioName, typer.Argument(metavar="SCENARIO", help="What to plant; see below.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    images: Annotated[int | None, typer.Option(min=2, help="Number of images.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Number of channels.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of an image, pixels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same cohort.")] = 0,
) -> None:
    """Write a cohort with planted channels: images, samplesheet.csv, panel.csv, study.yaml, truth.csv."""
    print(write_cohort(scenario, out, images=images, channels=channels, size_px=size, seed=seed))


@app.command()
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

    print(draft_study(images, out, labels, TableColumns(by, label, patient, site, time_, event)).to_text())


@app.command()
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

    overrides = _overrides(set_, skip_bad)
    result = check_study_file(study, overrides, imagenet_folder=imagenet_folder())
    result = result if quick else measure_cost(study, overrides, result)
    print(json.dumps(result.to_dict(), indent=1) + "\n" if as_json else result.to_text(), end="")
    raise_problems(result.problems)
    if not as_json:
        again = ["plexrank", "run", str(study), "--out", "RUN", *(part for one in overrides for part in ("--set", one))]
        print(f"no problem found; next: {shlex.join(again)}")


@app.command(epilog=_listed(ABOUT_STAGES))
def run(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory; an existing one is resumed.")],
    until: Annotated[StageName, typer.Option(metavar="STAGE", help="Stop after this stage; see below.")] = STAGES[-1],
    set_: SetOption = None,
    skip_bad: SkipBadOption = False,
    cluster: ClusterOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why.")] = False,
) -> None:
    """Run the whole pipeline, or go on with it: finished work is skipped. With --cluster, submit it to Slurm."""
    from plexrank.launch.opening import open_run, run_on_cluster, running
    from plexrank.stages.pipeline import plans_of_stages, run_stages
    from plexrank.stages.todo import lines_to_do

    refuse_several_processes("run")
    reporter = Reporter()
    plan = open_run(out, study, _overrides(set_, skip_bad), reporter, own_weights=cluster is None)
    if cluster is not None:
        print("\n".join(run_on_cluster(plan, cluster, until, dry_run)))
        return
    stages = STAGES[: STAGES.index(until) + 1]
    if dry_run:
        for stage, of_stage in plans_of_stages(plan, stages):
            print("\n".join(lines_to_do(of_stage.units(stage))))
        return
    with running(plan):
        run_stages(plan, stages, reporter)
    print(plan.rundir.report_page if until == STAGES[-1] else plan.rundir.path)


@app.command()
def tile(run: RunArgument, units: UnitsOption = None, skip_bad: SkipBadOption = False) -> None:
    """Cut the images of a run into tile stores; also under srun, to spread every image over several machines."""
    from plexrank.launch.resuming import choose_units, resume_run

    is_dask = several_started_by() == SRUN_NAMES
    if not is_dask:
        refuse_several_processes("tile")
    plan = choose_units(resume_run(run, for_tiling=True, skip_bad=skip_bad), "tile", units)
    if not is_dask:
        _run_stages(plan, ["tile"])
        return
    from plexrank.launch.allocation import dask_client
    from plexrank.stages.tile import run as tile_images

    with dask_client(plan.rundir.meetings, _stop) as client:
        tile_images(plan, Reporter(), client)


@app.command()
def train(run: RunArgument, units: UnitsOption = None) -> None:
    """Train every fold and seed of a run, and on permuted labels; also under torchrun or srun, one process a GPU."""
    from plexrank.launch.resuming import choose_units

    _run_stages(choose_units(_resume_run(run), "train", units), ["train"])


@app.command()
def attribute(run: RunArgument, units: UnitsOption = None) -> None:
    """Compute the held-out embedding and importances of every training of a run."""
    from plexrank.launch.resuming import choose_units

    _run_stages(choose_units(_resume_run(run), "attribute", units), ["attribute"])


@app.command()
def rank(run: RunArgument) -> None:
    """Merge the importances of a run into the ranking of the cohort."""
    refuse_several_processes("rank")
    _run_stages(_resume_run(run), ["rank"])


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run."""
    refuse_several_processes("report")
    _run_stages(_resume_run(run), ["report"])


@app.command()
def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 10 s until no job is left.")] = False,
) -> None:
    """Show what is done of every stage of a run, its jobs, what the failed ones said last, and what to do next."""
    from plexrank.launch.status import run_status

    while True:
        found = run_status(_resume_run(run))
        print("\n".join(found.lines()), flush=True)
        if not watch or not found.is_active:
            return
        time.sleep(10)
        print()


@app.command()
def cancel(run: RunArgument) -> None:
    """Cancel the Slurm jobs of a run; finished work stays, and the same plexrank run goes on."""
    from plexrank.launch.submit import cancel_run

    cancelled = cancel_run(_resume_run(run).rundir)
    print(f"cancelled {', '.join(cancelled)}" if cancelled else "no job of this run waits or runs")


@app.command()
def doctor(
    cluster: ClusterOption = None,
    submit: Annotated[bool, typer.Option("--submit", help="Also look on a node, by a job of one minute.")] = False,
) -> None:
    """Show what this machine has and lacks; with a profile, whether the cluster would take its jobs."""
    from plexrank.launch.doctor import examine
    from plexrank.launch.profile import load_profile

    if submit and cluster is None:
        raise typer.BadParameter("--submit needs --cluster")
    is_bad = False
    for finding in examine(Path.cwd(), load_profile(cluster) if cluster else None, submit):
        print(finding.line(), flush=True)
        is_bad |= finding.is_bad
    raise typer.Exit(PlexrankError.exit_code if is_bad else 0)


@app.command()
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
    plan = _resume_run(run)
    if truth is not None:
        evaluation = compare(*read_ranking_and_truth(plan, truth), str(truth))
    else:
        ranking = read_ranking(plan)
        channels = ranking.loc[ranking["position"].notna(), "channel"]
        label = class_column or _class_column(plan)
        evaluation = compare(ranking, single_cell_truth(cast(Path, single_cell), label, list(channels)))
    print(json.dumps(evaluation.to_dict(), indent=1) if as_json else evaluation.to_text())


def main() -> NoReturn:
    """Run the command line; every error that a user can fix ends here as one message and an exit code."""
    share_one_arena()
    code = _run_command()
    if several_started_by():  # threads of torch.distributed may outlive their group and abort the teardown
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run_command() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _stop)
    try:
        try:
            app()
        finally:
            for number in (signal.SIGTERM, signal.SIGUSR2):  # Slurm and Apptainer send them again while it ends
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except PlexrankError as error:
        _complain(str(error))
        return error.exit_code
    except _StopRequestedError:
        _complain("stopped; run the same command again to continue")
        return STOPPED_EXIT_CODE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}; fix that and run the same command again to continue")
        return PlexrankError.exit_code
    except Exception:  # noqa: BLE001  the one boundary
        traceback.print_exc()
        _complain("this is a bug in plexrank; please report it with the lines above")
        return BUG_EXIT_CODE
    return 0


class _StopRequestedError(BaseException):
    """Ctrl-C, TERM or USR2: passes every handler of errors, but leaves no unit half-written for done."""


def _stop(number: int, frame: object) -> None:
    raise _StopRequestedError


def _complain(message: str) -> None:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)


def _overrides(set_: list[str] | None, skip_bad: bool) -> list[str]:
    from plexrank.launch.resuming import SKIP_BAD

    return [*(set_ or ()), *[SKIP_BAD] * skip_bad]


def _resume_run(run: Path) -> Plan:
    from plexrank.launch.resuming import resume_run

    return resume_run(run)


def _class_column(plan: Plan) -> str:
    """The label of a study, where single cells can have it."""
    cohort = plan.study.cohort
    if cohort.label is None or not cohort.has_classes:
        raise StudyError(
            f"--single-cell compares classes of cells, and the outcome of this study is {cohort.outcome}; name a "
            "column of classes by --class-column"
        )
    return cohort.label


def _run_stages(plan: Plan, stages: Sequence[str]) -> None:
    from plexrank.stages.pipeline import run_stages

    run_stages(plan, stages, Reporter())
