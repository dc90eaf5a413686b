"""The tiles of a whole cohort, as the stages after tiling use them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.arrays import IntArray
from plexrank.errors import RunDirError
from plexrank.run.plan import Plan
from plexrank.rundir import reading_output
from plexrank.settings import CACHE_BYTES
from plexrank.tiles.grid import mirrored
from plexrank.tiles.intensity import IntensityFit, fit_intensity
from plexrank.tiles.store import TileStore
from plexrank.tiles.texture import STATISTICS
from plexrank.training.data import TrainingTiles, evenly_spaced

INTENSITY_TILES = 512
"""At most so many tiles, evenly spaced over those of the training patients, give the intensity scale."""


class TiledCohort:
    """The tile table of a run with its stores; a tile's index is its row in the table.

    An image may lack channels of the cohort; channels are matched by name.

    Attributes:
        channels: N names in the order of the channel axis.
        present: (image, channel) bool, which channels an image holds.
        image_of_tile: (tile,) index into the images of the cohort.
        channel_means: (tile, channel) float32 mean counts, NaN where the tile's image lacks the channel.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with reading_output(plan.rundir.tiles_table):
            table = pd.read_parquet(plan.rundir.tiles_table)
        self.stores = [TileStore(plan.rundir.tile_store(image.image_id)) for image in plan.cohort.images]
        for image, store, names in zip(plan.cohort.images, self.stores, plan.channels.stored, strict=True):
            if store.channel_names != names:
                raise RunDirError(
                    f"{store.path}: channels {', '.join(store.channel_names)}, but when it was tiled they were "
                    f"{', '.join(names)}; remove the store and run the tile stage again"
                )
            store.require(plan.stored_digests(image))
        self.channels = plan.channels.names
        self.present = plan.channels.present
        position = {image.image_id: index for index, image in enumerate(plan.cohort.images)}
        self.image_of_tile: IntArray = np.array([position[image_id] for image_id in table["image_id"]], dtype=np.int64)
        self.channel_means = np.full((len(table), len(self.channels)), np.nan, dtype=np.float32)
        for tile, (image, means) in enumerate(zip(self.image_of_tile, table["channel_mean"], strict=True)):
            self.channel_means[tile, self.present[image]] = means[self._planes(image)]
        self._grid = table[["row", "col", "height_px", "width_px"]].to_numpy()

    @functools.cached_property
    def statistics(self) -> dict[str, npt.NDArray[np.float64]]:
        """What the tile stage found of every channel of every image: (image, channel) each, NaN where there is none.

        By the names of :data:`~plexrank.tiles.texture.STATISTICS`, and defined in
        :meth:`~plexrank.tiles.texture.TextureSums.statistics`. Read when first asked for.

        Raises:
            RunDirError: their table is missing or damaged.
        """
        path = self.plan.rundir.tile_statistics
        found = np.full((len(STATISTICS), *self.present.shape), np.nan)
        with reading_output(path):
            of_image = dict(list(pd.read_parquet(path).groupby("image_id")))
            for image, record in enumerate(self.plan.cohort.images):
                held = of_image[record.image_id][list(STATISTICS)].to_numpy(np.float64)
                found[:, image, self.present[image]] = held[self._planes(image)].T
        return dict(zip(STATISTICS, found, strict=True))

    @property
    def tile_area_px(self) -> IntArray:
        """(tile,) pixels of every tile that lie within its image."""
        area: IntArray = self._grid[:, 2] * self._grid[:, 3]
        return area

    def read(self, tile: int) -> np.ndarray:
        """Counts (channel, y, x) of a tile, mirrored beyond the image's edge; zeros in planes that the image lacks."""
        row, col, height, width = (int(number) for number in self._grid[tile])
        image = self.image_of_tile[tile]
        held = mirrored(self.stores[image].read_tile(row, col), height, width)
        if np.array_equal(self.plan.channels.planes[image], np.arange(len(held))):
            return held
        counts = np.zeros((len(self.channels), *held.shape[1:]), held.dtype)
        counts[self.present[image]] = held[self._planes(image)]
        return counts

    def _planes(self, image: int) -> IntArray:
        """Where an image's store holds those of the cohort's channels that it holds."""
        planes: IntArray = self.plan.channels.planes[image, self.present[image]]
        return planes

    def tiles_of(self, images: Sequence[int]) -> IntArray:
        """Indices (tile,) of all tiles of these images, in rising order."""
        return np.flatnonzero(np.isin(self.image_of_tile, images)).astype(np.int64)

    def fit_intensity(self, fold: int) -> IntensityFit:
        """The intensity scale of the patients that a fold does not hold out, of pixels within their images.

        Every channel rests on tiles spread over all that hold it.
        """
        seen = self.tiles_of(self.plan.images(fold, "training") + self.plan.images(fold, "validation"))
        held = self.present[self.image_of_tile[seen]]
        spread = [evenly_spaced(seen[column], INTENSITY_TILES) for column in np.unique(held, axis=1).T]
        chosen = np.unique(np.concatenate(spread))
        return fit_intensity(
            (self._valid_part(tile) for tile in chosen),
            self.plan.study.intensity,
            self.present[self.image_of_tile[chosen]],
        )

    def _valid_part(self, tile: int) -> np.ndarray:
        height, width = self._grid[tile, 2:]
        valid: np.ndarray = self.read(tile)[:, :height, :width]
        return valid

    def training_tiles(self, intensity: IntensityFit, cache_bytes: int = CACHE_BYTES) -> TrainingTiles:
        """The tiles with their labels, as the network is fed them."""
        images = [self.plan.cohort.images[image] for image in self.image_of_tile]
        classes = self.plan.cohort.classes
        return TrainingTiles(
            read=self.read,
            intensity=intensity,
            labels=np.array([classes.index(image.label) for image in images]),
            image_index=self.image_of_tile,
            patient_ids=np.array([image.patient_id for image in images]),
            channel_names=self.channels,
            class_names=classes,
            present=self.present[self.image_of_tile],
            channel_means=self.channel_means,
            cache_bytes=cache_bytes,
        )
