"""The command line: one verb per stage and per user question. Thin: parse → call → exit code."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

import plexrank
from plexrank.errors import MissingInputError, PlexrankError, StudyError, raise_problems
from plexrank.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

    from plexrank.plan import Plan

BUG_EXIT_CODE = 70
STOPPED_EXIT_CODE = 75

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which protein channels of multiplexed tissue images separate patient groups, and how sure that is.",
)


class Stage(StrEnum):
    """The stages of a run, in order."""

    tile = "tile"
    train = "train"
    attribute = "attribute"
    rank = "rank"
    report = "report"


class Scenario(StrEnum):
    """Kinds of simulated cohorts."""

    demo = "demo"
    paper = "paper"
    spatial = "spatial"


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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


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
    from plexrank.demo import beside_truth
    from plexrank.simulate.scenarios import simulate as write_cohort

    _refuse_several_processes("demo")
    reporter = Reporter()
    study_path = out / "cohort" / "study.yaml"
    if study_path.is_file():
        reporter.say(f"going on with the cohort in {study_path.parent}")
    else:
        reporter.say(f"simulating a cohort in {study_path.parent}")
        write_cohort("demo", study_path.parent)
    plan = _open_run(out / "run", study_path, (), reporter)
    with _running(plan):
        _run_stages(plan, list(Stage), reporter)
    ranking, truth = _read_ranking_and_truth(plan, study_path.parent / "truth.csv")
    print(beside_truth(ranking, truth, plan.study.rank.fdr))
    print(f"report: {plan.rundir.report_page}")


@app.command()
def simulate(
    scenario: Annotated[Scenario, typer.Argument(help="What to plant.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    images: Annotated[int | None, typer.Option(min=2, help="Number of images.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Number of channels.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of an image, pixels.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same cohort.")] = 0,
) -> None:
    """Write a cohort with planted channels: images, samplesheet.csv, panel.csv, study.yaml, truth.csv."""
    from plexrank.simulate.scenarios import simulate as write_cohort

    print(write_cohort(scenario.value, out, images=images, channels=channels, size_px=size, seed=seed))


@app.command()
def init(
    images: Annotated[Path, typer.Option(help="A folder of images, searched with all folders below it.")],
    out: Annotated[Path, typer.Option(help="Where to write samplesheet.csv, panel.csv and study.yaml.")],
) -> None:
    """Draft a study from a folder of images; fill in the labels, then check it."""
    from plexrank.draft import draft_study

    draft = draft_study(images, out)
    for topic, sentence in draft.notes:
        print(f"{topic:12} {sentence}")
    print(f"next: fill in the column label in {out / 'samplesheet.csv'} and, where patients have several images,")
    print(f"patient_id; then: plexrank check {draft.study}")


@app.command()
def check(
    study: StudyArgument, set_: SetOption = None, skip_bad: SkipBadOption = False, as_json: JsonOption = False
) -> None:
    """Show every problem of study, samplesheet, panel and images at once, then what a run would cost."""
    from plexrank.check import check_study_file, describe_classes

    result = check_study_file(study, _overrides(set_, skip_bad), imagenet_folder=_imagenet_folder())
    if as_json:
        content = {
            "problems": [{"message": str(p), "exit_code": p.exit_code} for p in result.problems],
            "warnings": result.warnings,
            "skipped": [asdict(image) for image in result.skipped],
            "classes": [asdict(counts) for counts in result.classes],
            "cost": asdict(result.cost) if result.cost else None,
        }
        print(json.dumps(content, indent=1))
    else:
        for warning in result.warnings:
            print(f"warning: {warning}")
        print(describe_classes(result.classes), end="")
    raise_problems(result.problems)
    if result.cost is not None and not as_json:
        for key, value in asdict(result.cost).items():
            print(f"{key:18} {value:,}" if isinstance(value, int) else f"{key:18} {value}")


@app.command()
def run(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory; an existing one is resumed.")],
    until: Annotated[Stage, typer.Option(help="Stop after this stage.")] = Stage.report,
    set_: SetOption = None,
    skip_bad: SkipBadOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why.")] = False,
) -> None:
    """Run the whole pipeline, or go on with it: finished work is skipped."""
    _refuse_several_processes("run")
    reporter = Reporter()
    stages = list(Stage)[: list(Stage).index(until) + 1]
    plan = _open_run(out, study, _overrides(set_, skip_bad), reporter)
    if dry_run:
        for stage in stages:
            for unit in plan.units(stage.value):
                print(f"{unit.name}: {unit.why_not_done() or 'done'}")
        return
    with _running(plan):
        _run_stages(plan, stages, reporter)
    print(plan.rundir.report_page if until is Stage.report else plan.rundir.path)


@app.command()
def tile(run: RunArgument, units: UnitsOption = None, skip_bad: SkipBadOption = False) -> None:
    """Cut the images of a run into tile stores."""
    _refuse_several_processes("tile")
    plan = _resume_run(run, for_tiling=True, skip_bad=skip_bad)
    _run_stages(_choose(plan, Stage.tile, units), [Stage.tile], Reporter())


@app.command()
def train(run: RunArgument, units: UnitsOption = None) -> None:
    """Train every fold and seed of a run; also under torchrun or srun, one process a GPU."""
    _run_stages(_choose(_resume_run(run), Stage.train, units), [Stage.train], Reporter())


@app.command()
def attribute(run: RunArgument, units: UnitsOption = None) -> None:
    """Compute the held-out embedding and importances of every training of a run."""
    _run_stages(_choose(_resume_run(run), Stage.attribute, units), [Stage.attribute], Reporter())


@app.command()
def rank(run: RunArgument) -> None:
    """Merge the importances of a run into the ranking of the cohort."""
    _refuse_several_processes("rank")
    _run_stages(_resume_run(run), [Stage.rank], Reporter())


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run."""
    _refuse_several_processes("report")
    _run_stages(_resume_run(run), [Stage.report], Reporter())


@app.command()
def status(run: RunArgument) -> None:
    """Show what is done of every stage of a run."""
    plan = _resume_run(run)
    for stage in Stage:
        reasons = {unit.record: unit.why_not_done() for unit in plan.units(stage.value)}
        table = reasons.pop(plan.rundir.tiles_record, None)  # joins the images, and is none
        waiting = [reason for reason in reasons.values() if reason is not None]
        first = f"; first of the rest: {waiting[0]}" if waiting else f"; table of all tiles: {table}" if table else ""
        print(f"{stage:10} {len(reasons) - len(waiting):4} of {len(reasons)} done{first}")
    if plan.skipped:
        print(f"left out   {len(plan.skipped):4} images that cannot be used: {plan.rundir.skipped}")


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
    """Compare a ranking with a truth: recall@K, average precision, Spearman, Kendall, top-10 overlap."""
    from plexrank.ranking.evaluate import evaluate as compare
    from plexrank.ranking.single_cell import single_cell_truth

    if (truth is None) == (single_cell is None):
        raise typer.BadParameter("give one of --truth and --single-cell")
    plan = _resume_run(run)
    if truth is not None:
        evaluation = compare(*_read_ranking_and_truth(plan, truth))
    else:
        ranking = _read_ranking(plan)
        channels = ranking.loc[ranking["position"].notna(), "channel"]
        label = class_column or plan.study.cohort.label
        evaluation = compare(ranking, single_cell_truth(cast(Path, single_cell), label, list(channels)))
    print(json.dumps(evaluation.to_dict(), indent=1) if as_json else evaluation.to_text())


def main() -> NoReturn:
    """Run the command line; every error that a user can mend ends here as one message and an exit code."""
    code = _run_command()
    if _is_one_of_several():
        # Threads of torch.distributed may outlive their group and abort the teardown of the interpreter.
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
        _complain("stopped; the same command goes on from here")
        return STOPPED_EXIT_CODE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}; mend that, and the same command goes on")
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
    return [*(set_ or ()), *(("cohort.skip_bad=true",) if skip_bad else ())]


def _imagenet_folder() -> Path:
    """Where torch looks for downloaded weights, told without loading torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("TORCH_HOME", cache / "torch"))
    return home.expanduser() / "hub" / "checkpoints"


def _open_run(out: Path, study_path: Path, overrides: Sequence[str], reporter: Reporter) -> Plan:
    from plexrank.check import check_study_file
    from plexrank.plan import make_plan
    from plexrank.rundir import RunDir
    from plexrank.study import load_study

    rundir = RunDir(out)
    rundir.require_own()
    result = check_study_file(study_path, overrides, imagenet_folder=_imagenet_folder(), rundir=rundir)
    raise_problems(result.problems)
    for warning in result.warnings:
        reporter.say(f"warning: {warning}")
    study = load_study(study_path, overrides)
    if rundir.study.is_file() and (before := load_study(rundir.study).name) != study.name:
        raise StudyError(
            f"{study_path}: name is {study.name!r}, but {out} holds the run of {before!r}; give --out another folder"
        )
    return make_plan(rundir, study, for_tiling=True)


@contextmanager
def _running(plan: Plan) -> Iterator[None]:
    """Keep the run directory to this process, and write into it what is run."""
    from plexrank.rundir import write_text
    from plexrank.study import dump_study

    with plan.rundir.locked(job=os.environ.get("SLURM_JOB_ID", "")):
        write_text(plan.rundir.study, dump_study(plan.study))
        plan.rundir.add_provenance(_provenance(plan))
        yield


def _is_one_of_several() -> str:
    """The variable of torchrun or srun that says that several processes were started, or nothing."""
    names = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
    return next((name for name in names if os.environ.get(name, "1") not in ("", "1")), "")


def _refuse_several_processes(command: str) -> None:
    """Only train and attribute share their work; several copies of another command would write the same files."""
    if name := _is_one_of_several():
        if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
            raise typer.Exit(PlexrankError.exit_code)  # the first process says why
        raise PlexrankError(
            f"{command} runs as one process, but {name} is {os.environ[name]}; start it without torchrun and with one "
            "task of srun (train and attribute take several)"
        )


def _resume_run(path: Path, for_tiling: bool = False, skip_bad: bool = False) -> Plan:
    from plexrank.plan import make_plan
    from plexrank.rundir import RunDir, write_text
    from plexrank.study import dump_study, load_study

    rundir = RunDir(path)
    rundir.require()
    study = load_study(rundir.study, _overrides(None, skip_bad))
    if skip_bad:
        write_text(rundir.study, dump_study(study))  # for the stages that follow
    return make_plan(rundir, study, for_tiling=for_tiling)


def _choose(plan: Plan, stage: Stage, units: Path | None) -> Plan:
    """The plan for the units that a file lists."""
    from plexrank.errors import naming_input

    if units is None:
        return plan
    with naming_input(str(units)):
        return plan.choose(stage.value, units.read_text(encoding="utf-8").splitlines())


def _run_stages(plan: Plan, stages: list[Stage], reporter: Reporter) -> None:
    from plexrank.plan import make_plan
    from plexrank.stages.run import run_stage

    for stage in stages:
        run_stage(stage.value, plan, reporter)
        if stage is Stage.tile and len(stages) > 1:
            plan = make_plan(plan.rundir, plan.study)  # without the images that are skipped


def _read_ranking_and_truth(plan: Plan, truth: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    from plexrank.tables import read_table

    return _read_ranking(plan), pd.DataFrame(read_table(truth).rows)


def _read_ranking(plan: Plan) -> pd.DataFrame:
    import pandas as pd

    from plexrank.rundir import reading_output

    if plan.rank().why_not_done() is not None:
        raise MissingInputError(f"{plan.rundir.path}: the ranking is not done; run plexrank run or plexrank rank first")
    with reading_output(plan.rundir.ranking / "ranking.parquet"):
        return pd.read_parquet(plan.rundir.ranking / "ranking.parquet")


def _provenance(plan: Plan) -> dict[str, str]:
    from importlib.metadata import version as installed

    from plexrank.rundir import file_digest, now

    cohort = plan.study.cohort
    inputs = {"samplesheet": cohort.samplesheet, "panel": cohort.panel}
    return {
        "command": shlex.join(["plexrank", *sys.argv[1:]]),
        "started": now(),
        "plexrank": plexrank.__version__,
        "python": platform.python_version(),
        **{name: installed(name) for name in ("torch", "zarr", "dask", "numpy", "scikit-learn")},
        "host": platform.node(),
        "platform": platform.platform(),
        "container": os.environ.get("APPTAINER_CONTAINER", ""),
        **{name: str(path) for name, path in inputs.items() if path},
        **{f"{name} sha256": file_digest(path) for name, path in inputs.items() if path},
    }
