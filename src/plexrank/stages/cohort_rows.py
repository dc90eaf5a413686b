"""What the rows of a run's tables are: its tiles, and the samples of its cohort. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.planning.plan import Plan
from plexrank.ranking.samples import Samples, make_samples
from plexrank.rundir import reading_output

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileRows:
    """All tiles of a run; a tile's index is its row in the table.

    Attributes:
        table: as the tile stage wrote it.
        image_of_tile: (tile,) index into the images of the cohort.
        area_px: (tile,) pixels of every tile that lie within its image.
    """

    table: pd.DataFrame
    image_of_tile: IntArray
    area_px: IntArray


def read_tile_rows(plan: Plan) -> TileRows:
    """The tiles of a run.

    Raises:
        RunDirError: their table is missing, damaged, or holds an image that the cohort does not have.
    """
    position = {image.image_id: index for index, image in enumerate(plan.cohort.images)}
    with reading_output(plan.rundir.tiles_table):
        table = pd.read_parquet(plan.rundir.tiles_table)
        image_of_tile = np.array([position[image_id] for image_id in table["image_id"]], dtype=np.int64)
        area_px = (table["height_px"] * table["width_px"]).to_numpy(np.int64)
    return TileRows(table, image_of_tile, area_px)


def cohort_samples(plan: Plan) -> Samples:
    """The samples of a run's cohort, each with the fold that holds it out.

    Raises:
        StudyError: as :func:`~plexrank.ranking.samples.make_samples`.
    """
    images = plan.cohort.images
    return make_samples(
        [image.patient_id for image in images],
        [image.label for image in images],
        [plan.fold_of_patient[image.patient_id] for image in images],
        [image.site for image in images],
        plan.cohort.classes,
    )
