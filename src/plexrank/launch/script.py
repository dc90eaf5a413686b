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
from plexrank.launch.profile import ArrayResources, Profile, Resources
from plexrank.rundir import RunDir
from plexrank.settings import Study


@dataclass(frozen=True)
class Job:
    """One job of the graph, or one array of them.

    Attributes:
        name: ``tile``, ``table`` (which joins the tile tables), ``train``, ``attribute``, ``rank`` or ``report``.
        stage: the command to run.
        shares: for each task the done-records, relative to the run directory, of the units that it works on.
    """

    name: str
    stage: str
    shares: tuple[tuple[str, ...], ...]

    @property
    def is_array(self) -> bool:
        """Whether it is submitted as an array, of one task or more."""
        return self.name == self.stage and self.stage in ("tile", "train", "attribute")


class _Executor(SlurmExecutor):
    """submitit's, for commands: no function is pickled, so that nothing in a job's folder is ever unpickled."""

    @classmethod
    def affinity(cls) -> int:
        return 1  # scripts can be written where there is no Slurm

    def script(self, command: str, num_tasks: int | None) -> str:
        self.parameters["map_count"] = num_tasks
        text: str = self._make_submission_file_text(command, uid="")
        return text.replace("export SUBMITIT_EXECUTOR=slurm\n", "") + "\n"


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
    asked = profile.resources(job.name if job.name in ("rank", "report") else job.stage)
    if job.name == "table":
        asked = asked.model_copy(update={"nodes": 1, "tasks_per_node": 1})
    binds = [*(_mount(path, "ro") for path in data_folders(profile, study)), _mount(rundir.path)]
    python = _python(profile, binds, rundir.path, asked.gpus_per_node > 0)
    command = f"{python} -m plexrank {job.stage} {shlex.quote(str(rundir.path))}"
    if job.stage in ("tile", "train", "attribute"):
        command += ' --units "$units"'
    setup = [*profile.setup, *versions.lines_before(), f"units={_units(job, folder)}", *requeue.lines_before(rundir)]
    teardown = requeue.lines_after(rundir, profile.max_requeues)
    executor = _executor(job.name, asked, profile, rundir.logs, setup, teardown)
    return executor.script(command, len(job.shares) if job.is_array else None)


def probe_text(asked: Resources, profile: Profile, folder: Path) -> str:
    """The script of a job that runs ``plexrank doctor`` where a stage would run.

    Args:
        asked: what the job asks for.
        profile: of the cluster.
        folder: where its log goes; the only one that its container shows.
    """
    refuse_unusable_path(folder)
    executor = _executor("doctor", asked, profile, folder, [*profile.setup, *versions.lines_before()], ())
    python = _python(profile, [_mount(folder)], folder, asked.gpus_per_node > 0)
    return executor.script(f"{python} -m plexrank doctor", None)


def _executor(
    name: str, asked: Resources, profile: Profile, logs: Path, setup: Sequence[str], teardown: Sequence[str]
) -> _Executor:
    executor = _Executor(logs)
    executor.update_parameters(
        job_name=name,
        partition=asked.partition,
        account=asked.account,
        qos=asked.qos,
        constraint=asked.constraint,
        nodes=asked.nodes,
        ntasks_per_node=asked.tasks_per_node,
        gpus_per_node=asked.gpus_per_node or None,
        cpus_per_task=asked.cpus_per_task,
        mem=f"{asked.mem_gb * 1024:.0f}M",
        time=asked.time_min,
        signal_delay_s=profile.stop_before_s,
        array_parallelism=asked.at_once if isinstance(asked, ArrayResources) else 1,
        wckey=None,
        stderr_to_stdout=True,
        setup=["export SLURM_EXPORT_ENV=ALL SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", *setup],
        teardown=list(teardown) or None,
        srun_args=["--open-mode=append", "--kill-on-bad-exit=1", "--wait=60", *profile.srun],
        additional_parameters={"kill-on-invalid-dep": "yes", "requeue": True, **profile.sbatch},
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
    return f"{shlex.quote(str(folder / job.name))}/{'$SLURM_ARRAY_TASK_ID' if job.is_array else '0'}.units"


def _python(profile: Profile, binds: Sequence[str], folder: Path, has_gpus: bool) -> str:
    """What starts Python for a stage: the interpreter itself, or the one within the container, in ``folder``."""
    if profile.container is None:
        return shlex.join([str(profile.python or sys.executable), "-P", "-u"])
    return shlex.join(
        [profile.container.runtime, "exec", *["--nv"] * has_gpus, "--contain", "--no-home", "--pwd", str(folder)]
        + [part for bind in binds for part in ("--mount", bind)]
        + [str(profile.container.image), "python", "-I", "-u"]
    )


def _mount(path: Path, *options: str) -> str:
    """A folder at the same place inside the container; commas and quotes in its name are kept apart as in CSV."""
    refuse_unusable_path(path)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"src={path}", f"dst={path}", *options])
    return line.getvalue()


def write_units(job: Job, folder: Path) -> None:
    """Write the lists of units that a job's tasks read."""
    own = folder / job.name
    own.mkdir(parents=True, exist_ok=True)
    for task, share in enumerate(job.shares):
        (own / f"{task}.units").write_text("".join(f"{record}\n" for record in share), encoding="utf-8")


def spread(costs: Sequence[tuple[str, float]], num_shares: int) -> tuple[tuple[str, ...], ...]:
    """Deal units to shares of about the same cost: the dearest first, each to the share with the least so far."""
    shares: list[list[str]] = [[] for _ in range(min(num_shares, len(costs)))]
    loads = [0.0] * len(shares)
    for unit, cost in sorted(costs, key=lambda one: (-one[1], one[0])):
        lightest = loads.index(min(loads))
        shares[lightest].append(unit)
        loads[lightest] += max(cost, 1.0)
    return tuple(map(tuple, shares))
