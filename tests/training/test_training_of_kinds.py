"""Outcomes of every kind are learned, kept and predicted; trainings on times to events resume bitwise."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from plexrank.distributed import ProcessInfo
from plexrank.errors import StoppedEarly, StudyError
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.outcome import KINDS, Kind
from plexrank.readout.pooling import tile_weights
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.training.checkpoint import TrainedUnit, load, read_progress, read_unit, save
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import embed_tiles, mean_over_images, outputs_of_tiles
from plexrank.training.loop import train_unit
from plexrank.training.losses import make_loss
from plexrank.training.unit import TrainingUnit, UnitPaths, UnitResult
from tiny_outcomes import PLANTED, outcome_tiles

SHALLOW = ModelSettings(backbone="shallow", weights="none", intensity_share=0.0)
OTHERS: list[Kind] = [kind for kind in KINDS if kind != "nominal"]
CHANCE = {"nominal": 0.5, "ordinal": 0.0, "continuous": 0.0, "survival": 0.5}


def unit_of(tiles: TrainingTiles) -> TrainingUnit:
    """The last third of the images held out, the third before it for validation."""
    third = tiles.image_index * 3 // (tiles.image_index.max() + 1)
    return TrainingUnit(0, 0, 0, np.flatnonzero(third == 0), np.flatnonzero(third == 1))


def train(
    folder: Path,
    tiles: TrainingTiles,
    unit: TrainingUnit | None = None,
    model: ModelSettings = SHALLOW,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda line: None,
    **settings: float,
) -> UnitResult:
    chosen = {"epochs": 8, "batch_tiles": 16, "crop_px": 16, "learning_rate": 3e-3, **settings}
    return train_unit(
        tiles,
        unit or unit_of(tiles),
        model,
        TrainSettings.model_validate(chosen),
        info=ProcessInfo(),
        paths=UnitPaths(folder / "last.pt", folder / "best.pt", folder / "history.csv"),
        key="k",
        report=report,
        should_stop=should_stop,
    )


def held_out_score(trained: TrainedUnit, tiles: TrainingTiles) -> float:
    network = trained.network(torch.device("cpu"))
    assert isinstance(network, ChannelEmbedding)
    index = np.flatnonzero(tiles.image_index * 3 // (tiles.image_index.max() + 1) == 2)
    r, image = embed_tiles(network, tiles, index, ProcessInfo()), tiles.image_index[index]
    _, first, mean = mean_over_images(r, image, tile_weights(trained.attention, r, image))
    with torch.no_grad():
        outputs = trained.classify(network)(torch.from_numpy(mean).float()).double().numpy()
    assert outputs.shape == (len(first), len(tiles.outcome.output_names))
    return make_loss(tiles.outcome).score(outputs, tiles.labels[index][first])


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_that_follows_brightness_is_predicted_for_other_images(tmp_path: Path, kind: Kind) -> None:
    tiles, said = outcome_tiles(kind, images=90), list[str]()
    result = train(tmp_path, tiles, report=said.append)
    trained = read_unit(tmp_path / "best.pt")
    assert trained.output_names == tiles.outcome.output_names
    assert trained.has_ordered_outputs == (kind == "ordinal")
    assert held_out_score(trained, tiles) > CHANCE[kind] + (0.2 if kind == "survival" else 0.4)
    assert trained.classifier is not None
    weight = trained.classifier.coef * torch.from_numpy(trained.embedding_mean).std(dim=0)
    assert (weight.abs().argmax(dim=1) == PLANTED).all()
    headline = tiles.outcome.headline
    assert result.headline == headline
    table = pd.read_csv(tmp_path / "history.csv")
    accuracy = ["train_accuracy"] if kind == "nominal" else []
    measures = ["epoch", "train_loss", *accuracy, "validation_loss", f"validation_{headline}"]
    assert list(table.columns) == [*measures, "learning_rate", "seconds", "device"]
    assert table[f"validation_{headline}"][result.best_epoch] == pytest.approx(result.validation_score)
    assert table["train_loss"].iloc[-1] < table["train_loss"].iloc[0]
    words = {"auc": "AUC", "spearman": "Spearman's ρ", "c_index": "Harrell's C"}[headline]
    assert f"validation {words} {table[f'validation_{headline}'].iloc[-1]:.2f}," in said[-1]


@pytest.mark.parametrize("kind", OTHERS)
def test_the_networks_own_outputs_predict_too(tmp_path: Path, kind: Kind) -> None:
    tiles = outcome_tiles(kind, images=90)
    train(tmp_path, tiles, model=SHALLOW.model_copy(update={"classifier": "paper"}), epochs=12)
    trained = read_unit(tmp_path / "best.pt")
    assert trained.classifier is None
    assert held_out_score(trained, tiles) > CHANCE[kind] + (0.15 if kind == "survival" else 0.4)


@pytest.mark.parametrize("kind", OTHERS)
def test_attention_is_trained_for_every_kind(tmp_path: Path, kind: Kind) -> None:
    tiles = outcome_tiles(kind, images=90)
    train(tmp_path, tiles, model=SHALLOW.model_copy(update={"pooling": "attention"}), epochs=3)
    trained = read_unit(tmp_path / "best.pt")
    assert trained.attention is not None
    assert held_out_score(trained, tiles) > CHANCE[kind]


def test_the_log_hazards_of_training_images_have_mean_zero(tmp_path: Path) -> None:
    train(tmp_path, outcome_tiles("survival"), epochs=1)
    trained = read_unit(tmp_path / "best.pt")
    assert trained.classifier is not None
    outputs = trained.classifier(torch.from_numpy(trained.embedding_mean))
    assert float(outputs.mean()) == pytest.approx(0, abs=1e-5)


def stop_after(steps: int) -> Callable[[], bool]:
    remaining = iter(range(steps - 1))
    return lambda: next(remaining, None) is None


def content(path: Path) -> bytes:
    """Of a checkpoint, without the name of the file that it was first written to."""
    buffer = io.BytesIO()
    torch.save(load(path), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("steps", "accumulate"), [(2, 1), (4, 2)])
def test_times_to_events_stopped_within_an_epoch_go_on_bitwise(tmp_path: Path, steps: int, accumulate: int) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    settings = {"epochs": 2, "batch_tiles": 12, "accumulate": accumulate, "jitter": 0.1, "channel_dropout": 0.2}
    tiles = outcome_tiles("survival")
    train(straight, tiles, **settings)
    with pytest.raises(StoppedEarly):
        train(stopped, outcome_tiles("survival"), should_stop=stop_after(steps), **settings)
    progress = read_progress(stopped / "last.pt")
    assert progress is not None
    assert progress.batch > 0
    train(stopped, outcome_tiles("survival"), **settings)
    assert content(straight / "best.pt") == content(stopped / "best.pt")
    tables = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (straight, stopped)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("kind", "kept", "message"),
    [
        ("survival", "censored for training", "fold 0: no event to train on; lower train.folds or add patients"),
        ("survival", "censored for validation", "fold 0: no event to validate on; lower train.folds or add patients"),
        ("ordinal", "without the lowest", "fold 0: no training tile of class low; lower train.folds or add patients"),
    ],
)
def test_outcomes_that_say_too_little_are_refused(tmp_path: Path, kind: Kind, kept: str, message: str) -> None:
    tiles = outcome_tiles(kind)
    unit, groups = unit_of(tiles), tiles.outcome.group_of(tiles.labels)
    if kept == "censored for validation":
        validation = unit.validation_index
        unit = replace(unit, validation_index=validation[groups[validation] == 1])
    else:
        unit = replace(unit, train_index=unit.train_index[groups[unit.train_index] > 0])
    with pytest.raises(StudyError, match=message):
        train(tmp_path, tiles, unit)


def test_a_unit_of_classes_from_before_other_outcomes_is_read(tmp_path: Path) -> None:
    train(tmp_path, outcome_tiles("nominal"), epochs=1)
    state = load(tmp_path / "best.pt")
    state["class_names"] = state.pop("output_names")
    del state["has_ordered_outputs"]
    save(tmp_path / "before.pt", state)
    now, before = read_unit(tmp_path / "best.pt"), read_unit(tmp_path / "before.pt")
    assert before.output_names == now.output_names == ("a", "b")
    assert not before.has_ordered_outputs
    assert (
        now.network(torch.device("cpu")).state_dict().keys() == before.network(torch.device("cpu")).state_dict().keys()
    )


def test_null_labels_of_times_keep_their_sites() -> None:
    tiles = outcome_tiles("survival")
    null = tiles.relabelled(tiles.labels[::-1])
    np.testing.assert_array_equal(null.stratum, tiles.stratum)
    np.testing.assert_array_equal(null.labels, tiles.labels[::-1])
    assert null.outcome is tiles.outcome


@pytest.mark.parametrize("model", [{"classifier": "paper"}, {"architecture": "bsn"}])
def test_hazards_of_a_networks_own_have_mean_0_over_the_training_images(tmp_path: Path, model: dict[str, str]) -> None:
    tiles, settings = outcome_tiles("survival"), SHALLOW.model_copy(update=model)
    train(tmp_path, tiles, model=settings, epochs=2)
    trained, unit = read_unit(tmp_path / "best.pt"), unit_of(tiles)
    index = np.sort(np.concatenate([unit.train_index, unit.validation_index]))
    network = trained.network(torch.device("cpu"))
    outputs = mean_over_images(outputs_of_tiles(network, tiles, index, ProcessInfo()), tiles.image_index[index])[2]
    assert outputs.mean() == pytest.approx(0, abs=1e-4)
    assert outputs.std() > 1e-6
