"""The tiles of a whole cohort, as the stages after tiling use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.errors import RunDirError
from plexrank.plan import Plan
from plexrank.rundir import reading_output
from plexrank.tiles.intensity import IntensityFit, fit_intensity
from plexrank.tiles.store import TileStore
from plexrank.training.data import TrainingTiles, evenly_spaced

INTENSITY_TILES = 512
"""At most so many tiles, evenly spaced over those of the training patients, give the intensity scale."""

IntArray = npt.NDArray[np.int64]


class TiledCohort:
    """The tile table of a run with its stores; a tile's index is its row in the table."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with reading_output(plan.rundir.tiles_table):
            table = pd.read_parquet(plan.rundir.tiles_table)
        self.stores = [TileStore(plan.rundir.tile_store(image.image_id)) for image in plan.cohort.images]
        for store in self.stores:
            if store.channel_names != self.channels:
                raise RunDirError(
                    f"{store.path}: channels {', '.join(store.channel_names)}, but {self.stores[0].path.name} has "
                    f"{', '.join(self.channels)}; remove the store and run the tile stage again"
                )
        position = {image.image_id: index for index, image in enumerate(plan.cohort.images)}
        self.image_of_tile: IntArray = np.array([position[image_id] for image_id in table["image_id"]], dtype=np.int64)
        self.channel_means = np.stack(table["channel_mean"].to_list()).astype(np.float32)
        self._grid = table[["row", "col", "height_px", "width_px"]].to_numpy()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names in the order of the channel axis."""
        return self.stores[0].channel_names

    @property
    def tile_area_px(self) -> IntArray:
        """(tile,) pixels of every tile that lie within its image."""
        area: IntArray = self._grid[:, 2] * self._grid[:, 3]
        return area

    def read(self, tile: int) -> np.ndarray:
        """Counts (channel, y, x) of a tile, zeros beyond the image's edge."""
        row, col = self._grid[tile, :2]
        counts: np.ndarray = self.stores[self.image_of_tile[tile]].read_tile(int(row), int(col))
        return counts

    def tiles_of(self, images: Sequence[int]) -> IntArray:
        """Indices (tile,) of all tiles of these images, in rising order."""
        return np.flatnonzero(np.isin(self.image_of_tile, images)).astype(np.int64)

    def fit_intensity(self, fold: int) -> IntensityFit:
        """The intensity scale of the patients that a fold does not hold out."""
        seen = self.tiles_of(self.plan.images(fold, "training") + self.plan.images(fold, "validation"))
        chosen = evenly_spaced(seen, INTENSITY_TILES)
        return fit_intensity((self._valid_part(tile) for tile in chosen), self.plan.study.intensity)

    def _valid_part(self, tile: int) -> np.ndarray:
        height, width = self._grid[tile, 2:]
        valid: np.ndarray = self.read(tile)[:, :height, :width]
        return valid

    def training_tiles(self, intensity: IntensityFit) -> TrainingTiles:
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
        )
