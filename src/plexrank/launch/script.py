"""The script of one job, for sbatch: resources, container, the stage's command, and what follows a stop."""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from submitit import SlurmExecutor

from plexrank.errors import StudyError
from plexrank.launch import requeue, versions
from plexrank.launch.profile import GPU_STAGES, Profile, Resources
from plexrank.machine.gpus import ASKED
from plexrank.rundir import RunDir
from plexrank.settings import Study


@dataclass(frozen=True)
class Job:
    """One job of the graph, or one array of them.

    Attributes:
        name: ``tile``, ``table`` (which joins the tile tables), ``train``, ``attribute``, ``rank`` or ``report``.
        stage: the command to run.
        shares: for each task the done-records, relative to the run directory, of the units that it works on.
        at_once: of these tasks, run at the same time at most.
        part: number of the job among those of the same name, from 1.
    """

    name: str
    stage: str
    shares: tuple[tuple[str, ...], ...]
    at_once: int = 1
    part: int = 1

    @property
    def is_array(self) -> bool:
        """Whether it is submitted as an array."""
        return len(self.shares) > 1

    @property
    def label(self) -> str:
        """What its files are called."""
        return self.name if self.part == 1 else f"{self.name}-{self.part}"

    def full_name(self, study: str, token: str) -> str:
        """What it is called in Slurm; ends with the token of its submission."""
        return f"{self.name}-{study}-{token}"


class _Executor(SlurmExecutor):
    """submitit's, for commands: no function is pickled, so that nothing in a job's folder is ever unpickled."""

    @classmethod
    def affinity(cls) -> int:
        return 1  # scripts can be written where there is no Slurm

    def script(self, command: str, num_tasks: int = 1) -> str:
        self.parameters["map_count"] = num_tasks if num_tasks > 1 else None
        text: str = self._make_submission_file_text(command, uid="")
        return text + "\n"


def sbatch_text(job: Job, profile: Profile, study: Study, rundir: RunDir, folder: Path) -> str:
    """The script of a job.

    Args:
        job: what to work on.
        profile: of the cluster.
        study: resolved; says which folders the container must show.
        rundir: where.
        folder: holds the job's lists of units, ``NAME/TASK.units``.

    Raises:
        StudyError: a path cannot stand in a script.
    """
    refuse_unusable_path(rundir.path)
    asked = resources_of(job, profile)
    binds = [*(mount(path, "ro") for path in data_folders(profile, study)), mount(rundir.path)]
    python = python_command(profile, binds, rundir.path, _gpu_option_of(job.stage, profile, asked))
    command = f"{python} -m plexrank {job.stage} {shlex.quote(str(rundir.path))}"
    if job.stage in ("tile", "train", "attribute"):
        command += ' --units "$units"'
    setup = [f"units={_units(job, folder)}", *requeue.lines_before(rundir)]
    teardown = requeue.lines_after(rundir, profile.max_requeues)
    executor = _executor(job.stage, job.name, asked, profile, rundir.logs, setup, teardown, at_once=job.at_once)
    return executor.script(command, len(job.shares))


def probe_text(stage: str, asked: Resources, profile: Profile, folder: Path, num_tasks: int = 1) -> str:
    """The script of a job that runs ``plexrank doctor`` where a stage would run.

    Args:
        stage: in whose place.
        asked: what the job asks for.
        profile: of the cluster.
        folder: where its log goes; the only one that its container shows.
        num_tasks: of the array that it is.
    """
    refuse_unusable_path(folder)
    executor = _executor(stage, "doctor", asked, profile, folder)
    python = python_command(profile, [mount(folder)], folder, _gpu_option_of(stage, profile, asked))
    return executor.script(f"{python} -m plexrank doctor", num_tasks)


def resources_of(job: Job, profile: Profile) -> Resources:
    """What a job asks for; the one that joins the tables of tiles is a single process of the stage."""
    asked = profile.resources(job.stage)
    return asked.model_copy(update={"nodes": 1, "tasks_per_node": 1}) if job.name == "table" else asked


def _executor(
    stage: str,
    name: str,
    asked: Resources,
    profile: Profile,
    logs: Path,
    setup: Sequence[str] = (),
    teardown: Sequence[str] = (),
    *,
    at_once: int = 1,
) -> _Executor:
    executor = _Executor(logs)
    gpus = asked.gpus if stage in GPU_STAGES else 0
    executor.update_parameters(
        job_name=name,
        nodes=None,  # like all that is None here, given by asked.options or not at all
        time=None,
        wckey=None,
        signal_delay_s=profile.stop_before_s,
        array_parallelism=at_once,
        stderr_to_stdout=True,
        setup=[
            "export SLURM_EXPORT_ENV=ALL",
            '[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK',
            *profile.setup,
            *versions.version_lines(),
            f"export {ASKED}={gpus}",
            *setup,
        ],
        teardown=list(teardown) or None,
        srun_args=["--open-mode=append", "--kill-on-bad-exit=1", "--wait=60", *profile.srun],
        additional_parameters=asked.options(),
    )
    return executor


def refuse_unusable_path(path: Path) -> None:
    """Raise :class:`StudyError` for a path that Slurm or the shell would read as something else."""
    bad = sorted({letter for letter in str(path) if letter in "%\\" or not letter.isprintable()})
    if bad:
        raise StudyError(f"{str(path)!r}: {bad[0]!r} cannot stand in the path of a run on a cluster; rename the folder")


def data_folders(profile: Profile, study: Study) -> list[Path]:
    """Files and folders outside the run directory that its stages read, none within another."""
    cohort, weights = study.cohort, study.model.weights
    inputs = [cohort.root, cohort.samplesheet, cohort.panel, cohort.truth, weights if weights != "none" else None]
    paths = {
        path for path in (*inputs, *(profile.container.bind if profile.container else ())) if isinstance(path, Path)
    }
    return sorted(path for path in paths if not any(path.is_relative_to(other) for other in paths - {path}))


def _units(job: Job, folder: Path) -> str:
    """Shell for the file that lists the units of a task."""
    return f"{shlex.quote(str(folder / job.label))}/{'$SLURM_ARRAY_TASK_ID' if job.is_array else '0'}.units"


def python_command(profile: Profile, binds: Sequence[str], folder: Path, gpu_option: str) -> str:
    """What starts Python: the interpreter itself, or the one within the container, in ``folder``.

    Args:
        profile: of the cluster.
        binds: what to show inside, by :func:`mount`.
        folder: where to start.
        gpu_option: of the container, with a blank after it; empty without GPUs.
    """
    if profile.container is None:
        return shlex.join([str(profile.python or sys.executable), "-P", "-u"])
    words = [*profile.container.options, "--contain", "--no-home", "--pwd", str(folder)]
    words += [part for bind in binds for part in ("--mount", bind)]
    words += [str(profile.container.image), "python", "-I", "-u"]
    return f"{shlex.quote(profile.container.runtime)} exec {gpu_option}{shlex.join(words)}"


def _gpu_option_of(stage: str, profile: Profile, asked: Resources) -> str:
    return gpu_option(profile, asked.gpus, "SLURM_JOB_GPUS") if stage in GPU_STAGES else ""


def gpu_option(profile: Profile, gpus: int, given_by: str) -> str:
    """What shows the GPUs inside the container, with a blank after it, unless the profile's own options do.

    Args:
        profile: of the cluster.
        gpus: how many it asks for.
        given_by: variable by which the scheduler gives GPUs, asked for by the profile or not.
    """
    if profile.container and {"--nv", "--nvccli", "--rocm"} & {*profile.container.options}:
        return ""
    return "--nv " if gpus else f"${{{given_by}:+--nv}} "


def mount(path: Path, *options: str) -> str:
    """A folder at the same place inside the container; commas and quotes in its name are kept apart as in CSV."""
    refuse_unusable_path(path)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"src={path}", f"dst={path}", *options])
    return line.getvalue()


def write_units(job: Job, folder: Path) -> None:
    """Write the lists of units that a job's tasks read."""
    lists = folder / job.label
    lists.mkdir(parents=True, exist_ok=True)
    for task, share in enumerate(job.shares):
        (lists / f"{task}.units").write_text("".join(f"{record}\n" for record in share), encoding="utf-8")


def spread(costs: Sequence[tuple[str, float]], num_shares: int) -> tuple[tuple[str, ...], ...]:
    """Deal units to shares of about the same cost: the dearest first, each to the share with the least so far."""
    shares: list[list[str]] = [[] for _ in range(min(num_shares, len(costs)))]
    loads = [0.0] * len(shares)
    for unit, cost in sorted(costs, key=lambda one: (-one[1], one[0])):
        lightest = loads.index(min(loads))
        shares[lightest].append(unit)
        loads[lightest] += max(cost, 1.0)
    return tuple(map(tuple, shares))
