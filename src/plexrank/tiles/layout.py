"""How a tile store is cut into shards and worked on in regions, and the memory that takes: pure geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plexrank.tiles.resampling import ChunkSides, Resampling
from plexrank.tiles.texture import texture_memory_bytes

_SHARD_BYTES = 128 * 2**20  # uncompressed, at most: few files, and yet small beside any memory
_REGION_BYTES = 384 * 2**20  # held at once, unless a single shard or chunk of the source is larger,
_SMALL_REGION_BYTES = 128 * 2**20  # and rather so few, for memory that was used before is faster than more of it
REGIONS_AT_ONCE = 2
"""So that one is read while another is compressed or on its way to the disk."""


@dataclass(frozen=True)
class Region:
    """A part of the image that holds whole shards, except where the image ends, and is read at once; pixels."""

    y_px: int
    x_px: int
    height_px: int
    width_px: int

    @property
    def ys(self) -> slice:
        """Its rows."""
        return slice(self.y_px, self.y_px + self.height_px)

    @property
    def xs(self) -> slice:
        """Its columns."""
        return slice(self.x_px, self.x_px + self.width_px)


def shard_side(shape: tuple[int, int, int], dtype: np.dtype[Any], tile_px: int) -> int:
    """Side of the square shards of a (c, y, x) image, pixels.

    All of a small image, otherwise a power of two of tiles, so that shards meet the chunks of most images.
    """
    num_channels, height_px, width_px = shape
    tiles_a_side = max(1, math.isqrt(_SHARD_BYTES // (num_channels * tile_px**2 * dtype.itemsize)))
    whole = -(-max(height_px, width_px) // tile_px)
    if whole <= tiles_a_side:
        return tile_px * whole
    return int(tile_px * 2 ** (tiles_a_side.bit_length() - 1))


def regions(shape: tuple[int, int, int], dtype: np.dtype[Any], tile_px: int, chunks: ChunkSides) -> list[Region]:
    """Cut a (c, y, x) image into regions of whole shards, in row-major order.

    Regions are read independently, so a chunk of the source that lies in several is decoded several times.
    Their sides are those with the fewest pixels to decode, and among these not larger than is good for speed,
    within a bound on memory that does not depend on the size of the image.

    Args:
        shape: of the stored image.
        dtype: what is stored.
        tile_px: side of a tile.
        chunks: of the dask array that gives the stored image.
    """
    side = shard_side(shape, dtype, tile_px)
    num_channels, height_px, width_px = shape
    whole_chunk = max(chunks[1]) * max(chunks[2]) if max(chunks[0]) == num_channels else 0
    pixel_bytes = num_channels * dtype.itemsize
    allowed_px = max(_REGION_BYTES // pixel_bytes, whole_chunk, side**2)
    small_px = _SMALL_REGION_BYTES // pixel_bytes
    _, _, _, height, width = min(
        (decoded_y * decoded_x, max(high * wide, small_px), -high * wide, high, wide)
        for high, decoded_y in _candidates(side, height_px, chunks[1], allowed_px // side)
        for wide, decoded_x in _candidates(side, width_px, chunks[2], allowed_px // side)
        if high * wide <= allowed_px
    )
    return [
        Region(y_px, x_px, min(height, height_px - y_px), min(width, width_px - x_px))
        for y_px in range(0, height_px, height)
        for x_px in range(0, width_px, width)
    ]


def region_bytes(num_channels: int, dtype: np.dtype[Any], tile_px: int, region: Region) -> int:
    """Memory of a region's pixels, in whole tiles."""
    rows, cols = -(-region.height_px // tile_px), -(-region.width_px // tile_px)
    return int(rows * cols * num_channels * tile_px**2 * dtype.itemsize)


def tiling_memory_bytes(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    chunks: ChunkSides,
    tile_px: int,
    resampling: Resampling,
    num_threads: int,
    has_mask: bool = False,
) -> int:
    """Most memory that tiling an image takes beyond that of the program itself.

    Regions twice, as pixels and encoded, and in each thread the chunks of the source that become one chunk of
    the region, a tile in the hands of the codec, or one whose statistics are summed up; of a mask, regions as pixels
    and all of it as bits.

    Args:
        shape: (c, y, x) of the image as it is read, the kept channels only.
        dtype: as it is read.
        chunks: of the image as it is read.
        tile_px: side of a tile.
        resampling: reduction of y and x.
        num_threads: how many work at once.
        has_mask: whether a mask says where tissue is.
    """
    stored_dtype = resampling.dtype(dtype)
    parts = regions(resampling.shape(shape), stored_dtype, tile_px, resampling.chunks(chunks))
    region = max(region_bytes(shape[0], stored_dtype, tile_px, part) for part in parts)
    mask_of_region = max(part.height_px * part.width_px for part in parts) * resampling.dtype(np.dtype(bool)).itemsize
    source = math.prod(max(axis) for axis in chunks) * (3 * dtype.itemsize + resampling.working_bytes)
    tile = 4 * shape[0] * tile_px**2 * stored_dtype.itemsize
    at_once = min(REGIONS_AT_ONCE, len(parts))
    mask = at_once * mask_of_region + shape[1] * shape[2] // 8 if has_mask else 0
    return at_once * 2 * region + mask + num_threads * max(source, tile, texture_memory_bytes(tile_px))


def _candidates(shard_px: int, total_px: int, chunks: Sequence[int], most_px: int) -> list[tuple[int, int]]:
    """Sides of a region along one axis: shards in whole numbers, each with the pixels that are decoded in all.

    None is longer than ``most_px``, which a region of the least width may be.
    """
    ends = np.cumsum(chunks)
    starts = ends - chunks
    found = []
    for side in range(shard_px, min(total_px + shard_px, most_px + 1), shard_px):
        lows = np.arange(0, total_px, side)
        highs = np.minimum(lows + side, total_px)
        first, last = np.searchsorted(ends, lows, side="right"), np.searchsorted(starts, highs, side="left") - 1
        found.append((side, int((ends[last] - starts[first]).sum())))
    return found
