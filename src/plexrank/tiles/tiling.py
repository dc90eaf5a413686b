"""From a lazy image to its tile store: select, resample, write, then find the tissue."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask import threaded

from plexrank.errors import ImageDataError
from plexrank.rundir import replacing
from plexrank.study import TileSettings
from plexrank.tiles.grid import Tile
from plexrank.tiles.layout import (
    REGIONS_AT_ONCE,
    Region,
    region_bytes,
    regions,
    usable_cores,
)
from plexrank.tiles.resampling import Resampling, find_resampling, square_means, sum_runs
from plexrank.tiles.store import TileStoreWriter

_BLOCK_PX = 8
_TISSUE_ABOVE = 0.05  # of the way from the least block to the 99th percentile


class Pixels(Protocol):
    """What an image brings: (c, y, x) pixels not read yet, and the (y, x) size of one if known."""

    @property
    def data(self) -> da.Array: ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None: ...


class Mask(Protocol):
    """What says where tissue is: (1, y, x) pixels of the image's size, true in tissue, and the file they come from."""

    @property
    def path(self) -> Path: ...

    @property
    def data(self) -> da.Array: ...


class DaskClient(Protocol):
    """What is used of a :class:`distributed.Client`; its workers see the same files as this process."""

    def scatter(self, data: Any, *, broadcast: bool) -> Any: ...

    def map(self, func: Callable[..., Any], *iterables: Sequence[Any], pure: bool) -> Any: ...

    def gather(self, futures: Any, errors: str = "raise") -> Any: ...


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
class _TileSummary:
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


class _Tiler:
    """Tiles regions of one image, in this process or in others."""

    def __init__(
        self, pixels: da.Array, mask: da.Array | None, resampling: Resampling, writer: TileStoreWriter
    ) -> None:
        self._pixels = pixels
        self._mask = mask
        self._resampling = resampling
        self._writer = writer

    def tile(
        self, region: Region, workers: ThreadPoolExecutor, memory: npt.NDArray[np.uint8] | None = None
    ) -> list[_TileSummary]:
        """Read a region, encode its tiles and write its shards. ``memory`` may serve one region after the other."""
        chunks = self._read(region, workers, memory)
        mask = self._read_mask(region, workers)
        side = self._writer.shard_px
        rows = range(region.y_px // side, -(-(region.y_px + region.height_px) // side))
        cols = range(region.x_px // side, -(-(region.x_px + region.width_px) // side))
        shards = {(row, col): self._writer.shard_tiles(row, col) for row in rows for col in cols}

        def encode(tile: Tile) -> tuple[bytes, _TileSummary]:
            chunk = chunks.of(tile)
            masked = None if mask is None else _tissue_share(tile, region, mask)
            return self._writer.encode_tile(chunk), _summarise_tile(tile, chunk, masked)

        summaries: list[_TileSummary] = []

        def encoded_chunk(encoded: tuple[bytes, _TileSummary]) -> bytes:
            chunk, summary = encoded
            summaries.append(summary)
            return chunk

        encoded = workers.map(encode, itertools.chain.from_iterable(shards.values()))
        for (row, col), tiles in shards.items():
            self._writer.write_shard(row, col, map(encoded_chunk, itertools.islice(encoded, len(tiles))))
        return summaries

    def bytes_of(self, region: Region) -> int:
        """Memory that :meth:`tile` needs."""
        return region_bytes(self._writer.shape[0], self._writer.dtype, self._writer.grid.tile_px, region)

    def tile_alone(self, region: Region) -> list[_TileSummary]:
        """:meth:`tile` with one thread, as one of several processes."""
        with ThreadPoolExecutor(1) as workers:
            return self.tile(region, workers)

    def _read(self, region: Region, workers: ThreadPoolExecutor, memory: npt.NDArray[np.uint8] | None) -> _RegionChunks:
        part = self._resampling.part(self._pixels, region.ys, region.xs)
        chunks = _RegionChunks(region, part.shape[0], part.dtype, self._writer.grid.tile_px, memory)
        # Given by name, dask would first import distributed, to see whether it has a client.
        da.store(part, chunks, lock=False, scheduler=threaded.get, pool=workers)  # type: ignore[arg-type]
        return chunks

    def _read_mask(self, region: Region, workers: ThreadPoolExecutor) -> npt.NDArray[Any] | None:
        """(y, x) share of tissue in every pixel of a region."""
        if self._mask is None:
            return None
        part = self._resampling.part(self._mask, region.ys, region.xs)
        mask: npt.NDArray[Any] = part.compute(scheduler=threaded.get, pool=workers)[0]  # type: ignore[no-untyped-call]
        return mask


class _RegionChunks:
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


def tile_image(
    image: Pixels,
    channel_indices: Sequence[int],
    channel_names: Sequence[str],
    settings: TileSettings,
    store_path: Path,
    client: DaskClient | None = None,
    mask: Mask | None = None,
) -> TiledImage:
    """Write an image's tile store and say which tiles hold tissue.

    Without a mask, blocks of 8 × 8 stored pixels, counted from each tile's corner, are tissue when their mean, summed
    over channels, exceeds least + 0.05 · (99th percentile − least) of all blocks of the image. (Means, so that a
    partial block at the image's edge compares with a whole one.)

    Args:
        image: the pixels, of any real number type.
        channel_indices: planes to keep, in the order of ``channel_names``.
        channel_names: how they are called in the store.
        settings: tile side, reduction, least share of tissue.
        store_path: where the store goes; an existing one is replaced, unless this raises.
        client: of dask.distributed, to spread the image over its workers; else threads of this process.
        mask: where tissue is; its mean over a tile is the tile's share of tissue.

    Raises:
        ImageDataError: pixels cannot be read, are NaN or infinite, or no channel varies; the image cannot be brought
            to the pixel size asked for; the mask holds no tissue.
    """
    image_name = store_path.name.removesuffix(".ome.zarr")
    selected = _select(image.data, channel_indices)
    if selected.dtype.kind not in "biuf":
        raise ImageDataError(f"{image_name}: pixels of type {selected.dtype}; expected real numbers")
    resampling = find_resampling(settings, selected.shape, image.pixel_size_um, image_name)
    with replacing(store_path) as partial:
        writer = TileStoreWriter(
            partial,
            image_name,
            resampling.shape(selected.shape),
            resampling.dtype(selected.dtype),
            settings.tile_px,
            channel_names,
            image.pixel_size_um,
            resampling.factors,
        )
        tiler = _Tiler(selected, None if mask is None else mask.data, resampling, writer)
        parts = regions(writer.shape, writer.dtype, settings.tile_px, resampling.chunks(selected.chunks))
        summaries = _write(tiler, parts, client)
        if any(summary.nonfinite.any() for summary in summaries):
            raise ImageDataError(f"{image_name}: {_describe_nonfinite(selected, channel_names)}")
        low = np.min([summary.low for summary in summaries], axis=0)
        high = np.max([summary.high for summary in summaries], axis=0)
        if np.all(low == high):
            raise ImageDataError(f"{image_name}: no signal, every channel is constant; leave the image out")
        if mask is not None and not any(summary.masked for summary in summaries):
            raise ImageDataError(f"{mask.path}: no pixel of this mask is tissue; mend it, or leave {image_name} out")
        writer.finish(list(zip(low.tolist(), high.tolist(), strict=True)))
    return _find_tissue(summaries, settings.min_tissue)


def _select(pixels: da.Array, channel_indices: Sequence[int]) -> da.Array:
    """Planes of (c, y, x) pixels in the order asked for, as slices, since dask copies what it picks by a list."""
    runs = [
        [index for _, index in run]
        for _, run in itertools.groupby(enumerate(channel_indices), lambda numbered: numbered[1] - numbered[0])
    ]
    selected: da.Array = da.concatenate([pixels[run[0] : run[-1] + 1] for run in runs])  # type: ignore[no-untyped-call]
    return selected


def _write(tiler: _Tiler, parts: Sequence[Region], client: DaskClient | None) -> list[_TileSummary]:
    """Write every shard once, as a whole, and summarise the tiles on the way; in row-major order of tiles."""
    if client is None:
        found = _tile_here(tiler, parts)
    else:
        everywhere = client.scatter(tiler, broadcast=True)
        futures = client.map(_Tiler.tile_alone, [everywhere] * len(parts), parts, pure=False)
        client.gather(futures, errors="skip")  # nobody may be writing any more when an error removes the store
        found = client.gather(futures)
    return sorted(itertools.chain.from_iterable(found), key=lambda summary: (summary.tile.row, summary.tile.col))


def _tile_here(tiler: _Tiler, parts: Sequence[Region]) -> list[list[_TileSummary]]:
    """Tile a few regions at once, in memory that serves one after the other.

    They share their threads: while one waits for the disk, the others have them all.
    """
    at_once = min(REGIONS_AT_ONCE, len(parts))
    free: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()
    for _ in range(at_once):
        free.put(np.empty(max(map(tiler.bytes_of, parts)), np.uint8))

    with ThreadPoolExecutor(usable_cores()) as workers, ThreadPoolExecutor(at_once) as pool:

        def tile(part: Region) -> list[_TileSummary]:
            memory = free.get()
            try:
                return tiler.tile(part, workers, memory)
            finally:
                free.put(memory)

        return list(pool.map(tile, parts))


def _describe_nonfinite(selected: da.Array, channel_names: Sequence[str]) -> str:
    """Name the channels with NaN or infinite pixels and count those in the image as it came."""
    counts = da.count_nonzero(~da.isfinite(selected), axis=(1, 2)).compute(
        scheduler=threaded.get, num_workers=usable_cores()
    )
    found = [f"{name} ({count})" for name, count in zip(channel_names, counts, strict=True) if count]
    if not found:
        return "the mean of some pixels is beyond float32; rescale the image"
    return f"NaN or infinite pixels in {', '.join(found)}; mend them or leave the image or channel out"


def _find_tissue(summaries: Sequence[_TileSummary], min_tissue: float) -> TiledImage:
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


def _tissue_share(tile: Tile, region: Region, mask: npt.NDArray[Any]) -> float:
    """Mean over a tile of its region's mask."""
    y_px, x_px = tile.y_px - region.y_px, tile.x_px - region.x_px
    return float(mask[y_px : y_px + tile.height_px, x_px : x_px + tile.width_px].mean(dtype=np.float64))


def _summarise_tile(tile: Tile, chunk: npt.NDArray[Any], masked: float | None) -> _TileSummary:
    pixels = chunk[:, : tile.height_px, : tile.width_px]
    num_channels, height_px, width_px = pixels.shape
    # Sums of a few small whole numbers are exact in any type, and faster in a narrow one.
    is_small = pixels.dtype.kind in "bu" and pixels.dtype.itemsize <= 2
    sums = sum_runs(pixels, _BLOCK_PX, np.uint32 if is_small else np.float64)
    total = sums.sum(axis=0, keepdims=True, dtype=np.float64)
    nonfinite = np.zeros(num_channels, dtype=np.int64)
    if pixels.dtype.kind == "f":
        nonfinite = np.count_nonzero(~np.isfinite(pixels), axis=(1, 2))
    return _TileSummary(
        tile,
        square_means(total, height_px, (_BLOCK_PX, _BLOCK_PX)).ravel(),
        sums.sum(axis=(1, 2), dtype=np.float64) / (height_px * width_px),
        nonfinite,
        pixels.min(axis=(1, 2)).astype(np.float64),
        pixels.max(axis=(1, 2)).astype(np.float64),
        masked,
    )
