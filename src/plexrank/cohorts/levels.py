"""The outcome of every row of a samplesheet, as the study names its columns; all wrong cells are reported at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from plexrank.cohorts.spelling import reads_as_number
from plexrank.cohorts.tables import Table
from plexrank.errors import PlexrankError, StudyError
from plexrank.outcome.survival import survival_level
from plexrank.settings import CohortSettings
from plexrank.wording import counted

EVENT_WORDS = {"1": True, "0": False, "true": True, "false": False}
_LINES_SHOWN = 5


def read_levels(table: Table, settings: CohortSettings) -> tuple[list[str], list[PlexrankError]]:
    """The level of each row, empty where a cell that it rests on is, and what is wrong with the cells."""
    if settings.outcome == "survival":
        return _survival_levels(table, settings)
    column = settings.outcome_columns[0]
    levels = [row[column] for row in table.rows]
    if settings.outcome != "continuous":
        return levels, []
    return levels, _wrong(table, column, levels, reads_as_number, "is no number", "give a number, or empty the cell")


def _survival_levels(table: Table, settings: CohortSettings) -> tuple[list[str], list[PlexrankError]]:
    time_column, event_column = settings.outcome_columns
    times = [row[time_column] for row in table.rows]
    events = [row[event_column] for row in table.rows]
    meaning = {word.casefold(): bool(value) for word, value in settings.event_values.items()} or EVENT_WORDS
    problems = _wrong(
        table, time_column, times, _is_time, "is no time above 0", "give the time from the start of the follow-up"
    )
    problems += _wrong(
        table,
        event_column,
        events,
        lambda cell: _event_word(cell) in meaning,
        f"is neither an event nor censored (known: {', '.join(settings.event_values or ('1', '0'))})",
        "write 1 for the event and 0 for censored patients, or say in cohort.event_values what the words mean; count a "
        "competing event as censored, and say so",
    )
    if problems:
        return [""] * len(times), problems
    return [
        survival_level(time, meaning[_event_word(event)]) if time and event else ""
        for time, event in zip(times, events, strict=True)
    ], []


def _event_word(cell: str) -> str:
    """A cell as it is looked up: ``1.0`` of a spreadsheet is 1."""
    number = float(cell) if reads_as_number(cell) else None
    return str(int(number)) if number is not None and number.is_integer() else cell.casefold()


def _is_time(cell: str) -> bool:
    return reads_as_number(cell) and math.isfinite(float(cell)) and float(cell) > 0


def _wrong(
    table: Table, column: str, cells: Sequence[str], is_right: Callable[[str], bool], why: str, remedy: str
) -> list[PlexrankError]:
    """One error for all cells of a column that are filled and wrong."""
    found = [(line, cell) for line, cell in zip(table.line_numbers, cells, strict=True) if cell and not is_right(cell)]
    if not found:
        return []
    lines = ", ".join(str(line) for line, _ in found[:_LINES_SHOWN]) + (", …" if len(found) > _LINES_SHOWN else "")
    return [
        StudyError(
            f"{table.path}: column {column!r}: {found[0][1]!r} {why}, in {counted(len(found), 'row')} (lines {lines}); "
            f"{remedy}"
        )
    ]
