"""The commands of Slurm: sbatch, squeue, sacct, scancel, scontrol. They exist on the host, never in the container."""

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

from submitit.helpers import clean_env

from plexrank.errors import PlexrankError

ACTIVE = frozenset(
    {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "STOPPED"}
    | {"SIGNALING", "STAGE_OUT", "SPECIAL_EXIT"}
)
"""States, as squeue tells them, of jobs that have more to do."""


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


def submit(script: Path, *, name: str, after: Sequence[str] = (), hold: bool = False) -> str:
    """Submit a script and return the id of its job.

    Args:
        script: the file.
        name: of the job.
        after: ids of jobs, or tasks of arrays, that must have ended well before.
        hold: keep it waiting until :func:`release`.

    Raises:
        PlexrankError: Slurm refuses it.
    """
    dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
    said = run(["sbatch", "--parsable", f"--job-name={name}", *["--hold"] * hold, *dependency, str(script)])
    job_id = said.strip().splitlines()[-1].split(";")[0] if said.strip() else ""
    if not job_id.isdigit():
        raise PlexrankError(f"sbatch: expected the id of a job, it said {said!r}")
    return job_id


def longest_min(partitions: str | None) -> float:
    """Longest time limit that one of these partitions allows, minutes; of the default one for ``None``.

    Args:
        partitions: their names, separated by commas.

    Raises:
        PlexrankError: Slurm gives no answer.
    """
    limits = [line.split("|") for line in run(["sinfo", "--noheader", "--format=%P|%l"]).splitlines()]
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


def release(job_id: str) -> None:
    """Let a held job go."""
    run(["scontrol", "release", job_id])


def cancel(job_ids: Collection[str]) -> None:
    """Cancel jobs, or tasks of arrays."""
    if job_ids:
        run(["scancel", *sorted(job_ids)])


def cancel_and_wait(job_ids: Collection[str]) -> None:
    """Cancel jobs, or tasks of arrays, and wait until none of them can write a file any more.

    Raises:
        PlexrankError: some are still there after two minutes.
    """
    cancel(job_ids)
    deadline = time.monotonic() + 120
    while left := {task for task in _active_tasks() if task in job_ids or task.split("_")[0] in job_ids}:
        if time.monotonic() > deadline:
            raise PlexrankError(f"job {min(left)}: was cancelled two minutes ago and still runs; see scontrol show job")
        time.sleep(0.5)


def active_named(suffix: str) -> list[str]:
    """Ids of the user's active jobs whose name ends with ``suffix``."""
    lines = run(["squeue", "--me", "--noheader", "--format=%A|%j"]).splitlines()
    return sorted({job_id for job_id, name in (line.split("|", 1) for line in lines) if name.endswith(suffix)})


def task_states(job_ids: Collection[str]) -> dict[str, TaskState]:
    """State of every job or task of an array (``12_3``) that Slurm still knows something of.

    Works without accounting; then jobs that ended are known for some minutes, if at all.
    """
    if not job_ids or shutil.which("squeue") is None:
        return {}
    states: dict[str, TaskState] = {}
    for line in _run_if_there(["sacct", "-n", "-P", "-X", f"-j{','.join(job_ids)}", "-oJobID,State,ExitCode"]):
        task, state, exit_code = line.split("|")
        states[task] = TaskState(state.split()[0], f"exit {exit_code}")
    lines = run(["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]).splitlines()
    for task, state, reason in (line.split("|", 2) for line in lines):
        waits = state in ACTIVE
        if task.split("_")[0] in job_ids and (waits or task not in states):
            states[task] = TaskState(state, reason if waits and reason != "None" else "")
    return states


def run(command: Sequence[str]) -> str:
    """What a command of Slurm prints.

    Raises:
        PlexrankError: it is not there, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=300)
    except FileNotFoundError as error:
        raise PlexrankError(f"{command[0]}: no such command; do this where Slurm's commands are") from error
    except subprocess.TimeoutExpired as error:
        raise PlexrankError(f"{command[0]}: no answer within five minutes; try again later") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise PlexrankError(f"{command[0]}: {re.sub(rf'^{command[0]}: (error: )?', '', said)}")
    return done.stdout


def environment() -> dict[str, str]:
    """This process's environment as if it were in no job: from within one, sbatch would inherit its settings."""
    configuration = {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ}
    with clean_env():
        return {**os.environ, **configuration}


def _active_tasks() -> list[str]:
    return run(["squeue", "--me", "--noheader", "--array", "--format=%i"]).split()


def _run_if_there(command: Sequence[str]) -> list[str]:
    try:
        return run(command).splitlines()
    except PlexrankError:  # no accounting
        return []
