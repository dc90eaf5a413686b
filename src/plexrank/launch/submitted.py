"""The record of the jobs that a run submitted (``jobs/graph.json``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from plexrank.errors import RunDirError, naming_damage
from plexrank.launch.slurm import TaskState
from plexrank.planning.order import STAGES, StageName
from plexrank.rundir import read_text, write_text

JOB_NAMES = (STAGES[0], "table", *STAGES[1:])
"""In the order in which each waits for the one before: a job a stage, and the one that joins what tiling left."""


class SubmittedJob(BaseModel):
    """A job, or an array of them, that Slurm has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=f"^({'|'.join(JOB_NAMES)})$")]
    stage: StageName
    job_id: Annotated[str, Field(pattern=r"^[0-9]+$")]
    is_array: bool
    shares: tuple[tuple[str, ...], ...]
    after: tuple[Annotated[str, Field(pattern=r"^[0-9]+(_[0-9]+)?$")], ...]

    def tasks(self) -> list[tuple[str, tuple[str, ...]]]:
        """The id of every task with its units."""
        if not self.is_array:
            return [(self.job_id, self.shares[0])]
        return [(f"{self.job_id}_{number}", share) for number, share in enumerate(self.shares)]


class Graph(BaseModel):
    """The jobs of a run.

    Attributes:
        token: ends the name of every job of one submission.
        released: the submission was completed; before that its first job is held.
        cluster: the one that took it, before that those that may, separated by commas; empty for that of the machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[str, Field(pattern=r"^[0-9a-f]{6}$")]
    profile: str
    container_sha256: str | None
    submitted: str
    released: bool
    cluster: Annotated[str, Field(pattern=r"^[A-Za-z0-9._,-]*$")] = ""
    jobs: tuple[SubmittedJob, ...]

    @property
    def clusters(self) -> list[str]:
        """Those that its jobs may be on."""
        return self.cluster.split(",")

    @property
    def job_ids(self) -> list[str]:
        """Ids of all jobs and arrays."""
        return [job.job_id for job in self.jobs]

    def active(self, states: Mapping[str, TaskState]) -> dict[str, tuple[SubmittedJob, tuple[str, ...]]]:
        """Tasks that wait or run, by id, with their job and units."""
        return {
            task: (job, share)
            for job in self.jobs
            for task, share in job.tasks()
            if task in states and states[task].is_active
        }


def read_graph(path: Path) -> Graph | None:
    """The record of a run's jobs, ``None`` where it never was on a cluster.

    Raises:
        RunDirError: the file is damaged.
    """
    if not path.exists():
        return None
    remedy = "cancel the jobs of this run that squeue shows, then delete this file"
    with naming_damage(f"{path}: damaged", remedy, RunDirError):
        return Graph.model_validate_json(read_text(path))


def write_graph(path: Path, graph: Graph) -> None:
    """Write the record atomically."""
    write_text(path, graph.model_dump_json(indent=1) + "\n")
