"""ROC curves of classes, and where trainings agree on the order of channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plexrank.arrays import BoolArray, FloatArray, IntArray
from plexrank.report.figure_files import Drawn, new_figure
from plexrank.report.figures import BOTH, SIGNIFICANT
from plexrank.report.patient_groups import MARKERS, short
from plexrank.statistics.means import INTERVAL
from plexrank.wording import counted

DRAWS = 1000
MOST_CURVES = 8
CURVES_A_ROW = 4
GRID = np.linspace(0.0, 1.0, 101)
"""Shares of false positives at which curves are averaged."""
_PREFIX = "probability_"


def roc_figure(predictions: pd.DataFrame, draws: int = DRAWS) -> Drawn | None:
    """ROC curves of held-out probabilities with bands from resampling patients: the last of two classes against the
    first, each of more against all others; None where no class can be distinguished from others.

    Args:
        predictions: ``predictions.csv`` of classes; numbers may be text.
        draws: resamplings of patients.
    """
    classes = [str(name).removeprefix(_PREFIX) for name in predictions.columns if str(name).startswith(_PREFIX)]
    label = predictions["label"].astype(str).to_numpy()
    shown = [name for name in (classes[1:] if len(classes) == 2 else classes) if 0 < (label == name).mean() < 1]
    shown = shown[:MOST_CURVES]
    if not shown:
        return None
    patient = np.unique(predictions["patient_id"].astype(str), return_inverse=True)[1].astype(np.int64)
    columns = min(CURVES_A_ROW, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(3.1 * columns + 0.3, 3.2 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    said = []
    for axes, name in zip(grid, shown, strict=False):
        probability = predictions[f"{_PREFIX}{name}"].to_numpy(dtype=np.float64)
        is_class = label == name
        false, true = (shares[0] for shares in roc_curves(is_class, probability, np.ones((1, len(label)))))
        auc = float(np.trapezoid(true, false))
        low, high = roc_band(is_class, probability, patient, draws)
        axes.fill_between(GRID, low, high, color=SIGNIFICANT, alpha=0.18, linewidth=0)
        axes.plot(false, true, color=SIGNIFICANT, linewidth=1.8)
        axes.plot([0, 1], [0, 1], color="#444", linewidth=0.8, linestyle=(0, (3, 3)))
        against = next(other for other in classes if other != name) if len(classes) == 2 else "the others"
        said.append(f"{name} against {against}: AUC {auc:.2f}")
        title = f"{short(name, 16)} against {short(against, 16)}\nAUC {auc:.2f}"
        axes.set_title(f"{title}, {int(is_class.sum())} of {len(label)}", loc="left", fontsize=9)
        axes.set_aspect("equal")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.grid(color="#e6e8eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(shown) :]:
        axes.remove()
    figure.supxlabel("false positives, share", fontsize=9)
    figure.supylabel("true positives, share", fontsize=9)
    return Drawn(
        figure,
        f"ROC curves of held-out predictions of {counted(len(label), 'patient')} ({'; '.join(said)})",
        "ROC curves of held-out probabilities: each patient is predicted by networks that have not seen the patient. "
        f"Bands hold 95 % of {draws} resamplings of the patients at each share of false positives by itself, not of "
        "the curve as a whole, and know nothing of how else the networks might have been trained. Probabilities of "
        "different folds come from different networks; where these are calibrated differently the curve is too low. "
        "Dashed: chance.",
    )


def roc_band(
    is_class: BoolArray, probability: FloatArray, patient: IntArray, draws: int
) -> tuple[FloatArray, FloatArray]:
    """Ends (grid,) between which 95 % of resampled curves lie, at each share of false positives in ``GRID``.

    Args:
        is_class: (row,) bool, with both values.
        probability: (row,) of the class.
        patient: (row,) int from 0; whole patients are drawn.
        draws: resamplings; those without one of the two sides take no part.
    """
    rng = np.random.default_rng(0)
    number = int(patient.max()) + 1
    weights = rng.multinomial(number, np.full(number, 1 / number), size=draws)[:, patient].astype(np.float64)
    usable = weights[:, is_class].any(axis=1) & weights[:, ~is_class].any(axis=1)
    if not usable.any():
        return np.zeros_like(GRID), np.ones_like(GRID)
    false, true = roc_curves(is_class, probability, weights[usable])
    curves = [np.interp(GRID, *curve) for curve in zip(false, true, strict=True)]
    low, high = np.percentile(curves, INTERVAL, axis=0)
    return low, high


def roc_curves(is_class: BoolArray, probability: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shares of false and of true positives (draw, threshold), from 0 to 1, as the threshold falls.

    Args:
        is_class, probability: as for :func:`roc_band`.
        weights: (draw, row) how often each row counts; each draw has rows of both kinds.
    """
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.diff(probability[order]) != 0, True)  # equal probabilities pass a threshold together
    shares = []
    for rows in (~is_class, is_class):
        passed = np.cumsum(weights[:, order] * rows[order], axis=1)
        shares.append(np.hstack([np.zeros((len(weights), 1)), passed[:, ends] / passed[:, -1:]]))
    return shares[0], shares[1]


def stability_figure(channels: Sequence[str], position: FloatArray, units: Sequence[tuple[int, int]], of: int) -> Drawn:
    """The position of the first channels in each training.

    Args:
        channels: names, in the order in which they are drawn from the top.
        position: (unit, channel) of these, 1 for the most important; NaN where a training has none.
        units: fold and seed of each.
        of: how many channels have a position.
    """
    figure = new_figure(8, 1.3 + 0.3 * len(channels))
    axes = figure.subplots()
    folds = sorted({fold for fold, _ in units})
    jitter = np.random.default_rng(0).uniform(-0.22, 0.22, position.shape)
    rows = np.arange(len(channels))
    for place, fold in enumerate(folds):
        own = [number for number, unit in enumerate(units) if unit[0] == fold]
        axes.plot(position[own].ravel(), (rows + jitter[own]).ravel(), MARKERS[place % len(MARKERS)], linestyle="",
                  color=SIGNIFICANT, alpha=0.55, markersize=5, markeredgewidth=0, label=f"fold {fold}")  # fmt: skip
    for row in rows:
        known = position[np.isfinite(position[:, row]), row]
        if len(known):
            axes.vlines(np.median(known), row - 0.36, row + 0.36, color=BOTH, linewidth=2.2)
    axes.axvline((of + 1) / 2, color="#444", linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set_xlim(0.3, of + 0.7)
    axes.set_yticks(rows, [short(name) for name in channels])
    axes.set_ylim(len(channels) - 0.5, -0.5)
    axes.set_xlabel(f"position in one training, of {of} (dashed: the middle)")
    axes.grid(axis="x", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if len(folds) <= len(MARKERS):
        axes.legend(frameon=False, fontsize=8, ncols=min(len(folds), 5), loc="lower left", bbox_to_anchor=(0, 1))
    seeds = len({seed for _, seed in units})
    trainings = f"{counted(len(units), 'training')} ({counted(len(folds), 'fold')} × {counted(seeds, 'seed')})"
    return Drawn(
        figure,
        f"Positions of {counted(len(channels), 'channel')} in {trainings}",
        f"Each mark is the position of a channel by the importance in one of {trainings}; black strokes are medians. A "
        "channel whose marks spread over the whole width has its place in the ranking by chance of the training. Folds "
        "share most of their training patients, so that agreement among them is no agreement with other cohorts: for "
        "that take the intervals of the table.",
    )


def positions(importance: FloatArray) -> FloatArray:
    """(unit, channel) position of each channel in each training, 1 for the highest importance, NaN where absent.

    Args:
        importance: (unit, channel), NaN where a unit lacks the channel. Equal ones share the middle of their positions.
    """
    ranks: FloatArray = pd.DataFrame(-importance).rank(axis=1, method="average").to_numpy(dtype=np.float64)
    return ranks
