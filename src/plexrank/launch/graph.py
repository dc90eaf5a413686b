"""Which jobs a run needs: the units that are left, by job, and how they are spread over tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from plexrank.cohorts.bad_images import read_skipped
from plexrank.images.image_path import size_and_mtime
from plexrank.launch.profile import ArrayResources, Profile
from plexrank.launch.script import Job, spread
from plexrank.launch.submitted import JOB_NAMES
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan, make_plan
from plexrank.rundir import Unit


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
