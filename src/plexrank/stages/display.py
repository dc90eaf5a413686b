"""The tile stores as viewers open them: with the channels on that the ranking puts first."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from plexrank.errors import StudyError
from plexrank.planning.plan import Plan
from plexrank.planning.results import read_ranking
from plexrank.report.gallery import top_channels
from plexrank.rundir import Unit, recorded_checksums
from plexrank.stages.tile_table import TileTable
from plexrank.tiles.display import MOST_SHOWN, set_display
from plexrank.tiles.store import TileStore
from plexrank.wording import did_you_mean

SHOWN = 3
"""Channels that are on at first."""
FILES_AT_ONCE = 8


def show_channels(plan: Plan, shown: Sequence[str]) -> None:
    """Switch channels on in every tile store that is there, the others off, with windows equal in all images.

    Raises:
        RunDirError: a store or the table of statistics is missing or damaged.
    """
    units = [(plan.rundir.tile_store(image.image_id), plan.tile(image)) for image in plan.cohort.images]
    units = [(store, unit) for store, unit in units if store.is_dir()]
    if not units:
        return
    brightest = _brightest(TileTable(plan))

    def show_in(store: Path, unit: Unit) -> None:
        recorded = recorded_checksums(unit.record, unit.name)
        with unit.blamed():
            opened = TileStore(store)
            opened.require(recorded or {})
            if not set_display(store, shown, brightest):
                return
            digests = opened.digests()
        if recorded != digests or unit.why_not_done() is not None:  # of an older version, or it outgrew its room
            unit.update_record(digests=digests)

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:  # which wait for the disk
        list(pool.map(show_in, *zip(*units, strict=True)))


def view(plan: Plan, channels: Sequence[str], image_ids: Sequence[str]) -> list[str]:
    """Switch channels on, and say how to open images in napari.

    Args:
        plan: of a run whose ranking is done.
        channels: to be on, at most ``MOST_SHOWN``; the first of the ranking where none is named.
        image_ids: to open; where none is named, that of the patient with the highest held-out r of the first channel,
            and that of the one with the lowest.

    Returns:
        Lines, of which those that begin with ``napari`` are commands.

    Raises:
        StudyError: the cohort has no such channel or image, or these are too many channels.
        MissingInputError: the rank stage is not done.
        RunDirError: a file of the run is damaged.
    """
    ranking = read_ranking(plan)
    shown = list(dict.fromkeys(channels)) or top_channels(ranking, SHOWN)
    _require_known("channel", shown, list(ranking["channel"]))
    if len(shown) > MOST_SHOWN:
        raise StudyError(f"{len(shown)} channels; at most {MOST_SHOWN} can be kept apart by colour")
    _require_known("image", image_ids, [image.image_id for image in plan.cohort.images])
    show_channels(plan, shown)
    opened = dict.fromkeys(image_ids, "") or _extremes(plan, shown[0])
    lines = [f"shown: {', '.join(shown)}"]
    for image_id, why in opened.items():
        command = shlex.join(["napari", "--plugin", "napari-ome-zarr", str(plan.rundir.tile_store(image_id))])
        lines += [f"{image_id}{why}:", command]
    return lines


def _require_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise StudyError(f"no {kind} {name!r} in this run{did_you_mean(name, known)}")


def _brightest(table: TileTable) -> dict[str, float]:
    """For each channel the median over images of its 99th percentile, where that is above zero."""
    statistics = table.statistics
    percentile = pd.DataFrame(statistics["mean"] * statistics["tail_ratio"]).median()
    return {name: float(value) for name, value in zip(table.channels, percentile, strict=True) if value > 0}


def _extremes(plan: Plan, channel: str) -> dict[str, str]:
    """Images of the patients with the highest and with the lowest r of a channel, each with why it was chosen."""
    path = plan.rundir.ranking / "importance_per_patient.parquet"
    with plan.rank().reading(path):
        patients = pd.read_parquet(path)
    own = patients[(patients["channel"] == channel) & patients["mean_intensity"].notna()]
    by, name = ("r", "held-out r") if own["r"].notna().any() else ("mean_intensity", "mean intensity")
    own = own[own[by].notna()].sort_values(by, kind="stable")
    image_of: dict[str, str] = {}
    for image, record in enumerate(plan.cohort.images):
        if plan.channels.present[image, plan.channels.names.index(channel)]:
            image_of.setdefault(record.patient_id, record.image_id)
    chosen: dict[str, str] = {}
    for place, which in ((-1, "highest"), (0, "lowest")):
        if len(own):
            chosen.setdefault(
                image_of[str(own["patient_id"].iloc[place])],
                f" (patient {own['patient_id'].iloc[place]}, {which} {name} of {channel})",
            )
    return chosen
