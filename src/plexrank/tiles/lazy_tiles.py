"""Tiles of a store as a dask array."""

from __future__ import annotations

from collections.abc import Iterable

import dask.array as da
from dask.delayed import delayed

from plexrank.tiles.store import TileStore


def lazy_tiles(store: TileStore, places: Iterable[tuple[int, int]]) -> da.Array:
    """Tiles of a store, read when they are computed: (tile, channel, y, x) in the stored type, a chunk a tile.

    Args:
        places: (row, col) of each tile in the grid, one or more.
    """
    shape = (store.shape[0], store.tile_px, store.tile_px)
    read = delayed(store.read_tile, pure=False)
    tiles = [da.from_delayed(read(row, col), shape, store.dtype) for row, col in places]  # type: ignore[no-untyped-call]
    stacked: da.Array = da.stack(tiles)  # type: ignore[no-untyped-call]
    return stacked
