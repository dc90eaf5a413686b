"""What digests and checksums of outputs cost each stage of a run.

    python benchmarks/digests.py [--images N] [--size PX] [--backbone resnet18] [--epochs N]

Simulates a cohort, runs it, and adds up the seconds that go into digests while every stage is at work.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zarr.codecs import Crc32cCodec

from plexrank.attribution.store import AttributionStore
from plexrank.launch.opening import open_run, running
from plexrank.planning.order import STAGES
from plexrank.progress import Reporter
from plexrank.rundir import record
from plexrank.simulate import simulate
from plexrank.stages.pipeline import run_stages
from plexrank.stages.verification import verify_run
from plexrank.tiles.store import TileStore
from plexrank.training import checkpoint

OF_DIGESTS = (
    (record, "output_digest"),
    (record, "load_record"),
    (checkpoint, "_require_checksums"),
    (AttributionStore, "digests"),
    (TileStore, "digests"),
    (Crc32cCodec, "_encode_sync"),
    (Crc32cCodec, "_decode_sync"),
)
"""Where the seconds go that are counted; those of threads that work at the same time are added."""


class Stopwatch:
    """Adds up the seconds within functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def count(self, owner: Any, name: str) -> None:
        """Count the seconds within a function from here on."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def counted(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self.seconds += time.perf_counter() - began

        setattr(owner, name, counted)


def measure(folder: Path, images: int, size_px: int, backbone: str, epochs: int) -> dict[str, float]:
    study = simulate("wide", folder / "cohort", images=images, channels=20, size_px=size_px)
    overrides = ["tile.tile_px=64", "tile.min_tissue=0", "train.crop_px=64", "train.folds=2", "train.seeds=1"]
    overrides += [f"train.epochs={epochs}", f"model.backbone={backbone}", "model.weights=none"]
    watch, quiet = Stopwatch(), Reporter(quiet=True)
    for owner, name in OF_DIGESTS:
        watch.count(owner, name)
    plan = open_run(folder / "run", study, overrides, quiet)
    figures: dict[str, float] = {}
    with running(plan, quiet):
        for stage in STAGES:
            watch.seconds, began = 0.0, time.perf_counter()
            run_stages(plan, [stage], quiet)
            seconds = time.perf_counter() - began
            figures |= {f"{stage}_share": watch.seconds / seconds, f"{stage}_s": seconds}
        began = time.perf_counter()
        run_stages(plan, STAGES, quiet)
        figures["finished_s"] = time.perf_counter() - began
    began = time.perf_counter()
    found = verify_run(plan.rundir, quiet)
    return {**figures, "verify_s": time.perf_counter() - began, "verify_mb": found.num_bytes / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), given.images, given.size, given.backbone, given.epochs)
    rounded = {name: float(f"{value:.3g}") for name, value in figures.items()}
    print(json.dumps({"benchmark": "digests", **rounded, "load_average": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
