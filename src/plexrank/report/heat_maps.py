"""Heat maps of held-out r: patients × channels, and channels × channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from scipy.cluster import hierarchy

from plexrank.arrays import FloatArray, IntArray
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.figures import INTENSITY, OTHER
from plexrank.report.patient_figures import SIGN
from plexrank.report.patient_groups import COLOURS, PatientGroups, short

FARTHEST = 3.0
"""Standard deviations of r at which the colours end."""
FEWEST_SHARED = 5
"""Patients with both channels that a correlation needs."""
_COLOURS = "cividis"
LARGEST_TREE = 800
"""Leaves up to which a tree is drawn."""
_WIDEST_INCHES = 16.0


def heat_map_figure(
    channels: Sequence[str], r: FloatArray, groups: PatientGroups, sites: PatientGroups | None = None
) -> Drawn:
    """Held-out r of patients × channels, both in the order of a hierarchical clustering; group and site beside it.

    Args:
        channels: names.
        r: (patient, channel) with a common sign and scale; NaN where a patient lacks the channel.
        groups, sites: of the patients; the latter where they are known.
    """
    rows, row_tree = clustered(r)
    columns, column_tree = clustered(r.T)
    width = min(_WIDEST_INCHES, max(6.0 if sites is None else 9.0, 2.8 + 0.19 * len(channels)))
    figure = new_figure(width, min(9.0, 3.2 + 0.045 * len(r)))
    strips = [groups] if sites is None else [groups, sites]
    cell = 0.19
    layout = [0.7, *[cell] * len(strips), max(1.0, width - 2.0)]
    grid = figure.subplots(2, len(layout), width_ratios=layout, height_ratios=(0.7, figure.get_figheight() - 2.2),
                           squeeze=False)  # fmt: skip
    for axes in grid[0, :-1]:
        axes.remove()
    _draw_tree(grid[0, -1], column_tree, "top")
    _draw_tree(grid[1, 0], row_tree, "left")
    for axes, strip, name in zip(grid[1, 1:-1], strips, ("group", "site"), strict=False):
        _draw_strip(axes, strip, rows, name)
    axes = grid[1, -1]
    image = _draw_values(axes, np.clip(r[np.ix_(rows, columns)], -FARTHEST, FARTHEST), FARTHEST)
    _name_columns(axes, [channels[column] for column in columns])
    axes.set_yticks([])
    figure.colorbar(image, ax=grid[1, -1], label="held-out r", shrink=0.6, extend="both", pad=0.01)
    _strip_legends(figure, strips)
    caption = (
        "Rows are patients and columns channels, each in the order of a clustering of r (Ward) that is "
        f"not shown the {'group or the site' if sites else 'group'}; r itself comes from networks that were trained to "
        f"tell the groups apart, on other patients. {SIGN}. Patients of one group that stand together have alike r in "
        f"many channels; {'patients of one site that do are a warning. ' if sites else ''}White: the patient lacks the "
        f"channel. Colours end at ±{FARTHEST:g} standard deviations."
    )
    return Drawn(figure, f"Heat map of held-out r, {len(r)} patients × {len(channels)} channels, clustered", caption)


def clustered(values: FloatArray) -> tuple[IntArray, FloatArray | None]:
    """The order of rows by Ward's clustering, and its tree; rows as they are and no tree where there is one row.

    What is absent counts as 0, the middle of r in training.
    """
    if len(values) < 2:
        return np.arange(len(values)), None
    tree = hierarchy.linkage(np.nan_to_num(values), "ward", optimal_ordering=len(values) <= 400)
    return hierarchy.leaves_list(tree).astype(np.int64), tree


def correlation_figure(channels: Sequence[str], r: FloatArray, group: Sequence[int]) -> Drawn:
    """Rank correlations of held-out r between channels, which stand by the groups of the ranking table.

    Args:
        channels: names, best first.
        r: (patient, channel).
        group: (channel,) number of the group of each.
    """
    first = {number: place for place, number in reversed(list(enumerate(group)))}
    order = sorted(range(len(channels)), key=lambda channel: (first[group[channel]], channel))
    names, numbers = [channels[channel] for channel in order], [group[channel] for channel in order]
    values = rank_correlations(r[:, order])
    side = min(_WIDEST_INCHES - 2, 1.2 + 0.19 * len(channels))
    figure = new_figure(side + 2.2, side + 1.0)
    axes = figure.subplots()
    image = _draw_values(axes, values, 1.0)
    _name_columns(axes, names)
    axes.set_yticks(range(len(names)), [short(name) for name in names], fontsize=7)
    start, groups = 0, 0
    for number in dict.fromkeys(numbers):
        size = numbers.count(number)
        if size > 1:
            groups += 1
            corner = (start - 0.5, start - 0.5)
            axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=INTENSITY, linewidth=2.2))
        start += size
    figure.colorbar(image, ax=axes, label="rank correlation of held-out r", shrink=0.6, pad=0.02)
    boxes = (
        "Boxes are the groups of the ranking table, whose channels are to be treated as interchangeable"
        if groups
        else "The ranking table has no group of interchangeable channels"
    )
    caption = (
        f"Rank correlations over patients of the held-out r of two channels. {boxes}; the groups rest on what networks "
        "say of the patients that they were trained on, whichever the sign, and need not follow this picture to the "
        f"letter. White: fewer than {FEWEST_SHARED} patients have both channels, or one does not vary."
    )
    return Drawn(figure, f"Rank correlations of held-out r between {len(channels)} channels, {groups} groups", caption)


def rank_correlations(values: FloatArray) -> FloatArray:
    """Spearman correlations (column, column) over the rows that both have, of (row, column).

    NaN where these are fewer than ``FEWEST_SHARED``, or a column does not vary over them.
    """
    table = pd.DataFrame(values).corr(method="spearman", min_periods=FEWEST_SHARED)
    result: FloatArray = np.clip(table.to_numpy(dtype=np.float64), -1.0, 1.0)
    return result


def _draw_values(axes: Axes, values: FloatArray, limit: float) -> AxesImage:
    colours = colormaps[_COLOURS].with_extremes(bad="white")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=-limit, vmax=limit, aspect="auto",
                        interpolation="nearest")  # fmt: skip
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def _name_columns(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), [short(name) for name in names], rotation=90, fontsize=7)


def _draw_tree(axes: Axes, tree: FloatArray | None, side: str) -> None:
    axes.axis("off")
    if tree is not None and len(tree) < LARGEST_TREE:  # which scipy draws by recursion
        hierarchy.dendrogram(tree, ax=axes, orientation=side, no_labels=True, color_threshold=0,
                             above_threshold_color=OTHER)  # fmt: skip
        for lines in axes.collections:
            lines.set_linewidth(0.8)
        if side == "left":
            axes.invert_yaxis()
        axes.axis("off")


def _draw_strip(axes: Axes, strip: PatientGroups, rows: IntArray, name: str) -> None:
    colours = ListedColormap([to_rgb(colour) for colour in strip.colours])
    values = np.ma.masked_less(strip.of_patient[rows][:, np.newaxis], 0)
    axes.imshow(values, cmap=colours.with_extremes(bad="white"), vmin=-0.5, vmax=len(strip) - 0.5, aspect="auto",
                interpolation="nearest")  # fmt: skip
    axes.set_xticks([0], [name], rotation=90, fontsize=7)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _strip_legends(figure: Figure, strips: Sequence[PatientGroups]) -> None:
    places: tuple[Literal["outside upper left", "outside upper right"], ...] = (
        "outside upper left",
        "outside upper right",
    )
    for strip, name, where in zip(strips, ("group", "site"), places, strict=False):
        handles = [Patch(color=colour, label=strip.label(k)) for k, colour in enumerate(strip.colours)][: len(COLOURS)]
        figure.legend(handles=handles, title=name, loc=where, ncols=min(len(handles), 4), frameon=False, fontsize=8,
                      title_fontsize=8)  # fmt: skip
