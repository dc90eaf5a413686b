"""Which stage is which, and what each needs."""

from __future__ import annotations

from collections.abc import Callable

from plexrank.errors import MissingInputError
from plexrank.plan import STAGES, Plan
from plexrank.progress import Reporter
from plexrank.stages.attribute import attribute
from plexrank.stages.rank import rank
from plexrank.stages.report import report
from plexrank.stages.tile import tile
from plexrank.stages.train import train

_WORK: dict[str, Callable[[Plan, Reporter], None]] = {
    "tile": tile,
    "train": train,
    "attribute": attribute,
    "rank": rank,
    "report": report,
}


def run_stage(stage: str, plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of a stage.

    Raises:
        MissingInputError: the stage before is not done.
        PlexrankError: what went wrong; finished units stay finished.
    """
    _require_stage_before(stage, plan)
    _WORK[stage](plan, reporter)


def _require_stage_before(stage: str, plan: Plan) -> None:
    position = STAGES.index(stage)
    for unit in plan.units(STAGES[position - 1]) if position else ():
        reason = unit.why_not_done()
        if reason is not None:
            raise MissingInputError(
                f"{plan.rundir.path}: {stage} needs {unit.name} ({reason}); run plexrank {STAGES[position - 1]} first"
            )
