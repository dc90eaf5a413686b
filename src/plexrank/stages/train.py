"""Tiles → one trained network for every fold and seed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plexrank.allocator import keep_freed_memory
from plexrank.devices import log_line
from plexrank.distributed import ProcessInfo, on_first, process_group
from plexrank.plan import Plan
from plexrank.progress import Reporter
from plexrank.rundir import clear_leftovers
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.todo import units_to_do
from plexrank.training.data import TrainingTiles
from plexrank.training.loop import train_unit
from plexrank.training.unit import Unit, UnitPaths


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    keep_freed_memory()
    with _stop_signals() as should_stop, process_group(plan.rundir.meetings) as info:
        reporter = reporter if info.is_first else Reporter(quiet=True)
        todo = on_first(lambda: units_to_do(plan.chosen_units("train"), reporter), info)
        if todo:
            reporter.say(f"train: {log_line(info.hardware, info.device, info.world_size)}")
        cohort = TiledCohort(plan)
        with reporter.counting("train", len(todo)) as counting:
            for fold in range(plan.study.train.folds):
                seeds = [seed for seed in range(plan.study.train.seeds) if plan.train(fold, seed).record in todo]
                if not seeds:
                    continue
                tiles = cohort.training_tiles(cohort.fit_intensity(fold))
                for seed in seeds:
                    counting.advance(_train_one(plan, cohort, tiles, fold, seed, info, counting.note, should_stop))


def _train_one(
    plan: Plan,
    cohort: TiledCohort,
    tiles: TrainingTiles,
    fold: int,
    seed: int,
    info: ProcessInfo,
    report: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> str:
    unit = plan.train(fold, seed)
    folder = plan.rundir.training(fold, seed)
    on_first(unit.begin, info)
    on_first(lambda: clear_leftovers(folder / "last.pt"), info)
    result = train_unit(
        tiles,
        Unit(
            study_seed=plan.study.seed,
            fold=fold,
            seed=seed,
            train_index=cohort.tiles_of(plan.images(fold, "training")),
            validation_index=cohort.tiles_of(plan.images(fold, "validation")),
        ),
        plan.study.model,
        plan.study.train,
        info=info,
        paths=UnitPaths(last=folder / "last.pt", best=folder / "best.pt", history=folder / "history.csv"),
        key=unit.key,
        report=report,
        should_stop=should_stop,
    )
    on_first(lambda: unit.finish(device=info.hardware), info)
    return (
        f"fold {fold} seed {seed}: best of {result.epochs} epochs is {result.best_epoch + 1},"
        f" validation AUC {result.validation_auc:.2f}"
    )


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield whether TERM or USR2 (Slurm's warning before the time limit) has arrived; work stops at the next step."""
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in (signal.SIGTERM, signal.SIGUSR2)
    }
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
