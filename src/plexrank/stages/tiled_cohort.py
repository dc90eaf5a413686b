"""The pixels of a whole cohort's tiles, as networks are fed them."""

from __future__ import annotations

import functools

import numpy as np

from plexrank.errors import RunDirError
from plexrank.planning.plan import Plan
from plexrank.settings import CACHE_BYTES
from plexrank.stages.tile_table import TileTable
from plexrank.tiles.grid import mirrored
from plexrank.tiles.intensity import IntensityFit, fit_intensity
from plexrank.tiles.store import TileStore
from plexrank.training.data import TrainingTiles, evenly_spaced

INTENSITY_TILES = 512
"""At most so many tiles, evenly spaced over those of the training patients, give the intensity scale."""


class TiledCohort(TileTable):
    """The tile table of a run with the pixels of its tiles, as networks are fed them."""

    @functools.cached_property
    def stores(self) -> list[TileStore]:
        """Of every image, held against what the tile stage recorded of it when first asked for.

        Raises:
            DamagedOutputError: one is missing, damaged, or another than was tiled.
        """
        return [open_store(self.plan, image) for image in range(len(self.plan.cohort.images))]

    def read(self, tile: int) -> np.ndarray:
        """Counts (channel, y, x) of a tile, mirrored beyond the image's edge; zeros in planes that the image lacks."""
        row, col, height, width = (int(number) for number in self._grid[tile])
        image = self.image_of_tile[tile]
        stores = self.stores
        with self.plan.tile(self.plan.cohort.images[image]).blamed():
            held = mirrored(stores[image].read_tile(row, col), height, width)
        if np.array_equal(self.plan.channels.planes[image], np.arange(len(held))):
            return held
        counts = np.zeros((len(self.channels), *held.shape[1:]), held.dtype)
        counts[self.present[image]] = held[self._planes(image)]
        return counts

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
        _ = self.stores  # opened here, and not by the threads that read
        cohort, image = self.plan.cohort, self.image_of_tile
        sites = np.unique([record.site or "" for record in cohort.images], return_inverse=True)[1]
        return TrainingTiles(
            read=self.read,
            intensity=intensity,
            labels=cohort.labels[image],
            image_index=image,
            patient_ids=np.array([record.patient_id for record in cohort.images])[image],
            channel_names=self.channels,
            outcome=cohort.outcome,
            present=self.present[image],
            channel_means=self.channel_means,
            stratum=sites[image],
            cache_bytes=cache_bytes,
        )


def open_store(plan: Plan, image: int) -> TileStore:
    """The store of an image of the cohort, held against what the tile stage recorded of it.

    Raises:
        DamagedOutputError: it is missing, damaged, or another than was tiled.
    """
    record, names = plan.cohort.images[image], plan.channels.stored[image]
    with plan.tile(record).blamed():
        store = TileStore(plan.rundir.tile_store(record.image_id))
        if store.channel_names != names:
            raise RunDirError(
                f"{store.path}: channels {', '.join(store.channel_names)}, but when it was tiled they were "
                f"{', '.join(names)}; remove the store and run the tile stage again"
            )
        store.require(plan.image_units.stored_digests(record))
    return store
