"""Training finds a planted channel, and stopping, resuming and caching change nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from plexrank.distributed import ProcessInfo
from plexrank.errors import PlexrankError, StoppedEarly, StudyError
from plexrank.models.baselines import Baseline
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.outcome.nominal import Nominal
from plexrank.readout.pooling import tile_weights
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.tiles.intensity import IntensityFit
from plexrank.training import loop
from plexrank.training.checkpoint import read_progress, read_unit
from plexrank.training.data import TrainingTiles, model_input
from plexrank.training.embedding import embed_tiles, mean_over_images
from plexrank.training.explain import explain_tiles
from plexrank.training.loop import train_unit
from plexrank.training.unit import TrainingUnit, UnitPaths, UnitResult

SHALLOW = ModelSettings(backbone="shallow", weights="none")
PLANTED = 2
TILES, TRAIN = 32, 22
UNIT = TrainingUnit(0, fold=0, seed=0, train_index=np.arange(TRAIN), validation_index=np.arange(TRAIN, TILES))


def counts(signal: float = 1.0, seed: int = 0) -> np.ndarray:
    """(tile, 4, 16, 16) uint16; one channel of every second tile is brighter."""
    generator = np.random.default_rng(seed)
    raw = generator.poisson(3.0, size=(TILES, 4, 16, 16))
    raw[1::2, PLANTED] += generator.poisson(4.0 * signal, size=(TILES // 2, 16, 16))
    return raw.astype(np.uint16)


def make_tiles(
    raw: np.ndarray,
    cache_bytes: int = 2**30,
    log: list[int] | None = None,
    present: np.ndarray | None = None,
) -> TrainingTiles:
    def read(tile: int) -> np.ndarray:
        if log is not None:
            log.append(tile)
        return raw[tile]

    return TrainingTiles(
        read,
        IntensityFit("arcsinh", 5.0, np.full(raw.shape[1], 2.0, dtype=np.float32)),
        labels=np.arange(len(raw)) % 2,
        image_index=np.arange(len(raw)),
        patient_ids=np.array([f"p{index}" for index in range(len(raw))]),
        channel_names=[f"C{channel}" for channel in range(raw.shape[1])],
        outcome=Nominal(("a", "b")),
        present=present,
        channel_means=np.where(True if present is None else present, raw.mean(axis=(2, 3)), np.nan),
        cache_bytes=cache_bytes,
    )


def run(
    folder: Path,
    tiles: TrainingTiles | None = None,
    unit: TrainingUnit = UNIT,
    key: str = "k",
    model: ModelSettings = SHALLOW,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: None,
    **settings: float,
) -> UnitResult:
    train = {"epochs": 3, "batch_tiles": 11, "crop_px": 16, "learning_rate": 3e-3, **settings}
    return train_unit(
        tiles or make_tiles(counts()),
        unit,
        model,
        TrainSettings(**train),  # type: ignore[arg-type]
        info=ProcessInfo(),
        paths=UnitPaths(folder / "last.pt", folder / "best.pt", folder / "history.csv"),
        key=key,
        report=report,
        should_stop=should_stop,
    )


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def assert_same_unit(folder: Path, other: Path) -> None:
    one, two = read_unit(folder / "best.pt"), read_unit(other / "best.pt")
    assert one.epoch == two.epoch
    for name, value in one.model_state.items():
        assert torch.equal(value, two.model_state[name]), name
    np.testing.assert_array_equal(one.embedding_mean, two.embedding_mean)
    assert one.classifier is not None
    assert two.classifier is not None
    assert torch.equal(one.classifier.coef, two.classifier.coef)
    pd.testing.assert_frame_equal(history(folder), history(other))


def test_a_planted_channel_is_learned(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=10)
    assert result.validation_score > 0.95
    unit = read_unit(tmp_path / "best.pt")
    assert unit.classifier is not None
    assert unit.classifier.coef.abs().sum(dim=0).argmax() == PLANTED
    assert unit.embedding_mean.shape == (TILES, 4)
    np.testing.assert_array_equal(unit.embedding_images, np.arange(TILES))
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table.columns) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_auc",
        "learning_rate",
        "seconds",
        "device",
    ]
    assert table["validation_loss"].idxmin() == result.best_epoch == unit.epoch
    assert table["train_loss"].iloc[-1] < table["train_loss"].iloc[0]


def test_the_stored_embedding_is_that_of_the_stored_weights(tmp_path: Path) -> None:
    tiles = make_tiles(counts())
    run(tmp_path, tiles)
    unit = read_unit(tmp_path / "best.pt")
    network = unit.network(torch.device("cpu"))
    assert isinstance(network, ChannelEmbedding)
    r = embed_tiles(network, tiles, np.arange(TILES), ProcessInfo())
    assert unit.blend is not None
    assert tiles.channel_means is not None
    np.testing.assert_allclose(unit.embedding_mean, unit.blend.apply(r, tiles.channel_means), atol=1e-5)


def test_without_a_share_of_intensity_the_embedding_is_r_alone(tmp_path: Path) -> None:
    tiles = make_tiles(counts())
    tiles.channel_means = None
    with pytest.raises(ValueError, match="know no channel means"):
        run(tmp_path / "half", tiles)
    run(tmp_path, tiles, model=SHALLOW.model_copy(update={"intensity_share": 0.0}))
    unit = read_unit(tmp_path / "best.pt")
    network = unit.network(torch.device("cpu"))
    assert isinstance(network, ChannelEmbedding)
    assert unit.blend is None
    np.testing.assert_allclose(
        unit.embedding_mean, embed_tiles(network, tiles, np.arange(TILES), ProcessInfo()), atol=1e-5
    )


def stop_after(steps: int) -> Callable[[], bool]:
    remaining = iter(range(steps - 1))
    return lambda: next(remaining, None) is None


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_stop_and_resume_equal_no_stop_bitwise(tmp_path: Path, steps: int) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    run(straight, epochs=2)
    torch.manual_seed(steps)
    with pytest.raises(StoppedEarly, match=r"fold 0 seed 0: stopped in epoch \d; run the same command again"):
        run(stopped, should_stop=stop_after(steps), epochs=2)
    assert not (stopped / "best.pt").exists()
    torch.manual_seed(steps + 1)
    run(stopped, epochs=2)
    assert_same_unit(straight, stopped)


def test_more_epochs_go_on_where_fewer_ended_only_under_the_same_key(tmp_path: Path) -> None:
    straight, resumed, anew = (tmp_path / name for name in ("straight", "resumed", "anew"))
    run(straight, epochs=2)
    for folder, key in ((resumed, "k"), (anew, "other")):
        run(folder, epochs=1)
        run(folder, epochs=2, key=key)
        assert_same_unit(straight, folder)
        assert read_unit(folder / "best.pt").key == key


def test_a_unit_depends_on_its_seed_and_not_on_the_global_state(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(tmp_path / "one", epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    run(tmp_path / "two", epochs=1)
    assert_same_unit(tmp_path / "one", tmp_path / "two")
    other = TrainingUnit(0, 0, 1, UNIT.train_index, UNIT.validation_index)
    run(tmp_path / "three", unit=other, epochs=1)
    one, three = (read_unit(tmp_path / name / "best.pt") for name in ("one", "three"))
    assert not np.allclose(one.embedding_mean, three.embedding_mean)


def test_training_stops_once_validation_no_longer_gets_better(tmp_path: Path) -> None:
    shuffled = make_tiles(counts(signal=0.0))
    result = run(tmp_path, shuffled, epochs=40, patience=2, learning_rate=0.02)
    assert result.epochs < 40
    assert result.epochs == result.best_epoch + 1 + 2
    losses = history(tmp_path)["validation_loss"]
    assert losses.idxmin() == result.best_epoch


def test_the_paper_classifier_is_not_refitted(tmp_path: Path) -> None:
    run(tmp_path, model=SHALLOW.model_copy(update={"classifier": "paper"}), epochs=1)
    assert read_unit(tmp_path / "best.pt").classifier is None


def test_recomputation_changes_no_weight(tmp_path: Path) -> None:
    for recompute in (False, True):
        run(tmp_path / str(recompute), epochs=2, recompute=recompute)
    assert_same_unit(tmp_path / "True", tmp_path / "False")


def test_disturbed_training_in_parts_resumes_bitwise_and_learns(tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    disturbed = {"epochs": 8, "jitter": 0.1, "channel_dropout": 0.2, "accumulate": 3}
    assert run(straight, **disturbed).validation_score > 0.9
    with pytest.raises(StoppedEarly):
        run(stopped, should_stop=stop_after(5), **disturbed)
    run(stopped, **disturbed)
    assert_same_unit(straight, stopped)


def killed_at(step: int, folder: Path) -> None:
    steps = iter(range(step))

    def should_stop() -> bool:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    torch.set_num_threads(1)
    run(folder, should_stop=should_stop, epochs=4)


def test_a_training_killed_at_a_random_step_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run(straight, epochs=4)
    step = int(np.random.default_rng().integers(2, 7))
    process = multiprocessing.get_context("forkserver").Process(target=killed_at, args=(step, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (killed / "last.pt").is_file()
    assert not (killed / "best.pt").exists()
    run(killed, epochs=4)
    assert_same_unit(straight, killed)


def test_a_long_epoch_is_saved_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run(straight, epochs=2)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_SAVES", 0.0)
    steps = iter(range(3))
    with pytest.raises(StopIteration):
        run(killed, should_stop=lambda: next(steps) < 0, epochs=2)
    progress = read_progress(killed / "last.pt")
    assert progress is not None
    assert (progress.epoch, progress.batch) == (1, 1)
    run(killed, epochs=2)
    assert_same_unit(straight, killed)


def test_progress_of_other_settings_is_told_and_not_taken(tmp_path: Path) -> None:
    straight, other = tmp_path / "straight", tmp_path / "other"
    run(straight, key="new", epochs=2)
    run(other, epochs=1)
    said: list[str] = []
    run(other, key="new", epochs=2, report=said.append)
    assert (
        said[0]
        == f"fold 0 seed 0: training from the start: {other / 'last.pt'} is of other settings: train.epochs 1 → 2"
    )
    assert_same_unit(straight, other)
    said.clear()
    validation = UNIT.validation_index[:-1]
    run(other, unit=replace(UNIT, validation_index=validation), key="newer", epochs=2, report=said.append)
    assert said[0].endswith("is of other settings: validation tiles")


def test_a_long_epoch_says_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LINES", 0.0)
    said: list[str] = []
    run(tmp_path, epochs=1, report=said.append)
    *steps, epoch = said
    assert [line.split(",")[0] for line in steps] == ["fold 0 seed 0: epoch 1 of up to 1"] * len(steps)
    assert len(steps) > 1
    assert steps[-1].endswith("0 s to the epoch's end")
    assert "validation AUC" in epoch


def test_a_baseline_trains_and_explains_itself(tmp_path: Path) -> None:
    tiles, model = make_tiles(counts()), ModelSettings(architecture="bsn", weights="none")
    result = run(tmp_path, tiles, model=model, epochs=1)
    assert np.isfinite(result.validation_loss)
    unit = read_unit(tmp_path / "best.pt")
    assert unit.classifier is None
    assert unit.embedding_mean.shape == (TILES, 4)
    assert np.isnan(unit.embedding_mean).all()
    network = unit.network(torch.device("cpu"))
    assert isinstance(network, Baseline)
    index = np.arange(5)
    explained = explain_tiles(network, tiles, index, ("gradient", "occlusion"), ProcessInfo())
    images = model_input(next(tiles.batches([index])))
    without = torch.ones(5, 4, dtype=torch.bool)
    without[:, PLANTED] = False
    with torch.no_grad():
        change = network(images) - network(images, without)
    np.testing.assert_allclose(explained["occlusion"][:, PLANTED], change, atol=1e-5)
    np.testing.assert_allclose(explained["gradient"], network.importances(images), rtol=1e-4)


def test_attention_is_kept_with_the_unit_and_weighs_its_images(tmp_path: Path) -> None:
    tiles = make_tiles(counts())
    tiles.image_index = np.arange(TILES) // 4 * 2 + np.arange(TILES) % 2
    tiles.patient_ids = np.array([f"p{image}" for image in tiles.image_index])
    unit = TrainingUnit(0, 0, 0, np.arange(24), np.arange(24, TILES))
    run(tmp_path, tiles, unit, model=SHALLOW.model_copy(update={"pooling": "attention"}), epochs=3)
    trained = read_unit(tmp_path / "best.pt")
    assert trained.attention is not None
    network = trained.network(torch.device("cpu"))
    assert isinstance(network, ChannelEmbedding)
    r = embed_tiles(network, tiles, np.arange(TILES), ProcessInfo())
    weights = tile_weights(trained.attention, r, tiles.image_index)
    assert trained.blend is not None
    assert tiles.channel_means is not None
    blended = trained.blend.apply(r, tiles.channel_means)
    mean = mean_over_images(blended, tiles.image_index, weights)[2]
    np.testing.assert_allclose(trained.embedding_mean, mean, atol=1e-5)


def test_what_is_not_cached_trains_the_same(tmp_path: Path) -> None:
    raw = counts()
    tile_bytes = raw[0].size * 4
    cached, some, none = [], [], []
    for name, log, budget in (("all", cached, 2**30), ("some", some, 5 * tile_bytes), ("none", none, 0)):
        run(tmp_path / name, make_tiles(raw, budget, log), epochs=2)
        assert_same_unit(tmp_path / "all", tmp_path / name)
    assert sorted(cached) == list(range(TILES))
    training_epochs, probes, validations, at_the_end = 2, 2, 2, 2
    reads_of_training_tile = training_epochs + probes + at_the_end
    assert len(none) == TRAIN * reads_of_training_tile + (TILES - TRAIN) * (validations + at_the_end)
    assert len(some) == len(none) - 5 * (reads_of_training_tile - 1)


def test_what_stands_in_absent_channels_changes_nothing(tmp_path: Path) -> None:
    present = np.ones((TILES, 4), dtype=bool)
    present[3:9, 0] = present[10:15, PLANTED] = False
    lacking = np.where(present[:, :, None, None], counts(), 0).astype(np.uint16)
    garbage = np.where(present[:, :, None, None], counts(), 999).astype(np.uint16)
    results = [
        run(tmp_path / name, make_tiles(raw, present=present), epochs=8)
        for name, raw in (("zero", lacking), ("garbage", garbage))
    ]
    assert_same_unit(tmp_path / "zero", tmp_path / "garbage")
    assert results[0] == results[1]
    assert results[0].validation_score > 0.95
    unit = read_unit(tmp_path / "zero" / "best.pt")
    np.testing.assert_array_equal(np.isnan(unit.embedding_mean), ~present)
    np.testing.assert_allclose(np.nanmean(unit.embedding_mean, axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.nanvar(unit.embedding_mean, axis=0), 1, atol=0.01)


def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    raw = counts().astype(np.float32)
    raw[3, 1] = np.nan
    with pytest.raises(
        PlexrankError, match=r"fold 0 seed 0: the loss of epoch 1 is not finite; lower train\.learning_rate"
    ):
        run(tmp_path, make_tiles(raw))


BAD_UNITS = [
    (np.arange(0, TRAIN, 2), np.arange(TRAIN, TILES), "no training tile of class b"),
    (np.arange(TRAIN), np.array([], dtype=int), "22 training and 0 validation tiles"),
]


@pytest.mark.parametrize(("train_index", "validation_index", "message"), BAD_UNITS)
def test_units_that_cannot_be_trained_are_refused(
    tmp_path: Path, train_index: np.ndarray, validation_index: np.ndarray, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        run(tmp_path, unit=TrainingUnit(0, 3, 0, train_index, validation_index))
