"""Whole images of one channel with the importance of every tile over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from plexrank.arrays import FloatArray, IntArray
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.gallery import contrast_window
from plexrank.report.patient_groups import short
from plexrank.report.scale_bar import ScaleBar

LARGEST_SIDE_PX = 400
MOST_IMAGES = 6
"""Groups with a map; of more, those named first."""
PANEL_INCHES = 2.7
OPACITY = 0.55


@dataclass(frozen=True)
class MappedImage:
    """An image that stands for its group.

    Attributes:
        group: of its patient.
        image_id, patient_id: which it is.
        r: of the patient, held out.
        pixels: (y, x) float, of one channel, at most ``LARGEST_SIDE_PX`` a side.
        size_px: (y, x) stored pixels of the image.
        tiles: (tile, 4) y, x, height and width of its tiles in stored pixels.
        importance: (tile,) of the channel, mean over seeds; NaN where there is none.
        pixel_size_um: of stored pixels; None if unknown.
        is_coarse: whether ``pixels`` are means of whole tiles, since the image is too large to read for this.
    """

    group: str
    image_id: str
    patient_id: str
    r: float
    pixels: FloatArray
    size_px: tuple[int, int]
    tiles: IntArray
    importance: FloatArray
    pixel_size_um: float | None
    is_coarse: bool = False


def map_figure(channel: str, images: Sequence[MappedImage], method: str, bar: ScaleBar) -> Drawn:
    """Typical images of a channel, above as they are and below with the importance of their tiles.

    Args:
        images: one or more, in the order of the groups.
        method: the importance, as the study calls it.
        bar: for all images.
    """
    has_map = any(len(image.tiles) > 1 for image in images)
    rows, columns = 1 + has_map, len(images)
    figure = new_figure(PANEL_INCHES * columns + (0.9 if has_map else 0.1), (PANEL_INCHES + 0.25) * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False)
    window = contrast_window([image.pixels[np.isfinite(image.pixels)] for image in images])
    highest = max((float(np.nanmax(image.importance, initial=0.0)) for image in images), default=0.0) or 1.0
    colours = ScalarMappable(Normalize(0, highest), colormaps["cividis"])
    for number, image in enumerate(images):
        for axes in grid[:, number]:
            _draw_image(axes, image, window, bar)
        grid[0, number].set_title(f"{short(image.group)}\n{short(image.image_id)}, r {image.r:+.2f}", fontsize=8)
        if has_map:
            _draw_tiles(grid[1, number], image, colours)
    if has_map:
        label = f"{method}: share of the importance\nof all channels, a tile"
        figure.colorbar(colours, ax=list(grid[1]), shrink=0.85, alpha=OPACITY, label=label).ax.tick_params(labelsize=8)
    ids = ", ".join(f"{image.image_id} ({image.group})" for image in images)
    return Drawn(figure, f"{channel} in a typical image of each group: {ids}", _caption(images, window, bar, has_map))


def _caption(images: Sequence[MappedImage], window: tuple[float, float], bar: ScaleBar, has_map: bool) -> str:
    caption = (
        "One image for each group: of the patient whose held-out r is nearest to the median of the group, so that it is "
        f"typical of the group by this channel and by nothing else. Black is {window[0]:.4g}, white {window[1]:.4g}. "
        f"Bar: {bar.text}. "
    )
    if has_map:
        caption += (
            "Below, each square is a tile: how much this channel weighs in what networks that have not seen the patient "
            "say of the tile, whichever way it points, mean over seeds. Tiles left out as background have no square. "
            "Importance shows what the network uses, not where the protein is, and has no interval here."
        )
    else:
        caption += "Each of these images is a single tile, so that there is no map of importance within it."
    if any(image.is_coarse for image in images):
        caption += " Images too large to be read for this page are shown by the means of their tiles."
    return caption


def _draw_image(axes: Axes, image: MappedImage, window: tuple[float, float], bar: ScaleBar) -> None:
    height, width = image.size_px
    axes.set_facecolor("#dddddd")
    axes.imshow(
        image.pixels, cmap="gray", vmin=window[0], vmax=window[1], extent=(0, width, height, 0), interpolation="nearest"
    )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    length = min(bar.pixels(image.pixel_size_um), 0.9 * width)
    if length:
        left, bottom = 0.04 * width, 0.96 * height
        for colour, line in (("black", 4.5), ("white", 2.5)):
            axes.plot([left, left + length], [bottom, bottom], color=colour, linewidth=line, solid_capstyle="butt")


def _draw_tiles(axes: Axes, image: MappedImage, colours: ScalarMappable) -> None:
    for (top, left, height, width), value in zip(image.tiles.tolist(), image.importance, strict=True):
        if np.isfinite(value):
            colour = colours.to_rgba(value, alpha=OPACITY)  # type: ignore[arg-type]
            axes.add_patch(Rectangle((left, top), width, height, facecolor=colour, edgecolor="none", rasterized=True))
