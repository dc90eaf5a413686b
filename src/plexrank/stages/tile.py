"""Images → tile stores, the tables of all tiles and of channel statistics, and the channels that each store holds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from plexrank.cohorts.bad_images import (
    brightness_warnings,
    find_empty,
    not_read_now,
    problems_of_images,
    skipped_images,
    write_skipped,
)
from plexrank.cohorts.channels import find_misfits
from plexrank.cohorts.located import locate_image
from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.errors import ImageDataError, MissingInputError, PlexrankError, ReadFailedError, raise_problems
from plexrank.planning.image_notes import ImageNotes, write_image_notes
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.rundir import clear_leftovers, make_way, read_text, reading_output, replacing, write_text
from plexrank.stages.todo import units_to_do
from plexrank.tiles.store import TileStore
from plexrank.tiles.stored_image import StoredImage, read_stored_image
from plexrank.tiles.texture import unknown_pixel_sizes
from plexrank.tiles.tiling import DaskClient, tile_image


def run(plan: Plan, reporter: Reporter, client: DaskClient | None = None) -> None:
    """Do what is not done of this stage.

    Args:
        plan: one for tiling. Where it leaves out the table of all tiles, another process joins what this one tiles.
        reporter: says what is done.
        client: of dask.distributed, to spread every image over its workers; else threads of this process.

    Raises:
        PlexrankError: images cannot be used, and are not to be skipped; all others are tiled.
    """
    bad = _tile_images(plan, reporter, client)
    joins = plan.tiles_table() in plan.chosen_units("tile")
    if joins:
        bad = _find_all_bad(plan, bad, reporter)
    root = plan.study.cohort.root or plan.study.cohort.samplesheet.parent
    problems = problems_of_images(bad, root)
    if plan.study.cohort.skip_bad:
        raise_problems(problems_of_images(not_read_now(bad), root))
        for problem in problems:
            reporter.say(f"left out: {problem}")
        if joins:
            write_skipped(plan.rundir.skipped, skipped_images(bad))
    else:
        raise_problems(problems)
        make_way(plan.rundir.skipped)
    if joins:
        skips = plan.study.cohort.skip_bad
        _join_tiles(make_plan(plan.rundir, plan.study, image_units=plan.image_units) if skips else plan, reporter)


def _tile_images(plan: Plan, reporter: Reporter, client: DaskClient | None) -> list[BadImage]:
    """Tile the chosen images that are not; returns those that cannot be."""
    units = [unit for unit in plan.chosen_units("tile") if unit.record != plan.rundir.tiles_record]
    todo = units_to_do("tile", units, reporter) if units else set()
    bad = []
    with reporter.counting("tile", len(todo)) as counting:
        for record in plan.cohort.images:
            if plan.rundir.tile_record(record.image_id) not in todo:
                continue
            failure = plan.rundir.image_failure(record.image_id)
            make_way(failure)
            try:
                _tile_one(plan, record, client)
            except PlexrankError as error:
                bad.append(BadImage(record, error))
                if not isinstance(error, ReadFailedError):
                    write_text(failure, json.dumps({"image": str(record.path), "error": str(error)}) + "\n")
            counting.advance()
    return bad


def _tile_one(plan: Plan, record: ImageRecord, client: DaskClient | None) -> None:
    unit = plan.tile(record)
    plan.image_units.require_unchanged(record)
    unit.begin()
    located = locate_image(record, plan.study.tile)
    channels = located.channels
    store = plan.rundir.tile_store(record.image_id)
    tile_image(
        located.image,
        channels.indices,
        channels.names,
        plan.study.tile,
        store,
        client,
        located.open_mask(),
        str(record.path),
    )
    plan.image_units.require_unchanged(record)
    times = plan.image_units.inode_times(record)
    unit.finish(channels=list(channels.names), digests=TileStore(store).digests(), inode_times=times)


def _find_all_bad(plan: Plan, failed_here: list[BadImage], reporter: Reporter) -> list[BadImage]:
    """All images that cannot be used: by their paths, since tiling failed, or beside the others of the cohort.

    Says which of the others are on another scale than most.

    Raises:
        MissingInputError: an image was not tiled, and is not known to be bad.
    """
    bad = {image.record.image_id: image for image in (*plan.bad, *failed_here)}
    held, signal = {}, {}
    for record in plan.cohort.images:
        if record.image_id in bad:
            continue
        stored = plan.image_units.stored_channels(record)
        if stored is None:
            bad[record.image_id] = BadImage(record, _why_failed(plan, record))
            continue
        held[record.image_id] = stored
        of_image = _read_stored(plan, record)
        signal[record.image_id] = dict(zip(of_image.channels, of_image.statistics["mean"].tolist(), strict=True))
    misfits = find_misfits([record for record in plan.cohort.images if record.image_id in held], held)
    bad |= {image.record.image_id: image for image in misfits}
    empty = find_empty([record for record in plan.cohort.images if record.image_id not in bad], signal)
    bad |= {image.record.image_id: image for image in empty}
    for warning in brightness_warnings([one for one in plan.cohort.images if one.image_id not in bad], signal):
        reporter.say(f"warning: {warning}")
    return list(bad.values())


def _read_stored(plan: Plan, image: ImageRecord) -> StoredImage:
    """What the tile stage noted of an image, held against the digest in its done-record."""
    with plan.tile(image).blamed():
        store = plan.rundir.tile_store(image.image_id)
        return read_stored_image(store, plan.image_units.stored_digests(image))


def _why_failed(plan: Plan, record: ImageRecord) -> PlexrankError:
    path = plan.rundir.image_failure(record.image_id)
    if not path.is_file():
        raise MissingInputError(f"{plan.rundir.path}: {record.image_id} is not tiled yet; run plexrank tile first")
    with reading_output(path):
        return ImageDataError(str(json.loads(read_text(path))["error"]))


def _join_tiles(plan: Plan, reporter: Reporter) -> None:
    """Write the tables of all tiles and of all channels' statistics, and the notes on every image."""
    table = plan.tiles_table()
    if table.why_not_done() is None:
        return
    clear_leftovers([table.record, *table.outputs])
    table.begin()
    stored = {image.image_id: _read_stored(plan, image) for image in plan.cohort.images}
    rows = [{"image_id": image_id, **tile} for image_id, image in stored.items() for tile in image.tiles]
    frame = pd.DataFrame(rows)
    frame.insert(0, "tile_id", np.arange(len(frame)))
    with replacing(plan.rundir.tiles_table) as temporary:
        frame.to_parquet(temporary, index=False)
    statistics = [
        pd.DataFrame({"image_id": image_id, "channel": image.channels, **image.statistics})
        for image_id, image in stored.items()
    ]
    with replacing(plan.rundir.tile_statistics) as temporary:
        pd.concat(statistics, ignore_index=True).to_parquet(temporary, index=False)
    if unknown := unknown_pixel_sizes(image.pixel_size_um for image in stored.values()):
        reporter.say(f"warning: {unknown}")
    notes = {
        image_id: ImageNotes(image.channels, image.pixel_size_um, image.n_background, tuple(image.warnings))
        for image_id, image in stored.items()
    }
    write_image_notes(plan.rundir.image_notes, notes)
    table.finish()
