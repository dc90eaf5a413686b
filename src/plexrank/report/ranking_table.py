"""The ranking as a table of the page: every column of ranking.csv, of which some are shown at first."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from plexrank.report.anchors import channel_anchor
from plexrank.report.wording import Wording, p_value

SHOWN = frozenset(
    {
        *("position", "channel", "score", "found_by", "mean_intensity_association", "intensity_q"),
        *("pattern_association", "pattern_q", "reliance", "adds", "reads", "direction", "n_patients"),
    }
)
"""Columns that are shown at first."""
PRINTED = SHOWN - {"reliance", "adds"}
"""Columns that a sheet of A4 has room for, whatever is shown on the screen."""
INTERVALS = {"position": ("position_low", "position_high"), "score": ("score_low", "score_high")}
"""Columns whose interval stands in small print beside them."""
NAMES = {
    "found_by": "found by",
    "intensity_q": "intensity q",
    "pattern_association": "pattern ρ",
    "direction": "direction of intensity",
    "group": "interchangeable",
    "n_patients": "patients",
    "n_images": "images",
    "n_tiles": "tiles",
}
"""Headings that are not the name of the column with spaces."""
CONTRADICTION = "ranks and means disagree"
"""In the place of a direction that the sign of the rank correlation contradicts."""
UPPER_ENDS = ("high", "early")
"""What the half of the patients is called in which a channel is higher whose rank correlation is above 0."""


class DescribedColumn(Protocol):
    """A column of ranking.csv, as ``plexrank.ranking.columns`` declares it."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def computed(self) -> str: ...


@dataclass(frozen=True)
class Heading:
    """The head of a column.

    Attributes:
        name: of the column in ranking.csv.
        label: as it stands on the page.
        title: unit and meaning.
        is_text: whether its values are words.
        is_shown: whether it is shown at first.
        is_printed: whether it is on paper.
        interval: the columns with its interval, which stands in small print, or nothing.
        is_empty: whether no channel has a value.
    """

    name: str
    label: str
    title: str
    is_text: bool
    is_shown: bool
    is_printed: bool
    interval: tuple[str, ...]
    is_empty: bool


@dataclass(frozen=True)
class Cell:
    """A value: as it is read, its interval or a remark in small print, and as it is in ranking.csv."""

    text: str
    small: str
    value: str


@dataclass(frozen=True)
class Row:
    """A channel.

    Attributes:
        channel: its name.
        anchor: where its pictures would be on the page.
        is_found, is_control, is_planted: found to differ; a negative control; truly different, where that is known.
        cells: one for each heading.
    """

    channel: str
    anchor: str
    is_found: bool
    is_control: bool
    is_planted: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class RankingTable:
    """Headings and rows, the best channel first."""

    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]


def ranking_table(
    ranking: pd.DataFrame, described: Sequence[DescribedColumn], words: Wording, planted: Collection[str] = ()
) -> RankingTable:
    """The ranking with every column that it has, in its own order.

    Args:
        ranking: the ranking table, best channel first.
        described: units and meanings, of some or all of the columns.
        words: for the kind of outcome.
        planted: channels of a simulated cohort that truly differ.
    """
    about = {column.name: column for column in described}
    columns = [str(name) for name in ranking.columns]
    headings = tuple(_heading(name, ranking[name], about.get(name), words) for name in columns)
    rows = tuple(
        Row(
            channel=str(record["channel"]),
            anchor=channel_anchor(str(record["channel"])),
            is_found=bool(record["significant"]),
            is_control=bool(record["excluded"]),
            is_planted=record["channel"] in planted,
            cells=tuple(_cell(name, record, words) for name in columns),
        )
        for record in ranking.to_dict("records")
    )
    return RankingTable(headings, rows)


def agreed_direction(record: Any, words: Wording) -> str:
    """The direction of the mean intensity of a channel; :data:`CONTRADICTION` where its rank correlation has another.

    Ranks and means can point in opposite directions where a few patients are very bright. The effect size of classes
    has no sign to contradict.

    Args:
        record: a row of the ranking table.
        words: for the kind of outcome.
    """
    direction, rho = _written("direction", record["direction"]), record["mean_intensity_association"]
    end = direction.rsplit(" ", 1)[0]
    if not words.has_signed_effect or pd.isna(rho) or rho == 0 or direction == "–":
        return direction
    return direction if (end in UPPER_ENDS) == (rho > 0) else CONTRADICTION


def _heading(name: str, values: pd.Series, about: DescribedColumn | None, words: Wording) -> Heading:
    label = NAMES.get(name, name.replace("_", " "))
    if name == "mean_intensity_association":
        label = f"intensity {words.intensity_effect}"
    return Heading(
        name=name,
        label=label,
        title="" if about is None else f"{name} ({about.unit}): {about.meaning}".replace("`", ""),
        is_text=_is_text(values),
        is_shown=name in SHOWN,
        is_printed=name in PRINTED,
        interval=INTERVALS.get(name, ()),
        is_empty=not bool((values.notna() & (values.astype(str) != "")).any()),
    )


def _is_text(values: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))


def _cell(name: str, record: Any, words: Wording) -> Cell:
    value, small = record[name], ""
    if name in INTERVALS and not pd.isna(record[INTERVALS[name][0]]) and not (name == "position" and pd.isna(value)):
        small = "–".join(_written(end, record[end]) for end in INTERVALS[name])
    if name == "found_by" and record["excluded"]:
        small = "negative control"
    text = _direction(record, words) if name == "direction" else _written(name, value)
    return Cell(text, small, _raw(value))


def _direction(record: Any, words: Wording) -> str:
    """The direction, in brackets where the test of intensity does not find the channel."""
    text = agreed_direction(record, words)
    return text if text == "–" or record["found_by"] in ("intensity", "both") else f"({text})"


def _written(name: str, value: Any) -> str:
    """A value as it is read on the page."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if re.search(r"_[pq]$", name):
        return p_value(value)
    is_count = name.startswith("n_") or "position" in name or name == "group"
    if is_count and float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.3f}"


def _raw(value: Any) -> str:
    """A value as it stands in ranking.csv."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
