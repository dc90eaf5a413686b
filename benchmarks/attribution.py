"""What the attribute stage costs beyond the forward pass of the encoder, and against occluding every channel in full.

    python benchmarks/attribution.py [--backbone resnet18] [--images N] [--size PX] [--rounds N]

Trains a simulated cohort of 40 channels for one epoch, then attributes its held-out tiles with every method. What the
stage costs once, such as opening and closing stores, weighs more the fewer tiles there are. Full occlusion passes some
tiles through the whole network once as they are and once without each channel, and is scaled to all tiles. Every round
measures all three; the headline is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from plexrank.attribution.methods import OF_EMBEDDING
from plexrank.distributed import ProcessInfo
from plexrank.launch.opening import open_run
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.simulate import simulate
from plexrank.stages.attribute import run as attribute
from plexrank.stages.pipeline import run_stages
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.training.checkpoint import read_unit
from plexrank.training.data import model_input
from plexrank.training.embedding import CHANNEL_IMAGES

CHANNELS, TILE_PX, OCCLUDED_TILES = 40, 64, 4
RATIOS = ("attribute_of_forward", "times_full_occlusion")


def trained_plan(folder: Path, backbone: str, images: int, size_px: int) -> Plan:
    study = simulate("wide", folder / "cohort", images=images, channels=CHANNELS, size_px=size_px)
    overrides = [
        f"tile.tile_px={TILE_PX}",
        "tile.min_tissue=0",
        "train.epochs=1",
        "train.crop_px=32",
        "train.folds=2",
        "train.seeds=1",
        f"model.backbone={backbone}",
        "model.weights=none",
    ]
    overrides.append(f"attribute.methods=[{','.join(OF_EMBEDDING)}]")
    plan = open_run(folder / "run", study, overrides, Reporter(quiet=True))
    run_stages(plan, STAGES[:2], Reporter(quiet=True))
    return make_plan(plan.rundir, plan.study)


def bare_forward(plan: Plan) -> tuple[float, int]:
    """Seconds of the encoder on the held-out tiles of all units, held in memory, and how many these are."""
    cohort, seconds, count = TiledCohort(plan), 0.0, 0
    for fold, seed in plan.fold_seeds:
        trained = read_unit(plan.rundir.training(fold, seed) / "best.pt")
        network = trained.network(ProcessInfo().device)
        tiles = cohort.training_tiles(trained.intensity)
        index = cohort.tiles_of(plan.images(fold, "held_out"))
        parts = np.array_split(index, -(-len(index) // (CHANNEL_IMAGES // CHANNELS)))
        inputs = [model_input(batch) for batch in tiles.batches(parts)]
        with torch.inference_mode():
            start = time.perf_counter()
            for batch in inputs:
                network.embed(batch)
            seconds += time.perf_counter() - start
        count += len(index)
    return seconds, count


def full_occlusion(plan: Plan) -> tuple[float, int]:
    """Seconds that occluding every channel in the image takes for some held-out tiles, and how many these are."""
    cohort, (fold, seed) = TiledCohort(plan), plan.fold_seeds[0]
    trained = read_unit(plan.rundir.training(fold, seed) / "best.pt")
    network = trained.network(ProcessInfo().device)
    index = cohort.tiles_of(plan.images(fold, "held_out"))[:OCCLUDED_TILES]
    (tiles,) = (model_input(batch) for batch in cohort.training_tiles(trained.intensity).batches([index]))
    mean = tiles.mean(dim=(0, 2, 3))
    with torch.inference_mode():
        start = time.perf_counter()
        network(tiles)
        for channel in range(CHANNELS):
            occluded = tiles.clone()
            occluded[:, channel] = mean[channel]
            network(occluded)
        return time.perf_counter() - start, len(index)


def one_round(plan: Plan) -> dict[str, float]:
    forward_s, tiles = bare_forward(plan)
    for fold, seed in plan.fold_seeds:
        plan.rundir.attribution_record(fold, seed).unlink(missing_ok=True)
        shutil.rmtree(plan.rundir.attribution(fold, seed), ignore_errors=True)
    start = time.perf_counter()
    attribute(plan, Reporter(quiet=True))
    attribute_s = time.perf_counter() - start
    seconds, occluded_tiles = full_occlusion(plan)
    occlusion_s = seconds * tiles / occluded_tiles
    return {
        "tiles": tiles,
        "occluded_tiles": occluded_tiles,
        "forward_s": forward_s,
        "attribute_s": attribute_s,
        "full_occlusion_s": occlusion_s,
        "attribute_of_forward": attribute_s / forward_s,
        "times_full_occlusion": occlusion_s / attribute_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=["resnet18", "shallow"], default="resnet18")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, help="side of the images; tiles of 64 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plexrank-attribution-") as folder:
        plan = trained_plan(Path(folder), chosen.backbone, chosen.images, chosen.size)
        rounds = [one_round(plan) for _ in range(chosen.rounds)]
    figures = {
        "benchmark": "attribution",
        "backbone": chosen.backbone,
        "methods": len(OF_EMBEDDING),
        **{name: round(float(np.median([values[name] for values in rounds])), 3) for name in rounds[0]},
        "rounds": [{name: round(values[name], 3) for name in RATIOS} for values in rounds],
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
