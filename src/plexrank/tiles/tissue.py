"""What is noted of every tile on its way into the store, and which tiles hold tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.tiles.grid import Tile
from plexrank.tiles.resampling import square_means, sum_runs

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
    """What became of an image: its kept tiles in row-major order, the number left out, what to tell the user."""

    tiles: list[TileRow]
    n_background: int
    warnings: list[str]


@dataclass(frozen=True)
class TileSummary:
    """Of the part of a tile that lies in the image.

    Attributes:
        tile: which.
        signal: (block,) means of its 8 × 8 blocks, summed over channels.
        mean: (channel,) means.
        nonfinite: (channel,) numbers of NaN and infinite pixels.
        low, high: (channel,) least and greatest values.
        masked: share of tissue (0–1) by the mask, where there is one.
    """

    tile: Tile
    signal: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    nonfinite: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    masked: float | None


def find_tissue(summaries: Sequence[TileSummary], min_tissue: float) -> TiledImage:
    signal = np.concatenate([summary.signal for summary in summaries])
    least = signal.min()
    threshold = least + _TISSUE_ABOVE * (np.percentile(signal, 99) - least)
    rows = [
        TileRow(
            summary.tile,
            float(np.mean(summary.signal > threshold)) if summary.masked is None else summary.masked,
            summary.mean,
        )
        for summary in summaries
    ]
    kept = [row for row in rows if row.tissue_fraction >= min_tissue]
    warnings = []
    if not kept:
        best = max(rows, key=lambda row: row.tissue_fraction)
        kept = [best]
        warnings.append(
            f"all {len(rows)} tiles are below min_tissue {min_tissue:g}; kept the one with most tissue"
            f" ({best.tissue_fraction:.3f}, row {best.tile.row}, column {best.tile.col})"
        )
    return TiledImage(kept, len(rows) - len(kept), warnings)


def summarise_tile(tile: Tile, chunk: npt.NDArray[Any], masked: float | None) -> TileSummary:
    pixels = chunk[:, : tile.height_px, : tile.width_px]
    num_channels, height_px, width_px = pixels.shape
    # Sums of a few small whole numbers are exact in any type, and faster in a narrow one.
    is_small = pixels.dtype.kind in "bu" and pixels.dtype.itemsize <= 2
    sums = sum_runs(pixels, _BLOCK_PX, np.uint32 if is_small else np.float64)
    total = sums.sum(axis=0, keepdims=True, dtype=np.float64)
    nonfinite = np.zeros(num_channels, dtype=np.int64)
    if pixels.dtype.kind == "f":
        nonfinite = np.count_nonzero(~np.isfinite(pixels), axis=(1, 2))
    return TileSummary(
        tile,
        square_means(total, height_px, (_BLOCK_PX, _BLOCK_PX)).ravel(),
        sums.sum(axis=(1, 2), dtype=np.float64) / (height_px * width_px),
        nonfinite,
        pixels.min(axis=(1, 2)).astype(np.float64),
        pixels.max(axis=(1, 2)).astype(np.float64),
        masked,
    )
