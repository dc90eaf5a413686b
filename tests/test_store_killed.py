"""Tiling killed at twenty random moments and resumed leaves the stores of an undisturbed run, byte by byte."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from conftest import Plexrank, run_arguments, run_command_line
from plexrank.rundir import file_digest
from plexrank.simulate import simulate
from plexrank.tiles import layout

KILLS = 20


def tile(
    arguments: list[str], folder: Path, flushes: Synchronized[ctypes.c_int], kill_at: int | None, delay_s: float
) -> None:
    """What a forked process does: tile with a shard a tile, and be killed a moment after the given flush to the disk.

    The flushes, which a killed process does without, only say how far it has come.
    """

    def flush(descriptor: int) -> None:
        with flushes.get_lock():
            flushes.value += 1
        if flushes.value == kill_at:
            threading.Thread(target=kill).start()

    def kill() -> None:
        end = time.monotonic() + delay_s
        while time.monotonic() < end:  # to the microsecond, which sleep is not
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = flush
    layout._SHARD_BYTES = 1
    run_command_line(arguments, Path.cwd(), dict(os.environ), [folder / "out", folder / "err"])


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of every store, by path; nothing else may lie beside them but records and tables."""
    tiles = run / "tiles"
    others = {path.name for path in tiles.iterdir() if not path.name.endswith(".ome.zarr")}
    tables = {"tiles.parquet", "channels.json", "skipped.json"}
    assert all(name.endswith((".done.json", ".tiles.json")) or name in tables for name in others), others
    files = sorted(path for path in tiles.rglob("*") if path.is_file() and ".ome.zarr/" in str(path))
    return {str(path.relative_to(tiles)): file_digest(path) for path in files}


def test_killed_and_resumed_tiling_gives_the_same_bytes(plexrank: Plexrank, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=48, seed=2)

    def run_once(run: Path, kill_at: int | None = None, delay_s: float = 0) -> tuple[int, int]:
        """How the process ended, and how often it flushed."""
        flushes = processes.Value("i", 0)
        arguments = [*map(str, run_arguments(study, run, "tile.tile_px=16")), "--until", "tile"]
        process = processes.Process(target=tile, args=(arguments, tmp_path, flushes, kill_at, delay_s))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "err").read_text()
        return process.exitcode, flushes.value

    _, num_flushes = run_once(tmp_path / "undisturbed")
    expected = hashes(tmp_path / "undisturbed")
    assert len(expected) == 8 * (2 + 9)  # two metadata files and nine shards each

    moments = random.Random(4)
    killed = within_a_store = 0
    while killed < KILLS:
        run = tmp_path / f"run-after-{killed}"
        while run_once(run, moments.randint(1, num_flushes // 3), moments.uniform(0, 0.005))[0]:
            killed += 1
            within_a_store += any((run / "tiles").glob(".*.ome.zarr.*.tmp"))
        assert hashes(run) == expected
    assert within_a_store >= 3
