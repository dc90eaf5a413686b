"""Whole images of one channel with the importance of every tile over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from plexrank.arrays import FloatArray, IntArray
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.patient_groups import short
from plexrank.report.scale_bar import ScaleBar

LARGEST_SIDE_PX = 400
MOST_IMAGES = 4
"""Groups with a map; of more, those named first."""
PANEL_INCHES = 2.2
LEAST_R = 1.0
"""Standard deviations to which the colours of r reach at least."""
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
        importance, tile_r: (tile,) of the channel, mean over seeds; NaN where there is none.
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
    tile_r: FloatArray
    pixel_size_um: float | None
    is_coarse: bool = False


def map_figure(
    channel: str, images: Sequence[MappedImage], method: str, bar: ScaleBar, window: tuple[float, float]
) -> Drawn:
    """Typical images of a channel: as they are, with the importance of their tiles, and with the r of these.

    Args:
        images: one or more, in the order of the groups.
        method: the importance, as the study calls it.
        bar: for all images.
        window: black and white, in the units of the images.
    """
    has_maps = any(len(image.tiles) > 1 for image in images)
    columns, rows = len(images), 3 if has_maps else 1
    figure = new_figure(PANEL_INCHES * columns + (0.95 if has_maps else 0.1), PANEL_INCHES * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, image in enumerate(images):
        for axes in grid[:, number]:
            _draw_image(axes, image, window, bar)
        title = f"{short(image.group)}\n{short(image.image_id)}, r {image.r:+.2f}"
        grid[0, number].set_title(title, fontsize=7.5)
    if has_maps:
        highest = max(float(np.nanmax(image.importance, initial=0.0)) for image in images) or 1.0
        farthest = max(LEAST_R, *(float(np.nanmax(np.abs(image.tile_r), initial=0.0)) for image in images))
        for axes_of_row, scale, label, values in (
            (grid[1], Normalize(0, highest), f"importance ({method})", [image.importance for image in images]),
            (grid[2], Normalize(-farthest, farthest), "r", [image.tile_r for image in images]),
        ):
            colours = ScalarMappable(scale, colormaps["cividis"])
            for axes, image, of_tiles in zip(axes_of_row, images, values, strict=True):
                _draw_tiles(axes, image, of_tiles, colours)
            colour_bar = figure.colorbar(colours, ax=list(axes_of_row), shrink=0.85, alpha=OPACITY)
            colour_bar.ax.set_facecolor("black")  # as tissue without this protein is
            colour_bar.set_label(label, fontsize=8)
            colour_bar.ax.tick_params(labelsize=7)
    ids = ", ".join(f"{image.image_id} ({image.group}, patient {image.patient_id})" for image in images)
    return Drawn(figure, f"{channel} in a typical image of each group: {ids}", _caption(images, window, bar, has_maps))


def _caption(images: Sequence[MappedImage], window: tuple[float, float], bar: ScaleBar, has_maps: bool) -> str:
    caption = f"A typical image of each group. Black is {window[0]:.4g}, white {window[1]:.4g}; bar: {bar.text}."
    if has_maps:
        caption += (
            " From the top: the channel, the importance of its tiles, and their r. Importance is how much the "
            "prediction of the tile leans on this channel, not where the protein is: it may be high where the channel "
            "is dark."
        )
    else:
        caption += " Each image is a single tile: there is no map within it."
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


def _draw_tiles(axes: Axes, image: MappedImage, values: FloatArray, colours: ScalarMappable) -> None:
    known = np.isfinite(values)
    squares = [Rectangle((left, top), width, height) for top, left, height, width in image.tiles[known].tolist()]
    facecolors = colours.to_rgba(values[known], alpha=OPACITY)
    axes.add_collection(PatchCollection(squares, facecolors=facecolors, edgecolors="none", rasterized=True))
