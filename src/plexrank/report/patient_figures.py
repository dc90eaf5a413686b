"""Figures whose points are patients: r and intensity of every channel, and what the embedding reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from plexrank.arrays import FloatArray
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.patient_groups import PatientGroups, short
from plexrank.statistics.means import known_mean
from plexrank.wording import counted

SIGN = (
    "The sign of r is the one with which, among the patients that a network was trained on, it rises with the outcome "
    "(towards the last class; higher grades and numbers; earlier events); with three classes or more, it is arbitrary "
    "for a channel that does not rise along their list"
)
FARTHEST = 4.0
"""Beyond it r, in standard deviations, is drawn at the edge."""
FARTHEST_LOG2 = 5.0
OFFSET = 0.01
"""Of their mean, added to amounts before their logarithm is taken."""
DECADE = 10.0
LANE_INCHES, ROW_INCHES = 0.085, 0.26
SCATTERS_A_ROW = 5
_ROOM_INCHES = 1.5


def dots_figure(channels: Sequence[str], r: FloatArray, mean_intensity: FloatArray, groups: PatientGroups) -> Drawn:
    """Held-out r and mean intensity of every patient, a row a channel, a lane a group.

    Args:
        channels: names, in the order in which they are drawn from the top.
        r: (patient, channel) with a common sign and scale; NaN all through where there is no embedding.
        mean_intensity: (patient, channel), NaN where a patient lacks the channel.
        groups: of the patients.
    """
    has_r = bool(np.isfinite(r).any())
    height = max(ROW_INCHES, LANE_INCHES * len(groups) + 0.06) * len(channels)
    figure = new_figure(10, height + _ROOM_INCHES)
    panels = list(figure.subplots(1, 1 + has_r, sharey=True, squeeze=False)[0])
    shown = [(r, FARTHEST, "held-out r (standard deviations in training)")] if has_r else []
    relative = relative_intensity(mean_intensity)
    shown.append((relative, FARTHEST_LOG2, "mean intensity, log2 of its ratio to the channel's median"))
    for axes, (values, farthest, label) in zip(panels, shown, strict=True):
        _draw_lanes(axes, values, farthest, groups)
        axes.set_xlabel(label)
        axes.xaxis.set_label_position("top")
        axes.xaxis.tick_top()
    panels[0].set_yticks(range(len(channels)), [short(name) for name in channels])
    panels[0].set_ylim(len(channels) - 0.5, -0.5)
    figure.legend(handles=legend_marks(groups), ncols=min(len(groups), 6), frameon=False, fontsize=9,
                  loc="outside upper left")  # fmt: skip
    what = "r and mean intensity" if has_r else "mean intensity"
    caption = (
        "Every dot is a patient and every row a channel, in the order of the ranking; strokes are medians of the "
        f"groups. {f'{SIGN}. ' if has_r else ''}Values beyond "
        f"{f'±{FARTHEST:g} (r) and ' if has_r else ''}±{FARTHEST_LOG2:g} (log2) are drawn at the edge. The "
        "figure describes: what is found, and how surely, stands in the table, whose tests keep sites apart."
    )
    alt = f"Held-out {what} of {counted(len(mean_intensity), 'patient')} in {counted(len(channels), 'channel')}"
    return Drawn(figure, alt, caption)


def relative_intensity(mean_intensity: FloatArray) -> FloatArray:
    """(patient, channel) log2 of the ratio to the channel's median over patients, NaN where absent.

    To both 1 % of the channel's mean is added, so that zeros have a place; below 0 counts as 0. Where the median is 0,
    the mean is in its place.
    """
    amounts = np.where(np.isnan(mean_intensity), np.nan, np.maximum(mean_intensity, 0.0))
    offset = OFFSET * np.nan_to_num(known_mean(amounts))
    offset = np.where(offset > 0, offset, 1.0)
    medians = np.array([np.median(own[~np.isnan(own)]) if (~np.isnan(own)).any() else 0.0 for own in amounts.T])
    centres = np.where(medians > 0, medians, np.nan_to_num(known_mean(amounts)))
    result: FloatArray = np.log2((amounts + offset) / (centres + offset))
    return result


def _draw_lanes(axes: Axes, values: FloatArray, farthest: float, groups: PatientGroups) -> None:
    values = np.clip(values, -farthest, farthest)
    jitter = np.random.default_rng(0)
    num_channels = values.shape[1]
    step = 0.8 / len(groups)
    for k, (colour, marker) in enumerate(zip(groups.colours, groups.markers, strict=True)):
        own = values[groups.of_patient == k]
        if not len(own):
            continue
        lane = np.arange(num_channels) + (k - (len(groups) - 1) / 2) * step
        y = lane + jitter.uniform(-0.3 * step, 0.3 * step, own.shape)
        axes.plot(own.ravel(), y.ravel(), marker, linestyle="", color=colour, markersize=2.6, alpha=0.6,
                  markeredgewidth=0, rasterized=True)  # fmt: skip
        medians = np.array([np.median(one[~np.isnan(one)]) if (~np.isnan(one)).any() else np.nan for one in own.T])
        for line_colour, width in (("white", 4.4), (colour, 2.6)):
            axes.vlines(medians, lane - 0.45 * step, lane + 0.45 * step, color=line_colour, linewidth=width)
    axes.axvline(0, color="#444", linewidth=0.7, linestyle=(0, (3, 3)))
    axes.hlines(np.arange(num_channels - 1) + 0.5, -farthest, farthest, color="#e6e8eb", linewidth=0.8)
    axes.set_xlim(-1.04 * farthest, 1.04 * farthest)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(axis="both", length=0)


@dataclass(frozen=True)
class ReadStatistic:
    """The image statistic that explains most of a channel's r.

    Attributes:
        channel: which.
        name: in words, such as ``clustering at 20 µm``.
        r2: share of the variation of held-out r that it explains out of fold.
        values: (patient,), NaN where it is not known.
    """

    channel: str
    name: str
    r2: float
    values: FloatArray


def reads_figure(reads: Sequence[ReadStatistic], r: FloatArray, groups: PatientGroups) -> Drawn:
    """Held-out r of every patient against what explains most of it, a panel a channel.

    Args:
        reads: one or more channels.
        r: (patient, channel) of these.
        groups: of the patients.
    """
    columns = min(SCATTERS_A_ROW, len(reads))
    rows = -(-len(reads) // columns)
    figure = new_figure(2.25 * columns + 0.2, 2.3 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, read, own in zip(grid, reads, r.T, strict=False):
        x = as_regressed(read.values)
        for k, (colour, marker) in enumerate(zip(groups.colours, groups.markers, strict=True)):
            rows_of_group = groups.of_patient == k
            axes.plot(x[rows_of_group], own[rows_of_group], marker, linestyle="", color=colour, markersize=3.5,
                      alpha=0.7, markeredgewidth=0, rasterized=True)  # fmt: skip
        if spans_decades(x):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=4))
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(f"{short(read.channel, 18)}\nr² {read.r2:.2f}", loc="left", fontsize=9)
        axes.set_xlabel(read.name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color="#e6e8eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(reads) :]:
        axes.remove()
    figure.supylabel("held-out r", fontsize=9)
    figure.legend(handles=legend_marks(groups), ncols=min(len(groups), 6), frameon=False, fontsize=8,
                  loc="outside upper left")  # fmt: skip
    said = ", ".join(f"{read.channel}: {read.name}, r² {read.r2:.2f}" for read in reads)
    caption = (
        "Held-out r of every patient against the simple image statistic that explains most of it (amounts with 1 % of "
        "their mean added, so that zeros have a place). r² is the share of r that the statistic explains on patients "
        "outside the training; near 1 the embedding is that statistic, near 0 it reads something that none of these "
        "statistics measures. To explain r is not to explain the outcome."
    )
    return Drawn(figure, f"Held-out r against image statistics ({said})", caption)


def as_regressed(values: FloatArray) -> FloatArray:
    """(patient,) a statistic as r² was found with it: where it is nowhere negative with 1 % of its mean added."""
    known = values[np.isfinite(values)]
    if not len(known) or known.min() < 0:
        return values
    result: FloatArray = values + OFFSET * known.mean()
    return result


def spans_decades(values: FloatArray) -> bool:
    """Whether a logarithmic axis shows values (patient,) better."""
    known = values[np.isfinite(values)]
    return bool(len(known)) and bool(known.min() > 0) and bool(known.max() > DECADE * known.min())


def legend_marks(groups: PatientGroups) -> list[Line2D]:
    """What a legend needs: mark, name and number of patients of every group."""
    marks = zip(groups.colours, groups.markers, strict=True)
    return [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=groups.label(k))
        for k, (colour, marker) in enumerate(marks)
    ]
