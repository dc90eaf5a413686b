"""What a finished run holds, read back."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from plexrank.cohorts.tables import read_table
from plexrank.errors import MissingInputError
from plexrank.planning.plan import Plan


def read_ranking(plan: Plan) -> pd.DataFrame:
    """The ranking table of a finished run.

    Raises:
        MissingInputError: the ranking is not done.
        RunDirError: it is damaged.
    """
    unit, path = plan.rank(), plan.rundir.ranking / "ranking.parquet"
    if unit.why_not_done() is not None:
        raise MissingInputError(f"{plan.rundir.path}: the ranking is not done; run plexrank run or plexrank rank first")
    with unit.reading(path):
        return pd.read_parquet(path)


def read_ranking_and_truth(plan: Plan, truth: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ranking table, and the table of a truth file as text."""
    return read_ranking(plan), pd.DataFrame(read_table(truth).rows)
