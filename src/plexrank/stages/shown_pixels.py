"""The few pixels that the report shows, read tile by tile."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from plexrank.arrays import BoolArray, FloatArray, IntArray
from plexrank.cohorts.located import LocatedImage, locate_image
from plexrank.errors import PlexrankError
from plexrank.images.mask import LazyMask
from plexrank.planning.plan import Plan
from plexrank.report.gallery import TileToShow
from plexrank.report.tile_png import SIDE_PX
from plexrank.stages.tile_table import TileTable
from plexrank.stages.tiled_cohort import open_store
from plexrank.tiles.resampling import square_means, sum_runs
from plexrank.tiles.store import TileStore
from plexrank.tiles.tissue import tissue_of_tile

WHOLE_IMAGE_BYTES = 4e9
"""Of pixels that are decoded for whole images, all together; further images are shown by the means of their tiles."""


class ShownPixels:
    """Reads what the report shows of the images of a run, and nothing else.

    Args:
        plan: of the run.
        table: its tiles.
    """

    def __init__(self, plan: Plan, table: TileTable) -> None:
        self._plan, self._table = plan, table
        self._places = table.rows[["row", "col", "y_px", "x_px", "height_px", "width_px"]].to_numpy(dtype=np.int64)
        self._fractions = table.rows["tissue_fraction"].to_numpy(dtype=np.float64)
        self._left_bytes = WHOLE_IMAGE_BYTES
        self._stores: dict[int, TileStore] = {}
        self._masks: dict[int, tuple[LocatedImage, LazyMask] | None] = {}

    def pixel_size_um(self, image: int) -> float | None:
        """Along x, of the pixels that the store holds; None if unknown."""
        record, settings = self._plan.cohort.images[image], self._plan.study.tile
        size = self._plan.image_notes[record.image_id].pixel_size_um
        if size is None:
            return None
        return size[1] * settings.downsample if settings.um_per_px is None else settings.um_per_px

    def tiles(self, wanted: Iterable[tuple[int, int, float]]) -> dict[tuple[int, int], TileToShow]:
        """Tiles of single channels, by tile and channel; each tile is read once.

        Args:
            wanted: tile, channel and its r.

        Raises:
            RunDirError: a tile is missing or damaged.
        """
        of_tile: dict[int, list[tuple[int, float]]] = {}
        for tile, channel, r in wanted:
            of_tile.setdefault(tile, []).append((channel, r))
        found = {}
        for tile in sorted(of_tile):
            image = int(self._table.image_of_tile[tile])
            row, col, _, _, height, width = self._places[tile].tolist()
            pixels = self._store(image).read_tile(row, col)[:, :height, :width]
            reduced = max(1, round(self._plan.study.tile.tile_px / SIDE_PX))
            tissue = self._tissue(tile, image, pixels)
            record, size = self._plan.cohort.images[image], self.pixel_size_um(image)
            for channel, r in of_tile[tile]:
                found[tile, channel] = TileToShow(
                    image_id=record.image_id,
                    patient_id=record.patient_id,
                    r=r,
                    pixels=_reduced(pixels[self._plan.channels.planes[image, channel]], reduced),
                    tissue=None if tissue is None else _reduced(tissue, reduced) >= 0.5,
                    pixel_size_um=None if size is None else size * reduced,
                    reduced=reduced,
                )
        return found

    def whole(self, image: int, channels: Collection[int], side_px: int) -> tuple[dict[int, FloatArray], bool]:
        """An image of single channels, reduced to at most ``side_px`` a side; whether by means of whole tiles alone.

        Raises:
            RunDirError: a tile is missing or damaged.
        """
        store = self._store(image)
        size = float(np.prod(store.shape)) * store.dtype.itemsize
        if size > self._left_bytes:
            return {channel: self._tile_means(image, channel, store) for channel in channels}, True
        self._left_bytes -= size
        reduced = max(1, -(-max(store.shape[1:]) // side_px))
        sums = {channel: np.zeros([-(-side // reduced) for side in store.shape[1:]]) for channel in channels}
        for tile in store.grid.tiles():
            pixels = store.read_tile(tile.row, tile.col)[:, : tile.height_px, : tile.width_px]
            ys, y_starts = _runs(tile.y_px, tile.height_px, reduced)
            xs, x_starts = _runs(tile.x_px, tile.width_px, reduced)
            for channel, total in sums.items():
                plane = pixels[self._plan.channels.planes[image, channel]].astype(np.float64)
                total[ys, xs] += np.add.reduceat(np.add.reduceat(plane, y_starts, 0), x_starts, 1)
        held_y, held_x = (np.bincount(np.arange(side) // reduced) for side in store.shape[1:])
        return {channel: total / np.outer(held_y, held_x) for channel, total in sums.items()}, False

    def tiles_of(self, image: int) -> tuple[IntArray, IntArray]:
        """Indices (tile,) of an image's tiles, and (tile, 4) y, x, height, width of them."""
        tiles = self._table.tiles_of([image])
        return tiles, self._places[tiles, 2:]

    def size_px(self, image: int, *, in_whole_tiles: bool) -> tuple[int, int]:
        """(y, x) stored pixels of an image, or of the grid of its tiles."""
        store = self._store(image)
        if in_whole_tiles:
            return store.grid.rows * store.tile_px, store.grid.cols * store.tile_px
        return store.shape[1], store.shape[2]

    def _tile_means(self, image: int, channel: int, store: TileStore) -> FloatArray:
        """(row, col) of the grid; NaN where a tile was left out."""
        means = np.full((store.grid.rows, store.grid.cols), np.nan)
        tiles = self._table.tiles_of([image])
        means[self._places[tiles, 0], self._places[tiles, 1]] = self._table.channel_means[tiles, channel]
        return means

    def _tissue(self, tile: int, image: int, pixels: npt.NDArray[np.generic]) -> BoolArray | None:
        """(y, x) where the tile holds tissue; None where all of it does, or where that is not known."""
        if self._fractions[tile] >= 1:
            return None
        if self._plan.cohort.images[image].mask is None:
            return tissue_of_tile(pixels, self._fractions[tile])
        if image not in self._masks:
            self._masks[image] = self._open_mask(image)
        opened = self._masks[image]
        if opened is None:
            return None
        located, mask = opened
        _, _, y, x, height, width = self._places[tile].tolist()
        try:
            resampling = located.find_resampling(self._plan.study.tile)
            part = resampling.part(mask.data, slice(y, y + height), slice(x, x + width))
            tissue: BoolArray = part.compute(scheduler="synchronous")[0] >= 0.5  # type: ignore[no-untyped-call]
        except (PlexrankError, OSError):
            return None
        return tissue

    def _open_mask(self, image: int) -> tuple[LocatedImage, LazyMask] | None:
        """The image and its mask where both can still be read: a report is no reason to ask for them."""
        try:
            located = locate_image(self._plan.cohort.images[image], self._plan.study.tile)
            mask = located.open_mask()
        except (PlexrankError, OSError):
            return None
        return None if mask is None else (located, mask)

    def _store(self, image: int) -> TileStore:
        if image not in self._stores:
            self._stores[image] = open_store(self._plan, image)
        return self._stores[image]


def _reduced(plane: npt.NDArray[np.generic], times: int) -> npt.NDArray[np.float64]:
    """(y, x) means over squares of so many pixels a side, what is left at the far edges included."""
    if times == 1:
        return plane.astype(np.float64)
    means: npt.NDArray[np.float64] = square_means(sum_runs(plane[np.newaxis], times), plane.shape[0], (times, times))[0]
    return means


def _runs(start: int, length: int, reduced: int) -> tuple[slice, IntArray]:
    """Which pixels of a reduced image a tile reaches along an axis, and where in the tile each begins."""
    first, last = start // reduced, (start + length - 1) // reduced
    begins = np.maximum(np.arange(first, last + 1) * reduced - start, 0)
    return slice(first, last + 1), begins
