"""Epochs are told in a CSV and to TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from plexrank.training.history import EVENTS, History, progress_line


def rows(number: int, loss: float = 1.0) -> list[dict[str, float]]:
    return [{"epoch": epoch, "train_loss": loss / epoch, "seconds": 2.0} for epoch in range(1, number + 1)]


def losses(folder: Path) -> dict[int, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {event.step: event.value for event in events.Scalars("train_loss")}


def test_every_epoch_is_told_once_also_after_a_stop(tmp_path: Path) -> None:
    first = History(tmp_path / "history.csv")
    for epochs in (1, 2, 3):
        first.write(rows(epochs), ["CPU"] * epochs)
    first.close()
    resumed = History(tmp_path / "history.csv")  # the third epoch was not saved and is trained again
    for epochs in (3, 4):
        resumed.write(rows(epochs), ["CPU"] * epochs)
    resumed.close()
    assert losses(tmp_path) == pytest.approx({1: 1.0, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4})
    table = pd.read_csv(tmp_path / "history.csv")
    assert table["train_loss"].tolist() == [1.0, 1 / 2, 1 / 3, 1 / 4]
    assert table["device"].tolist() == ["CPU"] * 4


def test_a_training_from_the_start_forgets_the_events_before(tmp_path: Path) -> None:
    for loss in (5.0, 3.0):
        history = History(tmp_path / "history.csv")
        history.write(rows(1, loss), ["CPU"] * 1)
        history.close()
    assert losses(tmp_path) == {1: 3.0}
    assert len(list(tmp_path.glob(EVENTS))) == 1


def test_without_tensorboard_there_is_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    history = History(tmp_path / "history.csv")
    history.write(rows(2), ["CPU"] * 2)
    history.close()
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_a_line_tells_speed_and_time_left() -> None:
    row = {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.25, "validation_auc": 0.75, "seconds": 30.0}
    line = progress_line(row, epochs=6, n_tiles=600, headline="auc")
    assert line == (
        "epoch 2 of up to 6, training loss 0.500, validation loss 0.250, validation AUC 0.75, 20 tiles/s, "
        "at most 2 min left"
    )
