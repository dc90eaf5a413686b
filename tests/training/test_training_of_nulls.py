"""What trainings on permuted labels share and leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import SHALLOW, UNIT, counts, make_tiles, run

from plexrank.distributed import ProcessInfo
from plexrank.errors import StoppedEarly
from plexrank.settings import TrainSettings
from plexrank.training.checkpoint import read_unit
from plexrank.training.loop import train_unit
from plexrank.training.unit import UnitPaths


def test_other_labels_of_the_same_tiles_share_what_was_read() -> None:
    log: list[int] = []
    tiles = make_tiles(counts(), cache_bytes=5 * 4 * 16 * 16 * 4, log=log)
    others = [tiles.relabelled(1 - tiles.labels) for _ in range(3)]
    for one in (tiles, *others, *others):
        list(one.batches([np.arange(10)]))
    assert sorted(log) == sorted([*range(5), *list(range(5, 10)) * 7])  # five fit, whoever reads them
    assert tiles.labels[0] == 0
    assert others[0].labels[0] == 1


def test_short_epochs_need_not_be_saved_and_no_history_be_kept(tmp_path: Path) -> None:
    run(tmp_path / "saved")
    folder = tmp_path / "unsaved"
    settings = TrainSettings(epochs=3, batch_tiles=11, crop_px=16, learning_rate=3e-3)
    stops = iter([False] * 4 + [True])

    def train(should_stop: Callable[[], bool]) -> None:
        train_unit(
            make_tiles(counts()),
            replace(UNIT, labelling=7),
            SHALLOW,
            settings,
            info=ProcessInfo(),
            paths=UnitPaths(folder / "last.pt", folder / "best.pt", None),
            key="k",
            report=lambda line: None,
            should_stop=should_stop,
            seconds_between_saves=1e9,
        )

    train(lambda: False)
    assert [path.name for path in folder.iterdir()] == ["best.pt"]
    for name, value in read_unit(tmp_path / "saved" / "best.pt").model_state.items():
        assert torch.equal(value, read_unit(folder / "best.pt").model_state[name]), name
    with pytest.raises(StoppedEarly, match=r"null training 7 fold 0: stopped in epoch \d"):
        train(lambda: next(stops))
    assert (folder / "last.pt").is_file()
