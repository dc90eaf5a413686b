"""How far a run is: its units by stage, the jobs that work on them, and what the failed ones said last."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from plexrank.errors import RunDirError
from plexrank.launch import slurm
from plexrank.launch.requeue import STOPPED
from plexrank.launch.slurm import TaskState
from plexrank.launch.submitted import Graph, read_graph
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan
from plexrank.rundir import RunDir
from plexrank.wording import counted

LOG_LINES = 8
"""How much of a failed task's log to show."""
MOST_JOBS = 3
"""How many jobs of a stage are shown one by one."""


@dataclass(frozen=True)
class StageStatus:
    """Units of a stage by what becomes of them, its tasks by state, and why the first of the rest is not done.

    ``note`` says how many of them are of a kind of their own.
    """

    stage: str
    total: int
    done: int
    running: int
    waiting: int
    failed: int
    jobs: str
    reason: str
    note: str = ""

    def line(self) -> str:
        """For a person."""
        text = f"{self.stage:10} {self.done:4} of {self.total} done{self.note}"
        counts = {"running": self.running, "waiting": self.waiting, "failed": self.failed}
        text += "".join(f", {count} {what}" for what, count in counts.items() if count)
        if self.jobs:
            return f"{text}; {self.jobs}"
        what = "first of the rest: " if self.done < self.total > 1 else ""
        return f"{text}; {what}{self.reason}" if self.reason else text


@dataclass(frozen=True)
class Failure:
    """A task that ended without finishing its units.

    Attributes:
        task: its id.
        what: job and units.
        state: as Slurm has it, or that it ended.
        log: its log, if it ever began, and the last lines.
    """

    task: str
    what: str
    state: TaskState
    log: Path | None
    last_lines: tuple[str, ...]

    @property
    def was_stopped(self) -> bool:
        """Whether it saved its progress and would go on."""
        return self.state.detail.startswith(f"exit {STOPPED}:")

    @property
    def never_began(self) -> bool:
        """Whether it was cancelled because of another."""
        return self.log is None and self.state.state in ("CANCELLED", "ENDED")


@dataclass(frozen=True)
class RunStatus:
    """All that a user wants to know of a run under way; ``command`` does what is left of it."""

    stages: tuple[StageStatus, ...]
    failures: tuple[Failure, ...]
    next_step: str
    is_active: bool
    left_out: str
    command: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        failures = [
            {
                "task": failure.task,
                "what": failure.what,
                "state": failure.state.state,
                "detail": failure.state.detail,
                "log": None if failure.log is None else str(failure.log),
                "last_lines": list(failure.last_lines),
            }
            for failure in self.failures
        ]
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "failures": failures,
            "is_active": self.is_active,
            "left_out": self.left_out,
            "next": self.next_step,
            "command": self.command,
        }

    def lines(self) -> list[str]:
        """For a person."""
        lines = [stage.line() for stage in self.stages]
        for failure in self.failures:
            if failure.never_began:
                continue
            lines.append(f"{failure.what}: job {failure.task} {failure.state.state} {failure.state.detail}".rstrip())
            if failure.log:
                lines += [f"  {failure.log}:", *(f"    {line}" for line in failure.last_lines)]
        cancelled = [failure.what for failure in self.failures if failure.never_began]
        if cancelled:
            lines.append(f"cancelled because they waited for what failed: {', '.join(cancelled)}")
        if self.left_out:
            lines.append(self.left_out)
        return [*lines, f"next: {self.next_step}"]


def run_status(plan: Plan) -> RunStatus:
    """Look at the records of a run and at what Slurm knows of its jobs.

    Raises:
        RunDirError: the record of its jobs is damaged.
    """
    graph = read_graph(plan.rundir.graph)
    states = slurm.task_states(graph.job_ids, graph.cluster) if graph else {}
    reasons = {unit.record: reason for stage in STAGES for unit in plan.units(stage) if (reason := unit.why_not_done())}
    left = {str(record.relative_to(plan.rundir.path)) for record in reasons}
    stages = tuple(_stage_status(stage, plan, reasons, graph, states) for stage in STAGES)
    failures = tuple(_failures(plan, left, graph, states)) if graph else ()
    is_active = graph is not None and bool(graph.active(states))
    left_out = f"left out     {counted(len(plan.skipped), 'image')} that cannot be used: {plan.rundir.skipped}"
    again = command_again(plan.rundir, graph)
    return RunStatus(
        stages,
        failures,
        _next_step(plan, again, bool(reasons), graph, is_active, failures),
        is_active,
        left_out if plan.skipped else "",
        again,
    )


def _stage_status(
    stage: str, plan: Plan, reasons: Mapping[Path, str], graph: Graph | None, states: Mapping[str, TaskState]
) -> StageStatus:
    table = plan.rundir.tiles_record  # joins the images, and is none
    units = [unit.record for unit in plan.units(stage) if unit.record != table]
    left = [record for record in units if record in reasons]
    reason = reasons[left[0]] if left else ""
    if stage == "tile" and not left and table in reasons:
        reason = f"table of all tiles: {reasons[table]}"
    of_unit: dict[Path, str] = {}
    of_job: dict[str, Counter[str]] = {}
    for job in graph.jobs if graph else ():
        if job.stage != stage:
            continue
        for task, share in job.tasks():
            state = states.get(task, TaskState("ENDED")).state
            of_job.setdefault(job.job_id, Counter())[state] += 1
            of_unit |= {plan.rundir.path / record: state for record in share}
    of_left = [of_unit[record] for record in left if record in of_unit]
    running = sum(state in slurm.ACTIVE and state != "PENDING" for state in of_left)
    waiting = of_left.count("PENDING")
    if len(of_job) > MOST_JOBS:
        of_job = {f"{min(of_job, key=int)}–{max(of_job, key=int)}": sum(of_job.values(), Counter())}
    in_words = [
        f"job {job_id} {' '.join(state if count == 1 else f'{count} × {state}' for state, count in counts.items())}"
        for job_id, counts in of_job.items()
    ]
    return StageStatus(
        stage,
        total=len(units),
        done=len(units) - len(left),
        running=running,
        waiting=waiting,
        failed=len(of_left) - running - waiting,
        jobs=", ".join(in_words) if left else "",
        reason=reason,
        note=_null_trainings(units, left, plan),
    )


def _null_trainings(units: Sequence[Path], left: Sequence[Path], plan: Plan) -> str:
    total, to_do = (sum(record.is_relative_to(plan.rundir.null) for record in records) for records in (units, left))
    return f" ({counted(total - to_do, 'null training', of=total)})" if total else ""


def _failures(plan: Plan, left: set[str], graph: Graph, states: Mapping[str, TaskState]) -> list[Failure]:
    failures = []
    for job in graph.jobs:
        for task, share in job.tasks():
            state = states.get(task, TaskState("ENDED", "before it was done"))
            missing = [record for record in share if record in left]
            if not missing or state.is_active:
                continue
            log, lines = _log(plan.rundir.logs, task)
            failures.append(
                Failure(
                    task,
                    f"{job.name} ({missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''})",
                    state,
                    log,
                    lines,
                )
            )
    return failures


def _log(folder: Path, task: str) -> tuple[Path | None, tuple[str, ...]]:
    """Of the logs of a task's processes the first that ends with an error, else the first, with its last lines."""
    found: tuple[Path | None, tuple[str, ...]] = (None, ())
    for log in sorted(folder.glob(f"{task}_*_log.out"), key=lambda path: (len(path.name), path.name)):
        lines = tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
        if any(line.startswith("error: ") for line in lines):
            return log, lines
        found = found if found[0] else (log, lines)
    return found


def command_again(rundir: RunDir, graph: Graph | None) -> str:
    """The command that goes on with a run, to be given as it is.

    The last command, where it goes to the end and its folder is known; otherwise one from the study as it was resolved.
    """
    resolved = f"plexrank run {shlex.quote(str(rundir.study))} --out {shlex.quote(str(rundir.path))}"
    resolved += "" if graph is None else f" --cluster {shlex.quote(str(graph.profile))}"
    try:
        last = rundir.last_command()
        words = shlex.split(last.get("command", ""))
    except (RunDirError, ValueError):
        return resolved
    folder = last.get("folder")
    ends_early = any(word.partition("=")[0] in ("--until", "--dry-run") for word in words)
    is_submitted = any(word.partition("=")[0] == "--cluster" for word in words)
    if folder is None or words[:2] != ["plexrank", "run"] or ends_early:
        return resolved
    if is_submitted != (graph is not None) or not _leads_to(rundir.path, Path(folder), words):
        return resolved
    command = shlex.join(words)
    return command if Path(folder) == Path.cwd() else f"cd {shlex.quote(folder)} && {command}"


def _leads_to(run: Path, folder: Path, words: Sequence[str]) -> bool:
    """Whether a command, given in a folder, works in this run directory, which may have been moved or copied since."""
    out = ""
    for word, after in pairwise([*words, ""]):
        if word == "--out":
            out = after
        elif word.startswith("--out="):
            out = word.removeprefix("--out=")
    return (folder / out).resolve() == run.resolve()


def _next_step(
    plan: Plan, again: str, is_unfinished: bool, graph: Graph | None, is_active: bool, failures: tuple[Failure, ...]
) -> str:
    if not is_unfinished:
        return f"open {plan.rundir.report_page}"
    if graph is None:
        return f"{again} does what is left"
    if not graph.released:
        return f"the submission was interrupted; {again} cancels what it submitted and submits again"
    if any(not failure.was_stopped and not failure.never_began for failure in failures):
        return f"fix what failed; then {again} submits that and what follows from it"
    if is_active:
        return (
            f"wait; plexrank status {plan.rundir.path} --watch follows it, plexrank cancel {plan.rundir.path} ends it"
        )
    return f"{again} submits what is left"
