"""Whether this process is one of several that torchrun or srun started, without loading torch."""

from __future__ import annotations

import os

from plexrank.environment_names import SRUN_NAMES, TORCHRUN_NAMES, EnvironmentNames
from plexrank.errors import PlexrankError

JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables with the id of a job: of Slurm, PBS, LSF and Grid Engine."""


def several_started_by() -> EnvironmentNames | None:
    """The launcher that started several processes, this one among them, by its names; or nothing."""
    launchers = (TORCHRUN_NAMES, SRUN_NAMES)
    return next((names for names in launchers if os.environ.get(names.world_size, "1") not in ("", "1")), None)


def job_id() -> str:
    """Id of the job that this process is in, by whichever scheduler; empty outside."""
    return next((os.environ[name] for name in JOB_IDS if os.environ.get(name)), "")


def refuse_several_processes(command: str) -> None:
    """Only train, attribute and tile share their work; several copies of another command would write the same files.

    Raises:
        PlexrankError: there are several, and this is the first.
        SystemExit: this is another one; the first says why.
    """
    names = several_started_by()
    if names is None:
        return
    first = os.environ.get(SRUN_NAMES.process_rank, "0")
    if os.environ.get(TORCHRUN_NAMES.process_rank, first) != "0":
        raise SystemExit(PlexrankError.exit_code)
    raise PlexrankError(
        f"{command} runs as one process, but {names.world_size} is {os.environ[names.world_size]}; start it without "
        "torchrun and with one task of srun (train and attribute take several, tile does under srun)"
    )
