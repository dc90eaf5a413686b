"""What is noted of every tile on its way into the store, and which tiles hold tissue."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.tiles.grid import Tile
from plexrank.tiles.resampling import square_means, sum_runs
from plexrank.tiles.texture import TextureSums, sum_texture

_BLOCK_PX = 8
_TISSUE_ABOVE = 0.05  # of the way from the least block to the 99th percentile


@dataclass(frozen=True)
class TileRow:
    """A kept tile, the share of its blocks that hold tissue (0–1), and its (channel,) float64 means over the image."""

    tile: Tile
    tissue_fraction: float
    channel_mean: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TiledImage:
    """What became of an image.

    Attributes:
        tiles: those that are kept, in row-major order.
        n_background: how many are left out.
        statistics: of the pixels of kept tiles, as :meth:`~plexrank.tiles.texture.TextureSums.statistics`.
        warnings: what to tell the user.
    """

    tiles: list[TileRow]
    n_background: int
    statistics: Mapping[str, npt.NDArray[np.float64]]
    warnings: list[str]


@dataclass(frozen=True)
class TileSummary:
    """Of the part of a tile that lies in the image.

    Attributes:
        tile: which.
        signal: (block,) means of its 8 × 8 blocks, summed over channels.
        texture: sums over its pixels and over larger blocks.
        nonfinite: (channel,) numbers of NaN and infinite pixels.
        masked: share of tissue (0–1) by the mask, where there is one.
    """

    tile: Tile
    signal: npt.NDArray[np.float64]
    texture: TextureSums
    nonfinite: npt.NDArray[np.int64]
    masked: float | None


def find_tissue(summaries: Sequence[TileSummary], min_tissue: float) -> TiledImage:
    signal = np.concatenate([summary.signal for summary in summaries])
    least = signal.min()
    threshold = least + _TISSUE_ABOVE * (np.percentile(signal, 99) - least)
    fractions = [
        float(np.mean(summary.signal > threshold)) if summary.masked is None else summary.masked
        for summary in summaries
    ]
    kept = [index for index, fraction in enumerate(fractions) if fraction >= min_tissue]
    warnings = []
    if not kept:
        best = int(np.argmax(fractions))
        kept = [best]
        tile = summaries[best].tile
        warnings.append(
            f"all {len(summaries)} tiles are below min_tissue {min_tissue:g}; kept the one with most tissue"
            f" ({fractions[best]:.3f}, row {tile.row}, column {tile.col})"
        )
    rows = [TileRow(summaries[index].tile, fractions[index], summaries[index].texture.mean) for index in kept]
    texture = functools.reduce(operator.add, (summaries[index].texture for index in kept))
    return TiledImage(rows, len(summaries) - len(rows), texture.statistics(), warnings)


def summarise_tile(tile: Tile, chunk: npt.NDArray[Any], block_px: tuple[int, int], masked: float | None) -> TileSummary:
    """Of a (channel, tile, tile) chunk; ``block_px`` as of :func:`~plexrank.tiles.texture.block_sides`."""
    pixels = chunk[:, : tile.height_px, : tile.width_px]
    nonfinite = np.zeros(len(pixels), dtype=np.int64)
    if pixels.dtype.kind == "f":
        nonfinite = np.count_nonzero(~np.isfinite(pixels), axis=(1, 2))
    return TileSummary(
        tile,
        _signal(pixels).ravel(),
        sum_texture(pixels, chunk.shape[1], block_px),
        nonfinite,
        masked,
    )


def tissue_of_tile(pixels: npt.NDArray[Any], tissue_fraction: float) -> npt.NDArray[np.bool_]:
    """Where a tile of an image without a mask holds tissue, (y, x) bool: what tiling took for it.

    The threshold belonged to the whole image, but so many of the tile's blocks are above it as the fraction says, and
    these are its brightest.

    Args:
        pixels: (channel, y, x) of the part of the tile that lies in the image, all channels of the store.
        tissue_fraction: as the tile table has it.
    """
    signal = _signal(pixels)
    above = round(tissue_fraction * signal.size)
    blocks = np.zeros(signal.size, dtype=bool)
    blocks[np.argsort(-signal, axis=None, kind="stable")[:above]] = True
    enlarged = blocks.reshape(signal.shape).repeat(_BLOCK_PX, axis=0).repeat(_BLOCK_PX, axis=1)
    return enlarged[: pixels.shape[1], : pixels.shape[2]]


def _signal(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(y, x) means over blocks of (channel, y, x) pixels, summed over channels."""
    # Sums of a few small whole numbers are exact in any type, and faster in a narrow one.
    is_small = pixels.dtype.kind in "bu" and pixels.dtype.itemsize <= 2
    sums = sum_runs(pixels, _BLOCK_PX, np.uint32 if is_small else np.float64)
    total = sums.sum(axis=0, keepdims=True, dtype=np.float64)
    means: npt.NDArray[np.float64] = square_means(total, pixels.shape[1], (_BLOCK_PX, _BLOCK_PX))[0]
    return means
