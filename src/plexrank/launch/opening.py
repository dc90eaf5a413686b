"""A run directory opened for a command: its study checked, kept to one process, and what is run written into it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import plexrank
from plexrank.errors import StudyError, raise_problems
from plexrank.launch.one_job import write_one_job
from plexrank.launch.profile import load_profile
from plexrank.launch.resuming import save_study
from plexrank.launch.submit import (
    jobs_under_way,
    lines_about,
    refuse_while_jobs_run,
    require_private,
    submit_run,
    write_dry_run,
)
from plexrank.launch.submitted import read_graph
from plexrank.machine.processes import is_first, job_id, several_started_by
from plexrank.planning.check import check_study_file
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.rundir import RunDir, file_digest, now
from plexrank.study import load_study


def imagenet_folder() -> Path:
    """Where torch looks for downloaded weights, without loading torch."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("TORCH_HOME", cache / "torch"))
    return home.expanduser() / "hub" / "checkpoints"


def open_run(
    out: Path, study_path: Path, overrides: Sequence[str], reporter: Reporter, *, own_weights: bool = True
) -> Plan:
    """The plan of a new run, or of one to go on with.

    Args:
        out: the run directory.
        study_path: the study file.
        overrides: as for :func:`~plexrank.study.load_study`.
        reporter: gets the warnings.
        own_weights: pretrained weights are looked for on this machine, not in a container.

    Raises:
        PlexrankError: something is wrong with the study, or the directory holds the run of another one.
    """
    rundir = RunDir(out)
    rundir.require_own()
    weights = imagenet_folder() if own_weights else None
    result = check_study_file(study_path, overrides, imagenet_folder=weights, rundir=rundir)
    raise_problems(result.problems)
    for line in result.outcome.described[:2] if result.outcome else ():
        reporter.say(f"outcome: {line}")
    for warning in result.warnings:
        reporter.say(f"warning: {warning}")
    study = result.study or load_study(study_path, overrides)
    before = _study_before(rundir, study_path)
    if before not in (None, study.name):
        raise StudyError(
            f"{study_path}: name is {study.name!r}, but {out} holds the run of {before!r}; give --out another folder "
            f"(or delete {rundir.study} if it is damaged)"
        )
    return make_plan(rundir, study, for_tiling=True, image_units=result.image_units, survey=result.survey)


def _study_before(rundir: RunDir, given: Path) -> str | None:
    """Name of the study whose run the directory holds; ``None`` for a new one, or where that is lost or damaged.

    Raises:
        PlexrankError: the saved study is given, and is damaged or was changed since it was written.
    """
    if not rundir.study.is_file():
        return None
    try:
        if given.resolve() == rundir.study:
            rundir.require_study()
        return load_study(rundir.study).name
    except StudyError:
        if given.resolve() == rundir.study:
            raise
        return None


@contextmanager
def running(plan: Plan, reporter: Reporter, command: str | None = None) -> Iterator[None]:
    """Keep the run directory to this process, and write into it what is run and what is said of it.

    Args:
        reporter: whose log is that of the run from here on.
        command: what was asked for, for the provenance; the command line of this process if absent.

    Raises:
        RunDirError: another process, or a Slurm job, is at work in it.
    """
    with plan.rundir.locked(job=job_id()):
        refuse_while_jobs_run(plan.rundir)
        _record(plan, command)
        with reporter.logging_to(plan.rundir.log):
            reporter.log(f"$ {plan.rundir.last_command()['command']}")
            yield


@contextmanager
def working_by_hand(plan: Plan, reporter: Reporter, *, shares_work: bool, saves_study: bool = False) -> Iterator[None]:
    """Keep the run directory to a stage that was started by itself, unless it shares the work with other processes.

    Submitted jobs share it too: their graph says who waits for whom.

    Args:
        reporter: says where the history of the run was lost, which begins again.
        shares_work: the stage works on listed units only, as the tasks of a job array do.
        saves_study: the plan's study becomes that of the run.

    Raises:
        RunDirError: another process, or a Slurm job, is at work in it.
    """
    with ExitStack() as held:
        if not (shares_work or several_started_by() or _is_submitted(plan.rundir)):
            held.enter_context(plan.rundir.locked(job=job_id()))
            refuse_while_jobs_run(plan.rundir)
        if is_first() and not plan.rundir.provenance.is_file():
            plan.rundir.add_provenance(provenance(plan) | {"before": "lost"})
            reporter.say(f"warning: {plan.rundir.provenance}: lost, and with it what was run before; begun again")
        if is_first() and saves_study:
            save_study(plan.rundir, plan.study)
        yield


def _is_submitted(rundir: RunDir) -> bool:
    """Whether this process belongs to a job that the run submitted."""
    graph = read_graph(rundir.graph)
    return graph is not None and job_id() in graph.job_ids


def run_on_cluster(plan: Plan, profile_path: Path, until: str, dry_run: bool) -> list[str]:
    """Submit a run, or with ``dry_run`` write its scripts only; what to tell the user.

    Raises:
        PlexrankError: the profile is wrong, jobs are under way with other settings, or Slurm refuses.
    """
    profile = load_profile(profile_path)
    with plan.rundir.locked(job=job_id()):
        if profile.scheduler != "slurm":
            require_private(plan.rundir)
            _record(plan)
            return write_one_job(profile, plan.study, plan.rundir, until)
        active = {} if dry_run else jobs_under_way(plan)
        _record(plan)
        if dry_run:
            return [str(write_dry_run(plan, profile, profile_path, until))]
        return lines_about(submit_run(plan, profile, profile_path, until, active), plan.rundir)


def _record(plan: Plan, command: str | None = None) -> None:
    """Write into the run directory what is run."""
    plan.rundir.add_provenance(provenance(plan, command))  # first: a folder with a study and without it is a user's
    save_study(plan.rundir, plan.study)


def provenance(plan: Plan, command: str | None = None) -> dict[str, str]:
    """What this process is, and the inputs as they are now; ``command`` as for :func:`running`."""
    versions = {}
    for name in ("torch", "zarr", "dask", "numpy", "scikit-learn"):
        with suppress(PackageNotFoundError):  # a login node has no torch
            versions[name] = installed(name)
    cohort = plan.study.cohort
    inputs = {"samplesheet": cohort.samplesheet, "panel": cohort.panel}
    return {
        "command": shlex.join(["plexrank", *sys.argv[1:]]) if command is None else command,
        "folder": str(Path.cwd()),
        "started": now(),
        "plexrank": plexrank.__version__,
        "python": platform.python_version(),
        **versions,
        "host": platform.node(),
        "platform": platform.platform(),
        **{name: str(path) for name, path in inputs.items() if path},
        **{f"{name} sha256": file_digest(path) for name, path in inputs.items() if path},
    }
