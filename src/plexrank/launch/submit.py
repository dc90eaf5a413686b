"""A run submitted to Slurm: every job after the one before, the first held until all are there."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import MissingInputError, PlexrankError, RunDirError, StudyError
from plexrank.launch import slurm
from plexrank.launch.by_hand import write_submit_script
from plexrank.launch.graph import plan_jobs, units_left
from plexrank.launch.options import variables_of
from plexrank.launch.profile import Profile
from plexrank.launch.refusals import explain
from plexrank.launch.script import Job, resources_of, sbatch_text, write_units
from plexrank.launch.submitted import JOB_NAMES, Graph, SubmittedJob, read_graph, write_graph
from plexrank.planning.plan import Plan
from plexrank.rundir import RunDir, Unit, file_digest, now, write_text
from plexrank.study import dump_study
from plexrank.wording import counted


@dataclass(frozen=True)
class Submission:
    """What was submitted.

    Attributes:
        submitted: new jobs.
        under_way: ids of tasks submitted before that still wait or run.
        cancelled: ids of tasks that waited for what is now done again.
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
        for cluster in graph.clusters:
            slurm.cancel_and_wait(_active_named(graph, cluster), cluster)
        return {}
    active = graph.active(slurm.task_states(graph.job_ids, graph.cluster))
    if active and rundir.study.read_text(encoding="utf-8") != dump_study(plan.study):
        raise StudyError(
            f"{rundir.path}: {counted(len(active), 'job', 'is')} under way with other settings; "
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
    before = read_graph(rundir.graph)
    cluster = before.cluster if before and active else ""
    slurm.cancel_and_wait(outdated, cluster)
    kept = {task: found for task, found in active.items() if task not in outdated}
    if not chosen:
        return Submission((), tuple(sorted(kept)), tuple(sorted(outdated)))
    graph = _empty_graph(profile, profile_path, tuple({job.job_id: job for job, _ in kept.values()}.values()), cluster)
    folder = rundir.jobs / graph.token
    jobs = _write_scripts(chosen, plan, profile, folder, cluster)
    write_graph(rundir.graph, graph)
    submitting = _Submitting(plan, profile, folder, graph, kept)
    return Submission(submitting.submit_all(jobs), tuple(sorted(kept)), tuple(sorted(outdated)))


def _empty_graph(profile: Profile, profile_path: Path, jobs: tuple[SubmittedJob, ...], cluster: str) -> Graph:
    """The record of a submission that begins, with the jobs that are under way already."""
    return Graph(
        token=secrets.token_hex(3),
        profile=str(profile_path.resolve()),
        container_sha256=container_digest(profile),
        submitted=now(),
        released=False,
        jobs=jobs,
        cluster=cluster or profile.clusters or "",
    )


def _write_scripts(
    chosen: dict[str, list[Unit]], plan: Plan, profile: Profile, folder: Path, cluster: str = ""
) -> list[Job]:
    """Write scripts and lists of units of the jobs that do these units, and return the jobs."""
    rundir = plan.rundir
    for path in (folder, rundir.logs, rundir.idle, rundir.meetings):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    needs_arrays = any(len(units) > 1 for units in chosen.values())
    largest = 1
    if needs_arrays:
        largest = profile.max_array_size or slurm.max_array_size(cluster or profile.first_cluster)
    jobs = [job for name, units in chosen.items() for job in plan_jobs(name, units, plan, profile, largest)]
    for job in jobs:
        write_units(job, folder)
        write_text(folder / f"{job.label}.sh", sbatch_text(job, profile, plan.study, rundir, folder))
    return jobs


def lines_about(submission: Submission, rundir: RunDir) -> list[str]:
    """What was submitted, and how to follow it."""
    lines = [f"{task} was cancelled: it waited for what is now done again" for task in submission.cancelled]
    if not submission.submitted:
        left = f"{counted(len(submission.under_way), 'job', 'is')} under way" if submission.under_way else "all is done"
        lines.append(f"nothing to submit: {left}")
    for job in submission.submitted:
        units = sum(len(share) for share in job.shares)
        array = f", an array of {len(job.shares)}" if job.is_array else ""
        lines.append(f"{job.name:10} job {job.job_id}{array}: {counted(units, 'unit')}")
    return [*lines, f"follow it: plexrank status {shlex.quote(str(rundir.path))} --watch; logs in {rundir.logs}"]


def write_dry_run(plan: Plan, profile: Profile, profile_path: Path, until: str) -> Path:
    """Write all that would be submitted, and submit nothing; the script that would.

    Raises:
        RunDirError: jobs of the run are under way, or others could write what the jobs run.
    """
    require_private(plan.rundir)
    refuse_while_jobs_run(plan.rundir)
    folder = plan.rundir.jobs / "dry-run"
    shutil.rmtree(folder, ignore_errors=True)
    chosen = {name: units for name, units in units_left(plan, until).items() if units}
    jobs = _write_scripts(chosen, plan, profile, folder)
    graph = _empty_graph(profile, profile_path, (), "")
    write_submit_script(jobs, graph, profile, plan.study.name, plan.rundir, folder)
    return folder / "submit.sh"


def cancel_run(rundir: RunDir) -> list[str]:
    """Cancel the jobs of a run that wait or run; their ids."""
    graph = read_graph(rundir.graph)
    if graph is None:
        return []
    cancelled: list[str] = []
    for cluster in graph.clusters:
        found = {*graph.active(slurm.task_states(graph.job_ids, cluster)), *_active_named(graph, cluster)}
        arrays = {task.split("_")[0] for task in found}
        slurm.cancel(arrays, cluster)
        cancelled += sorted(arrays, key=int)
    return cancelled


def _active_named(graph: Graph, cluster: str) -> list[str]:
    """Jobs of a submission by their names, which the record need not list where it was broken off."""
    return slurm.active_named(f"-{graph.token}", cluster)


def refuse_while_jobs_run(rundir: RunDir) -> None:
    """Raise :class:`RunDirError` where jobs of the run wait or run: this process would write the same files."""
    graph = read_graph(rundir.graph)
    if graph is None:
        return
    active: set[str] = set()
    for cluster in graph.clusters:
        active |= graph.active(slurm.task_states(graph.job_ids, cluster)).keys()
        active |= set(_active_named(graph, cluster)) if not graph.released and slurm.is_available() else set()
    if active:
        raise RunDirError(
            f"{rundir.path}: {counted(len(active), 'job', 'is')} under way ({', '.join(sorted(active)[:3])}"
            f"{', …' if len(active) > 3 else ''}); wait for them, or run plexrank cancel {rundir.path}"
        )


def require_private(rundir: RunDir) -> None:
    """Make the run directory writable by the user alone, and the folders that jobs run from closed to all others.

    With a umask of 002 or 007 the group could write to them.

    Raises:
        RunDirError: a folder belongs to another user, everybody can write to it, or its mode cannot be changed.
    """
    rundir.create()
    for path in (rundir.jobs, rundir.logs):
        path.mkdir(mode=0o700, exist_ok=True)
    for path in (rundir.path, rundir.jobs, rundir.logs):
        state = path.lstat()
        if state.st_uid != os.geteuid() or not stat.S_ISDIR(state.st_mode):
            raise RunDirError(f"{path}: not a folder of yours; give --out a folder of your own")
        if state.st_mode & stat.S_IWGRP and not state.st_mode & stat.S_IWOTH:
            with contextlib.suppress(PermissionError):  # of file systems that have no modes
                path.chmod(stat.S_IMODE(state.st_mode) & ~stat.S_IWGRP)
            state = path.lstat()
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RunDirError(f"{path}: other users can write to it, and so run commands as you; chmod go-w it first")
        if path != rundir.path and state.st_mode & 0o077:
            with contextlib.suppress(PermissionError):
                path.chmod(stat.S_IMODE(state.st_mode) & ~0o077)


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
            f"{image}: no such container image; build it (see container/README.md) or fix the profile"
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


class _Submitting:
    """A submission under way."""

    def __init__(self, plan: Plan, profile: Profile, folder: Path, graph: Graph, kept: Active) -> None:
        self._plan, self._profile, self._folder, self._kept = plan, profile, folder, kept
        self._graph = graph
        self._submitted: list[SubmittedJob] = []

    def submit_all(self, jobs: Sequence[Job]) -> tuple[SubmittedJob, ...]:
        """Submit every job after those before it, and let the first ones go when all are there.

        Raises:
            PlexrankError: Slurm refuses one; then nothing new is left submitted.
        """
        held = [job for job in jobs if job.name == jobs[0].name]
        try:
            for job in jobs:
                self._submit(job, hold=job in held)
            slurm.release([job.job_id for job in self._submitted[: len(held)]], self._graph.cluster)
        except BaseException:
            slurm.cancel([job.job_id for job in self._submitted], self._graph.cluster)
            raise
        self._record(released=True)
        return tuple(self._submitted)

    def _submit(self, job: Job, hold: bool) -> None:
        earlier = JOB_NAMES[: JOB_NAMES.index(job.name)]
        after = [task for task, (old, _) in self._kept.items() if old.name in earlier]
        others = [new.name for new in self._submitted if new.name != job.name]
        after += [new.job_id for new in self._submitted if new.name in others[-1:]]
        options = resources_of(job, self._profile).options()
        clusters = self._graph.cluster
        try:
            taken = slurm.submit(
                self._folder / f"{job.label}.sh",
                name=job.full_name(self._plan.study.name, self._graph.token),
                after=after,
                hold=hold,
                clusters=clusters,
                without=variables_of(options),
            )
        except PlexrankError as error:
            raise PlexrankError(
                f"{job.label}: {explain(str(error), options, clusters=clusters, num_tasks=len(job.shares))}"
            ) from error
        self._submitted.append(
            SubmittedJob(
                name=job.name,
                stage=job.stage,
                job_id=taken.job_id,
                is_array=job.is_array,
                shares=job.shares,
                after=tuple(after),
            )
        )
        self._record(jobs=(*self._graph.jobs, self._submitted[-1]), cluster=taken.cluster or self._graph.cluster)

    def _record(self, **changes: object) -> None:
        self._graph = self._graph.model_copy(update=changes)
        write_graph(self._plan.rundir.graph, self._graph)
