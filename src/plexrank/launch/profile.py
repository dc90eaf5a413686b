"""A cluster profile: what belongs to a site and to none of its studies, as validated YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from plexrank.errors import StudyError, raise_problems, resolve_input
from plexrank.settings import Section
from plexrank.study import explain, read_mapping


def _word(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"one word without blanks or control characters, got {text!r}")
    return text


def _line(text: str) -> str:
    if not text or any(ord(letter) < 32 and letter != "\t" for letter in text):
        raise ValueError(f"one line of shell, got {text!r}")
    return text


def _option_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z-]*", text):
        raise ValueError(f"the long name of an option without dashes before it, got {text!r}")
    return text


Word = Annotated[str, AfterValidator(_word)]
"""What Slurm calls something; it cannot become another line of a script."""
Line = Annotated[str, AfterValidator(_line)]
"""A line of shell, written by whoever wrote the profile."""
OptionName = Annotated[str, AfterValidator(_option_name)]


class Placement(Section):
    """Where jobs go; a stage's own value stands before that of the profile."""

    partition: Word | None = Field(None, description="queue of the site; several separated by commas")
    account: Word | None = Field(None, description="what the time is charged to")
    qos: Word | None = Field(None, description="quality of service")
    constraint: Word | None = Field(None, description="features that a node must have")


class Resources(Placement):
    """What a job of a stage asks for."""

    nodes: int = Field(1, ge=1, description="machines of one job")
    tasks_per_node: int = Field(1, ge=1, description="processes on each; for GPUs as many as gpus_per_node")
    gpus_per_node: int = Field(0, ge=0, description="GPUs on each")
    cpus_per_task: int = Field(1, ge=1, description="cores of each process")
    mem_gb: float = Field(8, gt=0, description="memory on each node, gigabytes")
    time_min: int = Field(60, ge=1, description="time limit, minutes; what is not done by then goes on in a new start")

    @model_validator(mode="after")
    def _one_process_a_gpu(self) -> Resources:
        if self.gpus_per_node and self.tasks_per_node != self.gpus_per_node:
            raise ValueError(
                f"tasks_per_node is {self.tasks_per_node} and gpus_per_node {self.gpus_per_node}; "
                "set both alike, since one process drives one GPU"
            )
        return self


LEAST_DASK_PROCESSES = 3
"""A scheduler, a client and a worker, where several processes tile one image after the other."""


class ArrayResources(Resources):
    """What every job of a stage's array asks for."""

    jobs: int = Field(100, ge=1, le=10000, description="jobs in the array at most; units are spread over them by cost")
    at_once: int = Field(100, ge=1, le=10000, description="of these, run at the same time at most")


class OneProcess(Resources):
    """A stage that is one process."""

    @model_validator(mode="after")
    def _is_one_process(self) -> OneProcess:
        if (self.nodes, self.tasks_per_node, self.gpus_per_node) != (1, 1, 0):
            raise ValueError("this stage is one process without GPU; leave out nodes, tasks_per_node and gpus_per_node")
        return self


STAGE_DEFAULTS: dict[str, dict[str, int]] = {
    "tile": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "train": {"cpus_per_task": 8, "mem_gb": 32, "time_min": 480},
    "attribute": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "rank": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "report": {"time_min": 20},
}


class Container(Section):
    """The image that every stage runs in."""

    image: Path = Field(description="file of the image, readable on every node; relative to the profile")
    runtime: Word = Field("apptainer", description="the command, or its path on the nodes")
    bind: tuple[Path, ...] = Field((), description="more folders to show inside, read-only, such as links' targets")

    @field_validator("bind")
    @classmethod
    def _absolute(cls, bind: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in bind:
            if not path.is_absolute():
                raise ValueError(f"{path} must be an absolute path, which is the same inside and outside")
        return bind


class Profile(Placement):
    """A site; read by :func:`load_profile`."""

    container: Container | None = Field(None, description="without it, stages run with python on the nodes")
    python: Path | None = Field(None, description="without a container: the interpreter that has plexrank on the nodes")
    setup: tuple[Line, ...] = Field((), description="lines of shell before every job's work, such as module load")
    sbatch: dict[OptionName, Word | int | bool] = Field({}, description="further options of sbatch, as reservation: x")
    srun: tuple[Word, ...] = Field((), description="further options of srun, such as --mpi=none")
    stop_before_s: int = Field(180, ge=5, le=3600, description="seconds before the time limit, to save progress")
    max_requeues: int = Field(20, ge=0, description="starts after the first, for a job that has more to do")
    tile: ArrayResources
    train: ArrayResources
    attribute: ArrayResources
    rank: OneProcess
    report: OneProcess

    @model_validator(mode="before")
    @classmethod
    def _a_stage_has_defaults_of_its_own(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        given = {key: value for key, value in raw.items() if value is not None}
        return given | {
            stage: default | given[stage] if isinstance(given.get(stage), dict) else given.get(stage, default)
            for stage, default in STAGE_DEFAULTS.items()
        }

    @model_validator(mode="after")
    def _container_or_python(self) -> Profile:
        if self.container is not None and self.python is not None:
            raise ValueError("python is for sites without a container, which brings its own; leave one of them out")
        if self.tile.gpus_per_node:
            raise ValueError("tile.gpus_per_node must be 0: tiling uses no GPU")
        if 1 < self.tile.nodes * self.tile.tasks_per_node < LEAST_DASK_PROCESSES:
            raise ValueError(
                f"tile: nodes × tasks_per_node must be 1, or {LEAST_DASK_PROCESSES} and more for images beyond one "
                "machine: a scheduler, a client and workers"
            )
        return self

    def resources(self, stage: str) -> Resources:
        """What a stage asks for, with the profile's own placement where it has none."""
        asked: Resources = getattr(self, stage)
        inherited = {name: getattr(asked, name) or getattr(self, name) for name in Placement.model_fields}
        return asked.model_copy(update=inherited)


def load_profile(path: Path) -> Profile:
    """Read, validate and resolve a cluster profile.

    Raises:
        MissingInputError: there is no such file.
        StudyError: it is no YAML mapping.
        Problems: several keys are unknown or have wrong values.
    """
    raw = read_mapping(path, Profile)
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        raise_problems(explain(path, Profile, error))
        raise StudyError(f"{path}: {error}") from error
    if profile.container is None:
        return profile
    image = resolve_input(resolve_input(path, str(path)).parent / profile.container.image, f"{path}: container.image")
    return profile.model_copy(update={"container": profile.container.model_copy(update={"image": image})})
