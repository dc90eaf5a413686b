"""Cohorts and runs that several test files use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plexrank.simulate import simulate

Plexrank = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def plexrank() -> Plexrank:
    """Run the command line in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "plexrank", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)

    return run


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study file of a simulated cohort that trains in seconds: 24 images, 6 channels, 32 px."""
    folder = tmp_path_factory.mktemp("cohort")
    study = simulate("demo", folder / "cohort", images=24, channels=6, size_px=32, seed=1)
    text = study.read_text()
    study.write_text(text)
    return study
