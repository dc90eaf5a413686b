"""Joins a table of labels, such as clinical data, to the images of a drafted study."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from plexrank.cohorts.outcomes import patients_of, why_measured
from plexrank.cohorts.samplesheet import COLUMN_ALIASES
from plexrank.cohorts.spelling import fold_spelling, reads_as_number, reads_missing
from plexrank.cohorts.tables import Table, read_table
from plexrank.errors import StudyError
from plexrank.images.find import FoundImage
from plexrank.planning.draft_outcome import (
    DraftedOutcome,
    Rows,
    draft_label,
    draft_survival,
    members_of,
    survival_pairs,
)
from plexrank.wording import counted, did_you_mean

SAMPLESHEET = "samplesheet.csv"
_NO_LABELS = frozenset({"image_id", "path", "patient_id", "site", "split", "mask", "panel", *COLUMN_ALIASES})
_PATIENTS = frozenset({"patient_id", *(alias for alias, name in COLUMN_ALIASES.items() if name == "patient_id")})
_ENDINGS = re.compile(r"(\.ome)?\.(tiff?|btf|tf8|qptiff|mcd|zarr|txt)$", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class TableColumns:
    """What columns of a table mean, as far as the user says: images, label or time and event, patient, site."""

    by: str | None = None
    label: str | None = None
    patient: str | None = None
    site: str | None = None
    time: str | None = None
    event: str | None = None

    def options(self) -> dict[str, str]:
        """Those that are given, by their option."""
        return {f"--{name}": column for name, column in asdict(self).items() if column is not None}

    def require_one_outcome(self) -> None:
        """Refuse a time without an event, and a label beside them.

        Raises:
            StudyError: so it is.
        """
        if (self.time is None) != (self.event is None):
            given, other = ("--time", "--event") if self.event is None else ("--event", "--time")
            raise StudyError(f"{given} {self.time or self.event}: survival takes two columns; give {other} COLUMN too")
        if self.label is not None and self.time is not None:
            raise StudyError(f"--label {self.label}: --time and --event are another outcome; give one of them")


NO_COLUMNS = TableColumns()


@dataclass(frozen=True)
class JoinedLabels:
    """What a table says of the images.

    Attributes:
        outcome: what is to be explained, ``None`` where the table leaves it open.
        candidates: columns that may be the label.
        patient: the column of the samplesheet that names patients, if any.
        columns: those of the table that the samplesheet takes over, by their own names.
        rows: of every image the cells of ``columns``, ``None`` where the table has no row for it.
        notes: (topic, sentence) of what was joined and what was not.
    """

    outcome: DraftedOutcome | None
    candidates: tuple[str, ...]
    patient: str | None
    columns: tuple[str, ...]
    rows: tuple[dict[str, str] | None, ...]
    notes: tuple[tuple[str, str], ...]


def find_samplesheet(root: Path) -> Path | None:
    """A samplesheet in the folder of the images, or beside it."""
    return next((folder / SAMPLESHEET for folder in (root, root.parent) if (folder / SAMPLESHEET).is_file()), None)


def join_labels(
    path: Path, given: TableColumns, root: Path, images: Sequence[FoundImage], ids: Sequence[str]
) -> JoinedLabels:
    """Find the row of every image.

    A cell of the column of images names one by its id, its path or its file name with or without ending; or else, as a
    whole word, by what its file or folders are called, as a patient names all of its images.

    Args:
        path: the table.
        given: what its columns mean. By default image_id or path names the images, and the only column that may be the
            label is it.
        root: where the paths of the images start.
        images: those of the study.
        ids: what the study calls each.

    Raises:
        MissingInputError, StudyError: the table cannot be read, lacks a column, has several rows for an image, or has
            none for any image.
    """
    given.require_one_outcome()
    table = read_table(path)
    by = _column_of_images(table, given)
    index = _Index(table, by)
    found = [index.row_of(*_names(root, image, image_id)) for image, image_id in zip(images, ids, strict=True)]
    notes = _report(table, by, found, ids)
    sources = {column: column for column in table.columns if column not in ("image_id", "path", "mask", "panel")}
    for name, column in (("patient_id", given.patient), ("site", given.site)):
        if column is not None and sources.get(name, column) != column:
            notes.append(("columns", f"{column!r} takes the place of {name!r}"))
        sources |= {} if column is None else {name: column}
    repeats = any(number > 1 for row, number in Counter(found).items() if row is not None)
    if repeats and not _PATIENTS & sources.keys():
        sources["patient_id"] = by
    rows = [
        None if number is None else {name: table.rows[number][column] for name, column in sources.items()}
        for number in found
    ]
    joined = {image_id: row for image_id, row in zip(ids, rows, strict=True) if row is not None}
    patient = _column_of_patients(sources, joined.values())
    labels = [column for column in sources if column not in _NO_LABELS | {by, given.patient, given.site}]
    candidates = [] if given.time else _candidates(labels, joined, patient)
    chosen = given.label or ("label" if "label" in candidates else candidates[0] if len(candidates) == 1 else None)
    if not given.time:
        notes += _other_outcomes(labels, joined, patient, given.label)
    used = [column for column in (chosen, given.time, given.event, "site", "split") if column is not None]
    notes += _empty_missing(rows, [column for column in used if column in sources])
    outcome = None
    if given.time is not None and given.event is not None:
        outcome = draft_survival(given.time, given.event, joined, patient)
    elif chosen is not None:
        outcome = draft_label(chosen, joined, patient)
    num_classes = len({level for level, _ in outcome.members}) if outcome and outcome.kind == "nominal" else 0
    notes += _describe_roles(
        list(joined.values()), sources, patient, num_classes, outcome.columns if outcome is not None else ()
    )
    return JoinedLabels(outcome, tuple(candidates), patient, tuple(sources), tuple(rows), tuple(notes))


def _candidates(labels: Sequence[str], joined: Rows, patient: str | None) -> list[str]:
    """Columns that may be the label: those that have groups."""
    members = {column: members_of(joined, column, patient) for column in labels}
    return [column for column, own in members.items() if own and why_measured(patients_of(own)) is None]


def _other_outcomes(
    labels: Sequence[str], joined: Rows, patient: str | None, label: str | None
) -> list[tuple[str, str]]:
    """Columns that hold an outcome of another kind than classes, and how to take it."""
    notes = []
    measured = [one for one in labels if why_measured(patients_of(members_of(joined, one, patient))) is not None]
    if label is None and measured:
        shown = ", ".join(map(repr, measured))
        sentence = f"columns of measurements, which make no groups: {shown}; to explain such numbers, give --label"
        notes.append(("labels", sentence))
    for time, event in survival_pairs(labels, joined):
        given = f"--time {shlex.quote(time)} --event {shlex.quote(event)}"
        notes.append(("labels", f"{time!r} and {event!r} look like times to an event; to explain these, give {given}"))
    return notes


def _column_of_images(table: Table, given: TableColumns) -> str:
    for option, column in given.options().items():
        if column not in table.columns:
            close = did_you_mean(column, table.columns)
            raise StudyError(f"{table.path}: {option} {column}: no column has that name{close}")
    names = ("image_id", "sample_id", "slide_id", "path")
    by = given.by or next((one for one in names if one in table.columns), None)
    if by is None:
        raise StudyError(f"{table.path}: give the column that names the images, by --by: {', '.join(table.columns)}")
    return by


def _column_of_patients(columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> str | None:
    """That which the samplesheet takes for the patients: ``patient_id`` before an alias, unless it is empty."""
    filled = {column for row in rows for column, cell in row.items() if cell}
    return next((one for one in ("patient_id", *columns) if one in _PATIENTS & filled), None)


def _describe_roles(
    rows: Sequence[Mapping[str, str]],
    sources: Mapping[str, str],
    patient: str | None,
    num_classes: int,
    outcome: Sequence[str],
) -> list[tuple[str, str]]:
    """What is taken for patients and sites, and which column may be that of the patients where none is."""
    notes = []
    if patient is not None:
        named = [row[patient] for row in rows if not reads_missing(row[patient])]
        number = counted(len(set(named)), "patient")
        notes.append(("patients", f"{number} for {counted(len(named), 'image')}, by column {sources[patient]!r}"))
        if len(named) < len(rows):
            without = counted(len(rows) - len(named), "image", "has")
            notes.append(("patients", f"{without} none: fill in {patient} in the samplesheet, or empty the label"))
    else:
        notes.append(("patients", "no column names them: each image counts as a patient"))
        values = {
            column: {row[column] for row in rows}
            for column in sources
            if column not in {*_NO_LABELS, *outcome, sources.get("site")} and all(row[column] for row in rows)
        }
        values = {
            column: own
            for column, own in values.items()
            if max(2, num_classes) < len(own) < len(rows) / (1 + all(map(reads_as_number, own)))
            and len({(row[column], *(row[one] for one in outcome)) for row in rows}) == len(own)
        }
        if values:
            column = max(values, key=lambda one: len(values[one]))
            sentence = f"column {column!r} has {len(values[column])} values for {counted(len(rows), 'image')}"
            notes.append(("patients", f"{sentence}; if it names patients, give --patient {shlex.quote(column)}"))
    sites = {row["site"] for row in rows if row.get("site")}
    if sites:
        number = counted(len(sites), "site")
        notes.append(("sites", f"{number}, by column {sources['site']!r}: patients are compared within each"))
    return notes


def _names(root: Path, image: FoundImage, image_id: str) -> tuple[list[str], str]:
    """What names an image, and the text whose words may."""
    relative = image.path.relative_to(root).as_posix()
    name = PurePosixPath(relative).name
    names = [image_id, image.name, *image.other_names, relative, name, _ENDINGS.sub("", name)]
    return [*dict.fromkeys(names)], _ENDINGS.sub("", relative)


class _Index:
    """The rows of a table by what they call images."""

    def __init__(self, table: Table, by: str) -> None:
        self._table, self._by = table, by
        self._cells = [row[by] for row in table.rows]
        self._called: dict[str, list[int]] = {}
        self._spelled: dict[str, list[int]] = {}
        for number, cell in enumerate(self._cells):
            for name in {cell, PurePosixPath(cell).name} - {""}:
                self._called.setdefault(name, []).append(number)
            if cell:
                self._spelled.setdefault(fold_spelling(cell), []).append(number)

    def row_of(self, names: Sequence[str], words: str) -> int | None:
        """Number of the one row that names an image: exactly, else in another spelling, else as a word."""
        way = _together(self._called.get(name, []) for name in names)
        way = way or _together(self._spelled.get(name, []) for name in {fold_spelling(name) for name in names})
        way = way or [number for number, cell in enumerate(self._cells) if cell and _is_word(cell, words)]
        if len(self._contents(way)) > 1:
            longest = max(len(self._cells[number]) for number in way)
            way = [number for number in way if len(self._cells[number]) == longest]
        if len(self._contents(way)) > 1:
            lines = ", ".join(str(self._table.line_numbers[number]) for number in way[:_SHOWN])
            raise StudyError(
                f"{self._table.path}: column {self._by!r}: lines {lines} all name the image {names[0]} and differ; "
                "leave one of them, or give another column by --by"
            )
        return way[0] if way else None

    def _contents(self, numbers: Sequence[int]) -> set[tuple[tuple[str, str], ...]]:
        return {tuple(self._table.rows[number].items()) for number in numbers}


def _together(numbers: Iterable[Sequence[int]]) -> list[int]:
    return sorted({number for part in numbers for number in part})


def _is_word(cell: str, text: str) -> bool:
    return cell in text and re.search(rf"(?<![A-Za-z0-9]){re.escape(cell)}(?![A-Za-z0-9])", text) is not None


def _report(table: Table, by: str, found: Sequence[int | None], ids: Sequence[str]) -> list[tuple[str, str]]:
    without = [own for own, index in zip(ids, found, strict=True) if index is None]
    used = set(found)
    unused = [row[by] for number, row in enumerate(table.rows) if number not in used]
    if len(without) == len(ids):
        raise StudyError(
            f"{table.path}: column {by!r} names no image: it has {_some([row[by] for row in table.rows])}; the images "
            f"are {_some(ids)}. Give another column by --by"
        )
    notes = [
        ("labels", f"{counted(len(ids) - len(without), 'image', 'has', of=len(ids))} a row in {table.path}, by {by}")
    ]
    if without:
        notes.append(("labels", f"{counted(len(without), 'image', 'is')} left out, without a row: {_some(without)}"))
    if unused:
        notes.append(("labels", f"{counted(len(unused), 'row', 'names')} no image: {_some(unused)}"))
    return notes


def _empty_missing(rows: Sequence[dict[str, str] | None], columns: Sequence[str]) -> list[tuple[str, str]]:
    """Empty cells that say that they are unknown, and count them."""
    notes = []
    for column in columns:
        has_signs = any(row is not None and row[column] == "+" for row in rows)
        words: dict[str, int] = {}
        for row in rows:
            if row is not None and reads_missing(row[column]) and not (has_signs and row[column] == "-"):
                words[row[column]] = words.get(row[column], 0) + 1
                row[column] = ""
        notes += [
            ("labels", f"{word!r} in column {column!r} ({counted(n, 'image')}) is left empty")
            for word, n in words.items()
        ]
    return notes


def _some(values: Sequence[str]) -> str:
    return ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
