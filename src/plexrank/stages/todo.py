"""What is left to do of a stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from plexrank.planning.plan import TILE_TABLE
from plexrank.progress import Reporter
from plexrank.rundir import Unit, clear_leftovers

_SHOWN = 3


def units_to_do(stage: str, units: Sequence[Unit], reporter: Reporter) -> set[Path]:
    """Records of the units of a stage that are not done, cleared of what a killed attempt left.

    Reports how many are done, and why the others are not.
    """
    reasons = {unit.record: reason for unit in units if (reason := unit.why_not_done()) is not None}
    done = len(units) - len(reasons)
    if not reasons:
        report_all_done(stage, len(units), reporter)
    elif done:
        reporter.say(f"{stage}: {done} of {len(units)} done already")
    if reasons:
        reporter.detail(f"{stage}: to do: {', '.join(unit.name for unit in units if unit.record in reasons)}")
    for reason in sorted(set(reasons.values()) - {"not done yet"}):
        reporter.say(f"{stage}: again, {reason}")
    clear_leftovers(path for unit in units if unit.record in reasons for path in (unit.record, *unit.outputs))
    return set(reasons)


def report_all_done(stage: str, number: int, reporter: Reporter) -> None:
    """That nothing is left to do of a stage."""
    reporter.say(f"{stage}: all {number} done already" if number > 1 else f"{stage}: done already")


def lines_to_do(units: Iterable[Unit]) -> list[str]:
    """For a person: the units of a stage by what is to do with them and why, those that are done first."""
    names: dict[str, list[str]] = {"done": []}
    for unit in units:
        names.setdefault(unit.why_not_done() or "done", []).append(unit.name)
    return [f"{_listed(own)}: {reason}" for reason, own in names.items() if own]


def _listed(names: Sequence[str]) -> str:
    """The first names and how many there are; the table of tiles stands apart, since it is no image."""
    alike = [name for name in names if name != TILE_TABLE]
    more = f", … ({len(alike)} in all)" if len(alike) > _SHOWN else ""
    return ", ".join([", ".join(alike[:_SHOWN]) + more] * bool(alike) + [TILE_TABLE] * (TILE_TABLE in names))
