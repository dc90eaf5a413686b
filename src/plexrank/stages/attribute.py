"""Trained networks → the held-out embedding and its importances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from plexrank.attribution.store import AttributionBlock, AttributionStore, ExplainedUnit, writing_attribution
from plexrank.distributed import ProcessInfo, on_first, process_group
from plexrank.errors import RunDirError
from plexrank.machine.allocator import keep_freed_memory
from plexrank.machine.devices import log_line
from plexrank.planning.plan import Plan
from plexrank.progress import Reporter, Silent
from plexrank.settings import CACHE_BYTES
from plexrank.stages.held_out import explain_held_out, held_out_tiles
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.todo import units_to_do
from plexrank.stages.trained_units import read_trained
from plexrank.training.checkpoint import TrainedUnit
from plexrank.wording import counted


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    keep_freed_memory()
    with process_group(plan.rundir.meetings) as info:
        reporter = reporter if info.is_first else Silent()
        todo = on_first(lambda: units_to_do("attribute", plan.chosen_units("attribute"), reporter), info)
        if todo:
            reporter.say(f"attribute: {log_line(info.hardware, info.device, info.world_size)}")
        cohort = TiledCohort(plan)
        with reporter.counting("attribute", len(todo)) as counting:
            for fold, seed in plan.fold_seeds:
                unit = plan.attribute(fold, seed)
                if unit.record not in todo:
                    continue
                on_first(unit.begin, info)
                _attribute_one(plan, cohort, fold, seed, info)
                on_first(partial(_finish, plan, fold, seed, info.hardware), info)
                counting.advance()


def _finish(plan: Plan, fold: int, seed: int, device: str) -> None:
    digests = AttributionStore(plan.rundir.attribution(fold, seed)).digests()
    plan.attribute(fold, seed).finish(device=device, digests=digests)


def _attribute_one(plan: Plan, cohort: TiledCohort, fold: int, seed: int, info: ProcessInfo) -> None:
    """Explain and write block by block; the first process writes."""
    checkpoint = plan.rundir.training(fold, seed) / "best.pt"
    trained = read_trained(plan, fold, seed)
    _refuse_another_cohort(checkpoint, trained, cohort, plan, fold)
    passes_once = trained.settings.has_embedding
    tiles = cohort.training_tiles(trained.intensity, cache_bytes=0 if passes_once else CACHE_BYTES)
    methods = plan.study.attribute.methods
    digest = plan.train(fold, seed).digest_of(checkpoint)
    unit = ExplainedUnit(fold, seed, trained.channel_names, trained.output_names, digest, tuple(methods))
    num_tiles = len(held_out_tiles(trained, cohort))
    with ExitStack() as first:
        writers: list[Callable[[AttributionBlock], None]] = []
        store = writing_attribution(plan.rundir.attribution(fold, seed), unit, num_tiles)
        on_first(lambda: writers.append(first.enter_context(store)), info)
        for block in explain_held_out(trained, cohort, tiles, methods, info, unit.tiles_at_once()):
            on_first(lambda block=block: writers[0](block), info)  # type: ignore[misc]
        on_first(first.close, info)


def _refuse_another_cohort(checkpoint: Path, trained: TrainedUnit, cohort: TiledCohort, plan: Plan, fold: int) -> None:
    """Raise RunDirError where a network was trained on other channels, labels or folds, saying what differs."""
    outcome = plan.cohort.outcome
    for what, found, wanted in (
        ("channels", trained.channel_names, cohort.channels),
        (
            "classes" if outcome.output_names == outcome.levels else "outputs",
            trained.output_names,
            outcome.output_names,
        ),
    ):
        if tuple(found) != tuple(wanted):
            differ = sorted(set(found) ^ set(wanted)) or ["their order"]
            raise RunDirError(
                f"{checkpoint}: trained on {len(found)} {what}, the cohort has {len(wanted)}; they differ in "
                f"{', '.join(differ[:8])}; delete it and train again"
            )
    seen = np.intersect1d(trained.embedding_images, plan.images(fold, "held_out"))
    if len(seen):
        raise RunDirError(
            f"{checkpoint}: trained on {counted(len(seen), 'image')} that fold {fold} holds out, such as "
            f"{plan.cohort.images[seen[0]].image_id}; delete it and train again"
        )
