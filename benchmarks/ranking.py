"""Ranks five million tiles and says how that compares with reading them.

    python benchmarks/ranking.py [--tiles N] [--folder DIR]

Writes the attributions of five folds, reads them, and ranks them, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from plexrank.attribution.store import AttributionBlock, AttributionStore, ExplainedUnit, writing_attribution
from plexrank.outcome import LinearWeights
from plexrank.ranking.aggregate import aggregate_unit
from plexrank.ranking.cohort_ranking import rank_cohort
from plexrank.ranking.samples import make_samples
from plexrank.settings import RankSettings

CHANNELS, CLASSES, FOLDS, IMAGES, BOOTSTRAP = 40, 3, 5, 200, 2000
BASE_TILES = 65_536
NAMES = tuple(f"C{number:02d}" for number in range(CHANNELS))
CLASS_NAMES = ("A", "B", "C")


def write_stores(folder: Path, tiles: int) -> None:
    rng = np.random.default_rng(0)
    base = {
        name: rng.normal(size=(BASE_TILES, *shape)).astype(np.float32)
        for name, shape in (
            ("embedding", (CHANNELS,)),
            ("logits", (CLASSES,)),
            ("mean_intensity", (CHANNELS,)),
            ("gradient", (CHANNELS, CLASSES)),
        )
    }
    each = tiles // FOLDS
    for fold in range(FOLDS):
        unit = ExplainedUnit(fold, 0, NAMES, CLASS_NAMES, "0" * 64, ("gradient",))
        ids, weight = np.arange(fold * each, (fold + 1) * each), np.ones(each, np.float32)
        with writing_attribution(folder / f"{fold}.zarr", unit, each) as write:
            for start in range(0, each, BASE_TILES):
                part = slice(start, start + BASE_TILES)
                held = {name: values[: len(ids[part])] for name, values in base.items()}
                gradient = held.pop("gradient")
                write(AttributionBlock(tile_id=ids[part], weight=weight[part], values={"gradient": gradient}, **held))


def read_stores(folder: Path) -> None:
    for fold in range(FOLDS):
        for _ in AttributionStore(folder / f"{fold}.zarr").blocks():
            pass


def rank_stores(folder: Path) -> None:
    stores = [AttributionStore(folder / f"{fold}.zarr") for fold in range(FOLDS)]
    tiles = sum(map(len, stores))
    image_of_tile = np.arange(tiles) * IMAGES // tiles
    rng = np.random.default_rng(1)
    labels = [CLASS_NAMES[image // 2 % CLASSES] for image in range(IMAGES)]
    folds = [image * FOLDS // IMAGES for image in range(IMAGES)]
    samples = make_samples([f"P{image // 2:04d}" for image in range(IMAGES)], labels, folds)
    training = rng.normal(size=(IMAGES, CHANNELS))
    weights = LinearWeights(rng.normal(size=(CLASSES, CHANNELS)) / 10, np.zeros(CLASSES))
    units = []
    for fold, store in enumerate(stores):
        seen = np.flatnonzero(np.array(folds) != fold)
        units.append(
            aggregate_unit(
                store.blocks(methods=["gradient"]), image_of_tile, IMAGES, outcome=samples.outcome,
                fold=fold, seed=0,
                classify=partial(logits, weights), training_images=seen, training_embedding=training[seen],
                linear=weights,
            )
        )  # fmt: skip
    rank_cohort(units, samples, NAMES, RankSettings(bootstrap=BOOTSTRAP))


def logits(weights: LinearWeights, r: np.ndarray) -> np.ndarray:
    return np.nan_to_num(r) @ weights.coef.T + weights.intercept


def measured(step: str, folder: Path) -> tuple[float, float]:
    """Seconds and most MiB of a step in a process of its own, without the start of Python."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told["seconds"], told["peak_mib"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=["read", "rank"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        start = time.perf_counter()
        (read_stores if chosen.step == "read" else rank_stores)(chosen.folder)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": peak_mib}))
        return
    folder = Path(tempfile.mkdtemp(prefix="plexrank-ranking-", dir=chosen.folder))
    try:
        write_stores(folder, chosen.tiles)
        rounds = [(measured("read", folder), measured("rank", folder)) for _ in range(chosen.rounds)]
    finally:
        shutil.rmtree(folder)
    read_s = min(read[0] for read, _ in rounds)
    rank_s = min(rank[0] for _, rank in rounds)
    figures = {
        "benchmark": "ranking",
        "tiles": chosen.tiles,
        "read_s": round(read_s, 1),
        "rank_s": round(rank_s, 1),
        "speed_of_reading": round(read_s / rank_s, 2),
        "peak_mib": round(max(rank[1] for _, rank in rounds)),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
