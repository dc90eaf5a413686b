"""The order of a run: which stage follows which, and what each needs."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from plexrank.errors import MissingInputError, RunDirError
from plexrank.machine.processes import is_first, several_started_by
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter, Silent
from plexrank.rundir import DamagedOutputError, Unit, make_way
from plexrank.stages.todo import report_all_done
from plexrank.wording import counted

_SMALL = ("rank", "report")
"""Stages whose outputs are held against their digests even where nothing is left to do."""


def run_stages(plan: Plan, stages: Sequence[str], reporter: Reporter) -> None:
    """Do what is not done of some stages, one after the other.

    Where a stage finds an output of before damaged, the unit that wrote it is done again, once, if its stage is one of
    these; otherwise its done-record is withdrawn, so that the next command does it again.

    Raises:
        MissingInputError: the stage before the first of them is not done.
        DamagedOutputError: an output is damaged that these stages do not make, or is damaged again.
        PlexrankError: what went wrong; finished units stay finished.
    """
    _require_stage_before(stages[0], plan)
    made_again: set[Path] = set()
    while True:
        try:
            for stage, of_stage in plans_of_stages(plan, stages):
                _work(stage, of_stage, reporter)
        except DamagedOutputError as error:
            is_shared = several_started_by() or plan.chosen is not None  # others are at work on what rests on it
            if is_shared or not _can_be_made(plan, error.record):
                raise
            make_way(error.record)
            owner = _stage_of(plan, error.record)
            if owner not in stages or error.record in made_again:
                raise
            made_again.add(error.record)
            reporter.say(f"warning: {str(error).rpartition('; ')[0] or error}; making it again")
            plan = _afresh(plan, stages[0])
        else:
            return


def _stage_of(plan: Plan, record: Path) -> str | None:
    """The stage that the unit with this done-record belongs to."""
    return next((stage for stage in STAGES for unit in plan.units(stage) if unit.record == record), None)


def _can_be_made(plan: Plan, record: Path) -> bool:
    """Whether what a unit is made of is there; images may have been moved away since they were tiled."""
    own = [image for image in plan.cohort.images if plan.rundir.tile_record(image.image_id) == record]
    return all(file.exists() for image in own for file in (image.file, image.mask) if file is not None)


def _afresh(plan: Plan, first: str) -> Plan:
    """The plan, with nothing in it that was read of outputs before."""
    again = make_plan(plan.rundir, plan.study, for_tiling=first == STAGES[0], image_units=plan.image_units)
    return dataclasses.replace(again, chosen=plan.chosen)


def plans_of_stages(plan: Plan, stages: Sequence[str]) -> Iterator[tuple[str, Plan]]:
    """Every stage with its plan, made when its turn comes: what tiling leaves out, the others do not see."""
    for stage in stages:
        yield stage, plan
        if stage == STAGES[0] and len(stages) > 1 and plan.study.cohort.skip_bad:
            plan = make_plan(plan.rundir, plan.study, image_units=plan.image_units)


def _work(stage: str, plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of a stage, loading only the libraries that this stage needs."""
    if stage == STAGES[0] and is_first():
        _warn_of_touched(plan, reporter)
    if not several_started_by() and _is_done(stage, plan):  # found out without what the stage loads
        units = [unit for unit in plan.chosen_units(stage) if unit.record != plan.rundir.tiles_record]
        report_all_done(stage, len(units), reporter)
        return
    _refuse_links_within(stage, plan)
    shown = reporter if is_first() else Silent()  # each stage finds out by itself who is first to say more
    with shown.at_work(stage):
        importlib.import_module(f"plexrank.stages.{stage}").run(plan, reporter)
    shown.say(f"{stage}: wrote {', '.join(map(str, written_by(stage, plan)))}")


def _warn_of_touched(plan: Plan, reporter: Reporter) -> None:
    touched = plan.image_units.touched(plan.cohort.images)
    if touched:
        reporter.say(
            f"warning: {counted(len(touched), 'image', 'has', of=len(plan.cohort.images))} the size and time of last "
            f"change as when tiled, but was copied, moved, edited or given other permissions since, such as "
            f"{touched[0].path}: taken as unchanged; if pixels were edited, touch the files and run the same command "
            "again"
        )


def _refuse_links_within(stage: str, plan: Plan) -> None:
    """Raise RunDirError where a folder above a stage's units is a link into the run: one would write over another."""
    root = plan.rundir.path
    above = {folder for unit in plan.chosen_units(stage) for folder in unit.record.parent.parents}
    if stage != "train":  # which replaces the folder of a unit itself
        above |= {unit.record.parent for unit in plan.chosen_units(stage)}
    for folder in sorted(above):
        if root in folder.parents and folder.is_symlink() and folder.resolve().is_relative_to(root):
            raise RunDirError(f"{folder}: a link to {folder.resolve()} of the same run; remove it, then go on")


def written_by(stage: str, plan: Plan) -> list[Path]:
    """Where a stage has written what a user looks at."""
    rundir = plan.rundir
    nulls = [rundir.null] if plan.study.rank.null_trainings else []
    return {
        "tile": [rundir.tiles_table.parent],
        "train": [rundir.path / "train", *nulls],
        "attribute": [rundir.path / "attribution"],
        "rank": [rundir.ranking / "ranking.csv", rundir.ranking / "summary.json"],
        "report": [rundir.report_page],
    }[stage]


def _is_done(stage: str, plan: Plan) -> bool:
    units = plan.chosen_units(stage)
    if stage == STAGES[0]:
        if plan.bad or plan.rundir.skipped.is_file():
            return False
        if any(unit.record == plan.rundir.tiles_record for unit in units):
            units = list(plan.units(stage))  # the table is that of all images
    if any(unit.why_not_done() is not None for unit in units):
        return False
    if stage in _SMALL:
        for unit in units:
            unit.require_intact()
    return True


def _require_stage_before(stage: str, plan: Plan) -> None:
    for before, unit in _needed(stage, plan):
        reason = unit.why_not_done()
        if reason is not None:
            raise MissingInputError(
                f"{plan.rundir.path}: {stage} needs {unit.name} ({reason}); run plexrank {before} first"
            )


def _needed(stage: str, plan: Plan) -> Iterator[tuple[str, Unit]]:
    """The units that a stage takes up, each with the stage that does it."""
    if stage in ("attribute", "report"):
        yield from (("tile", unit) for unit in plan.units("tile"))
    if stage == "rank":  # goes without the stores
        yield "tile", plan.tiles_table()
    if stage == "attribute":
        yield from (("train", plan.train(fold, seed)) for fold, seed in plan.fold_seeds)
        return
    if stage != STAGES[0]:
        before = STAGES[STAGES.index(stage) - 1]
        yield from ((before, unit) for unit in plan.units(before))
    if stage == "rank":
        yield from (("train", unit) for unit in plan.null_units())
