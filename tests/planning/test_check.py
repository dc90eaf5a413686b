"""What is known before any compute."""

import sys
from pathlib import Path

import pytest

from plexrank.planning.check import check_study_file
from plexrank.planning.cost import measure_cost
from plexrank.planning.trial import Trial, run_minutes, training_memory_bytes
from plexrank.study import load_study


@pytest.mark.parametrize(
    ("ordered", "problem"),
    [
        ("[A, B]", None),
        ("[]", None),
        ("[A]", "rank.ordered is A, but the classes are A, B"),
        ("[A, B, B]", "rank.ordered is A, B, B, but the classes are A, B"),
    ],
)
def test_an_order_of_the_classes_names_each_once(tiny_study: Path, ordered: str, problem: str | None) -> None:
    found = check_study_file(tiny_study, [f"rank.ordered={ordered}"]).problems
    assert [str(one).partition(";")[0] for one in found] == ([] if problem is None else [problem])


@pytest.mark.parametrize(("tile_px", "is_told"), [(32, False), (64, False), (128, True)])
def test_images_much_smaller_than_a_tile_are_told(tiny_study: Path, tile_px: int, is_told: bool) -> None:
    result = check_study_file(tiny_study, [f"tile.tile_px={tile_px}", "train.crop_px=32"])
    assert not result.problems
    told = [warning for warning in result.warnings if "32 images are less than half as high or wide" in warning]
    assert len(told) == is_told


def test_the_cost_of_training_is_measured_in_a_process_of_its_own(tiny_study: Path) -> None:
    result = measure_cost(tiny_study, ["train.batch_tiles=4"], check_study_file(tiny_study, ["train.batch_tiles=4"]))
    assert result.cost is not None
    assert result.cost.minutes is not None
    assert result.cost.n_parameters == 7473 + (6 + 1) * 200 + 201 * 200 + 201 * 2
    assert result.warnings == check_study_file(tiny_study).warnings


def test_memory_and_time_follow_from_the_steps_of_a_trial(tiny_study: Path) -> None:
    study = load_study(tiny_study, ["train.epochs=16", "train.patience=3", "train.folds=2", "train.seeds=3"])
    trial = Trial(start_bytes=1000, steps=((2, 1.0, 1400), (4, 2.0, 1800)), look_seconds=0.5, n_parameters=9)
    assert trial.peak_bytes(4) == 1800
    assert trial.peak_bytes(8) == 2600
    assert trial.step_seconds(8) == 4.0
    tile = 6 * study.tile.tile_px**2 * 4
    batch = study.train.batch_tiles
    assert training_memory_bytes(study, trial, 100, 6, 10**12) == trial.peak_bytes(batch) + (100 + 2 * batch) * tile
    assert training_memory_bytes(study, trial, 100, 6, 7) == trial.peak_bytes(batch) + 7 + 2 * batch * tile
    once, twice = (run_minutes(study, trial, tiles, 0) for tiles in (1000, 2000))
    assert 1.5 * once < twice < 2.5 * once


def test_what_cannot_be_measured_is_reported(tiny_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python")
    result = measure_cost(tiny_study, [], check_study_file(tiny_study))
    assert result.cost is not None
    assert result.cost.minutes is None
    assert "memory and time of training could not be measured on this machine" in result.warnings[-1]
