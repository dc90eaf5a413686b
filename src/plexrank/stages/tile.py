"""Images → tile stores and the table of all tiles."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plexrank.check import locate_image
from plexrank.errors import PlexrankError, problems_of, raise_problems
from plexrank.plan import Plan
from plexrank.progress import Reporter
from plexrank.rundir import reading_output, replacing, write_text
from plexrank.stages.todo import units_to_do
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import TiledImage, tile_image


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    table = plan.tiles_table()
    images = [unit for unit in plan.chosen_units("tile") if unit.record != table.record]
    todo = units_to_do(images, reporter) if images else set()
    channels = _settle_channels(plan, todo) if todo else None
    problems: list[PlexrankError] = []
    with reporter.counting("tile", len(todo)) as counting:
        for record in plan.cohort.images:
            unit = plan.tile(record)
            if unit.record not in todo:
                continue
            try:
                unit.begin()
                located = locate_image(plan.cohort, record, channels)
                store = plan.rundir.tile_store(record.image_id)
                tiled = tile_image(located.image, located.channel_indices, located.channels, plan.study.tile, store)
                write_text(plan.rundir.image_tiles(record.image_id), json.dumps(_tiles_as_json(tiled)) + "\n")
                unit.finish()
            except PlexrankError as error:
                problems += problems_of(error)
            counting.advance()
    raise_problems(problems)
    if table in plan.chosen_units("tile") and table.why_not_done() is not None:
        table.begin()
        with replacing(plan.rundir.tiles_table) as temporary:
            _join_tile_tables(plan).to_parquet(temporary, index=False)
        table.finish()


def _settle_channels(plan: Plan, todo: Container[Path]) -> tuple[str, ...] | None:
    """The panel's names, those of a finished store, or of the first image that opens; ``None`` where none does."""
    if plan.cohort.panel is not None:
        return plan.cohort.panel.kept_names
    for record in plan.cohort.images:
        unit = plan.tile(record)
        if unit.record not in todo and unit.why_not_done() is None:
            return TileStore(plan.rundir.tile_store(record.image_id)).channel_names
    for record in plan.cohort.images:
        try:
            return locate_image(plan.cohort, record, None).channels
        except PlexrankError:  # told when its turn comes
            continue
    return None


def _tiles_as_json(tiled: TiledImage) -> dict[str, Any]:
    tiles = [
        {**vars(row.tile), "tissue_fraction": row.tissue_fraction, "channel_mean": row.channel_mean.tolist()}
        for row in tiled.tiles
    ]
    return {"tiles": tiles, "n_background": tiled.n_background, "warnings": tiled.warnings}


def _join_tile_tables(plan: Plan) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for image in plan.cohort.images:
        path = plan.rundir.image_tiles(image.image_id)
        with reading_output(path):
            content = json.loads(path.read_text(encoding="utf-8"))
        rows += [{"image_id": image.image_id, **tile} for tile in content["tiles"]]
    table = pd.DataFrame(rows)
    table.insert(0, "tile_id", np.arange(len(table)))
    return table
