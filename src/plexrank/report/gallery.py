"""The gallery: tiles of the first channels with the highest and the lowest r, by group of patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plexrank.arrays import BoolArray, FloatArray, IntArray
from plexrank.report.anchors import channel_anchor
from plexrank.report.figure_files import Picture, as_address
from plexrank.report.scale_bar import ScaleBar
from plexrank.report.tile_png import SIDE_PX, tile_png

TILES_AN_END = 3
"""Tiles with the highest r, and as many with the lowest, in a group; fewer where there are many groups."""
WINDOW_PERCENTILE = 99.5


@dataclass(frozen=True)
class TileToShow:
    """A tile of one channel as it is shown.

    Attributes:
        image_id, patient_id: where it comes from.
        r: of the channel, held out, with the sign and scale of importance_per_patient.
        pixels: (y, x) float32, reduced to a few more than a hundred pixels a side where larger.
        tissue: (y, x) bool, where the tile holds tissue; None where all of it does, or where that is not known.
        pixel_size_um: of ``pixels``; None if unknown.
        reduced: stored pixels a side that became one of ``pixels``.
    """

    image_id: str
    patient_id: str
    r: float
    pixels: FloatArray
    tissue: BoolArray | None
    pixel_size_um: float | None
    reduced: int = 1

    @property
    def text(self) -> str:
        """What it is, in a line."""
        return f"image {self.image_id}, patient {self.patient_id}, r {self.r:+.2f}"


@dataclass(frozen=True)
class GroupTiles:
    """The tiles of a group of patients: highest r first, and lowest r first."""

    group: str
    highest: tuple[TileToShow, ...]
    lowest: tuple[TileToShow, ...]

    def ends(self) -> tuple[tuple[str, tuple[TileToShow, ...]], ...]:
        """Both ends with their names, those without tiles left out."""
        return tuple((name, tiles) for name, tiles in (("highest r", self.highest), ("lowest r", self.lowest)) if tiles)


@dataclass(frozen=True)
class ShownTile:
    """A tile in the page."""

    address: str
    alt: str
    title: str


@dataclass(frozen=True)
class ChannelPictures:
    """What the page shows of one channel.

    Attributes:
        channel: its name.
        found: in words, by what it is found.
        scale: how grey values and lengths are to be read.
        rows: of the gallery: group, which end, tiles.
        image_map: typical images with importances.
    """

    channel: str
    found: str
    scale: str
    rows: tuple[tuple[str, str, tuple[ShownTile, ...]], ...]
    image_map: Picture | None

    @property
    def anchor(self) -> str:
        """The ``id`` of the channel's part of the page."""
        return channel_anchor(self.channel)


def top_channels(ranking: pd.DataFrame, count: int) -> list[str]:
    """The channels to show: those found significant first, then by position; negative controls never.

    Args:
        ranking: the ranking table, best channel first.
        count: how many at most.
    """
    ranked = ranking[ranking["position"].notna() & ~ranking["excluded"].astype(bool)]
    found = ranked["significant"].astype(bool)
    names = [str(name) for name in [*ranked.loc[found, "channel"], *ranked.loc[~found, "channel"]]]
    return names[:count]


def tiles_an_end(groups: int) -> int:
    """How many tiles a group shows at each end, so that the page stays small with many groups."""
    return max(1, min(TILES_AN_END, 12 // groups))


def choose_tiles(r: FloatArray, patient: IntArray, count: int) -> tuple[list[int], list[int]]:
    """The tiles with the highest and with the lowest r, of different patients where there are enough.

    Args:
        r: (tile,), NaN for tiles that cannot be shown.
        patient: (tile,) whose each is.
        count: at each end, at most; no tile is at both ends.

    Returns:
        Places of the highest, the first the highest; of the lowest, the first the lowest. Of one tile only the former.
    """
    order = np.flatnonzero(np.isfinite(r))
    order = order[np.argsort(-r[order], kind="stable")]
    wanted = [min(count, -(-len(order) // 2)), min(count, len(order) // 2)]
    highest = _of_different_patients(order[: len(order) - wanted[1]], patient, wanted[0])
    rest = order[~np.isin(order, highest)]
    return highest, _of_different_patients(rest[::-1], patient, wanted[1])


def _of_different_patients(order: IntArray, patient: IntArray, count: int) -> list[int]:
    """The first of every patient, then others, in the order given."""
    first = np.zeros(len(order), dtype=bool)
    first[np.unique(patient[order], return_index=True)[1]] = True
    chosen = np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])[:count]
    return [int(tile) for tile in order[np.sort(chosen)]]


def contrast_window(tiles: Sequence[FloatArray]) -> tuple[float, float]:
    """Black and white of a channel: 0, or what is less, to the 99.5th percentile over the pixels of all tiles shown.

    Where that is no more than black it is their highest value, and 1 above black where nothing varies.
    """
    values = np.concatenate([tile.ravel() for tile in tiles])
    low, high = min(0.0, float(values.min())), float(np.percentile(values, WINDOW_PERCENTILE))
    if high <= low:
        high = float(values.max())
    return low, high if high > low else low + 1.0


def channel_pictures(
    channel: str,
    found: str,
    groups: Sequence[GroupTiles],
    bar: ScaleBar,
    window: tuple[float, float],
    image_map: Picture | None = None,
    is_chosen_by_tissue: bool = True,
) -> ChannelPictures:
    """The part of the page about a channel, of groups with one tile or more among them."""
    shown = [tile for group in groups for _, tiles in group.ends() for tile in tiles]
    times = max(1, SIDE_PX // max(side for tile in shown for side in tile.pixels.shape))
    ways = _ways(groups)
    rows = tuple(
        (
            group.group,
            f"{end}{ways[end]}",
            tuple(_shown(tile, (channel, group.group, end), window, bar, times) for tile in tiles),
        )
        for group in groups
        for end, tiles in group.ends()
    )
    reduced = max(tile.reduced for tile in shown)
    scale = (
        f"Black is {window[0]:.4g} and white {window[1]:.4g} ({WINDOW_PERCENTILE} % of the pixels shown lie below), in "
        f"the units of the images, alike in all tiles and images of this channel. Bar: {bar.text}."
    )
    if reduced > 1:
        scale += f" Pixels are means over up to {reduced} × {reduced} stored ones."
    if any(tile.tissue is not None for tile in shown):
        scale += " Orange: edge of the tissue" + (", as tiles were chosen by it." if is_chosen_by_tissue else ".")
    return ChannelPictures(channel, found, scale, rows, image_map)


def _ways(groups: Sequence[GroupTiles]) -> dict[str, str]:
    """By the end of r whether its tiles are the brighter or the dimmer ones, on the average over those shown."""
    highest, lowest = (
        [float(tile.pixels.mean()) for group in groups for tile in getattr(group, end)] for end in ("highest", "lowest")
    )
    if not highest or not lowest or np.mean(highest) == np.mean(lowest):
        return {"highest r": "", "lowest r": ""}
    names = (" (brighter)", " (dimmer)")
    brighter, dimmer = names if np.mean(highest) > np.mean(lowest) else names[::-1]
    return {"highest r": brighter, "lowest r": dimmer}


def _shown(
    tile: TileToShow, place: tuple[str, str, str], window: tuple[float, float], bar: ScaleBar, times: int
) -> ShownTile:
    bar_px = bar.pixels(tile.pixel_size_um) / (1 if bar.in_um else tile.reduced)
    png = tile_png(tile.pixels, window, tile.tissue, bar_px, times)
    channel, group, end = place
    alt = f"{channel}, {group}, one of the tiles with the {end}: {tile.text}"
    return ShownTile(as_address(png, "image/png"), alt, tile.text)
