"""A cluster profile: what belongs to a site and to none of its studies, as validated YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from plexrank.errors import StudyError, raise_problems, resolve_input
from plexrank.launch.options import MEMORY, REQUEUE, Value, asks_for_gpus, general_options, gpus_per_node, problem_of
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


def _clusters(text: str) -> str:
    if text == "all" or not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", text, flags=re.ASCII):
        raise ValueError(f"the name of a cluster, or several separated by commas, got {text!r}")
    return text


def _option_name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z-]*", text):
        raise ValueError(f"the long name of an option without dashes before it, got {text!r}")
    return text


Word = Annotated[str, AfterValidator(_word)]
"""What Slurm calls something; it cannot become another line of a script."""
Line = Annotated[str, AfterValidator(_line)]
"""A line of shell, written by whoever wrote the profile."""
Clusters = Annotated[str, AfterValidator(_clusters)]
"""Where to submit to; jobs are looked for and cancelled in each of them apart."""
OptionName = Annotated[str, AfterValidator(_option_name)]


class Placement(Section):
    """Where jobs go and what else sbatch is given; a stage's own value comes before that of the profile."""

    partition: Word | None = Field(None, description="queue; several separated by commas; null for the site's default")
    account: Word | None = Field(None, description="what the time is charged to")
    qos: Word | None = Field(None, description="quality of service")
    constraint: Word | None = Field(None, description="features that a node must have")
    sbatch: dict[OptionName, Word | int | bool | None] = Field(
        {}, description="further options of sbatch, as reservation: x; null leaves a default out, as mem: null"
    )

    @field_validator("sbatch")
    @classmethod
    def _can_be_given(cls, sbatch: dict[str, Value]) -> dict[str, Value]:
        problems = [problem for option, value in sbatch.items() if (problem := problem_of(option, value))]
        if problems:
            raise ValueError("; ".join(problems))
        if all(sbatch.get(option) for option in REQUEUE):
            raise ValueError("requeue and no-requeue contradict each other; keep one")
        return sbatch


class Resources(Placement):
    """What a job of a stage asks for."""

    nodes: int = Field(1, ge=1, le=100_000, description="machines of one job")
    tasks_per_node: int | None = Field(
        None, ge=1, le=1024, description="processes on each; by default one for each GPU, or one"
    )
    gpus_per_node: int = Field(0, ge=0, le=1024, description="GPUs on each")
    gpu_type: Word | None = Field(None, description="what Slurm calls the GPUs, as a100")
    cpus_per_task: int = Field(1, ge=1, le=100_000, description="cores of each process")
    mem_gb: float | None = Field(
        None, gt=0, le=1e6, description="memory on each node, gigabytes; null for the site's default"
    )
    time_min: int = Field(
        60, ge=1, le=1_000_000, description="time limit, minutes; what is not done by then goes on in a new start"
    )

    @property
    def processes(self) -> int:
        """On each machine."""
        return self.tasks_per_node or 1

    @property
    def gpus(self) -> int:
        """On each machine, asked for in either way."""
        return self.gpus_per_node or gpus_per_node(self.sbatch, self.nodes, self.tasks_per_node)

    @property
    def has_arrays(self) -> bool:
        """Whether the site takes arrays."""
        return self.sbatch.get("array", True) is True

    @model_validator(mode="after")
    def _said_once(self) -> Resources:
        if self.mem_gb is not None and (both := MEMORY & self.sbatch.keys()):
            raise ValueError(f"mem_gb and sbatch.{min(both)} both say how much memory; keep one")
        asking = [option for option, value in self.sbatch.items() if asks_for_gpus(option, value)]
        if self.gpus_per_node and asking:
            raise ValueError(f"gpus_per_node and sbatch.{asking[0]} both ask for GPUs; keep one")
        if self.gpu_type and not self.gpus_per_node:
            raise ValueError("gpu_type needs gpus_per_node")
        return self

    def options(self) -> dict[str, str | int | bool]:
        """What sbatch is given for a job, without what depends on the job."""
        gpu_type = f"{self.gpu_type}:" if self.gpu_type else ""
        found: dict[str, Value] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "nodes": self.nodes,
            "ntasks-per-node": self.processes,
            "gpus-per-node": f"{gpu_type}{self.gpus_per_node}" if self.gpus_per_node else None,
            "cpus-per-task": self.cpus_per_task,
            "mem": None if self.mem_gb is None else f"{self.mem_gb * 1024:.0f}M",
            "time": self.time_min,
            "kill-on-invalid-dep": "yes",
            "requeue": not self.sbatch.get("no-requeue"),
            **{option: value for option, value in self.sbatch.items() if option != "array"},
        }
        return {option: value for option, value in found.items() if value is not None and value is not False}


GPU_STAGES = ("train", "attribute")
"""Stages that use GPUs; others may ask for them where a site wants that."""
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
        if (self.nodes, self.processes, self.gpus_per_node) != (1, 1, 0):
            raise ValueError("this stage is one process without GPU; leave out nodes, tasks_per_node and gpus_per_node")
        return self


STAGE_DEFAULTS: dict[str, dict[str, int]] = {
    "tile": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "train": {"cpus_per_task": 8, "mem_gb": 32, "time_min": 480},
    "attribute": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "rank": {"cpus_per_task": 4, "mem_gb": 16, "time_min": 120},
    "report": {"mem_gb": 8, "time_min": 20},
}


DIRECTIVES = {"pbs": "#PBS", "lsf": "#BSUB", "sge": "#$"}
"""What begins a line of a script that is for the scheduler."""


class Container(Section):
    """The image that every stage runs in."""

    image: Path = Field(description="file of the image, readable on every node; relative to the profile")
    runtime: Word = Field("apptainer", description="the command, such as singularity, or its path on the nodes")
    options: tuple[Line, ...] = Field((), description="further options of its exec, as [--bind, /dev/shm]")
    bind: tuple[Path, ...] = Field((), description="more folders to show inside, read-only, such as links' targets")

    @field_validator("bind")
    @classmethod
    def _absolute(cls, bind: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in bind:
            if not path.is_absolute():
                raise ValueError(f"{path} must be an absolute path, which is the same inside and outside")
        return bind


class WholeRun(Section):
    """What the one job of a whole study asks PBS, LSF or Grid Engine for."""

    cpus: int = Field(8, ge=1, le=100_000, description="cores")
    gpus: int = Field(0, ge=0, le=1, description="GPUs: none, or one, since there is one process")
    mem_gb: float | None = Field(32, gt=0, le=1e6, description="memory, gigabytes; null for the site's default")
    time_min: int = Field(480, ge=10, le=1_000_000, description="time limit, minutes")
    header: tuple[Line, ...] = Field((), description="lines for the scheduler in place of those for resources and time")

    @model_validator(mode="after")
    def _header_is_described(self) -> WholeRun:
        if not self.header:
            return self
        if absent := [key for key in ("cpus", "gpus", "time_min") if key not in self.model_fields_set]:
            raise ValueError(f"header asks for resources, which plexrank does not read; give {', '.join(absent)} too")
        if "mem_gb" in self.model_fields_set:
            raise ValueError("mem_gb has no effect beside header; leave it out")
        return self


class Profile(Placement):
    """A site; read by :func:`load_profile`."""

    scheduler: Literal["slurm", "pbs", "lsf", "sge"] = Field("slurm", description="other than slurm: one job, by hand")
    run: WholeRun = Field(WholeRun(), description="that one job")
    clusters: Clusters | None = Field(None, description="cluster to submit to, or several separated by commas")
    max_array_size: int | None = Field(
        None, ge=1, le=10_000_000, description="tasks of an array at most, where scontrol does not say"
    )
    container: Container | None = Field(None, description="without it, stages run with python on the nodes")
    python: Path | None = Field(None, description="without a container: the interpreter that has plexrank on the nodes")
    setup: tuple[Line, ...] = Field((), description="lines of shell before every job's work, such as module load")
    srun: tuple[Word, ...] = Field((), description="further options of srun, such as --mpi=none")
    stop_before_s: int = Field(180, ge=5, le=3600, description="seconds before the time limit, to save progress")
    max_requeues: int = Field(20, ge=0, le=10_000, description="starts after the first, for a job that has more to do")
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
        _refuse_what_has_no_effect(given)
        return given | {
            stage: _defaults(stage, given) | given[stage]
            if isinstance(given.get(stage), dict)
            else given.get(stage, _defaults(stage, given))
            for stage in STAGE_DEFAULTS
        }

    @model_validator(mode="after")
    def _fits_together(self) -> Profile:
        if self.container is not None and self.python is not None:
            raise ValueError("python is for sites without a container, which brings its own; leave one of them out")
        if self.scheduler != "slurm":
            self._one_job_fits_together(DIRECTIVES[self.scheduler])
        if self.tile.gpus_per_node:
            raise ValueError("tile.gpus_per_node must be 0: tiling uses no GPU")
        if 1 < self.tile.nodes * self.tile.processes < LEAST_DASK_PROCESSES:
            raise ValueError(
                f"tile: nodes × tasks_per_node must be 1, or {LEAST_DASK_PROCESSES} and more for images beyond one "
                "machine: a scheduler, a client and workers"
            )
        return self

    def _one_job_fits_together(self, prefix: str) -> None:
        if wrong := [line for line in self.run.header if not line.startswith(f"{prefix} ")]:
            raise ValueError(f"run.header: a line for {self.scheduler} begins with {prefix}, got {wrong[0]!r}")
        if self.run.time_min * 60 <= self.stop_before_s:
            raise ValueError(
                f"stop_before_s is {self.stop_before_s}, but run.time_min only {self.run.time_min}; raise that"
            )

    @model_validator(mode="after")
    def _one_process_a_gpu(self) -> Profile:
        for stage in STAGE_DEFAULTS:
            self.resources(stage)
        return self

    @property
    def first_cluster(self) -> str:
        """The one whose limits are asked for; empty for that of the machine."""
        return (self.clusters or "").split(",")[0]

    def resources(self, stage: str) -> Resources:
        """What a stage asks for, with the profile's own placement and options where it does not say, null included.

        Raises:
            ValueError: there is not one process for each GPU.
        """
        asked: Resources = getattr(self, stage)
        general = general_options(
            self.sbatch,
            asked.sbatch,
            memory=asked.mem_gb is not None,
            gpus="gpus_per_node" in asked.model_fields_set,
        )
        inherited = {
            name: getattr(self, name) for name in Placement.model_fields.keys() - asked.model_fields_set - {"sbatch"}
        }
        asked = asked.model_copy(update={**inherited, "sbatch": general | asked.sbatch})
        if stage not in GPU_STAGES:
            return asked.model_copy(update={"tasks_per_node": asked.processes})
        try:
            gpus = asked.gpus
        except ValueError as error:
            raise ValueError(f"{stage}: {error}") from error
        if gpus and asked.tasks_per_node not in (None, gpus):
            raise ValueError(
                f"{stage}: tasks_per_node is {asked.tasks_per_node} with {gpus} GPUs on each machine; "
                "leave it out, since one process drives one GPU"
            )
        return asked.model_copy(update={"tasks_per_node": asked.tasks_per_node or gpus or 1})


def _refuse_what_has_no_effect(given: Mapping[str, Any]) -> None:
    """Raise :class:`ValueError` for keys that the scheduler of a profile knows nothing of."""
    scheduler, run = given.get("scheduler", "slurm"), given.get("run", {})
    if scheduler == "slurm":
        if run:
            raise ValueError("run is for other schedulers than Slurm; give tile, train, attribute, rank and report")
        return
    slurms = {"qos", "constraint", "sbatch", "clusters", "max_array_size", "srun", *STAGE_DEFAULTS}
    if without_effect := sorted(given.keys() & slurms):
        raise ValueError(f"{', '.join(without_effect)}: for Slurm only; with {scheduler}, give run")


def _defaults(stage: str, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stage, without memory where the profile or the stage gives that as an option."""
    given = [part.get("sbatch") for part in (profile, profile.get(stage)) if isinstance(part, dict)]
    has_memory = any(isinstance(options, dict) and MEMORY & options.keys() for options in given)
    return {key: value for key, value in STAGE_DEFAULTS[stage].items() if not (has_memory and key == "mem_gb")}


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
