"""The page of a comparison of runs: a template filled with its tables, pictures drawn by the template itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from plexrank.report.wording import p_value
from plexrank.wording import counted

TEMPLATES = Path(__file__).with_name("templates")
SIDE = 300
"""Of a picture's square, in its own units."""


@dataclass(frozen=True)
class Point:
    """A channel in the picture of two runs; ``is_named`` where it is found in both or replicated."""

    channel: str
    x: float
    y: float
    first: int
    second: int
    is_named: bool


def render_comparison(content: Mapping[str, Any]) -> str:
    """One HTML page that needs no other file and no network; all text from the studies is escaped.

    Args:
        content: ``Comparison.to_dict()``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["q"] = p_value
    environment.filters["counted"] = counted
    environment.filters["rho"] = _rho
    return environment.get_template("compare.html").render(
        content=content,
        number={run["name"]: place for place, run in enumerate(content["runs"], start=1)},
        pictures=[(pair, _points(pair, content)) for pair in content["pairs"]],
        side=SIDE,
    )


def _points(pair: Mapping[str, Any], content: Mapping[str, Any]) -> Sequence[Point]:
    """Positions of the channels that two runs share, the first at the top right."""
    named = {one["channel"] for one in pair["found_in_both"]} | set(content["replicated"])
    columns = [f"position_{pair[run]}" for run in ("first", "second")]
    rows = [row for row in content["channels"] if all(row[column] is not None for column in columns)]
    last = [max((row[column] for row in rows), default=1) for column in columns]

    def place(position: int, most: int) -> float:
        return round((position - 0.5) / most * SIDE, 1)

    return [
        Point(
            channel=row["channel"],
            x=SIDE - place(row[columns[0]], last[0]),
            y=place(row[columns[1]], last[1]),
            first=row[columns[0]],
            second=row[columns[1]],
            is_named=row["channel"] in named,
        )
        for row in rows
    ]


def _rho(agreement: Mapping[str, float | None] | None) -> str:
    if agreement is None or agreement["value"] is None:
        return "–"
    if agreement["low"] is None:
        return f"{agreement['value']:.2f}"
    return f"{agreement['value']:.2f} ({agreement['low']:.2f} to {agreement['high']:.2f})"
