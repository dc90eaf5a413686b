"""Whether this process is one of several that torchrun or srun started, without loading torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

from plexrank.errors import PlexrankError
from plexrank.machine.environment_names import SRUN_NAMES, TORCHRUN_NAMES, EnvironmentNames

JOB_IDS = (
    ("SLURM_JOB_ID", "", ""),
    ("PBS_JOBID", "PBS_ARRAY_INDEX", ""),
    ("LSB_JOBID", "LSB_JOBINDEX", ""),
    ("JOB_ID", "SGE_TASK_ID", "SGE_ROOT"),
)
"""Variables of Slurm, PBS, LSF and Grid Engine: with the id of a job, with the number of a task where the tasks of an
array share that id, and one without which the id is somebody else's."""


def several_started_by() -> EnvironmentNames | None:
    """The launcher that started several processes, this one among them, by its names; or nothing."""
    launchers = (TORCHRUN_NAMES, SRUN_NAMES)
    return next((names for names in launchers if os.environ.get(names.world_size, "1") not in ("", "1")), None)


def job_id(environment: Mapping[str, str] = os.environ) -> str:
    """Id of the job, or of the task of an array, that this process is in, of whichever scheduler; empty outside."""
    for name, of_task, needs in JOB_IDS:
        if environment.get(name) and (not needs or needs in environment):
            return "-".join(filter(None, (environment[name], environment.get(of_task))))
    return ""


def times_requeued(environment: Mapping[str, str] = os.environ) -> int:
    """How often Slurm has started this process's job again; 0 outside, and under schedulers that do not say."""
    text = environment.get("SLURM_RESTART_COUNT", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def is_first() -> bool:
    """Whether this process is the first of those that a launcher started, or the only one."""
    if several_started_by() is None:
        return True
    first = os.environ.get(SRUN_NAMES.process_rank, "0")
    return os.environ.get(TORCHRUN_NAMES.process_rank, first) == "0"


def refuse_several_processes(command: str) -> None:
    """Only train, attribute and tile share their work; several copies of another command would write the same files.

    Raises:
        PlexrankError: there are several, and this is the first.
        SystemExit: this is another one; the first says why.
    """
    names = several_started_by()
    if names is None:
        return
    if not is_first():
        raise SystemExit(PlexrankError.exit_code)
    raise PlexrankError(
        f"{command} runs as one process, but {names.world_size} is {os.environ[names.world_size]}; start it without "
        "torchrun and with one task of srun (train and attribute take several, tile does under srun)"
    )
