"""What the tile stage notes of an image, kept in the attributes of its tile store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.rundir import reading_output
from plexrank.tiles.display import metadata_digests
from plexrank.tiles.texture import STATISTICS
from plexrank.tiles.tissue import TiledImage

ATTRIBUTE = "plexrank"
"""Of the group, beside ``ome``."""


@dataclass(frozen=True)
class StoredImage:
    """What is known of a tiled image without reading its pixels.

    Attributes:
        channels: names in the order of the store.
        pixel_size_um: (y, x) of the image as it came; ``None`` if unknown.
        tiles: a row of the tile table for every kept tile; ``channel_mean`` is an array, smaller than a list.
        statistics: (channel,) each, by the names of :data:`~plexrank.tiles.texture.STATISTICS`; NaN where undefined.
        n_background: tiles that were left out.
        warnings: what is to be reported of the image.
    """

    channels: tuple[str, ...]
    pixel_size_um: tuple[float, float] | None
    tiles: list[dict[str, Any]]
    statistics: Mapping[str, npt.NDArray[np.float64]]
    n_background: int
    warnings: list[str]


def describe_tiling(tiled: TiledImage, pixel_size_um: tuple[float, float] | None) -> dict[str, Any]:
    """The value of :data:`ATTRIBUTE`, as :func:`read_stored_image` reads it."""
    tiles = [
        {**vars(row.tile), "tissue_fraction": row.tissue_fraction, "channel_mean": row.channel_mean.tolist()}
        for row in tiled.tiles
    ]
    statistics = {
        name: [None if math.isnan(value) else value for value in values.tolist()]
        for name, values in tiled.statistics.items()
    }
    return {
        "tiles": tiles,
        "statistics": statistics,
        "pixel_size_um": pixel_size_um,
        "n_background": tiled.n_background,
        "warnings": tiled.warnings,
    }


def read_stored_image(store: Path, digests: Mapping[str, str] = MappingProxyType({})) -> StoredImage:
    """Read what the tile stage noted of an image.

    Args:
        store: its tile store.
        digests: of its files, as :meth:`~plexrank.tiles.store.TileStore.digests` gave them; none to take it as it is.

    Raises:
        RunDirError: the metadata of the store are missing, damaged or another's.
    """
    with reading_output(store / "zarr.json"):
        if digests.get("zarr.json") not in (None, *metadata_digests(store / "zarr.json")):
            raise ValueError("not what the tile stage wrote")
        attributes = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        noted = attributes[ATTRIBUTE]
        size = noted["pixel_size_um"]
        channels = tuple(str(channel["label"]) for channel in attributes["ome"]["omero"]["channels"])
        statistics = {name: np.array(noted["statistics"][name], np.float64) for name in STATISTICS}  # null is NaN
        if any(values.shape != (len(channels),) for values in statistics.values()):
            raise ValueError(f"statistics are not of {len(channels)} channels")
        return StoredImage(
            channels,
            None if size is None else (float(size[0]), float(size[1])),
            [{**tile, "channel_mean": np.array(tile["channel_mean"], np.float64)} for tile in noted["tiles"]],
            statistics,
            int(noted["n_background"]),
            list(map(str, noted["warnings"])),
        )
