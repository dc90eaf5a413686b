"""From a lazy image to its tile store: select, resample, write, then find the tissue."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import compute
from dask.delayed import delayed

from plexrank.errors import ImageDataError
from plexrank.rundir import replacing
from plexrank.study import TileSettings
from plexrank.tiles.grid import Tile
from plexrank.tiles.store import TileStore, TileStoreWriter

_BLOCK_PX = 8
_TISSUE_ABOVE = 0.05  # of the way from the least block to the 99th percentile


class Pixels(Protocol):
    """What an image brings: (c, y, x) pixels not read yet, and the (y, x) size of one if known."""

    @property
    def data(self) -> da.Array: ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None: ...


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
class _ShardSummary:
    """Per channel of a shard: number of NaN and infinite pixels, least and greatest of the others."""

    nonfinite: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def tile_image(
    image: Pixels,
    channel_indices: Sequence[int],
    channel_names: Sequence[str],
    settings: TileSettings,
    store_path: Path,
) -> TiledImage:
    """Write an image's tile store and say which tiles hold tissue.

    Blocks of 8 × 8 stored pixels, counted from each tile's corner, are tissue when their mean, summed over
    channels, exceeds least + 0.05 · (99th percentile − least) of all blocks of the image. (Means, so that a
    partial block at the image's edge compares with a whole one.)

    Args:
        image: the pixels, of any real number type.
        channel_indices: planes to keep, in the order of ``channel_names``.
        channel_names: how they are called in the store.
        settings: tile side, reduction, least share of tissue.
        store_path: where the store goes; an existing one is replaced, unless this raises.

    Raises:
        ImageDataError: pixels cannot be read, are NaN or infinite, or no channel varies.
    """
    image_name = store_path.name.removesuffix(".ome.zarr")
    selected = image.data[list(channel_indices)]
    if selected.dtype.kind not in "biuf":
        raise ImageDataError(f"{image_name}: pixels of type {selected.dtype}; expected real numbers")
    stored = _area_mean(selected, settings.downsample) if settings.downsample > 1 else selected
    pixel_size_um = image.pixel_size_um
    if pixel_size_um is not None:
        pixel_size_um = (pixel_size_um[0] * settings.downsample, pixel_size_um[1] * settings.downsample)
    with replacing(store_path) as partial:
        writer = TileStoreWriter(
            partial, image_name, stored.shape, stored.dtype, settings.tile_px, channel_names, pixel_size_um
        )
        summary = _write(writer, stored)
        if summary.nonfinite.any():
            raise ImageDataError(f"{image_name}: {_describe_nonfinite(selected, channel_names)}")
        if np.all(summary.low == summary.high):
            raise ImageDataError(f"{image_name}: no signal, every channel is constant; leave the image out")
        writer.finish([(float(low), float(high)) for low, high in zip(summary.low, summary.high, strict=True)])
    return _find_tissue(TileStore(store_path), settings.min_tissue)


def num_workers() -> int:
    """Cores that this process may use, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def _area_mean(pixels: da.Array, downsample: int) -> da.Array:
    """Mean over squares of ``downsample`` pixels, float32; a partial square counts what it holds."""
    aligned: da.Array = pixels.rechunk(  # type: ignore[no-untyped-call]
        {axis: tuple(_aligned_chunks(pixels.chunks[axis], downsample)) for axis in (1, 2)}
    )
    reduced = [tuple(-(-side // downsample) for side in aligned.chunks[axis]) for axis in (1, 2)]
    means: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        area_mean,
        aligned,
        downsample=downsample,
        chunks=(aligned.chunks[0], *reduced),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return means


def _aligned_chunks(chunks: Sequence[int], multiple: int) -> list[int]:
    """Chunks of the same total whose borders lie on multiples of ``multiple``, near the former ones."""
    total = sum(chunks)
    ends = {min(total, -(-int(end) // multiple) * multiple) for end in np.cumsum(chunks)}
    borders = sorted(ends | {0})
    return [after - before for before, after in itertools.pairwise(borders)]


def area_mean(pixels: npt.NDArray[Any], downsample: int) -> npt.NDArray[np.float32]:
    """(c, y, x) → (c, ⌈y/d⌉, ⌈x/d⌉) float32 means over squares of d pixels, partial ones at the far edges."""
    _, height_px, width_px = pixels.shape
    down = _sum_runs(pixels, downsample)
    across = _sum_runs(down.transpose(0, 2, 1), downsample).transpose(0, 2, 1)
    held_y = np.minimum(downsample, height_px - np.arange(0, height_px, downsample))
    held_x = np.minimum(downsample, width_px - np.arange(0, width_px, downsample))
    means: npt.NDArray[np.float32] = (across / np.outer(held_y, held_x)).astype(np.float32)
    return means


def _sum_runs(pixels: npt.NDArray[Any], length: int) -> npt.NDArray[np.float64]:
    """Sums over runs of ``length`` along axis 1, the last run may be shorter."""
    num_channels, total, width = pixels.shape
    whole = total // length * length
    runs: npt.NDArray[np.float64] = (
        pixels[:, :whole].reshape(num_channels, -1, length, width).sum(axis=2, dtype=np.float64)
    )
    if whole == total:
        return runs
    rest = pixels[:, whole:].sum(axis=1, keepdims=True, dtype=np.float64)
    return np.concatenate([runs, rest], axis=1)


def _write(writer: TileStoreWriter, stored: da.Array) -> _ShardSummary:
    """Write every shard once, as a whole, and summarise its pixels on the way."""
    side = writer.shard_px
    (blocks,) = stored.rechunk((-1, side, side)).to_delayed()  # type: ignore[no-untyped-call]
    tasks = [
        delayed(_write_shard)(writer, row, col, block)
        for row, line in enumerate(blocks)
        for col, block in enumerate(line)
    ]
    summaries: tuple[_ShardSummary, ...] = compute(  # type: ignore[no-untyped-call]
        *tasks, scheduler="threads", num_workers=num_workers()
    )
    return _ShardSummary(
        np.sum([summary.nonfinite for summary in summaries], axis=0),
        np.min([summary.low for summary in summaries], axis=0),
        np.max([summary.high for summary in summaries], axis=0),
    )


def _write_shard(writer: TileStoreWriter, row: int, col: int, pixels: npt.NDArray[Any]) -> _ShardSummary:
    writer.write_shard(row, col, pixels)
    flat = pixels.reshape(pixels.shape[0], -1)
    nonfinite = np.zeros(flat.shape[0], dtype=np.int64)
    if flat.dtype.kind == "f":
        nonfinite = np.count_nonzero(~np.isfinite(flat), axis=1)
    return _ShardSummary(nonfinite, flat.min(axis=1).astype(np.float64), flat.max(axis=1).astype(np.float64))


def _describe_nonfinite(selected: da.Array, channel_names: Sequence[str]) -> str:
    """Name the channels with NaN or infinite pixels and count those in the image as it came."""
    counts = da.count_nonzero(~da.isfinite(selected), axis=(1, 2)).compute(
        scheduler="threads", num_workers=num_workers()
    )
    found = [f"{name} ({count})" for name, count in zip(channel_names, counts, strict=True) if count]
    if not found:
        return "the mean of some pixels is beyond float32; rescale the image"
    return f"NaN or infinite pixels in {', '.join(found)}; mend them or leave the image or channel out"


def _find_tissue(store: TileStore, min_tissue: float) -> TiledImage:
    tiles = store.grid.tiles()
    with ThreadPoolExecutor(num_workers()) as pool:
        summaries = list(pool.map(lambda tile: _summarise_tile(store, tile), tiles))
    signal = np.concatenate([blocks for blocks, _ in summaries])
    least = signal.min()
    threshold = least + _TISSUE_ABOVE * (np.percentile(signal, 99) - least)
    rows = [
        TileRow(tile, float(np.mean(blocks > threshold)), channel_mean)
        for tile, (blocks, channel_mean) in zip(tiles, summaries, strict=True)
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


def _summarise_tile(store: TileStore, tile: Tile) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of a tile's valid part: means of its 8 × 8 blocks summed over channels (block,), and channel means (channel,)."""
    pixels = store.read_tile(tile.row, tile.col)[:, : tile.height_px, : tile.width_px]
    total = pixels.sum(axis=0, dtype=np.float64)[np.newaxis]
    return area_mean(total, _BLOCK_PX).astype(np.float64).ravel(), pixels.mean(axis=(1, 2), dtype=np.float64)
