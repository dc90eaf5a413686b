"""What torchrun and srun call the numbers by which they tell a process who it is. Loads nothing."""

from __future__ import annotations

from typing import NamedTuple


class EnvironmentNames(NamedTuple):
    """What a launcher calls the three numbers that tell a process who it is."""

    world_size: str
    process_rank: str
    local_rank: str


TORCHRUN_NAMES = EnvironmentNames("WORLD_SIZE", "RANK", "LOCAL_RANK")
SRUN_NAMES = EnvironmentNames("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
