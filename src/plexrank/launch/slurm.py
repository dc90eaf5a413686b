"""The commands of Slurm: sbatch, squeue, sacct, scancel, scontrol. They exist on the host, never in the container.

Where a site has several clusters, every function is given the one that it is about; empty for that of the machine.
What sites print around the answers, such as a message of the day, is passed over.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import PlexrankError
from plexrank.machine.environment_names import TORCHRUN_NAMES
from plexrank.machine.gpus import GIVEN_BY

ACTIVE = frozenset(
    {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "STOPPED"}
    | {"SIGNALING", "STAGE_OUT", "SPECIAL_EXIT"}
)
"""States, as squeue tells them, of jobs that have more to do."""
MAX_ARRAY_SIZE = 1001
"""MaxArraySize of a Slurm that is not configured otherwise."""
NEVER_PASSED = "|".join(
    (
        *(*TORCHRUN_NAMES, "LOCAL_WORLD_SIZE", "MASTER_(ADDR|PORT)"),
        "(PLEXRANK|SUBMITIT|SLURMD)_.*",
        "(SQUEUE|SACCT|SINFO|SCANCEL)_.*",  # what users want lists to show, which a program reads here
    )
)
"""Variables that are not for a new job; like those below, an expression of Python and of ``grep -E``."""
SET_IN_A_JOB = "|".join(("(SLURM|SRUN)_.*", "SBATCH_(CPU|MEM)_BIND.*", *GIVEN_BY))
"""Variables that are set in a job, and are not for a new one either;"""
USERS = "SLURM_(CONF|CONF_SERVER|CLUSTERS|JWT|JWKS|DEBUG)"
"""of them, those that are the user's own in a job too."""
ANSWERS = ("Submitted batch job [0-9]+|[0-9]+;[A-Za-z0-9._-]+", "[0-9]+")
"""What sbatch answers, the surer form first: a number alone may be a line of what a site prints besides."""


@dataclass(frozen=True)
class TaskState:
    """What Slurm says of a job, or of one task of an array.

    Attributes:
        state: such as RUNNING or COMPLETED.
        detail: the reason of one that waits, or the exit code of one that ended.
    """

    state: str
    detail: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


def is_available() -> bool:
    """Whether this machine can submit."""
    return shutil.which("sbatch") is not None


@dataclass(frozen=True)
class Submitted:
    """Id of a job, and the cluster that took it where Slurm says so."""

    job_id: str
    cluster: str


def submit(
    script: Path,
    *,
    name: str,
    after: Sequence[str] = (),
    hold: bool = False,
    clusters: str = "",
    without: Collection[str] = (),
) -> Submitted:
    """Submit a script.

    Args:
        script: the file.
        name: of the job.
        after: ids of jobs, or tasks of arrays, that must have ended well before.
        hold: keep it waiting until :func:`release`.
        clusters: one of which takes it.
        without: variables of the environment that must not reach sbatch.

    Raises:
        PlexrankError: Slurm refuses it.
    """
    dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
    options = [f"--job-name={name}", *["--hold"] * hold, *dependency]
    said = run(["sbatch", "--parsable", *_on(clusters), *options, str(script)], without)
    lines = [line.rstrip() for line in said.splitlines()]
    answer = next((line for form in ANSWERS for line in reversed(lines) if re.fullmatch(form, line)), None)
    if answer is None:
        raise PlexrankError(f"sbatch: expected the id of a job, it said {said!r}")
    job_id, _, cluster = answer.removeprefix("Submitted batch job ").partition(";")
    return Submitted(job_id, cluster)


def try_out(script: Path, *, clusters: str = "", without: Collection[str] = ()) -> None:
    """Raise :class:`PlexrankError` where Slurm would refuse a script; submits nothing."""
    run(["sbatch", "--test-only", *_on(clusters), str(script)], without)


def run_and_wait(script: Path, *, clusters: str = "", without: Collection[str] = ()) -> None:
    """Submit a script and wait for its end; raises :class:`PlexrankError` where it fails."""
    run(["sbatch", "--wait", *_on(clusters), str(script)], without)


def max_array_size(cluster: str = "") -> int:
    """Tasks that an array may have, 1 where the site takes none; Slurm's own default where it gives no answer."""
    try:
        said = run(["scontrol", *_on(cluster), "show", "config"])
    except PlexrankError:
        said = ""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, flags=re.MULTILINE)
    return max(int(found[1]), 1) if found else MAX_ARRAY_SIZE


def longest_min(partitions: str | None, cluster: str = "") -> float:
    """Longest time limit that one of these partitions allows, minutes; of the default one for ``None``.

    Args:
        partitions: their names, separated by commas.
        cluster: of theirs.

    Raises:
        PlexrankError: Slurm gives no answer.
    """
    limits = _rows(run(["sinfo", *_on(cluster), "--noheader", "--format=%P|%l"]), 2)
    names = partitions.split(",") if partitions else [name for name, _ in limits if name.endswith("*")]
    return max((_minutes(limit) for name, limit in limits if {name, name.rstrip("*")} & set(names)), default=math.inf)


def _minutes(limit: str) -> float:
    """A time as Slurm writes it, ``[days-][[hours:]minutes:]seconds`` or a word for none, in minutes."""
    if not re.fullmatch(r"[\d:-]+", limit):
        return math.inf
    days, _, rest = limit.rpartition("-")
    seconds = 0
    for part in rest.split(":"):
        seconds = 60 * seconds + int(part)
    return int(days or 0) * 24 * 60 + seconds / 60


def release(job_ids: Sequence[str], cluster: str = "") -> None:
    """Let held jobs go."""
    for job_id in job_ids:
        run(["scontrol", *_on(cluster), "release", job_id])


def cancel(job_ids: Collection[str], cluster: str = "") -> None:
    """Cancel jobs, or tasks of arrays."""
    if job_ids:
        run(["scancel", *_on(cluster), *sorted(job_ids)])


def cancel_and_wait(job_ids: Collection[str], cluster: str = "") -> None:
    """Cancel jobs, or tasks of arrays, and wait until none of them can write a file any more.

    Raises:
        PlexrankError: some are still there after two minutes.
    """
    cancel(job_ids, cluster)
    deadline = time.monotonic() + 120
    while left := {task for task in _active_tasks(cluster) if task in job_ids or task.split("_")[0] in job_ids}:
        if time.monotonic() > deadline:
            raise PlexrankError(f"job {min(left)}: was cancelled two minutes ago and still runs; see scontrol show job")
        time.sleep(0.5)


def active_named(suffix: str, cluster: str = "") -> list[str]:
    """Ids of the user's active jobs whose name ends with ``suffix``."""
    rows = _rows(run(["squeue", *_on(cluster), "--me", "--noheader", "--format=%A|%j"]), 2)
    return sorted({job_id for job_id, name in rows if name.endswith(suffix)})


def task_states(job_ids: Collection[str], cluster: str = "") -> dict[str, TaskState]:
    """State of every job or task of an array (``12_3``) that Slurm still knows something of.

    Works without accounting; then jobs that ended are known for some minutes, if at all.
    """
    if not job_ids or shutil.which("squeue") is None:
        return {}
    states: dict[str, TaskState] = {}
    fields = "-oJobID,State,ExitCode"
    said = _run_if_there(["sacct", *_on(cluster), "-n", "-P", "-X", f"-j{','.join(job_ids)}", fields])
    for task, state, exit_code in _rows(said, 3):
        states[task] = TaskState(state.split()[0], f"exit {exit_code}")
    options = ["--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
    for task, state, reason in _rows(run(["squeue", *_on(cluster), *options]), 3):
        waits = state in ACTIVE
        if task.split("_")[0] in job_ids and (waits or task not in states):
            states[task] = TaskState(state, reason if waits and reason != "None" else "")
    return states


def _on(clusters: str) -> list[str]:
    return [f"--clusters={clusters}"] if clusters else []


def _rows(said: str, width: int) -> list[list[str]]:
    """Lines of so many fields, separated by ``|``; the last may hold more of these."""
    rows = [line.split("|", width - 1) for line in said.splitlines()]
    return [row for row in rows if len(row) == width and all(row)]


def run(command: Sequence[str], without: Collection[str] = ()) -> str:
    """What a command of Slurm prints.

    Args:
        command: name and arguments.
        without: variables of the environment that must not reach it.

    Raises:
        PlexrankError: it is not there, or fails.
    """
    variables = {name: value for name, value in environment().items() if name not in without}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",  # whatever the locale is; a site's words may be in another
            errors="backslashreplace",
            check=False,
            env=variables,
            timeout=300,
        )
    except FileNotFoundError as error:
        raise PlexrankError(
            f"{command[0]}: no such command; run this where Slurm's commands are, such as a login node"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise PlexrankError(f"{command[0]}: no answer within five minutes; try again later") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise PlexrankError(f"{command[0]}: {re.sub(rf'^{command[0]}: (error: )?', '', said)}")
    return done.stdout


def environment() -> dict[str, str]:
    """This process's environment with the user's own settings of Slurm, and without those of a job around it."""
    left_out = f"{NEVER_PASSED}|{SET_IN_A_JOB}" if "SLURM_JOB_ID" in os.environ else NEVER_PASSED
    return {
        name: value
        for name, value in os.environ.items()
        if re.fullmatch(USERS, name) or not re.fullmatch(left_out, name)
    }


def _active_tasks(cluster: str) -> list[str]:
    return run(["squeue", *_on(cluster), "--me", "--noheader", "--array", "--format=%i"]).split()


def _run_if_there(command: Sequence[str]) -> str:
    try:
        return run(command)
    except PlexrankError:  # no accounting
        return ""
