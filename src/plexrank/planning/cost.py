"""What a run would cost: tiles, memory, disk and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.located import LocatedImage
from plexrank.machine.cores import usable_cores
from plexrank.planning.check_result import CheckResult, Cost
from plexrank.planning.trial import run_minutes, training_memory_bytes, try_training
from plexrank.settings import CACHE_BYTES, Study
from plexrank.study import load_study
from plexrank.tiles.grid import TileGrid
from plexrank.tiles.layout import tiling_memory_bytes

BYTES_PER_PIXEL = 4


def find_cost(study: Study, cohort: Cohort, located: list[LocatedImage], n_channels: int) -> Cost:
    """Of a study all of whose images were opened; memory of training by its tiles only."""
    tile_px = study.tile.tile_px
    resampled = [part.find_resampling(study.tile) for part in located]
    shapes = [
        resampling.shape((len(part.channels.names), *part.image.data.shape[1:]))
        for part, resampling in zip(located, resampled, strict=True)
    ]
    n_tiles = sum(TileGrid(height, width, tile_px).count for _, height, width in shapes)
    tile_bytes = n_tiles * n_channels * tile_px**2 * BYTES_PER_PIXEL
    store_bytes = sum(map(math.prod, shapes)) * BYTES_PER_PIXEL
    tiling_bytes = max(
        tiling_memory_bytes(
            (len(part.channels.names), *data.shape[1:]),
            data.dtype,
            data.chunks,
            tile_px,
            resampling,
            usable_cores(),
            has_mask=part.record.mask is not None,
        )
        for part, data, resampling in zip(located, (part.image.data for part in located), resampled, strict=True)
    )
    return Cost(
        n_images=len(cohort.images),
        n_patients=len({image.patient_id for image in cohort.images}),
        n_channels=n_channels,
        n_classes=len(cohort.outcome) if cohort.outcome.has_classes else None,
        unlabelled_images=cohort.unlabelled,
        n_source_pixels=sum(len(part.channels.names) * math.prod(part.image.data.shape[1:]) for part in located),
        n_tiles=n_tiles,
        n_trainings=study.train.folds * study.train.seeds,
        n_null_trainings=study.train.folds * study.rank.null_trainings,
        tile_store_gb=round(store_bytes / 1e9, 3),
        tiling_gb=round(1.0 + tiling_bytes / 1e9, 2),
        memory_gb=round(1.0 + max(min(tile_bytes, CACHE_BYTES), tiling_bytes) / 1e9, 2),
    )


def measure_cost(path: Path, overrides: Sequence[str], result: CheckResult) -> CheckResult:
    """The same result with memory and time of training measured on this machine, by a few small steps.

    Args:
        path, overrides: those of the study that was checked.
        result: nothing is measured where it has no cost.
    """
    cost = result.cost
    if cost is None:
        return result
    study = load_study(path, overrides)
    classes = cost.n_classes or 1
    trial = try_training(study, cost.n_channels, classes - 1 if study.cohort.outcome == "ordinal" else classes)
    if trial is None:
        note = "memory and time of training could not be measured on this machine: memory_gb counts its tiles only"
        return replace(result, warnings=(*result.warnings, note))
    peak = training_memory_bytes(study, trial, cost.n_tiles, cost.n_channels, CACHE_BYTES)
    memory_gb = max(round(peak / 1e9, 2), cost.tiling_gb)
    minutes = round(run_minutes(study, trial, cost.n_tiles, cost.n_source_pixels), 1)
    measured = replace(cost, memory_gb=memory_gb, minutes=minutes, n_parameters=trial.n_parameters)
    return replace(result, cost=measured)
