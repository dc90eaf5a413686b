"""Reads regions of an image into whole tiles: straight from its file where pixels are kept, else through dask."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask import threaded

from plexrank.arrays import Key
from plexrank.tiles.grid import Tile
from plexrank.tiles.layout import Region
from plexrank.tiles.resampling import Resampling


class Readable(Protocol):
    """(c, y, x) pixels that are read when a part is asked for, in pieces of which each is given with its place."""

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]: ...


class SourceImage(Protocol):
    """What an image brings: its pixels, the same as a dask array, and the (y, x) size of one if known."""

    @property
    def pixels(self) -> Readable: ...

    @property
    def data(self) -> da.Array: ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None: ...


class RegionReader:
    """Reads the channels that are kept, in their order, at the resolution that is stored.

    Args:
        image: the pixels.
        channel_indices: planes to keep.
        resampling: how far they are reduced.
        tile_px: side of a tile.
    """

    def __init__(
        self, image: SourceImage, channel_indices: Sequence[int], resampling: Resampling, tile_px: int
    ) -> None:
        self._pixels = image.pixels
        self._data = select(image.data, channel_indices)
        self._channel_indices = channel_indices
        self._resampling = resampling
        self._tile_px = tile_px

    def read(
        self, region: Region, workers: ThreadPoolExecutor, memory: npt.NDArray[np.uint8] | None = None
    ) -> RegionChunks:
        """Read a region with several threads; ``memory`` may serve one region after the other."""
        dtype = self._resampling.dtype(self._data.dtype)
        chunks = RegionChunks(region, self._data.shape[0], dtype, self._tile_px, memory)
        if self._resampling.keeps_pixels:
            for _ in workers.map(lambda part: self._copy(part, region, chunks), self._parts(region)):
                pass
        else:
            part = self._resampling.part(self._data, region.ys, region.xs)
            # Given by name, dask would first import distributed, to see whether it has a client.
            da.store(part, chunks, lock=False, scheduler=threaded.get, pool=workers)  # type: ignore[arg-type]
        return chunks

    def _parts(self, region: Region) -> Iterator[tuple[int, Key]]:
        """What is read at once: the number of its first channel among those that are kept, and its place."""
        channels, rows, cols = self._data.chunks
        first = np.cumsum((0, *channels))
        ys, xs = (_within(axis, part) for axis, part in ((rows, region.ys), (cols, region.xs)))
        for (number, count), y, x in itertools.product(zip(first.tolist(), channels, strict=False), ys, xs):
            start = self._channel_indices[number]
            yield number, (slice(start, start + count), y, x)

    def _copy(self, part: tuple[int, Key], region: Region, chunks: RegionChunks) -> None:
        number, key = part
        for (channels, ys, xs), piece in self._pixels.pieces(key):
            shift = number - key[0].start
            place = slice(channels.start + shift, channels.stop + shift)
            y, x = (slice(own.start - by, own.stop - by) for own, by in ((ys, region.y_px), (xs, region.x_px)))
            chunks[place, y, x] = piece


class RegionChunks:
    """A region's pixels with each tile's in one piece, filled up with zeros; takes (c, y, x) slices, as dask stores."""

    def __init__(
        self,
        region: Region,
        num_channels: int,
        dtype: np.dtype[Any],
        tile_px: int,
        memory: npt.NDArray[np.uint8] | None,
    ) -> None:
        self._origin = region.y_px // tile_px, region.x_px // tile_px
        self._tile_px = tile_px
        rows, cols = -(-region.height_px // tile_px), -(-region.width_px // tile_px)
        self._chunks: npt.NDArray[Any] = np.ndarray((rows, cols, num_channels, tile_px, tile_px), dtype, buffer=memory)
        if region.height_px % tile_px:
            self._chunks[-1] = 0
        if region.width_px % tile_px:
            self._chunks[:, -1] = 0

    def of(self, tile: Tile) -> npt.NDArray[Any]:
        """(c, tile_px, tile_px)."""
        chunk: npt.NDArray[Any] = self._chunks[tile.row - self._origin[0], tile.col - self._origin[1]]
        return chunk

    def __setitem__(self, key: tuple[slice, slice, slice], pixels: npt.NDArray[Any]) -> None:
        channels, ys, xs = key
        side = self._tile_px
        for row in range(ys.start // side, -(-ys.stop // side)):
            top, bottom = max(ys.start, row * side), min(ys.stop, (row + 1) * side)
            for col in range(xs.start // side, -(-xs.stop // side)):
                left, right = max(xs.start, col * side), min(xs.stop, (col + 1) * side)
                self._chunks[
                    row, col, channels, top - row * side : bottom - row * side, left - col * side : right - col * side
                ] = pixels[:, top - ys.start : bottom - ys.start, left - xs.start : right - xs.start]

    def __dask_tokenize__(self) -> str:
        return uuid.uuid4().hex  # dask must not read the pixels to find a name


def select(pixels: da.Array, channel_indices: Sequence[int]) -> da.Array:
    """Planes of (c, y, x) pixels in the order asked for, as slices, since dask copies what it picks by a list."""
    runs = [
        [index for _, index in run]
        for _, run in itertools.groupby(enumerate(channel_indices), lambda numbered: numbered[1] - numbered[0])
    ]
    selected: da.Array = da.concatenate([pixels[run[0] : run[-1] + 1] for run in runs])  # type: ignore[no-untyped-call]
    return selected


def _within(chunks: Sequence[int], part: slice) -> list[slice]:
    """The parts of chunks along one axis that lie in a part of it."""
    borders = itertools.pairwise(np.cumsum((0, *chunks)).tolist())
    return [
        slice(max(start, part.start), min(stop, part.stop))
        for start, stop in borders
        if start < part.stop and part.start < stop
    ]
