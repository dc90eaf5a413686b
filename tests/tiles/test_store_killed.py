"""Tiling killed at twenty random moments and resumed leaves the stores of an undisturbed run, byte by byte."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pandas as pd

import plexrank.stages.tile as tile_stage
from plexrank.planning.plan import make_plan
from plexrank.progress import Reporter
from plexrank.rundir import RunDir, file_digest
from plexrank.simulate import simulate
from plexrank.study import load_study
from plexrank.tiles import layout

KILLS = 20


def tile(study: Path, run: Path, flushes: Path, kill_at: int | None, delay_s: float) -> None:
    """What a forked process does: the stage, with a shard a tile; be killed a moment after the given flush to the disk.

    The flushes, which a killed process does without, only say how far it has come.
    """
    numbers = itertools.count(1)

    def flush(descriptor: int) -> None:
        number = next(numbers)
        flushes.write_text(str(number))
        if number == kill_at:
            threading.Thread(target=kill).start()

    def kill() -> None:
        end = time.monotonic() + delay_s
        while time.monotonic() < end:  # to the microsecond, which sleep is not
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = flush
    layout._SHARD_BYTES = 1
    plan = make_plan(RunDir(run), load_study(study, ["tile.tile_px=16", "train.folds=2"]), for_tiling=True)
    tile_stage.run(plan, Reporter(quiet=True))


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of every store, by path; nothing else may lie beside them but records and tables."""
    tiles = run / "tiles"
    others = {path.name for path in tiles.iterdir() if not path.name.endswith(".ome.zarr")}
    tables = {"tiles.parquet", "statistics.parquet", "channels.json", "skipped.json"}
    assert all(name.endswith((".done.json", ".tiles.json")) or name in tables for name in others), others
    files = sorted(path for path in tiles.rglob("*") if path.is_file() and ".ome.zarr/" in str(path))
    return {str(path.relative_to(tiles)): file_digest(path) for path in files}


def test_killed_and_resumed_tiling_gives_the_same_bytes(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=48, seed=2)
    sheet = pd.read_csv(study.parent / "samplesheet.csv")
    sheet.groupby("label").head(2).to_csv(study.parent / "samplesheet.csv", index=False)

    def run_once(run: Path, kill_at: int | None = None, delay_s: float = 0) -> int:
        """How the process ended."""
        process = processes.Process(target=tile, args=(study, run, tmp_path / "flushes", kill_at, delay_s))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode

    assert run_once(tmp_path / "undisturbed") == 0
    num_flushes = int((tmp_path / "flushes").read_text())
    expected = hashes(tmp_path / "undisturbed")
    assert len(expected) == 4 * (2 + 9)  # two metadata files and nine shards each

    moments = random.Random(4)
    killed = within_a_store = 0
    while killed < KILLS:
        run = tmp_path / f"run-after-{killed}"
        most = num_flushes // 3  # at once, so that a resumed run is killed again
        while run_once(run, moments.randint(1, most) if killed < KILLS else None, moments.uniform(0, 0.003)):
            killed += 1
            within_a_store += any((run / "tiles").glob(".*.ome.zarr.*.tmp"))
        assert hashes(run) == expected
    assert within_a_store >= 2
