"""Tiles and typical images of the first channels, chosen by r and read from the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import FloatArray
from plexrank.ranking.samples import Samples
from plexrank.report.figure_files import Drawn
from plexrank.report.gallery import GroupTiles, TileToShow, choose_tiles, contrast_window, tiles_an_end
from plexrank.report.image_map import LARGEST_SIDE_PX, MOST_IMAGES, MappedImage, map_figure
from plexrank.report.patient_groups import PatientGroups
from plexrank.report.scale_bar import ScaleBar, scale_bar
from plexrank.stages.shown_pixels import ShownPixels
from plexrank.stages.tile_table import TileTable
from plexrank.stages.tile_values import HeldOutValues


@dataclass(frozen=True)
class ShownRun:
    """The tables that tiles and images are chosen by.

    Attributes:
        table: of the tiles.
        samples, groups: the patients.
        values: of tiles, those of the channels ``top``.
        top: (chosen channel,) indices of the channels to show, in their order.
    """

    table: TileTable
    samples: Samples
    groups: PatientGroups
    values: HeldOutValues
    top: Sequence[int]


@dataclass(frozen=True)
class _Choice:
    """Tiles of a group at both ends of r."""

    group: str
    highest: list[int]
    lowest: list[int]


def gallery_tiles(run: ShownRun, pixels: ShownPixels) -> tuple[list[list[GroupTiles]], ScaleBar]:
    """Of every chosen channel the tiles of each group that has some, and the bar that fits them all.

    Raises:
        RunDirError: a tile is missing or damaged.
    """
    choices = [_choose(run, place) for place in range(len(run.top))]
    wanted = [
        (tile, channel, float(run.values.tile_r[tile, place]))
        for place, channel in enumerate(run.top)
        for choice in choices[place]
        for tile in (*choice.highest, *choice.lowest)
    ]
    read = pixels.tiles(wanted)
    found = [
        [_group_tiles(choice, channel, read) for choice in of_channel]
        for channel, of_channel in zip(run.top, choices, strict=True)
    ]
    return found, _bar_of_tiles(list(read.values()))


def _choose(run: ShownRun, place: int) -> list[_Choice]:
    count, choices = tiles_an_end(len(run.groups)), []
    sample = run.samples.image_sample[run.table.image_of_tile]
    r = run.values.tile_r[:, place]
    for number, name in enumerate(run.groups.names):
        tiles = np.flatnonzero(np.isfinite(r) & (run.groups.of_patient[sample] == number))
        highest, lowest = choose_tiles(r[tiles], run.samples.patient[sample[tiles]], count)
        if highest:
            choices.append(_Choice(name, tiles[highest].tolist(), tiles[lowest].tolist()))
    return choices


def _group_tiles(choice: _Choice, channel: int, read: Mapping[tuple[int, int], TileToShow]) -> GroupTiles:
    highest, lowest = (tuple(read[tile, channel] for tile in tiles) for tiles in (choice.highest, choice.lowest))
    return GroupTiles(choice.group, highest, lowest)


def _bar_of_tiles(tiles: Sequence[TileToShow]) -> ScaleBar:
    """In stored pixels where no pixel size is known."""
    sizes = [tile.pixel_size_um for tile in tiles]
    if any(size is not None for size in sizes):
        return scale_bar([tile.pixels.shape[1] for tile in tiles], sizes)
    return scale_bar([tile.pixels.shape[1] * tile.reduced for tile in tiles], sizes)


def map_figures(
    run: ShownRun, pixels: ShownPixels, names: Sequence[str], method: str, shown: Sequence[Sequence[GroupTiles]]
) -> list[tuple[Drawn | None, tuple[float, float]]]:
    """Of every chosen channel typical images of the groups with the importance of their tiles; None where no patient
    has an r. Each image is read once for all channels that it is typical by.

    Args:
        names: (chosen channel,).
        method: the importance.
        shown: (chosen channel,) its tiles of each group, which have the same contrast as its images.

    Returns:
        Figure and contrast window of each.

    Raises:
        RunDirError: a tile is missing or damaged.
    """
    typical = [_typical_images(run, place) for place in range(len(run.top))]
    wanted: dict[int, set[int]] = {}
    for channel, images in zip(run.top, typical, strict=True):
        for _, image, _ in images:
            wanted.setdefault(image, set()).add(channel)
    planes: dict[tuple[int, int], FloatArray] = {}
    coarse = set()
    for image, channels in wanted.items():
        of_image, is_coarse = pixels.whole(image, channels, LARGEST_SIDE_PX)
        planes |= {(image, channel): plane for channel, plane in of_image.items()}
        coarse |= {image} if is_coarse else set()
    figures: list[tuple[Drawn | None, tuple[float, float]]] = []
    for place, (channel, name, images) in enumerate(zip(run.top, names, typical, strict=True)):
        mapped = [
            _mapped(run, pixels, place, (group, image, r), planes[image, channel], image in coarse)
            for group, image, r in images
        ]
        bar = scale_bar([one.size_px[1] for one in mapped], [one.pixel_size_um for one in mapped]) if mapped else None
        tiles = [tile.pixels for group in shown[place] for _, end in group.ends() for tile in end]
        whole = [image.pixels[np.isfinite(image.pixels)] for image in mapped]
        window = contrast_window([*tiles, *whole]) if tiles or whole else (0.0, 1.0)
        figures.append((None if bar is None else map_figure(name, mapped, method, bar, window), window))
    return figures


def _typical_images(run: ShownRun, place: int) -> list[tuple[str, int, float]]:
    """Group, image and r of the patient nearest to the median of the group, for up to ``MOST_IMAGES`` groups."""
    r = run.values.r[:, run.top[place]]
    found = []
    for number, name in enumerate(run.groups.names):
        members = np.flatnonzero((run.groups.of_patient == number) & np.isfinite(r))
        if len(members):
            typical = members[np.argmin(np.abs(r[members] - np.median(r[members])))]
            found.append((name, _fullest_image(run, int(typical), place), float(r[typical])))
    return found[:MOST_IMAGES]


def _fullest_image(run: ShownRun, sample: int, place: int) -> int:
    """The image of a sample with most tiles that have the channel, the first of several."""
    images = np.flatnonzero(run.samples.image_sample == sample)
    known = run.table.image_of_tile[np.isfinite(run.values.tile_r[:, place])]
    counts = np.bincount(known, minlength=len(run.samples.image_sample))
    return int(images[np.argmax(counts[images])])


def _mapped(
    run: ShownRun,
    pixels: ShownPixels,
    place: int,
    typical: tuple[str, int, float],
    plane: FloatArray,
    is_coarse: bool,
) -> MappedImage:
    group, image, r = typical
    tiles, places = pixels.tiles_of(image)
    record = run.table.plan.cohort.images[image]
    return MappedImage(
        group=group,
        image_id=record.image_id,
        patient_id=record.patient_id,
        r=r,
        pixels=plane,
        size_px=pixels.size_px(image, in_whole_tiles=is_coarse),
        tiles=places,
        importance=run.values.tile_importance[tiles, place].astype(np.float64),
        tile_r=run.values.tile_r[tiles, place].astype(np.float64),
        pixel_size_um=pixels.pixel_size_um(image),
        is_coarse=is_coarse,
    )
