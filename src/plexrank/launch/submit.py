"""A run submitted to Slurm: every job after the one before, the first held until all are there."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import MissingInputError, RunDirError, StudyError
from plexrank.launch import slurm
from plexrank.launch.graph import JOB_NAMES, Graph, SubmittedJob, plan_job, read_graph, units_left, write_graph
from plexrank.launch.profile import Profile
from plexrank.launch.script import Job, sbatch_text, write_units
from plexrank.plan import Plan
from plexrank.rundir import RunDir, Unit, file_digest, now, write_text
from plexrank.study import dump_study


@dataclass(frozen=True)
class Submission:
    """What was submitted.

    Attributes:
        submitted: new jobs.
        under_way: ids of tasks submitted before that still wait or run.
        cancelled: ids of tasks that waited for what is now done anew.
    """

    submitted: tuple[SubmittedJob, ...]
    under_way: tuple[str, ...]
    cancelled: tuple[str, ...]


Active = dict[str, tuple[SubmittedJob, tuple[str, ...]]]
"""Tasks that wait or run, by id, with their job and units."""


def jobs_under_way(plan: Plan) -> Active:
    """What an earlier submission left waiting or running; one that was broken off is taken back.

    Raises:
        StudyError: jobs are under way with other settings than the plan's.
        RunDirError: others could write what the jobs run.
    """
    rundir = plan.rundir
    require_private(rundir)
    graph = read_graph(rundir.graph)
    if graph is None:
        return {}
    if not graph.released:
        slurm.cancel_and_wait(slurm.active_named(f"-{graph.token}"))
        return {}
    active = graph.active(slurm.task_states(graph.job_ids))
    if active and rundir.study.read_text(encoding="utf-8") != dump_study(plan.study):
        raise StudyError(
            f"{rundir.path}: {len(active)} jobs are under way with other settings; "
            f"run plexrank cancel {rundir.path} first"
        )
    return active


def submit_run(plan: Plan, profile: Profile, profile_path: Path, until: str, active: Active) -> Submission:
    """Submit what is not done and not under way already.

    The caller keeps other runs out of the directory meanwhile.

    Args:
        plan: what to do.
        profile: of the cluster, read from ``profile_path``.
        until: the last stage to submit.
        active: what :func:`jobs_under_way` found.

    Raises:
        StudyError: a path cannot stand in a script.
        PlexrankError: Slurm refuses; then nothing new is left submitted.
    """
    rundir = plan.rundir
    chosen, outdated = _choose(units_left(plan, until), active, plan)
    slurm.cancel_and_wait(outdated)
    kept = {task: found for task, found in active.items() if task not in outdated}
    if not chosen:
        return Submission((), tuple(sorted(kept)), tuple(sorted(outdated)))
    jobs = [plan_job(name, units, plan, profile) for name, units in chosen.items()]
    token = secrets.token_hex(3)
    folder = write_scripts(jobs, plan, profile, rundir.jobs / token)
    graph = Graph(
        token=token,
        profile=str(profile_path.resolve()),
        container_sha256=container_digest(profile),
        submitted=now(),
        released=False,
        jobs=tuple({job.job_id: job for job, _ in kept.values()}.values()),
    )
    write_graph(rundir.graph, graph)
    return Submission(_submit_all(jobs, folder, graph, kept, plan), tuple(sorted(kept)), tuple(sorted(outdated)))


def write_scripts(jobs: Sequence[Job], plan: Plan, profile: Profile, folder: Path) -> Path:
    """Write scripts and lists of units of all jobs, and ``submit.sh``, which submits them by hand."""
    rundir = plan.rundir
    for path in (folder, rundir.logs, rundir.idle, rundir.meetings):
        path.mkdir(parents=True, exist_ok=True)
    steps, after = [], ""
    for position, job in enumerate(jobs):
        write_units(job, folder)
        write_text(folder / f"{job.name}.sh", sbatch_text(job, profile, plan.study, rundir, folder))
        name = shlex.quote(f"{job.name}-{plan.study.name}")
        script = shlex.quote(str(folder / f"{job.name}.sh"))
        steps.append(f"{job.name}=$(sbatch --parsable --job-name={name} {after}{script})")
        after = f"--dependency=afterok:${{{job.name}%%;*}} "
        steps[position] += f'\necho "{job.name}: job ${job.name}"'
    write_text(folder / "submit.sh", "#!/bin/bash\nset -euo pipefail\n" + "\n".join(steps) + "\n")
    return folder


def lines_about(submission: Submission, rundir: RunDir) -> list[str]:
    """What was submitted, and how to follow it."""
    lines = [f"{task} was cancelled: it waited for what is now done anew" for task in submission.cancelled]
    if not submission.submitted:
        left = f"{len(submission.under_way)} jobs are under way" if submission.under_way else "all is done"
        lines.append(f"nothing to submit: {left}")
    for job in submission.submitted:
        units = sum(len(share) for share in job.shares)
        array = f", an array of {len(job.shares)}" if job.is_array else ""
        lines.append(f"{job.name:10} job {job.job_id}{array}: {units} {'unit' if units == 1 else 'units'}")
    return [*lines, f"follow it: plexrank status {shlex.quote(str(rundir.path))} --watch; logs in {rundir.logs}"]


def write_dry_run(plan: Plan, profile: Profile, until: str) -> Path:
    """Write all that would be submitted, and submit nothing."""
    require_private(plan.rundir)
    jobs = [plan_job(name, units, plan, profile) for name, units in units_left(plan, until).items() if units]
    return write_scripts(jobs, plan, profile, plan.rundir.jobs / "dry-run")


def cancel_run(rundir: RunDir) -> list[str]:
    """Cancel the jobs of a run that wait or run; their ids."""
    graph = read_graph(rundir.graph)
    if graph is None:
        return []
    found = set(graph.active(slurm.task_states(graph.job_ids))) | set(slurm.active_named(f"-{graph.token}"))
    arrays = {task.split("_")[0] for task in found}
    slurm.cancel(arrays)
    return sorted(arrays, key=int)


def refuse_while_jobs_run(rundir: RunDir) -> None:
    """Raise :class:`RunDirError` where jobs of the run wait or run: this process would write the same files."""
    graph = read_graph(rundir.graph)
    if graph is not None and (active := graph.active(slurm.task_states(graph.job_ids))):
        raise RunDirError(
            f"{rundir.path}: {len(active)} jobs are under way ({', '.join(sorted(active)[:3])}"
            f"{', …' if len(active) > 3 else ''}); wait for them, or run plexrank cancel {rundir.path}"
        )


def require_private(rundir: RunDir) -> None:
    """Raise :class:`RunDirError` where another user could change what the jobs of this user run."""
    rundir.create()
    for path in (rundir.path, rundir.jobs, rundir.logs):
        if not path.exists():
            continue
        state = path.stat()
        if state.st_uid != os.geteuid():
            raise RunDirError(f"{path}: belongs to another user; give --out a folder of your own")
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RunDirError(f"{path}: others can write to it, and so run commands as you; chmod go-w it first")


def container_digest(profile: Profile) -> str | None:
    """SHA-256 of the image's file; ``None`` without one, or for an unpacked image.

    Raises:
        MissingInputError: there is no image.
    """
    if profile.container is None:
        return None
    image = profile.container.image
    if not image.exists():
        raise MissingInputError(
            f"{image}: no such container image; build it (see container/README.md) or mend the profile"
        )
    return file_digest(image) if image.is_file() else None


def _choose(left: dict[str, list[Unit]], active: Active, plan: Plan) -> tuple[dict[str, list[Unit]], set[str]]:
    """Units to submit by job name, and the tasks under way that are outdated: they wait for less than they should."""
    chosen: dict[str, list[Unit]] = {}
    outdated: set[str] = set()
    for name in JOB_NAMES:
        under_way = {task: share for task, (job, share) in active.items() if job.name == name}
        if chosen:
            outdated |= under_way.keys()
            under_way = {}
        covered = {plan.rundir.path / record for share in under_way.values() for record in share}
        missing = [unit for unit in left[name] if unit.record not in covered]
        if missing:
            chosen[name] = missing
    return chosen, outdated


def _submit_all(
    jobs: Sequence[Job],
    folder: Path,
    graph: Graph,
    kept: Active,
    plan: Plan,
) -> tuple[SubmittedJob, ...]:
    submitted: list[SubmittedJob] = []
    try:
        for job in jobs:
            earlier = JOB_NAMES[: JOB_NAMES.index(job.name)]
            after = [task for task, (old, _) in kept.items() if old.name in earlier]
            after += [new.job_id for new in submitted[-1:]]
            job_id = slurm.submit(
                folder / f"{job.name}.sh",
                name=f"{job.name}-{plan.study.name}-{graph.token}",
                after=after,
                hold=not submitted,
            )
            submitted.append(
                SubmittedJob(
                    name=job.name,
                    stage=job.stage,
                    job_id=job_id,
                    is_array=job.is_array,
                    shares=job.shares,
                    after=tuple(after),
                )
            )
            graph = graph.model_copy(update={"jobs": (*graph.jobs, submitted[-1])})
            write_graph(plan.rundir.graph, graph)
        slurm.release(submitted[0].job_id)
    except BaseException:
        slurm.cancel([job.job_id for job in submitted])
        raise
    write_graph(plan.rundir.graph, graph.model_copy(update={"released": True}))
    return tuple(submitted)
