"""The trained networks of a run, held against what their units wrote."""

from __future__ import annotations

from plexrank.errors import RunDirError
from plexrank.planning.plan import Plan
from plexrank.training.checkpoint import TrainedUnit, read_unit


def read_trained(plan: Plan, fold: int, seed: int) -> TrainedUnit:
    """The ``best.pt`` of a unit, which is that of this fold and seed and was trained with the settings of the plan.

    Raises:
        MissingInputError: there is none.
        DamagedOutputError: it is damaged, or another.
    """
    unit, path = plan.train(fold, seed), plan.rundir.training(fold, seed) / "best.pt"
    with unit.reading(path) as is_checked:
        trained = read_unit(path, is_checked=is_checked)
        if (trained.fold, trained.seed) != (fold, seed):
            raise RunDirError(f"{path}: of fold {trained.fold} seed {trained.seed}; delete it and train again")
        if trained.key != unit.key:
            raise RunDirError(f"{path}: trained with other settings than {unit.name}; delete it and train again")
    return trained
