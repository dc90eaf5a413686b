"""Tile stores as ome-zarr-py and the reader of napari open them after a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from napari_ome_zarr import napari_get_reader
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from plexrank.report.gallery import top_channels
from plexrank.stages.display import SHOWN


@pytest.fixture
def store(tiny_run: Path) -> Path:
    return min((tiny_run / "tiles").glob("*.ome.zarr"))


@pytest.fixture
def shown(tiny_run: Path) -> list[str]:
    return top_channels(pd.read_parquet(tiny_run / "ranking" / "ranking.parquet"), SHOWN)


def test_napari_switches_the_first_channels_on(store: Path, shown: list[str]) -> None:
    read = napari_get_reader(str(store))
    assert read is not None
    (layer,) = read(str(store))
    pixels, settings, kind = layer
    assert kind == "image"
    on = {name for name, visible in zip(settings["name"], settings["visible"], strict=True) if visible}
    assert {name.rsplit(": ")[-1] for name in on} == set(shown)  # newer readers put the image before it
    assert pixels[0].shape == (len(settings["name"]), 32, 32)
    assert all(low == 0 < high for low, high in settings["contrast_limits"])
    assert np.asarray(pixels[0]).max() > 0


def test_ome_zarr_reads_the_same(store: Path, shown: list[str]) -> None:
    location = parse_url(store, mode="r")
    assert location is not None
    (node,) = Reader(location)()
    names, visible = node.metadata["channel_names"], node.metadata["visible"]
    assert {name for name, on in zip(names, visible, strict=True) if on} == set(shown)
