"""Which jobs a run needs, and the record of those that were submitted (``jobs/graph.json``)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plexrank.cohorts.bad_images import read_skipped
from plexrank.errors import RunDirError
from plexrank.images.image_path import size_and_mtime
from plexrank.launch.profile import ArrayResources, Profile
from plexrank.launch.script import Job, spread
from plexrank.launch.slurm import TaskState
from plexrank.planning.order import STAGES, StageName
from plexrank.planning.plan import Plan, make_plan
from plexrank.rundir import Unit, write_text

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
    try:
        return Graph.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunDirError(
            f"{path}: damaged ({reason}); cancel the jobs of this run that squeue shows, then delete this file"
        ) from error


def write_graph(path: Path, graph: Graph) -> None:
    """Write the record atomically."""
    write_text(path, graph.model_dump_json(indent=1) + "\n")


def units_left(plan: Plan, until: str = STAGES[-1]) -> dict[str, list[Unit]]:
    """By job name, the units that are not done or follow one that is not, of the stages up to ``until``.

    Args:
        plan: one for tiling. Images that were left out as bad stay so.
        until: the last stage that counts.

    Raises:
        PlexrankError: the cohort is wrong.
    """
    left: dict[str, list[Unit]] = {name: [] for name in JOB_NAMES}
    skipped = {image.image_id for image in read_skipped(plan.rundir.skipped)} if plan.study.cohort.skip_bad else set()
    images = [plan.tile(image) for image in plan.cohort.images if image.image_id not in skipped]
    left["tile"] = [unit for unit in images if unit.why_not_done() is not None]
    if not left["tile"]:
        plan = make_plan(plan.rundir, plan.study)  # what follows tiling has other units without the skipped images
    left["table"] = _left([plan.tiles_table()], bool(left["tile"]))
    left["train"] = _left(list(plan.units("train")))
    redone = {unit.record for unit in left["train"]}
    for fold, seed in plan.fold_seeds:
        left["attribute"] += _left([plan.attribute(fold, seed)], plan.train(fold, seed).record in redone)
    left["rank"] = _left([plan.rank()], bool(left["attribute"] or left["train"]))
    left["report"] = _left([plan.report()], bool(left["rank"]))
    later = STAGES[STAGES.index(until) + 1 :]
    return {name: [] if name in later else units for name, units in left.items()}


def _left(units: list[Unit], follows: bool = False) -> list[Unit]:
    return [unit for unit in units if follows or unit.why_not_done() is not None]


def plan_jobs(name: str, units: Collection[Unit], plan: Plan, profile: Profile, max_array_size: int) -> list[Job]:
    """The jobs that do some units, spread over tasks by cost: one array, or several where that would be too large.

    Where the site takes no arrays, each task is a job of its own. There are no more parts than tasks may run at once.

    Args:
        name: of the job.
        units: what to do.
        plan: what they belong to.
        profile: of the cluster.
        max_array_size: tasks of an array at most.
    """
    stage = "tile" if name == "table" else name
    asked = profile.resources(stage)
    jobs, at_once = (asked.jobs, asked.at_once) if name == stage and isinstance(asked, ArrayResources) else (1, 1)
    size = max_array_size if asked.has_arrays else 1
    cost = _costs(plan, stage)
    costs = [(str(unit.record.relative_to(plan.rundir.path)), cost(unit)) for unit in units]
    shares = spread(costs, min(jobs, size * at_once))
    parts = [shares[first : first + size] for first in range(0, len(shares), size)]
    return [Job(name, stage, part, at_once // len(parts), number) for number, part in enumerate(parts, start=1)]


def _costs(plan: Plan, stage: str) -> Callable[[Unit], float]:
    """What a unit costs, in bytes of images: its own when tiling, those it holds out when attributing."""
    if stage not in ("tile", "attribute"):
        return lambda unit: 1.0
    sizes = [_bytes(image.file) for image in plan.cohort.images]
    if stage == "tile":
        costs = {plan.tile(image).record: size for image, size in zip(plan.cohort.images, sizes, strict=True)}
    else:
        of_fold = [
            sum(sizes[index] for index in plan.images(fold, "held_out")) for fold in range(plan.study.train.folds)
        ]
        costs = {plan.attribute(fold, seed).record: of_fold[fold] for fold, seed in plan.fold_seeds}
    return lambda unit: costs.get(unit.record, 1.0)


def _bytes(file: Path) -> float:
    try:
        return float(size_and_mtime(file)[0])
    except OSError:  # moved away after tiling
        return 1.0
