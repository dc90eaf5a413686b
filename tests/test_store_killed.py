"""Tiling killed at twenty random moments and resumed leaves the stores of an undisturbed run, byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import run_arguments
from plexrank.rundir import file_digest
from plexrank.simulate import simulate

KILLS = 20
TABLES = ("tiles.parquet", "channels.json")

# Forks the command line for every line of arguments, so that the imports are paid once; prints its process and then
# how it ended. With a shard a tile, and files that all take a while to reach the disk, there are many moments within
# an image.
DRIVER = """
import json, os, sys, time
from plexrank import cli
from plexrank.stages import run, tile
from plexrank.tiles import layout

os.fsync = lambda descriptor: time.sleep(0.003)
layout._SHARD_BYTES = 1
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["plexrank", *json.loads(line)]
        cli.main()
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


class CommandLine:
    """One ``plexrank run --until tile`` after the other, each a process of its own."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, run: Path) -> int:
        """The process that tiles."""
        assert self._driver.stdin is not None
        arguments = [*map(str, run_arguments(self._study, run, "tile.tile_px=16")), "--until", "tile"]
        self._driver.stdin.write(json.dumps(arguments) + "\n")
        self._driver.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """Exit code, or less the signal that ended it."""
        return self._answer()

    def _answer(self) -> int:
        assert self._driver.stdout is not None
        return int(self._driver.stdout.readline())

    def close(self) -> None:
        self._driver.communicate()


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[CommandLine]:
    study = simulate("demo", tmp_path / "cohort", images=8, channels=8, size_px=48, seed=2)
    commands = CommandLine(study)
    yield commands
    commands.close()


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of every store, by path; nothing else may lie beside them but records and tables."""
    tiles = run / "tiles"
    others = {path.name for path in tiles.iterdir() if not path.name.endswith(".ome.zarr")}
    assert all(name.endswith((".done.json", ".tiles.json")) or name in TABLES for name in others), others
    files = sorted(path for path in tiles.rglob("*") if path.is_file() and ".ome.zarr/" in str(path))
    return {str(path.relative_to(tiles)): file_digest(path) for path in files}


def test_killed_and_resumed_tiling_gives_the_same_bytes(command_line: CommandLine, tmp_path: Path) -> None:
    command_line.start(tmp_path / "undisturbed")
    begun = time.monotonic()
    assert command_line.wait() == 0
    duration_s = time.monotonic() - begun
    expected = hashes(tmp_path / "undisturbed")
    assert len(expected) == 8 * (2 + 9)  # two metadata files and nine shards each

    moments = random.Random(4)
    killed = within_a_store = attempts = 0
    while killed < KILLS:
        run = tmp_path / f"run-{attempts}"
        for _ in range(2):  # a resumed run is killed again
            process = command_line.start(run)
            kill_at = time.monotonic() + moments.uniform(0.3, 1) * duration_s
            while time.monotonic() < kill_at and len(list(run.glob("tiles/*.done.json"))) < 8:
                time.sleep(0.002)
            with contextlib.suppress(ProcessLookupError):  # ended already
                os.kill(process, signal.SIGKILL)
            killed += command_line.wait() == -signal.SIGKILL
            within_a_store += any((run / "tiles").glob(".*.ome.zarr.*.tmp"))
        command_line.start(run)
        assert command_line.wait() == 0
        assert hashes(run) == expected
        attempts += 1
        assert attempts < 2 * KILLS
    assert within_a_store >= 3
