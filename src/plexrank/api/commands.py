"""Check a study, run it and open its run: what the commands do, in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from plexrank.api.opened_run import Run
from plexrank.errors import PlexrankError, RunDirError
from plexrank.launch.opening import imagenet_folder, running
from plexrank.launch.opening import open_run as plan_run
from plexrank.machine.processes import several_started_by
from plexrank.planning.check import check_study_file
from plexrank.planning.check_result import CheckResult
from plexrank.planning.cost import measure_cost
from plexrank.planning.order import STAGES
from plexrank.progress import Reporter
from plexrank.rundir import RunDir
from plexrank.stages.pipeline import run_stages
from plexrank.wording import did_you_mean

if TYPE_CHECKING:
    from plexrank.stages.verification import Verification

_at_work: set[Path] = set()
_guard = threading.Lock()


def check(study_path: str | PathLike[str], overrides: Sequence[str] = (), *, measure: bool = False) -> CheckResult:
    """Look at a study and all that it names, as ``plexrank check`` does; nothing is written.

    >>> found = plexrank.check("cohort/study.yaml", ["train.epochs=5"])
    >>> found.problems, found.cost.n_tiles
    ((), 40)

    Args:
        study_path: the study file.
        overrides: settings in the place of those of the file, such as ``"train.epochs=5"``.
        measure: also measure what training takes on this machine, by a few small steps in a process of its own (some
            ten seconds), for ``cost.memory_gb`` (10⁹ bytes) and ``cost.minutes``.

    Returns:
        What was found. ``problems`` are errors, empty where a run can start; they are not raised, so that all are seen.
    """
    given = _checked_overrides(overrides)
    result = check_study_file(Path(study_path), given, imagenet_folder=imagenet_folder())
    return measure_cost(Path(study_path), given, result) if measure else result


def run(
    study_path: str | PathLike[str],
    *,
    out: str | PathLike[str],
    overrides: Sequence[str] = (),
    until: str = "report",
) -> Run:
    """Run a study in this process, or go on with its run: what is done is skipped, as ``plexrank run`` does.

    What is done is printed to standard error. An interrupted run goes on with the same call or the same command.

    >>> run = plexrank.run("cohort/study.yaml", out="run", overrides=["train.epochs=5"])

    Args:
        study_path: the study file.
        out: the run directory; one that exists is resumed.
        overrides: settings in the place of those of the file, such as ``"train.epochs=5"``.
        until: the last stage to do: ``tile``, ``train``, ``attribute``, ``rank`` or ``report``.

    Raises:
        StudyError, MissingInputError, ImageDataError: the study, or what it names, is wrong.
        Problems: several of these at once; ``problems`` holds them.
        RunDirError: another process, thread or Slurm job is at work in ``out``.
        PlexrankError: anything else that can be mended; all of the above are of this kind.
    """
    if until not in STAGES:
        raise PlexrankError(f"until={until!r}: no such stage{did_you_mean(until, STAGES)}")
    if several_started_by():
        raise PlexrankError("plexrank.run works in one process; start this program without torchrun or srun -n")
    given, folder = _checked_overrides(overrides), RunDir(Path(out)).path
    call = f"plexrank.run({str(study_path)!r}, out={str(out)!r}, overrides={given!r}, until={until!r})"
    with _alone_in(folder):
        reporter = Reporter()
        plan = plan_run(folder, Path(study_path), given, reporter)
        with running(plan, reporter, call):
            run_stages(plan, STAGES[: STAGES.index(until) + 1], reporter)
    return Run(folder)


def verify(run: str | PathLike[str]) -> Verification:
    """Hold every file of a run against its digest, as ``plexrank verify`` does; nothing is changed.

    >>> plexrank.verify("run").is_intact
    True

    Args:
        run: the run directory.

    Returns:
        What was found. ``damaged`` says of each damaged file what is wrong; nothing is raised for one.

    Raises:
        MissingInputError: it is no run directory, or its samplesheet is not where it was.
        PlexrankError: its study or samplesheet cannot be read.
    """
    from plexrank.stages.verification import verify_run

    return verify_run(RunDir(Path(run)), Reporter(quiet=True))


def _checked_overrides(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str):
        raise PlexrankError(f"overrides is the text {overrides!r}; give a list of such texts: [{overrides!r}]")
    return list(overrides)


@contextlib.contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """Keep other threads of this process out of a run directory, whose lock keeps out other processes alone."""
    with _guard:
        if path in _at_work:
            raise RunDirError(f"{path}: another thread of this process is at work in it; wait for it to end")
        _at_work.add(path)
    try:
        yield
    finally:
        with _guard:
            _at_work.remove(path)
