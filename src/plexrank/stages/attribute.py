"""Trained networks → the held-out embedding and its importances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from plexrank.allocator import keep_freed_memory
from plexrank.attribution.methods import METHODS
from plexrank.attribution.store import UnitAttribution, write_attribution
from plexrank.devices import log_line
from plexrank.distributed import ProcessInfo, on_first, process_group
from plexrank.errors import RunDirError
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.pooling import tile_weights
from plexrank.plan import Plan
from plexrank.progress import Reporter
from plexrank.rundir import Unit, file_digest
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.todo import units_to_do
from plexrank.training.checkpoint import TrainedUnit, read_unit
from plexrank.training.embedding import embed_tiles, logits_of_tiles
from plexrank.training.explain import explain_tiles


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    keep_freed_memory()
    with process_group(plan.rundir.meetings) as info:
        reporter = reporter if info.is_first else Reporter(quiet=True)
        todo = on_first(lambda: units_to_do(plan.chosen_units("attribute"), reporter), info)
        if todo:
            reporter.say(f"attribute: {log_line(info.hardware, info.device, info.world_size)}")
        cohort = TiledCohort(plan)
        with reporter.counting("attribute", len(todo)) as counting:
            for fold, seed in plan.fold_seeds:
                unit = plan.attribute(fold, seed)
                if unit.record not in todo:
                    continue
                on_first(unit.begin, info)
                attribution = _attribute_one(plan, cohort, fold, seed, info)
                store = plan.rundir.attribution(fold, seed)
                on_first(partial(_write, unit, store, attribution, info.hardware), info)
                counting.advance()


def _write(unit: Unit, store: Path, attribution: UnitAttribution, hardware: str) -> None:
    write_attribution(store, attribution)
    unit.finish(device=hardware)


def _attribute_one(plan: Plan, cohort: TiledCohort, fold: int, seed: int, info: ProcessInfo) -> UnitAttribution:
    checkpoint = plan.rundir.training(fold, seed) / "best.pt"
    trained = read_unit(checkpoint)
    _refuse_another_cohort(checkpoint, trained, cohort, plan, fold)
    index = cohort.tiles_of(plan.images(fold, "held_out"))
    methods = plan.study.attribute.methods
    network = trained.network(info.device)
    if isinstance(network, ChannelEmbedding):
        seen_once = cohort.training_tiles(trained.intensity, cache_bytes=0)
        r = embed_tiles(network, seen_once, index, info)
        weight = tile_weights(trained.attention, r, cohort.image_of_tile[index])
        embedding = r if trained.blend is None else trained.blend.apply(r, cohort.channel_means[index])
        logits, values = _explain_embedding(trained, network, embedding, methods, info)
    else:
        weight = np.ones(len(index), dtype=np.float32)
        embedding = np.full((len(index), network.num_channels), np.nan, dtype=np.float32)
        tiles = cohort.training_tiles(trained.intensity)
        logits = logits_of_tiles(network, tiles, index, info)
        own = {name: "gradient" if name == "gradcam" else name for name in methods}  # bsn's gradient is Grad-CAM
        explained = explain_tiles(network, tiles, index, sorted({*own.values()}), info)
        values = {name: explained[same] for name, same in own.items()}
    return UnitAttribution(
        fold=fold,
        seed=seed,
        channel_names=trained.channel_names,
        class_names=trained.class_names,
        checkpoint_sha256=file_digest(checkpoint),
        tile_id=index,
        embedding=embedding,
        logits=logits,
        mean_intensity=cohort.channel_means[index],
        weight=weight,
        values=values,
    )


def _refuse_another_cohort(checkpoint: Path, trained: TrainedUnit, cohort: TiledCohort, plan: Plan, fold: int) -> None:
    """Raise RunDirError where a network was trained on other channels, classes or folds, saying what differs."""
    for what, found, wanted in (
        ("channels", trained.channel_names, cohort.channels),
        ("classes", trained.class_names, plan.cohort.classes),
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
            f"{checkpoint}: trained on {len(seen)} images that fold {fold} holds out, such as "
            f"{plan.cohort.images[seen[0]].image_id}; delete it and train again"
        )


def _explain_embedding(
    trained: TrainedUnit,
    network: ChannelEmbedding,
    embedding: np.ndarray,
    methods: Sequence[str],
    info: ProcessInfo,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits and importances of tiles, from the embedding and the small classifier alone."""
    classify = trained.classify(network)
    r = torch.from_numpy(embedding).to(info.device)
    background = torch.from_numpy(trained.embedding_mean).to(info.device)
    with torch.inference_mode():
        logits = classify(r).cpu().numpy()
    return logits, {name: METHODS[name](classify, r, background).cpu().numpy() for name in methods}
