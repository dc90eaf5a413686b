"""Checking and running a study from Python."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import plexrank
from conftest import TINY
from plexrank.api.commands import _alone_in
from plexrank.errors import MissingInputError, RunDirError
from plexrank.planning.check_result import CheckResult
from plexrank.simulate import simulate

SETTINGS = [*TINY, "train.epochs=1", "tile.tile_px=16", "train.crop_px=16"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images a patient, four tiles an image."""
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    return simulate("hierarchy", folder, images=48, channels=5, size_px=32, seed=2)


@pytest.fixture(scope="module")
def run(study: Path) -> plexrank.Run:
    """A run until the ranking, made beside the main thread, as a notebook's widget or a server would."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(
            plexrank.run, study, out=study.parent.parent / "run", overrides=SETTINGS, until="rank"
        ).result()


def test_check_finds_what_the_command_finds(study: Path, tmp_path: Path) -> None:
    found = plexrank.check(str(study), ["train.folds=2"])
    assert found.problems == ()
    assert found.cost is not None
    assert (found.cost.n_images, found.cost.minutes) == (48, None)
    (problem,) = plexrank.check(study, ["train.folds=0"]).problems
    assert "train.folds" in str(problem)
    (problem,) = plexrank.check(tmp_path / "absent.yaml").problems
    assert isinstance(problem, MissingInputError)


def test_check_measures_what_training_takes_where_asked(tiny_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = CheckResult(problems=())
    monkeypatch.setattr("plexrank.api.commands.measure_cost", lambda path, overrides, result: measured)
    assert plexrank.check(tiny_study, TINY, measure=True) is measured
    assert plexrank.check(tiny_study, TINY) is not measured


def test_a_run_ends_at_the_stage_asked_for(run: plexrank.Run) -> None:
    assert len(run.ranking) == 5
    assert not (run.path / "report").exists()
    assert not (run.path / ".run.lock").exists()


def test_a_run_leaves_signals_as_they_were(run: plexrank.Run, study: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)]
    plexrank.run(study, out=run.path, overrides=SETTINGS, until="train")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)] == before


def test_a_run_goes_on_where_it_stopped_and_says_what_was_called(
    run: plexrank.Run, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {path: path.stat().st_mtime_ns for path in run.path.rglob("*done.json")}
    again = plexrank.run(study, out=run.path, overrides=SETTINGS, until="rank")
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*done.json")} == records
    assert "train: all 4 done already" in capsys.readouterr().err
    pd.testing.assert_frame_equal(again.ranking, run.ranking)
    commands = json.loads((run.path / "provenance.json").read_text())["commands"]
    assert commands[-1]["command"].startswith(f"plexrank.run({str(study)!r}, out={str(run.path)!r}, overrides=['train.")


def test_tiles_average_to_images_and_images_to_patients(run: plexrank.Run) -> None:
    for of in (run.embedding, run.importances, run.intensity):
        tiles, images, patients = of("tile"), of("image"), of("patient")
        assert (len(tiles), len(images), len(patients)) == (192, 48, 12)
        np.testing.assert_allclose(tiles.groupby("image_id").mean().loc[images.index.get_level_values(0)], images, 1e-4)
        np.testing.assert_allclose(
            images.groupby("patient_id").mean().loc[patients.index.get_level_values(0)], patients, 1e-6
        )


def test_importances_of_several_images_a_patient_are_those_of_the_ranking(run: plexrank.Run) -> None:
    written = pd.read_parquet(run.path / "ranking" / "importance_per_patient.parquet")
    of_patient = run.importances().droplevel(["label", "site", "fold"])
    for row in written.itertuples():
        assert of_patient.loc[row.patient_id, row.channel] == pytest.approx(row.importance, rel=1e-9)


def test_several_tiles_are_read_where_they_lie(run: plexrank.Run) -> None:
    tiles = run.tiles("image002")
    assert tiles.data.shape == (4, 5, 16, 16)
    for number, (y, x) in enumerate(zip(tiles.table["y_px"], tiles.table["x_px"], strict=True)):
        np.testing.assert_array_equal(tiles.data[number], tiles.image[:, y : y + 16, x : x + 16])
    of_tile = run.intensity("tile").xs("image002", level="image_id")
    np.testing.assert_allclose(tiles.data.mean(axis=(2, 3)).compute(), of_tile, rtol=1e-5)


def test_one_thread_at_a_time_works_in_a_run_directory(study: Path, tmp_path: Path) -> None:
    with _alone_in(tmp_path / "run"), pytest.raises(RunDirError, match="another thread"):
        plexrank.run(study, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with _alone_in(tmp_path / "run"):  # what has ended is no longer in the way
        pass


def test_what_cannot_be_run_says_why(study: Path, tmp_path: Path) -> None:
    with pytest.raises(plexrank.PlexrankError, match="until='rnak': no such stage; did you mean 'rank'"):
        plexrank.run(study, out=tmp_path / "run", until="rnak")
    with pytest.raises(plexrank.PlexrankError, match=r"give a list of such texts: \['train.folds=2'\]"):
        plexrank.run(study, out=tmp_path / "run", overrides="train.folds=2")
    with pytest.raises(plexrank.PlexrankError, match=r"absent\.yaml"):
        plexrank.run(tmp_path / "absent.yaml", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_public_names_are_there_whatever_was_imported_before() -> None:
    code = (
        "import plexrank.cli, plexrank.planning.check, plexrank; "
        "assert all(callable(getattr(plexrank, name)) for name in plexrank.__all__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_none_of_the_package() -> None:
    assert set(plexrank.__all__) <= set(dir(plexrank))
    with pytest.raises(AttributeError, match="nothing"):
        _ = plexrank.nothing
