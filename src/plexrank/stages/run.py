"""Which stage is which, and what each needs."""

from __future__ import annotations

import importlib

from plexrank.errors import MissingInputError
from plexrank.plan import STAGES, Plan
from plexrank.progress import Reporter


def run_stage(stage: str, plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of a stage, loading only the libraries that this stage needs.

    Raises:
        MissingInputError: the stage before is not done.
        PlexrankError: what went wrong; finished units stay finished.
    """
    _require_stage_before(stage, plan)
    importlib.import_module(f"plexrank.stages.{stage}").run(plan, reporter)


def _require_stage_before(stage: str, plan: Plan) -> None:
    position = STAGES.index(stage)
    for unit in plan.units(STAGES[position - 1]) if position else ():
        reason = unit.why_not_done()
        if reason is not None:
            raise MissingInputError(
                f"{plan.rundir.path}: {stage} needs {unit.name} ({reason}); run plexrank {STAGES[position - 1]} first"
            )
