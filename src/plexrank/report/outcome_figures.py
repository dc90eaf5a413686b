"""Figures of held-out predictions, one for each kind of outcome that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plexrank.arrays import Array
from plexrank.outcome import MEASURE_NAMES, Kind
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.figures import BOTH, INTENSITY, OTHER, SIGNIFICANT, as_text
from plexrank.report.wording import p_value
from plexrank.statistics.survival import kaplan_meier, log_rank
from plexrank.wording import counted

THIRDS = (("lowest", SIGNIFICANT, "-"), ("middle", OTHER, "--"), ("highest", INTENSITY, "-"))
"""Name, colour and line of the thirds of held-out risk."""
FEWEST_IN_FIFTH = 5
"""Different predictions that each fifth needs for its mean to be drawn."""
MOST_CHANNELS, CHANNELS_A_ROW = 6, 3
LONG_NAME = 8
"""Letters of a grade from which its name is written aslant."""


def channels_figure(
    per_patient: pd.DataFrame, channels: Sequence[str], kind: Kind, time_name: str = "time"
) -> Drawn | None:
    """Survival by the held-out r of single channels; ``None`` for other kinds of outcome, and without embedding.

    Args:
        per_patient: ``importance_per_patient.parquet``.
        channels: names to draw, at most ``MOST_CHANNELS`` of them.
        time_name: of the axis.
    """
    if kind != "survival":
        return None
    known = per_patient[per_patient["r"].notna()]
    shown = [channel for channel in channels if (known["channel"] == channel).any()][:MOST_CHANNELS]
    if not shown:
        return None
    rows = -(-len(shown) // CHANNELS_A_ROW)
    figure = new_figure(8, 0.5 + 2.5 * rows)
    grid = figure.subplots(rows, CHANNELS_A_ROW, sharex=True, sharey=True, squeeze=False).ravel()
    said = []
    for axes, channel in zip(grid, shown, strict=False):
        own = known[known["channel"] == channel]
        time, event = own["time"].to_numpy(dtype=np.float64), own["event"].to_numpy() > 0
        third = thirds_of_risk(own["r"].to_numpy(), own["fold"].to_numpy())
        for k, (name, colour, line) in enumerate(THIRDS):
            if (third == k).any():
                _draw_curve(axes, time[third == k], event[third == k], color=colour, linestyle=line, label=name)
        said.append(f"{channel}: log-rank p {p_value(log_rank(time, event, third)[1])}")
        axes.set_title(as_text(said[-1]), loc="left", fontsize=9)
        axes.set_ylim(-0.02, 1.03)
        _style(axes)
    for axes in grid[max(len(shown) - CHANNELS_A_ROW, 0) : len(shown)]:
        axes.tick_params(labelbottom=True)
    for axes in grid[len(shown) :]:
        axes.remove()
    drawn = {line.get_label(): line for axes in grid[: len(shown)] for line in axes.get_legend_handles_labels()[0]}
    names = [name for name, _, _ in THIRDS if name in drawn]
    figure.legend([drawn[name] for name in names], names, title="thirds of held-out r", ncols=3, frameon=False,
                  fontsize=8, title_fontsize=9, loc="outside upper left")  # fmt: skip
    figure.supxlabel(as_text(time_name), fontsize=10)
    figure.supylabel("share without an event", fontsize=10)
    return Drawn(
        figure,
        f"Kaplan-Meier curves of the thirds of held-out r, by channel ({'; '.join(said)})",
        "Survival by the held-out embedding r of single channels, the first of the ranking: each network gives r the "
        "sign with which, among the patients that it was trained on, higher values mean earlier events. Thirds are cut "
        "by rank within each fold. High r is not high expression: the table says which way the intensity goes. These "
        "p-values describe and are too small: the channels are the first of a ranking "
        "of the same patients, who have trained the networks of the other folds, and sites are not kept apart. The "
        "calls are those of the table.",
    )


def outcome_figure(predictions: pd.DataFrame, summary: Mapping[str, Any], time_name: str = "time") -> Drawn | None:
    """The figure for the kind of outcome; ``None`` where that has none.

    Args:
        predictions: ``predictions.csv``; numbers may be text.
        summary: content of ``summary.json``.
        time_name: of the axis of times.
    """
    draw: dict[str, Callable[[pd.DataFrame, Mapping[str, Any]], Drawn]] = {
        "nominal": partial(confusion_figure, noun="class"),
        "ordinal": partial(confusion_figure, noun="grade"),
        "continuous": _scatter,
        "survival": partial(_survival_of_thirds, time_name=time_name),
    }
    kind = summary["outcome"]["kind"]
    return draw[kind](predictions, summary["held_out"]) if kind in draw else None


def thirds_of_risk(risk: Array, fold: Array) -> Array:
    """(patient,) 0, 1, 2 by rank of the risk within the fold of each; equal risks stay together.

    Risks of different folds come from different networks and do not compare.
    """
    by_fold = pd.Series(risk).groupby(fold)
    share = (by_fold.rank(method="average") - 0.5) / by_fold.transform("size")
    thirds: Array = np.floor(share.to_numpy() * 3).astype(np.int64)
    return thirds


def _survival_of_thirds(predictions: pd.DataFrame, held_out: Mapping[str, Any], time_name: str) -> Drawn:
    time, risk = (predictions[name].to_numpy(dtype=np.float64) for name in ("time", "risk"))
    event = predictions["event"].to_numpy(dtype=np.float64) > 0
    third = thirds_of_risk(risk, predictions["fold"].to_numpy())
    p = p_value(log_rank(time, event, third)[1])
    figure = new_figure(8, 5.4)
    curves, numbers = figure.subplots(2, 1, sharex=True, height_ratios=(4.2, 1))
    curves.set_xlim(0, time.max() * 1.02)
    ticks = [tick for tick in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, time.max()) if 0 <= tick <= time.max()]
    said = []
    for k, (name, colour, line) in enumerate(THIRDS):
        rows = third == k
        events = counted(int(event[rows].sum()), "event")
        said.append(f"{name}: {counted(int(rows.sum()), 'patient')}, {events}")
        if rows.any():
            _draw_curve(curves, time[rows], event[rows], color=colour, linestyle=line, label=said[-1])
        for tick in ticks:
            numbers.text(tick, k, str((time[rows] >= tick).sum()), ha="center", va="center", fontsize=9)
    curves.set_ylim(-0.02, 1.03)
    curves.set_ylabel("share without an event")
    curves.legend(title=f"thirds of held-out risk; log-rank p {p}", frameon=False, fontsize=8, title_fontsize=9,
                  loc="lower left", bbox_to_anchor=(0, 1), ncols=3)  # fmt: skip
    _style(curves)
    numbers.set_xticks(ticks)
    numbers.set_ylim(len(THIRDS) - 0.5, -0.5)
    numbers.set_yticks(range(len(THIRDS)), [name for name, _, _ in THIRDS])
    numbers.set_title("patients at risk", loc="left", fontsize=9)
    numbers.set_xlabel(as_text(time_name))
    numbers.spines[:].set_visible(False)
    numbers.tick_params(length=0)
    numbers.tick_params(axis="y", pad=14)
    return Drawn(
        figure,
        f"Kaplan-Meier curves of the thirds of held-out risk ({'; '.join(said)}); log-rank p {p}",
        "Survival by held-out risk (Kaplan-Meier, with pointwise 95 % bands; upright strokes are censored patients). "
        "The risk of each patient is predicted by networks that have not seen the patient. The thirds are cut by rank "
        "within each fold, since risks of different networks do not compare. The log-rank p is optimistic, because the "
        "patients of each fold have trained the networks of the others; the permutation p above allows for that.",
    )


def _draw_curve(axes: Axes, time: Array, event: Array, color: str, **style: Any) -> None:
    """The survival curve of some patients up to the last of them, its band, and who was censored."""
    curve = kaplan_meier(time, event)
    at = np.unique(np.concatenate([[0.0], time]))
    axes.step(at, curve.survival.at(at), where="post", color=color, linewidth=1.8, **style)
    low, high = (np.repeat(bound.at(at), 2)[:-1] for bound in (curve.low, curve.high))
    axes.fill_between(np.repeat(at, 2)[1:], low, high, color=color, alpha=0.15, linewidth=0)
    censored = np.unique(time[~event])
    axes.plot(censored, curve.survival.at(censored), "|", color=color, markersize=7)


def _scatter(predictions: pd.DataFrame, held_out: Mapping[str, Any]) -> Drawn:
    true, predicted = (predictions[name].to_numpy(dtype=np.float64) for name in ("label", "predicted"))
    figure = new_figure(5.2, 4.8)
    axes = figure.subplots()
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color="#444", linewidth=0.8, linestyle=(0, (3, 3)), label="predicted = true")
    axes.plot(predicted, true, "o", color=SIGNIFICANT, markersize=5, alpha=0.55, markeredgewidth=0, label="patient")
    caption = (
        "True against held-out predicted values: each patient is predicted by networks that have not seen the patient."
    )
    if len(np.unique(predicted)) >= 5 * FEWEST_IN_FIFTH:
        fifths = np.array_split(np.argsort(predicted, kind="stable"), 5)
        means = [[values[rows].mean() for rows in fifths] for values in (predicted, true)]
        axes.plot(*means, "D-", color=INTENSITY, markersize=6, linewidth=1.2, label="mean of a fifth by prediction")
        caption += (
            " Diamonds are means over fifths of the patients by prediction: on the dashed line, the numbers themselves "
            "can be believed; on a line of another slope, only their order."
        )
    measures = ", ".join(
        f"{MEASURE_NAMES[name]} {held_out[name]['value']:.2f}"
        for name in ("spearman", "r2")
        if held_out[name]["value"] is not None
    )
    axes.set_title(measures, loc="left", fontsize=10)
    axes.set_xlabel("predicted, held out")
    axes.set_ylabel("true")
    axes.legend(frameon=False, fontsize=8)
    _style(axes)
    return Drawn(
        figure, f"True against held-out predicted values of {counted(len(true), 'patient')}: {measures}", caption
    )


def confusion_figure(predictions: pd.DataFrame, held_out: Mapping[str, Any], noun: str = "grade") -> Drawn:
    """True against predicted classes or grades, as counts of patients; ``held_out`` is not looked at."""
    prefix = "probability_"
    grades = [str(name).removeprefix(prefix) for name in predictions.columns if str(name).startswith(prefix)]
    place = {grade: k for k, grade in enumerate(grades)}
    true, predicted = (predictions[name].astype(str).map(place).to_numpy() for name in ("label", "predicted"))
    counts = np.zeros((len(grades), len(grades)), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.75 * len(grades)
    figure = new_figure(side + 1.2, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        colour = "white" if share[row, column] > 0.6 else BOTH
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    names = [as_text(grade) for grade in grades]
    axes.set_xticks(range(len(grades)), names)
    if max(map(len, grades)) > LONG_NAME:
        for name in axes.get_xticklabels():
            name.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(grades)), names)
    axes.set_xlabel(f"predicted {noun}, held out")
    axes.set_ylabel(f"true {noun}")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=f"share of the true {noun}", shrink=0.8)
    nouns, chosen = (
        ("grades", "the one nearest to the expected grade")
        if noun == "grade"
        else ("classes", "the one with the highest probability")
    )
    right = f"{int(counts.trace())} of {counted(len(true), 'patient')} on the diagonal"
    return Drawn(
        figure,
        f"True against predicted {nouns}, as counts: {right}",
        f"Patients by true and by held-out predicted {noun}, {chosen}: each patient is "
        f"predicted by networks that have not seen the patient. Colours are shares of the patients of the true {noun}.",
    )


def _style(axes: Axes) -> None:
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
