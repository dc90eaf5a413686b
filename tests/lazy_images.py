"""Arrays as images that have not been read yet, and stores as arrays, for tests of tiling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from plexrank.settings import TileSettings
from plexrank.tiles.store import TileStore


@dataclass(frozen=True)
class Computed:
    """A dask array as pixels that are read in single pieces."""

    data: da.Array

    def pieces(self, key: tuple[slice, slice, slice]) -> Iterator[tuple[tuple[slice, slice, slice], np.ndarray]]:
        yield key, self.data[key].compute(scheduler="sync")


@dataclass(frozen=True)
class Image:
    data: da.Array
    pixel_size_um: tuple[float, float] | None = (0.5, 0.25)

    @property
    def pixels(self) -> Computed:
        return Computed(self.data)


def lazy(
    pixels: np.ndarray,
    chunks: tuple[int, int, int] = (1, 37, 41),
    pixel_size_um: tuple[float, float] | None = (0.5, 0.25),
) -> Image:
    return Image(da.from_array(pixels, chunks=chunks), pixel_size_um)


def noise(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 100, shape).astype(dtype)


def settings(**values: Any) -> TileSettings:
    return TileSettings(**{"tile_px": 16, "min_tissue": 0, **values})


def names(count: int) -> list[str]:
    return [f"C{index}" for index in range(count)]


def whole_image(store: TileStore) -> np.ndarray:
    rows = [
        np.concatenate([store.read_tile(row, col) for col in range(store.grid.cols)], axis=2)
        for row in range(store.grid.rows)
    ]
    return np.concatenate(rows, axis=1)
