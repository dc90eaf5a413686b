"""What a table says of the patients' outcome, for a drafted study: its kind, its columns, and what was assumed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from plexrank.cohorts.event_words import EVENT_WORDS, event_word, recognise_events, written_values
from plexrank.cohorts.folds import no_folds_help, patients_of_groups
from plexrank.cohorts.levels import as_number
from plexrank.cohorts.outcomes import patients_of, why_measured
from plexrank.cohorts.spelling import reads_as_number, reads_missing
from plexrank.outcome import Kind, Outcome, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.wording import counted

_SHOWN = 5
_TIME_WORDS = frozenset(("time", "times", "month", "months", "day", "days", "years", "followup", "follow", "survival"))
_EVENT_WORDS = frozenset(
    (
        *("event", "status", "dead", "death", "died", "deceased", "vital", "censored"),
        *("recurrence", "recurred", "relapse", "relapsed", "progression", "progressed"),
    )
)
_NO_FOLLOW_UP = frozenset(("age", "birth", "born", "diagnosis"))
"""Words of a column's name that make no follow-up of its years or days."""

Rows = Mapping[str, Mapping[str, str]]
"""image_id → the cells of its row by column, words for missing values emptied."""


@dataclass(frozen=True)
class DraftedOutcome:
    """An outcome as a draft takes it.

    Attributes:
        kind: as ``cohort.outcome``.
        columns: of the label, or of time and event.
        members: (level, patient) of the images that have one.
        event_values: of survival what the words mean, where 1 and 0 do not say it.
        assumed: of survival the words taken for the event and for censored, each as it is spelled.
        unknown_words: of survival those of the column of events, where one of them is not known.
    """

    kind: Kind
    columns: tuple[str, ...]
    members: tuple[tuple[str, str], ...]
    event_values: Mapping[str, bool] = field(default_factory=dict)
    assumed: Mapping[str, bool] = field(default_factory=dict)
    unknown_words: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What it is."""
        return make_outcome(self.kind, [level for level, _ in sorted(set(self.members))])

    def notes(self, *, has_folds: bool) -> list[tuple[str, str]]:
        """(topic, sentence) of what was found and assumed.

        Args:
            has_folds: whether there are patients enough for two folds.
        """
        outcome = self.outcome
        lacking = "" if has_folds or self.unknown_words else f"; {no_folds_help(outcome)}"
        if self.kind == "nominal":
            found = sorted(patients_of(self.members).items())
            shown = [f"{name} ({counted(number, 'patient')})" for name, number in found[:_SHOWN]]
            more = f", … ({len(found)} in all)" if len(found) > _SHOWN else ""
            return [("classes", f"of column {self.columns[0]!r}: {', '.join(shown)}{more}{lacking}")]
        named = " and ".join(map(repr, self.columns))
        described = outcome.describe([level for level, _ in sorted(set(self.members))])
        notes = [("outcome", f"{self.kind}, by {named}: {described}{lacking}")]
        if self.unknown_words:
            return [("outcome", f"{self.kind}, by {named}; {_listed(self.unknown_words)} are not known for events")]
        if self.kind == "survival":
            seen, censored = ([word for word, is_seen in self.assumed.items() if is_seen is of] for of in (True, False))
            what = f"{_listed(seen)} is the event" if seen else "there is no event"
            notes.append(("outcome", f"assumed: {what}{f', {_listed(censored)} is censored' if censored else ''}"))
        problems, _ = outcome.shortcomings(patients_of_groups(self.members, outcome))
        return [*notes, *(("outcome", problem) for problem in problems)]

    def lines(self) -> list[str]:
        """Lines of the section ``cohort`` of a study file."""
        names = [json.dumps(column, ensure_ascii=False) for column in self.columns]
        if self.kind == "survival":
            lines = ["outcome: survival", f"time: {names[0]}", f"event: {names[1]}"]
            if self.unknown_words:
                open_words = json.dumps(dict.fromkeys(self.unknown_words), ensure_ascii=False).replace("null", "0 or 1")
                return [*lines, f"event_values: {{}}               # {open_words}: 1 for the event"]
            return [*lines, *([f"event_values: {written_values(self.event_values)}"] if self.event_values else [])]
        if self.kind == "continuous":
            return [f"label: {names[0]}", "outcome: continuous            # a number; without this line, classes"]
        levels = sorted({level for level, _ in self.members})
        lines = [f"label: {names[0]}"]
        if len(levels) > 2 and all(map(reads_as_number, levels)):
            grades = " < ".join(sorted(levels, key=float)[:_SHOWN])
            lines.append(f"# outcome: ordinal             # if these are grades in order: {grades}")
        return lines


def draft_label(column: str, rows: Rows, patient: str | None) -> DraftedOutcome:
    """A column with an outcome in one number or word."""
    members = members_of(rows, column, patient)
    if why_measured(patients_of(members)) is None:
        return DraftedOutcome("nominal", (column,), tuple(members))
    numbers = [(as_number(own), own_patient) for own, own_patient in members]
    known = tuple((number, own_patient) for number, own_patient in numbers if number is not None)
    return DraftedOutcome("continuous", (column,), known)


def draft_survival(time: str, event: str, rows: Rows, patient: str | None) -> DraftedOutcome:
    """Columns of times and of events."""
    words = sorted({row[event] for row in rows.values() if row[event]})
    meaning = recognise_events(words)
    if meaning is None:
        return DraftedOutcome("survival", (time, event), (), unknown_words=tuple(words))
    members = [
        (survival_level(as_number(row[time]) or "", meaning[row[event]]), _patient_of(row, image_id, patient))
        for image_id, row in rows.items()
        if row[event] and as_number(row[time]) is not None and float(row[time]) > 0
    ]
    is_known = all(event_word(word) in EVENT_WORDS for word in words)
    return DraftedOutcome("survival", (time, event), tuple(members), {} if is_known else meaning, meaning)


def members_of(rows: Rows, column: str, patient: str | None) -> list[tuple[str, str]]:
    """(label, patient) of the images that have a label in a column; those without a patient stand for themselves."""
    return [
        (row[column], _patient_of(row, image_id, patient))
        for image_id, row in rows.items()
        if row.get(column) and not reads_missing(row[column])
    ]


def survival_pairs(columns: Iterable[str], rows: Rows) -> list[tuple[str, str]]:
    """Columns of times and of events that look as if they belonged together, by their names and cells."""
    cells = {column: [row[column] for row in rows.values() if not reads_missing(row[column])] for column in columns}
    filled = {column: [cell for cell in own if cell] for column, own in cells.items()}
    times = [column for column, own in filled.items() if _look_like_times(column, own)]
    events = [column for column, own in filled.items() if _look_like_events(column, own)]
    pairs = []
    for event in events:
        related = [time for time in times if _words_of(time) & _words_of(event)]
        fitting = related or (times if len(events) == 1 else [])
        pairs += [(fitting[0], event)] if len(fitting) == 1 else []
    return pairs


def _look_like_times(column: str, cells: Sequence[str]) -> bool:
    words = _words_of(column)
    if not words & _TIME_WORDS or words & _NO_FOLLOW_UP:
        return False
    return len(set(cells)) > 2 and all(reads_as_number(cell) and float(cell) >= 0 for cell in cells)


def _look_like_events(column: str, cells: Sequence[str]) -> bool:
    meaning = recognise_events(cells)
    return bool(_words_of(column) & _EVENT_WORDS) and meaning is not None and len(set(meaning.values())) == 2


def _words_of(column: str) -> set[str]:
    return set(re.findall("[a-z]+", column.lower()))


def _patient_of(row: Mapping[str, str], image_id: str, patient: str | None) -> str:
    return image_id if patient is None or reads_missing(row[patient]) else row[patient]


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:_SHOWN])) + (", …" if len(words) > _SHOWN else "")
