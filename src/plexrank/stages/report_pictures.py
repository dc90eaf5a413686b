"""The pictures of the report, read from the run and drawn."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plexrank.outcome.continuous import Continuous
from plexrank.outcome.nominal import Nominal
from plexrank.outcome.ordinal import Ordinal
from plexrank.outcome.survival import Survival
from plexrank.planning.plan import Plan
from plexrank.ranking.reads import best_statistic, in_words
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.ranking.table import compared_groups
from plexrank.report.anchors import channel_anchor
from plexrank.report.figure_files import Drawn, Picture, save_figure
from plexrank.report.gallery import ChannelPictures, channel_pictures, top_channels
from plexrank.report.heat_maps import correlation_figure, heat_map_figure
from plexrank.report.patient_figures import ReadStatistic, dots_figure, reads_figure
from plexrank.report.patient_groups import PatientGroups
from plexrank.report.pictures import Pictures
from plexrank.report.prediction_figures import positions, stability_figure
from plexrank.stages.channel_pictures import ShownRun, gallery_tiles, map_figures
from plexrank.stages.cohort_samples import cohort_samples
from plexrank.stages.shown_pixels import ShownPixels
from plexrank.stages.tile_table import TileTable
from plexrank.stages.tile_values import read_held_out

NO_EMBEDDING = (
    "The networks of this architecture have no channel embedding and so no r: tiles and images by r, what the "
    "embedding reads, and the heat maps of r are left out."
)
DENSE_COLOURS = 128
"""Of figures with photographs or thousands of dots."""
DENSE = ("patients",)
TERSE = 3
"""Letters of a class up to which its column is named with it."""
LARGEST_MAPS = 5_000_000
"""Bytes of all maps in the page; later ones stay files beside it."""
SITE_COLOUR = 4
"""The first of the colours of sites, so that none is that of a group."""


def draw_pictures(plan: Plan, ranking: pd.DataFrame, reads: pd.DataFrame, folder: Path) -> Pictures:
    """Draw all pictures of channels, patients and trainings, and write their figures to ``folder``.

    Args:
        plan: of a run that is ranked.
        ranking, reads: as the rank stage wrote them.

    Raises:
        RunDirError: a file of the run is missing or damaged.
    """
    table, samples = TileTable(plan), cohort_samples(plan)
    place = {name: number for number, name in enumerate(table.channels)}
    names = top_channels(ranking, plan.study.report.pictures)
    top = [place[name] for name in names]
    values = read_held_out(plan, table, samples, top)
    run = ShownRun(table, samples, patient_groups(samples, plan.study.cohort.label or ""), values, top)
    drawn = _of_patients(run, ranking, reads)
    channels: tuple[ChannelPictures, ...] = ()
    has_r = bool(np.isfinite(values.r).any())
    if has_r:
        channels = _of_channels(run, ranking, names, folder)
    return Pictures(
        channels=channels,
        patients=tuple(
            _written(folder, plan.rundir.figures, one, name, DENSE_COLOURS if name in DENSE else None)
            for name, one in drawn.items()
        ),
        note="" if has_r else NO_EMBEDDING,
    )


def patient_groups(samples: Samples, label: str) -> PatientGroups:
    """Classes, grades, or the two halves that the column ``direction`` compares, in words.

    Args:
        label: column of the outcome, which names like ``2`` need to be understood.
    """
    outcome = samples.outcome
    if isinstance(outcome, Nominal | Ordinal):
        is_terse = max(map(len, outcome.levels)) < TERSE
        noun = "grade" if isinstance(outcome, Ordinal) else label
        names = tuple(f"{noun} {name}" if is_terse else name for name in outcome.levels)
        return PatientGroups(names, samples.label, is_ordered=isinstance(outcome, Ordinal))
    names, group = compared_groups(samples)
    if isinstance(outcome, Survival):
        names = tuple(f"{name} events" for name in names)
    elif isinstance(outcome, Continuous):
        names = tuple(f"{name} values" for name in names)
    return PatientGroups(tuple(names), group.astype(np.int64))


def _of_channels(run: ShownRun, ranking: pd.DataFrame, names: list[str], folder: Path) -> tuple[ChannelPictures, ...]:
    """Gallery and map of every chosen channel that some tile can be shown of."""
    pixels = ShownPixels(run.table.plan, run.table)
    rows = ranking.set_index("channel")
    tiles, bar = gallery_tiles(run, pixels)
    maps = map_figures(run, pixels, names, run.table.plan.study.rank.by, tiles)
    by_tissue = run.table.plan.study.tile.min_tissue > 0
    shown, left_bytes = [], LARGEST_MAPS
    for name, groups, (drawn, window) in zip(names, tiles, maps, strict=True):
        said, picture = _in_words(rows.loc[name].to_dict()), None
        if drawn is not None:
            file = f"map-{channel_anchor(name)}"
            picture = _written(folder, run.table.plan.rundir.figures, drawn, file, DENSE_COLOURS)
            left_bytes -= (folder / picture.path.name).stat().st_size
            if left_bytes < 0:
                said, picture = f"{said}. Typical images are in figures/{file}.png, beside this page", None
        if groups:
            shown.append(channel_pictures(name, said, groups, bar, window, picture, by_tissue))
    return tuple(shown)


def _in_words(row: Mapping[Hashable, Any]) -> str:
    """What the table says of a channel, in a line."""
    by = {"both": "found by intensity and by pattern", "": "not significant"}
    found = by.get(row["found_by"], f"found by {row['found_by']}")
    parts = [
        f"position {row['position']}",
        found,
    ]
    return "; ".join(filter(None, [*parts, row["reads"] and f"reads {row['reads']}"]))


def _of_patients(run: ShownRun, ranking: pd.DataFrame, reads: pd.DataFrame) -> dict[str, Drawn]:
    """Figures by the name of their file; those of r where there is one."""
    all_names = ranking["channel"].tolist()
    place = {name: number for number, name in enumerate(run.table.channels)}
    columns = [place[name] for name in all_names]
    r, tables = run.values.r[:, columns], run.values.tables
    drawn = {"patients": dots_figure(all_names, r, tables.mean_intensity[:, columns], run.groups)}
    if np.isfinite(r).any():
        read = _best_statistics(run, reads)
        if read:
            chosen = [place[one.channel] for one in read]
            drawn["reads"] = reads_figure(read, run.values.r[:, chosen], run.groups)
        drawn["heat-map"] = heat_map_figure(all_names, r, run.groups, _sites(run.samples))
        if len(all_names) > 1:
            drawn["correlations"] = correlation_figure(all_names, r, ranking["group"].astype(int).tolist())
    ranked = [place[name] for name in ranking.loc[ranking["position"].notna(), "channel"]]
    position = positions(tables.unit_importance[:, ranked])
    shown = [ranked.index(channel) for channel in run.top]
    names = [run.table.channels[channel] for channel in run.top]
    units = sorted(run.table.plan.fold_seeds)  # the order of unit_importance
    drawn["stability"] = stability_figure(names, position[:, shown], units, of=len(ranked))
    return drawn


def _best_statistics(run: ShownRun, reads: pd.DataFrame) -> list[ReadStatistic]:
    """Of the chosen channels, those of which some statistic is compared with r."""
    found = []
    for channel in run.top:
        name = run.table.channels[channel]
        own = reads[(reads["channel"] == name) & reads["r2"].notna()]
        r2: Mapping[str, float] = dict(zip(own["statistic"], own["r2"], strict=True))
        if r2:
            best = best_statistic(r2)
            of_images = run.table.statistics[best][:, channel]
            values = image_means_to_samples(of_images, run.samples)
            found.append(ReadStatistic(name, in_words(best), float(r2[best]), values))
    return found


def _sites(samples: Samples) -> PatientGroups | None:
    if samples.site is None or len(samples.site_names) < 2:
        return None
    return PatientGroups(samples.site_names, samples.site.astype(np.int64), first_colour=SITE_COLOUR)


def _written(folder: Path, shown_in: Path, drawn: Drawn, name: str, colours: int | None = None) -> Picture:
    """Args: folder: where the figure is written; shown_in: what that is called when all are done."""
    save_figure(drawn.figure, folder / f"{name}.png", colours=colours)
    return Picture(shown_in / f"{name}.png", drawn.alt, drawn.caption)
