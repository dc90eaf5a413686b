"""Figures of held-out predictions draw what the table says, also where it says little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from plexrank.report.figure_files import Drawn
from plexrank.report.outcome_figures import channels_figure, outcome_figure, thirds_of_risk
from plexrank.statistics.survival import log_rank

SIX = {"time": [1, 2, 3, 4, 5, 6], "event": [1, 1, 1, 0, 1, 0], "fold": [0] * 6, "risk": [6, 5, 4, 3, 2, 1]}


def drawn(kind: str, table: dict[str, Any], **held_out: float | None) -> Drawn:
    """Of a table as the CSV has it: all text."""
    summary = {"outcome": {"kind": kind}, "held_out": {name: {"value": value} for name, value in held_out.items()}}
    figure = outcome_figure(pd.DataFrame(table).astype(str), summary)
    assert figure is not None
    figure.figure.canvas.draw()
    return figure


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(figure: Drawn) -> list[str]:
    return [text.get_text() for text in figure.figure.axes[0].get_legend().get_texts()]


def title(figure: Drawn) -> str:
    return str(figure.figure.axes[0].get_legend().get_title().get_text())


def test_classes_are_counted_by_the_most_probable() -> None:
    table = {"label": ["a", "b", "b"], "predicted": ["a", "a", "b"]} | {f"probability_{k}": [0.5] * 3 for k in "ab"}
    figure = drawn("nominal", table)
    axes = figure.figure.axes[0]
    assert texts(axes) == ["1", "0", "1", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class, held out", "true class")
    assert "True against predicted classes, as counts: 2 of 3 patients on the diagonal" in figure.alt
    assert "the one with the highest probability" in figure.caption


@pytest.mark.parametrize(
    ("risk", "fold", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], [0] * 6, [0, 0, 1, 1, 2, 2]),
        ([1, 2, 3, 14, 15, 16], [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]),  # within folds
        ([1, 2, 3, 4], [0] * 4, [0, 1, 1, 2]),
        ([7, 7, 7], [0] * 3, [1, 1, 1]),
        ([1, 2, 2, 2, 3], [0] * 5, [0, 1, 1, 1, 2]),
        ([1], [0], [1]),
    ],
)
def test_thirds_are_cut_by_rank_within_folds(
    risk: Sequence[float], fold: Sequence[int], expected: Sequence[int]
) -> None:
    assert thirds_of_risk(np.array(risk, dtype=float), np.array(fold)).tolist() == expected


def test_survival_of_thirds_counts_events_and_patients_at_risk() -> None:
    figure = drawn("survival", SIX)
    curves, numbers = figure.figure.axes
    assert labels(figure) == [
        "lowest: 2 patients, 1 event",
        "middle: 2 patients, 1 event",
        "highest: 2 patients, 2 events",
    ]
    p = log_rank(np.arange(1.0, 7), np.array(SIX["event"], dtype=bool), np.array([2, 2, 1, 1, 0, 0]))[1]
    assert title(figure) == f"thirds of held-out risk; log-rank p {p:.3f}"
    assert [str(tick) for tick in numbers.get_xticks()] == [f"{tick}.0" for tick in range(7)]
    assert texts(numbers) == [*"2222221", *"2222100", *"2210000"]
    highest = curves.lines[4]
    assert highest.get_xdata().tolist() == [0, 1, 2]
    assert highest.get_ydata().tolist() == [1, 0.5, 0]
    assert "highest: 2 patients, 2 events" in figure.alt


def test_each_channel_has_its_thirds_by_r_of_the_patients_that_have_it() -> None:
    time, event, r = np.arange(1.0, 7), np.array(SIX["event"]), np.array([6.0, 5, 4, 3, 2, 1])
    parts = [("CD3 $x$", r), ("absent", np.full(6, np.nan)), ("half", np.where(r > 3, -r, np.nan))]
    table = pd.concat(
        pd.DataFrame({"time": time, "event": event, "fold": 0, "channel": name, "r": values}) for name, values in parts
    )
    figure = channels_figure(table, ["half", "absent", "CD3 $x$"], "survival")
    assert figure is not None
    figure.figure.canvas.draw()
    half, whole = figure.figure.axes
    p = log_rank(time, event > 0, np.array([2, 2, 1, 1, 0, 0]))[1]
    assert whole.get_title("left") == rf"CD3 \$x\$: log-rank p {p:.3f}"
    assert half.get_title("left").startswith("half: log-rank p ")
    assert [line.get_xdata().tolist() for line in half.lines[::2]] == [[0, 1], [0, 2], [0, 3]]
    assert whole.lines[4].get_ydata().tolist() == [1, 0.5, 0]
    assert f"CD3 $x$: log-rank p {p:.3f}" in figure.alt


def test_only_survival_with_an_embedding_has_a_figure_by_channel() -> None:
    table = pd.DataFrame({"time": [1.0], "event": [1], "fold": [0], "channel": ["a"], "r": [np.nan]})
    assert channels_figure(table, ["a"], "survival") is None
    assert channels_figure(table.assign(r=1.0), ["a"], "continuous") is None
    assert channels_figure(table.assign(r=1.0), [], "survival") is None


def test_a_third_without_events_and_one_without_patients() -> None:
    never = drawn("survival", SIX | {"event": [1, 1, 1, 0, 0, 0]})
    assert labels(never)[0] == "lowest: 2 patients, 0 events"
    assert never.figure.axes[0].lines[0].get_ydata().tolist() == [1, 1, 1]
    tied = drawn("survival", SIX | {"risk": [0.5] * 6})
    assert labels(tied) == ["middle: 6 patients, 4 events"]
    assert title(tied).endswith("log-rank p –")
    assert texts(tied.figure.axes[1])[:7] == ["0"] * 7
    alone = drawn("survival", {name: values[:3] for name, values in SIX.items()})
    assert labels(alone) == ["lowest: 1 patient, 1 event", "middle: 1 patient, 1 event", "highest: 1 patient, 1 event"]
    nobody = drawn("survival", SIX | {"event": [0] * 6})
    assert title(nobody).endswith("log-rank p –")


def test_numbers_are_drawn_against_the_identity_with_means_of_fifths() -> None:
    predicted = np.arange(25.0)
    figure = drawn("continuous", {"label": 2 * predicted, "predicted": predicted}, spearman=1.0, r2=-0.5)
    axes = figure.figure.axes[0]
    identity, patients, fifths = axes.lines
    assert list(identity.get_xdata()) == list(identity.get_ydata()) == [0, 48]
    assert patients.get_ydata().tolist() == (2 * predicted).tolist()
    assert list(fifths.get_xdata()) == [2, 7, 12, 17, 22]
    assert list(fifths.get_ydata()) == [4, 14, 24, 34, 44]
    assert axes.get_title(loc="left") == "Spearman's ρ 1.00, R² -0.50"


def test_few_or_equal_predictions_have_no_fifths_and_an_undefined_measure_is_not_named() -> None:
    for predicted in (np.arange(24.0), np.full(60, 3.0)):
        figure = drawn(
            "continuous", {"label": np.arange(len(predicted)), "predicted": predicted}, spearman=None, r2=0.0
        )
        assert len(figure.figure.axes[0].lines) == 2
        assert figure.figure.axes[0].get_title(loc="left") == "R² 0.00"


def test_grades_are_counted_in_their_order() -> None:
    grades = ["low", "mid $x$", "high"]
    table = {
        "label": ["low", "mid $x$", "mid $x$", "high"],
        "predicted": ["low", "high", "mid $x$", "mid $x$"],
        **{f"probability_{grade}": 0.3 for grade in grades},
        **{f"mean_intensity_probability_{grade}": 0.3 for grade in reversed(grades)},
    }
    figure = drawn("ordinal", table)
    axes = figure.figure.axes[0]
    assert texts(axes) == [*"100", *"011", *"010"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["low", r"mid \$x\$", "high"]
    assert figure.alt.endswith("2 of 4 patients on the diagonal")


def test_grades_that_are_numbers_keep_their_spelling() -> None:
    table = {"label": ["01", "2"], "predicted": ["2", "2"], "probability_01": [0.5] * 2, "probability_2": [0.5] * 2}
    assert texts(drawn("ordinal", table).figure.axes[0]) == [*"01", *"01"]
