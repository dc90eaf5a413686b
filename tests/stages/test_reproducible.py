"""What the same study gives again: the same bytes, whatever the order of its rows and the number of threads."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from conftest import Plexrank, command, run_arguments

TABLES = ("ranking.csv", "ranking_by_class.csv", "predictions.csv", "baselines.csv", "reads.csv", "summary.json")


def tables(run: Path) -> dict[str, bytes]:
    return {name: (run / "ranking" / name).read_bytes() for name in TABLES}


@pytest.fixture
def other_order(tiny_study: Path, tmp_path: Path) -> tuple[str, ...]:
    """Overrides by which the tiny study takes the rows of its samplesheet in another order."""
    header, *rows = (tiny_study.parent / "samplesheet.csv").read_text().splitlines()
    random.Random(3).shuffle(rows)
    (tmp_path / "samplesheet.csv").write_text("\n".join([header, *rows]) + "\n")
    return f"cohort.samplesheet={tmp_path / 'samplesheet.csv'}", f"cohort.root={tiny_study.parent}"


def test_the_order_of_the_samplesheet_changes_nothing(
    tiny_study: Path, other_order: tuple[str, ...], tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    done = plexrank(*run_arguments(tiny_study, tmp_path / "run", *other_order), "--until", "rank")
    assert done.returncode == 0, done.stderr
    assert tables(tmp_path / "run") == tables(tiny_run)


def test_another_order_of_the_samplesheet_leaves_finished_work_alone(
    tiny_study: Path, other_order: tuple[str, ...], tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    done = plexrank(*run_arguments(tiny_study, tmp_path / "run", *other_order))
    assert done.returncode == 0, done.stderr
    for line in ("tile: all 32 done already", "train: all 4 done already", "rank: done already"):
        assert line in done.stderr


def test_from_the_same_checkpoints_other_threads_rank_alike(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    for folder in ("attribution", "ranking", "report"):
        shutil.rmtree(run / folder)
    threads = "1" if os.environ.get("OMP_NUM_THREADS") == "2" else "2"
    other = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    said = [
        subprocess.run(command(stage, run), env=other, check=True, capture_output=True, text=True).stderr
        for stage in ("attribute", "rank")
    ]
    assert f"{threads} thread" in said[0]
    for name in ("ranking.csv", "predictions.csv"):
        again, before = (pd.read_csv(folder / "ranking" / name) for folder in (run, tiny_run))
        assert_frame_equal(again, before, check_exact=False, rtol=0, atol=1e-6)
