"""The order of a run: which stage follows which, and what each needs."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from plexrank.errors import MissingInputError
from plexrank.progress import Reporter
from plexrank.run.order import STAGES
from plexrank.run.plan import Plan, make_plan
from plexrank.rundir import Unit


def run_stages(plan: Plan, stages: Sequence[str], reporter: Reporter) -> None:
    """Do what is not done of some stages, one after the other.

    Raises:
        PlexrankError: as :func:`run_stage`.
    """
    for stage, of_stage in plans_of_stages(plan, stages):
        run_stage(stage, of_stage, reporter)


def plans_of_stages(plan: Plan, stages: Sequence[str]) -> Iterator[tuple[str, Plan]]:
    """Every stage with its plan, made when its turn comes: what tiling leaves out, the others do not see."""
    for stage in stages:
        yield stage, plan
        if stage == STAGES[0] and len(stages) > 1:
            plan = make_plan(plan.rundir, plan.study)


def run_stage(stage: str, plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of a stage, loading only the libraries that this stage needs.

    Raises:
        MissingInputError: the stage before is not done.
        PlexrankError: what went wrong; finished units stay finished.
    """
    _require_stage_before(stage, plan)
    importlib.import_module(f"plexrank.stages.{stage}").run(plan, reporter)


def _require_stage_before(stage: str, plan: Plan) -> None:
    for before, unit in _needed(stage, plan):
        reason = unit.why_not_done()
        if reason is not None:
            raise MissingInputError(
                f"{plan.rundir.path}: {stage} needs {unit.name} ({reason}); run plexrank {before} first"
            )


def _needed(stage: str, plan: Plan) -> Iterator[tuple[str, Unit]]:
    """The units that a stage takes up, each with the stage that does it."""
    if stage == "attribute":
        yield from (("train", plan.train(fold, seed)) for fold, seed in plan.fold_seeds)
        return
    if stage != STAGES[0]:
        before = STAGES[STAGES.index(stage) - 1]
        yield from ((before, unit) for unit in plan.units(before))
    if stage == "rank":
        yield from (("train", unit) for unit in plan.null_units())
