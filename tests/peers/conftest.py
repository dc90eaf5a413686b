"""A finished run of a tiny cohort, read by the tools that stand beside plexrank."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import Plexrank, run_arguments


@pytest.fixture(scope="session")
def survival_run(tmp_path_factory: pytest.TempPathFactory, plexrank: Plexrank) -> Path:
    """A tiny study of survival: a report of another kind than that of ``tiny_run``."""
    from plexrank.simulate import simulate

    folder = tmp_path_factory.mktemp("survival")
    study = simulate("survival", folder / "cohort", images=40, channels=4, size_px=32, seed=1)
    done = plexrank(*run_arguments(study, folder / "run", "train.epochs=1", "train.seeds=1"))
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="session")
def bin_folder() -> Path:
    """Where the commands of this Python's packages are."""
    return Path(sys.executable).parent
