"""The pixels of one image of a run, as dask arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from plexrank.errors import MissingInputError, StudyError
from plexrank.images.open import open_image
from plexrank.planning.image_units import tile_name
from plexrank.rundir import RunDir, reading_output, reading_recorded, recorded_checksums
from plexrank.tiles.lazy_tiles import lazy_tiles
from plexrank.tiles.store import TileStore
from plexrank.wording import did_you_mean

if TYPE_CHECKING:
    import dask.array as da


@dataclass(frozen=True)
class ImageTiles:
    """The tiles of an image that training and attribution use, and the image that they are cut from.

    Pixels are those that the tile stage wrote: of the channels that are kept, reduced as the study says, otherwise as
    in the file (counts), and read when they are computed.

    Attributes:
        image_id: of the samplesheet.
        data: (tile, channel, y, x), a chunk a tile; zeros where a tile reaches over the image's edge. Reading raises
            RunDirError where a tile is damaged.
        image: (channel, y, x), the whole image, with what was left out as background.
        channel_names: of the channel axis of both. An image may lack channels of the cohort.
        pixel_size_um: (y, x) of the pixels as they are here, micrometres; ``None`` where the file did not say.
        table: a row a tile, in the order of ``data``: tile_id, row, col (in the grid), y_px, x_px (upper left corner
            in ``image``), height_px, width_px (the part within the image), tissue_fraction.
    """

    image_id: str
    data: da.Array
    image: da.Array
    channel_names: tuple[str, ...]
    pixel_size_um: tuple[float, float] | None
    table: pd.DataFrame


def read_image_tiles(rundir: RunDir, image_id: str) -> ImageTiles:
    """The tiles of an image of a run whose tile stage is done.

    Raises:
        StudyError: the run has no such image.
        MissingInputError: the tile stage is not done.
        RunDirError: the table or the store is damaged.
    """
    if not rundir.tiles_record.is_file():
        raise MissingInputError(f"{rundir.path}: the tiles are not done; run plexrank run or plexrank tile first")
    with reading_recorded(rundir.tiles_record, rundir.tiles_table):
        table = pd.read_parquet(rundir.tiles_table).drop(columns="channel_mean")
        ids = table["image_id"].unique().tolist()
        rows = table[table["image_id"] == image_id].drop(columns="image_id").reset_index(drop=True)
    if rows.empty:
        raise StudyError(f"{rundir.path}: no image {image_id!r} in this run{did_you_mean(str(image_id), ids)}")
    path = rundir.tile_store(image_id)
    store = TileStore(path)
    if (recorded := recorded_checksums(rundir.tile_record(image_id), tile_name(image_id))) is not None:
        store.require(recorded)
    with reading_output(path):
        image = open_image(path)
    return ImageTiles(
        image_id=image_id,
        data=lazy_tiles(store, rows[["row", "col"]].itertuples(index=False, name=None)),
        image=image.data,
        channel_names=store.channel_names,
        pixel_size_um=image.pixel_size_um,
        table=rows,
    )
