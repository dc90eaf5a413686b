"""The command line, and a tiny cohort with an undisturbed run of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plexrank.simulate import simulate

Plexrank = Callable[..., "subprocess.CompletedProcess[str]"]

TINY = ("train.epochs=3", "train.folds=2", "train.seeds=2", "train.batch_tiles=8", "rank.bootstrap=200")
"""Overrides that make a run of the tiny cohort a matter of seconds."""


def command(*arguments: object) -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-m", "plexrank", *map(str, arguments)]


def run_arguments(study: Path, run: Path, *overrides: str) -> list[object]:
    """Arguments of ``plexrank run`` for the tiny cohort."""
    return ["run", study, "--out", run, *(part for value in (*TINY, *overrides) for part in ("--set", value))]


@pytest.fixture(scope="session")
def plexrank() -> Plexrank:
    """Run the command line and return what it printed and its exit code."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)

    return call


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study file of a simulated cohort: 32 images, 6 channels, 32 px."""
    return simulate("demo", tmp_path_factory.mktemp("tiny") / "cohort", images=32, channels=6, size_px=32, seed=1)


@pytest.fixture(scope="session")
def tiny_run(tiny_study: Path, plexrank: Plexrank) -> Path:
    """The run directory of the tiny cohort, made without disturbance; tests must not change it."""
    run = tiny_study.parent.parent / "run"
    done = plexrank(*run_arguments(tiny_study, run))
    assert done.returncode == 0, done.stderr
    return run
