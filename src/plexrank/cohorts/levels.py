"""The outcome of every row of a samplesheet, as the study names its columns; all wrong cells are reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plexrank.cohorts.event_words import event_word, meanings, recognise_events, written_values
from plexrank.cohorts.spelling import reads_as_number, reads_like_a_date, reads_missing
from plexrank.cohorts.tables import Table
from plexrank.errors import PlexrankError, StudyError
from plexrank.outcome.survival import survival_level
from plexrank.settings import CohortSettings
from plexrank.wording import counted

_SHOWN = 5
_LARGEST = 1e30  # squares of larger numbers overflow
_DATE_IN_DIGITS = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|4\d{4}|(19|20)\d\d")
"""``20240131``, the days since 1900 of a spreadsheet, a year."""
Cells = Sequence[tuple[int, str]]
"""(line, cell) of rows."""


@dataclass(frozen=True)
class Levels:
    """The outcomes of a samplesheet.

    Attributes:
        of_rows: the level of each row, empty where a cell that it rests on is, ``None`` where one is wrong.
        problems: what is wrong, apart from words for missing values.
        notes: what is odd.
    """

    of_rows: Sequence[str | None]
    problems: Sequence[PlexrankError]
    notes: Sequence[str] = ()


def read_levels(table: Table, settings: CohortSettings) -> Levels:
    """The outcome of each row."""
    match settings.outcome:
        case "nominal":
            return Levels([row[settings.outcome_columns[0]] for row in table.rows], ())
        case "ordinal":
            return _grades(table, settings)
        case "continuous":
            levels = _numbers(table, settings)
        case "survival":
            levels = _times(table, settings)
    return replace(levels, problems=[*levels.problems, *_several(table, settings, levels.of_rows)])


def missing_words(settings: CohortSettings, column: str, cells: Sequence[str]) -> set[str]:
    """What says in a column that its value is unknown; not what the study names, nor - where + is there too."""
    words = {cell for cell in cells if reads_missing(cell)}
    if any(cell == "+" for cell in cells):
        words.discard("-")
    named = settings.order if column == settings.label else settings.event_values if column == settings.event else ()
    return words.difference(named)


def _grades(table: Table, settings: CohortSettings) -> Levels:
    column = settings.outcome_columns[0]
    cells, missing = _cells(table, settings, column)
    known = ("", *settings.order, *missing)
    unknown = [(line, cell) for line, cell in cells if settings.order and cell not in known]
    remedy = f"cohort.order has {', '.join(settings.order)}: correct the cells, or name these grades there too"
    problems = _wrong(table, column, unknown, "which is in no place of the order", remedy)
    wrong = missing.union(cell for _, cell in unknown)
    return Levels([None if cell in wrong else cell for _, cell in cells], problems)


def _numbers(table: Table, settings: CohortSettings) -> Levels:
    column = settings.outcome_columns[0]
    cells, missing = _cells(table, settings, column)
    filled = [(line, cell) for line, cell in cells if cell and cell not in missing]
    problems = _no_numbers(table, column, filled, "number", "give a number")
    return Levels([as_number(cell) if cell else "" for _, cell in cells], problems)


def _times(table: Table, settings: CohortSettings) -> Levels:
    time_column, event_column = settings.outcome_columns
    times, no_time = _cells(table, settings, time_column)
    events, no_event = _cells(table, settings, event_column)
    given_times = [(line, cell) for line, cell in times if cell and cell not in no_time]
    given_events = [(line, cell) for line, cell in events if cell and cell not in no_event]
    if _look_exchanged(given_times, given_events):
        problem = StudyError(
            f"{table.path}: column {time_column!r}, cohort.time, holds nothing but 0 and 1, and column "
            f"{event_column!r}, cohort.event, many numbers; exchange cohort.time and cohort.event"
        )
        return Levels([None] * len(times), [problem])
    meaning = meanings(settings.event_values)
    levels: list[str | None] = []
    for (_, time), (_, event) in zip(times, events, strict=True):
        is_event = None if event in no_event else meaning.get(event_word(event))
        if (time and not _is_time(time)) or (event and is_event is None):
            levels.append(None)
        else:
            levels.append(survival_level(as_number(time) or "", bool(is_event)) if time and event else "")
    problems = [
        *_wrong_times(table, time_column, given_times),
        *_unknown_events(table, settings, given_events, meaning),
    ]
    return Levels(levels, problems, _notes_on_times(table, settings, times, events))


def _wrong_times(table: Table, column: str, times: Cells) -> list[PlexrankError]:
    give = "give the time from the start of the follow-up to the event or the last visit"
    low = [(line, cell) for line, cell in times if as_number(cell) is not None and not _is_time(cell)]
    remedy = "correct it, give it in a finer unit, or empty the cell to leave the image out"
    return [
        *_no_numbers(table, column, times, "time", give),
        *_wrong(table, column, low, "which is no time above 0", remedy),
    ]


def _unknown_events(
    table: Table, settings: CohortSettings, events: Cells, meaning: Mapping[str, bool]
) -> list[PlexrankError]:
    unknown = [(line, cell) for line, cell in events if event_word(cell) not in meaning]
    known = ", ".join(settings.event_values or ("1", "0"))
    recognised = recognise_events(cell for _, cell in events)
    if recognised is not None:
        remedy = f"if this is what the words mean, set cohort.event_values: {written_values(recognised)}"
    else:
        remedy = (
            "write 1 for the event and 0 for censored patients, or say in cohort.event_values what the words mean; "
            "competing events are not analysed as such: count them as censored (0), and report that"
        )
    why = f"which is neither the event nor censored (known: {known})"
    return _wrong(table, settings.outcome_columns[1], unknown, why, remedy)


def _notes_on_times(table: Table, settings: CohortSettings, times: Cells, events: Cells) -> list[str]:
    time_column, event_column = settings.outcome_columns
    notes = []
    for what, other, half in (
        (time_column, event_column, [line for (line, a), (_, b) in zip(times, events, strict=True) if a and not b]),
        (event_column, time_column, [line for (line, b), (_, a) in zip(events, times, strict=True) if b and not a]),
    ):
        if half:
            notes.append(
                f"{table.path}: {counted(len(half), 'row', 'has')} a value in column {what!r} and none in column "
                f"{other!r} (lines {_listed(half)}); {counted(len(half), 'image', 'is')} left out for it"
            )
    filled = [cell for _, cell in times if _is_time(cell)]
    if len(filled) > 1 and all(_DATE_IN_DIGITS.fullmatch(as_number(cell) or "") for cell in filled):
        notes.append(
            f"{table.path}: column {time_column!r} holds numbers that look like dates ({', '.join(filled[:3])}, …); "
            "cohort.time takes the time from the start of the follow-up to the event or the last visit"
        )
    return notes


def _look_exchanged(times: Cells, events: Cells) -> bool:
    time_words, event_words = {event_word(cell) for _, cell in times}, {cell for _, cell in events}
    return bool(time_words) and time_words <= {"0", "1"} and len(event_words) > 2 and all(map(_is_time, event_words))


def _is_time(cell: str) -> bool:
    return as_number(cell) is not None and float(cell) > 0


def _several(table: Table, settings: CohortSettings, levels: Sequence[str | None]) -> list[PlexrankError]:
    """Patients with images of several outcomes, where each can have one only."""
    found: dict[str, dict[str, list[int]]] = {}
    for line, row, level in zip(table.line_numbers, table.rows, levels, strict=True):
        if level:
            found.setdefault(row.get("patient_id") or row["image_id"], {}).setdefault(level, []).append(line)
    several = {patient: own for patient, own in found.items() if len(own) > 1}
    if not several:
        return []
    shown = [
        f"{patient} ({'; '.join(f'{level} on line {_listed(lines)}' for level, lines in own.items())})"
        for patient, own in several.items()
    ]
    what = "times or events" if settings.outcome == "survival" else "values"
    more = ", …" if len(shown) > _SHOWN else ""
    return [
        StudyError(
            f"{settings.where}: {counted(len(several), 'patient', 'has')} images of several {what}: "
            f"{', '.join(shown[:_SHOWN])}{more}; give all images of a patient the same"
        )
    ]


def as_number(cell: str) -> str | None:
    """A number in one spelling, whichever of ``1``, ``1.0`` and ``01`` it has; ``None`` where it is none."""
    if not reads_as_number(cell) or abs(float(cell)) > _LARGEST:
        return None
    return repr(float(cell) + 0.0).removesuffix(".0")  # −0 is 0


def _no_numbers(table: Table, column: str, filled: Cells, what: str, give: str) -> list[PlexrankError]:
    """One error for the dates in a column, and one for all else that is no number."""
    wrong = [(line, cell) for line, cell in filled if as_number(cell) is None]
    dates = [(line, cell) for line, cell in wrong if reads_like_a_date(cell)]
    others = [(line, cell) for line, cell in wrong if not reads_like_a_date(cell)]
    is_large = all(reads_as_number(cell) for _, cell in others)
    point = ", with a point for the decimals," if any("," in cell for _, cell in others) else ""
    why = "which is too large to compute with" if is_large else "which is no number"
    return [
        *_wrong(table, column, dates, f"which is a date and no {what}", f"{give}, as a number, or empty the cell"),
        *_wrong(table, column, others, why, f"{give}{point} or empty the cell to leave the image out"),
    ]


def _wrong(table: Table, column: str, found: Cells, why: str, remedy: str) -> list[PlexrankError]:
    """One error for all cells of a column that are wrong for one reason."""
    if not found:
        return []
    different = [*dict.fromkeys(repr(cell) for _, cell in found)]
    words = ", ".join(different[:_SHOWN]) + (", …" if len(different) > _SHOWN else "")
    rows = f"{counted(len(found), 'row')} (lines {_listed([line for line, _ in found])})"
    return [StudyError(f"{table.path}: column {column!r} holds {words} in {rows}, {why}; {remedy}")]


def _cells(table: Table, settings: CohortSettings, column: str) -> tuple[list[tuple[int, str]], set[str]]:
    """Every cell of a column with its line, and the words among them for missing values."""
    cells = [row[column] for row in table.rows]
    return [*zip(table.line_numbers, cells, strict=True)], missing_words(settings, column, cells)


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:_SHOWN])) + (", …" if len(lines) > _SHOWN else "")
