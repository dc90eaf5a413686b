"""Tiles → one trained network for every fold and seed, and what networks trained on permuted labels say."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from plexrank.attribution.store import BLOCK_TILES
from plexrank.distributed import ProcessInfo, on_first, process_group
from plexrank.machine.allocator import keep_freed_memory
from plexrank.machine.devices import log_line
from plexrank.planning.plan import Plan
from plexrank.progress import Reporter, Silent
from plexrank.ranking.aggregate import UnitTable
from plexrank.ranking.null_unit import NullUnit, write_null_unit
from plexrank.rundir import Unit, clear_leftovers, make_way
from plexrank.stages.held_out import explain_held_out
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.todo import units_to_do
from plexrank.stages.unit_tables import image_means
from plexrank.training.checkpoint import TrainedUnit, previous_path, read_unit
from plexrank.training.data import TrainingTiles
from plexrank.training.history import score_in_words
from plexrank.training.loop import train_unit
from plexrank.training.unit import TrainingUnit, UnitPaths, UnitResult

NULL_SECONDS_BETWEEN_SAVES = 10.0
"""Null trainings may be many and short: a save every epoch would cost more than a kill loses."""


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    keep_freed_memory()
    with _stop_signals() as should_stop, process_group(plan.rundir.meetings) as info:
        reporter = reporter if info.is_first else Silent()
        todo = on_first(lambda: units_to_do("train", plan.chosen_units("train"), reporter), info)
        if todo:
            reporter.say(f"train: {log_line(info.hardware, info.device, info.world_size)}")
        cohort = TiledCohort(plan)
        with reporter.counting("train", len(todo)) as counting:
            trainer = _Trainer(plan, cohort, info, counting.note, should_stop)
            for fold in range(plan.study.train.folds):
                seeds = [seed for seed in range(plan.study.train.seeds) if plan.train(fold, seed).record in todo]
                nulls = [
                    labelling
                    for labelling in range(plan.study.rank.null_trainings)
                    if plan.rundir.null_training_record(labelling, fold) in todo
                ]
                if not seeds and not nulls:
                    continue
                tiles = cohort.training_tiles(cohort.fit_intensity(fold))
                for seed in seeds:
                    counting.advance(trainer.train(tiles, fold, seed))
                for labelling in nulls:
                    trainer.train_null(tiles, fold, labelling)
                    counting.advance()


@dataclass(frozen=True)
class _Trainer:
    """What all trainings of a process share."""

    plan: Plan
    cohort: TiledCohort
    info: ProcessInfo
    report: Callable[[str], None]
    should_stop: Callable[[], bool]

    def train(self, tiles: TrainingTiles, fold: int, seed: int) -> str:
        """One training, in words."""
        work, folder = self.plan.train(fold, seed), self.plan.rundir.training(fold, seed)
        paths = UnitPaths(last=folder / "last.pt", best=folder / "best.pt", history=folder / "history.csv")
        result = self._train_unit(work, tiles, self._unit(self.plan, fold, seed), paths)
        on_first(lambda: work.finish(device=self.info.hardware), self.info)
        return (
            f"fold {fold} seed {seed}: best of {result.epochs} epochs is {result.best_epoch + 1},"
            f" {score_in_words(result.headline, result.validation_score)}"
        )

    def train_null(self, tiles: TrainingTiles, fold: int, labelling: int) -> None:
        """One training on permuted labels, of which only what ranking needs stays."""
        plan, cohort = self.plan, self.cohort
        work, folder = plan.null_training(labelling, fold), plan.rundir.null_training(labelling, fold)
        paths = UnitPaths(last=folder / "last.pt", best=folder / "best.pt", history=None)
        tiles = tiles.relabelled(plan.null_labels[labelling][cohort.image_of_tile])
        unit = self._unit(plan.relabelled(labelling), fold, 0, labelling)
        self._train_unit(work, tiles, unit, paths, NULL_SECONDS_BETWEEN_SAVES)
        trained = read_unit(paths.best)
        blocks = explain_held_out(trained, cohort, tiles, [plan.study.rank.by], self.info, BLOCK_TILES)
        table = image_means(blocks, trained, cohort)
        on_first(lambda: self._keep(work, paths, labelling, trained, table), self.info)

    def _keep(self, work: Unit, paths: UnitPaths, labelling: int, trained: TrainedUnit, table: UnitTable) -> None:
        classifier = None if trained.classifier is None else trained.classifier.state_dict()
        unit = NullUnit(
            labelling=labelling,
            channel_names=trained.channel_names,
            output_names=trained.output_names,
            labels=self.plan.null_labels[labelling],
            method=self.plan.study.rank.by,
            table=table,
            classifier=classifier and {name: values.cpu().numpy() for name, values in classifier.items()},
        )
        write_null_unit(work.outputs[0], unit)
        for path in (paths.last, previous_path(paths.last), paths.best):
            make_way(path)
        work.finish(device=self.info.hardware)

    def _train_unit(
        self, work: Unit, tiles: TrainingTiles, unit: TrainingUnit, paths: UnitPaths, seconds_between_saves: float = 0.0
    ) -> UnitResult:
        on_first(partial(_begin, work, paths), self.info)
        return train_unit(
            tiles,
            unit,
            self.plan.study.model,
            self.plan.study.train,
            info=self.info,
            paths=paths,
            key=work.key,
            report=self.report,
            should_stop=self.should_stop,
            seconds_between_saves=seconds_between_saves,
        )

    def _unit(self, plan: Plan, fold: int, seed: int, labelling: int | None = None) -> TrainingUnit:
        return TrainingUnit(
            study_seed=plan.study.seed,
            fold=fold,
            seed=seed,
            train_index=self.cohort.tiles_of(plan.images(fold, "training")),
            validation_index=self.cohort.tiles_of(plan.images(fold, "validation")),
            labelling=labelling,
        )


def _begin(work: Unit, paths: UnitPaths) -> None:
    folder = paths.last.parent
    if folder.is_symlink():  # what is written must not go where it leads, such as to another unit
        folder.unlink()
    work.begin()
    clear_leftovers([paths.last, paths.best])


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield whether TERM or USR2 (Slurm's warning before the time limit) has arrived; work stops at the next step.

    Python takes signals in the main thread alone: elsewhere, as in a program of a user's own, nothing is changed.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {
        number: signal.signal(number, lambda number, _: arrived.append(number))
        for number in (signal.SIGTERM, signal.SIGUSR2)
    }
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None where a program around Python set it
