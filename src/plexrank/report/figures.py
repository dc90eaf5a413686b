"""Figures of the report, drawn with matplotlib's file back end (no display needed)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import offset_copy

from plexrank.report.figure_files import new_figure, save_figure
from plexrank.report.wording import WORDINGS, Wording
from plexrank.wording import printable

SIGNIFICANT = "#0b5fa5"
OTHER = "#8a8f98"
INTENSITY = "#d9822b"
BOTH = "#1d2127"
CONTROL = "#c9ccd1"
LONGEST_NAME = 28
"""Letters of a channel's name that have room beside its row."""
ABOVE_LABEL_POINTS = 44
"""From the axes to the legend above its scale and a label of two lines."""
LABEL_COLOURS = {"both": BOTH, "intensity": "#9a5510", "pattern": SIGNIFICANT}
"""Of the names of channels that are found, by what found them; dark enough to be read."""
CLASSES = WORDINGS["nominal"]


def ranking_figure(
    ranking: pd.DataFrame,
    path: Path,
    planted: Collection[str] = (),
    words: Wording = CLASSES,
    fdr: float | None = None,
) -> None:
    """Draw the ranking: scores with intervals, and the evidence of both tests of a difference.

    Scales, labels and legends stand at the top, since a figure of many channels is longer than a screen.

    Args:
        ranking: the ranking table, best channel first.
        path: PNG file to write; the SVG goes beside it.
        planted: channels of a simulated cohort that truly differ; a star marks them.
        words: for the kind of outcome.
        fdr: the q-value up to which a channel is significant; lines show the p-values at which it is reached.
    """
    height = 2.4 + 0.24 * len(ranking)
    figure = new_figure(10, height)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    rows = np.arange(len(ranking))
    _draw_associations(right, ranking, rows, words, fdr)
    _style(right)
    draw_scores(left, ranking, len(ranking), planted, words)  # after the other, whose rows it sets too
    save_figure(figure, path, dpi=150)


def faithfulness_figure(
    curves: Mapping[str, Sequence[float]], path: Path, measure: str = "AUC", chance: float = CLASSES.chance
) -> None:
    """Draw the headline measure, held out, against the number of channels taken away, and of channels kept.

    Args:
        curves: ``deletion, insertion, deletion_random, insertion_random``, each with one value for 0, 1, … channels.
        path: PNG file to write; the SVG goes beside it.
        measure: what the headline measure is called.
        chance: its value for predictions that know nothing.
    """
    figure = new_figure(10, 2.6)
    both = figure.subplots(1, 2, sharey=True)
    for axes, kind, doing in zip(both, ("deletion", "insertion"), ("at their mean", "kept"), strict=True):
        axes.plot(curves[kind], color=SIGNIFICANT, label="most important first")
        axes.plot(curves[f"{kind}_random"], color=OTHER, linestyle="--", label="random order")
        axes.axhline(chance, color="#444", linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_xlabel(f"channels {doing}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    both[0].set_ylabel(f"held-out {measure}")
    save_figure(figure, path)


def draw_scores(
    axes: Axes, ranking: pd.DataFrame, num_channels: int, planted: Collection[str] = (), words: Wording = CLASSES
) -> None:
    """Draw the score of each channel with its interval, a row a channel, the first on top.

    Args:
        axes: to draw on.
        ranking: rows of the ranking table.
        num_channels: of the whole ranking, which gives the score that each would have were all alike.
        planted, words: as for :func:`ranking_figure`.
    """
    rows = np.arange(len(ranking))
    excluded = ranking["excluded"].to_numpy(dtype=bool)
    found_by = ranking["found_by"].to_numpy(dtype=object)
    band = ranking["null_score_high"].notna().to_numpy()
    if band.any():
        low, high = (ranking.loc[band, f"null_score_{end}"] for end in ("low", "high"))
        axes.fill_betweenx(rows[band], low, high, color="#e6e8eb", label=f"{words.nouns} permuted (95 %)")
    for chosen, colour, marker, name in (
        (found_by == "both", BOTH, "D", f"{words.listed} by intensity and by pattern"),
        (found_by == "intensity", INTENSITY, "s", f"{words.listed} by intensity"),
        (found_by == "pattern", SIGNIFICANT, "o", f"{words.listed} by pattern"),
        ((found_by == "") & ~excluded, OTHER, ".", "not significant"),
        (excluded, CONTROL, "x", "negative control"),
    ):
        if chosen.any():
            part = ranking[chosen]
            axes.hlines(rows[chosen], part["score_low"], part["score_high"], color=colour, linewidth=2.2)
            axes.plot(part["score"], rows[chosen], marker, linestyle="", color=colour, markersize=6, label=name)
    axes.axvline(1 / num_channels, color="#444", linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set_xlabel("score: share of the importance, with its 95 % interval\n(dashed: all channels alike)")
    axes.set_yticks(rows, [_channel_name(name, name in planted) for name in ranking["channel"]])
    for label, by in zip(axes.get_yticklabels(), found_by, strict=True):
        label.set(color=LABEL_COLOURS.get(by, "#444"), fontweight="bold" if by else "normal")
    axes.set_ylim(len(ranking) - 0.5, -0.5)
    _style(axes)
    _scale_on_top(axes)


def _scale_on_top(axes: Axes) -> None:
    """Scale, label and legend above the rows, so that nothing lies over a point."""
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    above = offset_copy(axes.transAxes, axes.get_figure(root=True), y=ABOVE_LABEL_POINTS, units="points")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), bbox_transform=above, frameon=False, fontsize=8)


def _draw_associations(axes: Axes, ranking: pd.DataFrame, rows: np.ndarray, words: Wording, fdr: float | None) -> None:
    """−log10 of both p-values: on one scale, whatever the tests' effect sizes mean."""
    intensity, pattern = (
        -np.log10(np.maximum(ranking[f"{name}_p"].to_numpy(dtype=float), 1e-6)) for name in ("intensity", "pattern")
    )
    axes.hlines(rows, np.fmin(pattern, intensity), np.fmax(pattern, intensity), color="#d5d8dc", linewidth=2)
    axes.plot(intensity, rows, "s", color=INTENSITY, markersize=5, label="mean intensity")
    axes.plot(pattern, rows, "o", color=SIGNIFICANT, markersize=5, label="pattern (embedding beyond brightness)")
    axes.set_xlabel(f"{words.evidence}, −log10 p")
    if fdr is not None:
        limits = {name: called_below(ranking, name, fdr) for name in ("intensity", "pattern")}
        is_one = len(set(limits.values())) == 1
        for (name, limit), colour, dashes in zip(
            limits.items(), (INTENSITY, SIGNIFICANT), ((4, 2), (1, 2)), strict=True
        ):
            if not is_one or name == "intensity":
                axes.axvline(
                    -np.log10(limit), color=BOTH if is_one else colour, linewidth=1.2, linestyle=(0, dashes), zorder=0,
                    label=f"p that one channel alone needs for q = {fdr:g}{'' if is_one else f' ({name})'}",
                )  # fmt: skip
    _scale_on_top(axes)


def called_below(ranking: pd.DataFrame, test: str, fdr: float) -> float:
    """The p-value up to which channels are called by a test (Benjamini & Hochberg 1995).

    With k channels called of m it is k × fdr / m; with none, what the best of them would need.

    Args:
        ranking: the ranking table.
        test: ``intensity`` or ``pattern``.
        fdr: false-discovery rate.
    """
    q = ranking.loc[~ranking["excluded"].astype(bool), f"{test}_q"].astype(float)
    return max(int((q <= fdr).sum()), 1) * fdr / max(int(q.notna().sum()), 1)


def _style(axes: Axes) -> None:
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _channel_name(name: str, is_planted: bool) -> str:
    shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return f"★ {as_text(shown)}" if is_planted else as_text(shown)


def as_text(name: str) -> str:
    """The name with no part of it read as a formula, and no character that is not seen."""
    return printable(name).replace("$", r"\$")
