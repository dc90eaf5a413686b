"""From a lazy image to its tile store: select, resample, write, then find the tissue."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask import threaded

from plexrank.errors import ImageDataError
from plexrank.machine.cores import usable_cores
from plexrank.rundir import replacing
from plexrank.settings import TileSettings
from plexrank.tiles.grid import Tile
from plexrank.tiles.layout import REGIONS_AT_ONCE, Region, region_bytes, regions
from plexrank.tiles.reading import RegionReader, SourceImage, select
from plexrank.tiles.resampling import Resampling, find_resampling
from plexrank.tiles.store import TileStoreWriter
from plexrank.tiles.stored_image import ATTRIBUTE, describe_tiling
from plexrank.tiles.texture import block_sides
from plexrank.tiles.tissue import TiledImage, TileSummary, find_tissue, summarise_tile


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


class _Tiler:
    """Tiles regions of one image, in this process or in others."""

    def __init__(
        self,
        reader: RegionReader,
        mask: da.Array | None,
        resampling: Resampling,
        block_px: tuple[int, int],
        writer: TileStoreWriter,
    ) -> None:
        self._reader = reader
        self._mask = mask
        self._resampling = resampling
        self._block_px = block_px
        self._writer = writer

    def tile(
        self, region: Region, workers: ThreadPoolExecutor, memory: npt.NDArray[np.uint8] | None = None
    ) -> list[TileSummary]:
        """Read a region, encode its tiles and write its shards. ``memory`` may serve one region after the other."""
        chunks = self._reader.read(region, workers, memory)
        mask = self._read_mask(region, workers)
        side = self._writer.shard_px
        rows = range(region.y_px // side, -(-(region.y_px + region.height_px) // side))
        cols = range(region.x_px // side, -(-(region.x_px + region.width_px) // side))
        shards = {(row, col): self._writer.shard_tiles(row, col) for row in rows for col in cols}

        def encode(tile: Tile) -> tuple[bytes, TileSummary]:
            chunk = chunks.of(tile)
            masked = None if mask is None else _tissue_share(tile, region, mask)
            return self._writer.encode_tile(chunk), summarise_tile(tile, chunk, self._block_px, masked)

        summaries: list[TileSummary] = []

        def encoded_chunk(encoded: tuple[bytes, TileSummary]) -> bytes:
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

    def tile_alone(self, region: Region) -> list[TileSummary]:
        """:meth:`tile` with one thread, as one of several processes."""
        with ThreadPoolExecutor(1) as workers:
            return self.tile(region, workers)

    def _read_mask(self, region: Region, workers: ThreadPoolExecutor) -> npt.NDArray[Any] | None:
        """(y, x) share of tissue in every pixel of a region."""
        if self._mask is None:
            return None
        part = self._resampling.part(self._mask, region.ys, region.xs)
        mask: npt.NDArray[Any] = part.compute(scheduler=threaded.get, pool=workers)[0]  # type: ignore[no-untyped-call]
        return mask


def tile_image(
    image: SourceImage,
    channel_indices: Sequence[int],
    channel_names: Sequence[str],
    settings: TileSettings,
    store_path: Path,
    client: DaskClient | None = None,
    mask: Mask | None = None,
    where: str | None = None,
) -> TiledImage:
    """Write an image's tile store, find the tiles that hold tissue and what is to say of their channels.

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
        where: what messages call the image, its path; by default the name of the store.

    Raises:
        ImageDataError: pixels cannot be read, are NaN or infinite, or no channel varies; the image cannot be brought
            to the pixel size asked for; the mask holds no tissue.
    """
    image_name = store_path.name.removesuffix(".ome.zarr")
    where = where or image_name
    selected = select(image.data, channel_indices)
    if selected.dtype.kind not in "biuf":
        raise ImageDataError(f"{where}: pixels of type {selected.dtype}; expected real numbers")
    resampling = find_resampling(settings, selected.shape, image.pixel_size_um, where)
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
        reader = RegionReader(image, channel_indices, resampling, settings.tile_px)
        block_px = block_sides(image.pixel_size_um, resampling.factors)
        tiler = _Tiler(reader, None if mask is None else mask.data, resampling, block_px, writer)
        parts = regions(writer.shape, writer.dtype, settings.tile_px, resampling.chunks(selected.chunks))
        summaries = _write(tiler, parts, client)
        windows = _find_windows(summaries, selected, channel_names, where)
        if mask is not None and not any(summary.masked for summary in summaries):
            raise ImageDataError(f"{mask.path}: no pixel of this mask is tissue; fix it, or leave {where} out")
        tiled = find_tissue(summaries, settings.min_tissue)
        writer.finish(windows, **{ATTRIBUTE: describe_tiling(tiled, image.pixel_size_um)})
    return tiled


def _write(tiler: _Tiler, parts: Sequence[Region], client: DaskClient | None) -> list[TileSummary]:
    """Write every shard once, as a whole, and summarise the tiles on the way; in row-major order of tiles."""
    if client is None:
        found = _tile_here(tiler, parts)
    else:
        everywhere = client.scatter(tiler, broadcast=True)
        futures = client.map(_Tiler.tile_alone, [everywhere] * len(parts), parts, pure=False)
        client.gather(futures, errors="skip")  # nobody may be writing any more when an error removes the store
        found = client.gather(futures)
    return sorted(itertools.chain.from_iterable(found), key=lambda summary: (summary.tile.row, summary.tile.col))


def _tile_here(tiler: _Tiler, parts: Sequence[Region]) -> list[list[TileSummary]]:
    """Tile a few regions at once, in memory that serves one after the other.

    They share their threads: while one waits for the disk, the others have them all.
    """
    at_once = min(REGIONS_AT_ONCE, len(parts))
    free: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()
    for _ in range(at_once):
        free.put(np.empty(max(map(tiler.bytes_of, parts)), np.uint8))

    with ThreadPoolExecutor(usable_cores()) as workers, ThreadPoolExecutor(at_once) as pool:

        def tile(part: Region) -> list[TileSummary]:
            memory = free.get()
            try:
                return tiler.tile(part, workers, memory)
            finally:
                free.put(memory)

        return list(pool.map(tile, parts))


def _find_windows(
    summaries: Sequence[TileSummary], selected: da.Array, channel_names: Sequence[str], where: str
) -> list[tuple[float, float]]:
    """Least and greatest value of each channel.

    Raises:
        ImageDataError: some are NaN or infinite, or no channel varies.
    """
    if any(summary.nonfinite.any() for summary in summaries):
        raise ImageDataError(f"{where}: {_describe_nonfinite(selected, channel_names)}")
    low = np.min([summary.texture.low for summary in summaries], axis=0)
    high = np.max([summary.texture.high for summary in summaries], axis=0)
    if np.all(low == high):
        raise ImageDataError(f"{where}: no signal, every channel is constant; leave the image out")
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _describe_nonfinite(selected: da.Array, channel_names: Sequence[str]) -> str:
    """Name the channels with NaN or infinite pixels and count those in the image as it came."""
    counts = da.count_nonzero(~da.isfinite(selected), axis=(1, 2)).compute(
        scheduler=threaded.get, num_workers=usable_cores()
    )
    found = [f"{name} ({count})" for name, count in zip(channel_names, counts, strict=True) if count]
    if not found:
        return "the mean of some pixels is beyond float32; rescale the image"
    return f"NaN or infinite pixels in {', '.join(found)}; replace them, or leave the image or channel out"


def _tissue_share(tile: Tile, region: Region, mask: npt.NDArray[Any]) -> float:
    """Mean over a tile of its region's mask."""
    y_px, x_px = tile.y_px - region.y_px, tile.x_px - region.x_px
    return float(mask[y_px : y_px + tile.height_px, x_px : x_px + tile.width_px].mean(dtype=np.float64))
