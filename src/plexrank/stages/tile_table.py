"""The tile table of a run: every tile of the cohort with the mean intensities of its channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.arrays import IntArray
from plexrank.planning.plan import Plan
from plexrank.rundir import reading_output
from plexrank.tiles.texture import STATISTICS


class TileTable:
    """The tiles of a cohort without their pixels; a tile's index is its row in the table.

    An image may lack channels of the cohort; channels are matched by name.

    Attributes:
        rows: of the table, as the tile stage wrote it.
        channels: N names in the order of the channel axis.
        present: (image, channel) bool, which channels an image holds.
        image_of_tile: (tile,) index into the images of the cohort.
        channel_means: (tile, channel) float32 mean counts, NaN where the tile's image lacks the channel.

    Raises:
        DamagedOutputError: the table is missing or damaged.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with plan.tiles_table().reading(plan.rundir.tiles_table):
            table = pd.read_parquet(plan.rundir.tiles_table)
            self._take(table)

    def _take(self, table: pd.DataFrame) -> None:
        plan = self.plan
        self.rows = table.drop(columns="channel_mean")
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
            DamagedOutputError: their table is missing or damaged.
        """
        found = np.full((len(STATISTICS), *self.present.shape), np.nan)
        with self.plan.tiles_table().blamed(), reading_output(self.plan.rundir.tile_statistics):
            of_image = dict(list(self._stored_statistics.groupby("image_id")))
            for image, record in enumerate(self.plan.cohort.images):
                held = of_image[record.image_id][list(STATISTICS)].to_numpy(np.float64)
                found[:, image, self.present[image]] = held[self._planes(image)].T
        return dict(zip(STATISTICS, found, strict=True))

    @property
    def tile_area_px(self) -> IntArray:
        """(tile,) pixels of every tile that lie within its image."""
        area: IntArray = self._grid[:, 2] * self._grid[:, 3]
        return area

    @property
    def signal(self) -> dict[str, dict[str, float]]:
        """image_id → channel → mean over the pixels of kept tiles, of all channels that are stored."""
        found: dict[str, dict[str, float]] = {}
        table = self._stored_statistics
        for image_id, channel, mean in zip(table["image_id"], table["channel"], table["mean"], strict=True):
            found.setdefault(image_id, {})[channel] = mean
        return found

    @functools.cached_property
    def _stored_statistics(self) -> pd.DataFrame:
        path = self.plan.rundir.tile_statistics
        with self.plan.tiles_table().reading(path):
            return pd.read_parquet(path)

    def tiles_of(self, images: Sequence[int]) -> IntArray:
        """Indices (tile,) of all tiles of these images, in rising order."""
        return np.flatnonzero(np.isin(self.image_of_tile, images)).astype(np.int64)

    def _planes(self, image: int) -> IntArray:
        """Where an image's store holds those of the cohort's channels that it holds."""
        planes: IntArray = self.plan.channels.planes[image, self.present[image]]
        return planes
