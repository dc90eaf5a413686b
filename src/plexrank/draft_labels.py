"""Joins a table of labels, such as clinical data, to the images of a drafted study."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from plexrank.cohort import why_measured
from plexrank.errors import StudyError
from plexrank.images.find import FoundImage
from plexrank.samplesheet import COLUMN_ALIASES
from plexrank.spelling import fold_spelling, reads_as_number, reads_missing
from plexrank.tables import Table, did_you_mean, read_table
from plexrank.wording import counted

SAMPLESHEET = "samplesheet.csv"
_NO_LABELS = frozenset({"image_id", "path", "patient_id", "site", "split", "mask", "panel", *COLUMN_ALIASES})
_PATIENTS = frozenset({"patient_id", *(alias for alias, name in COLUMN_ALIASES.items() if name == "patient_id")})
_ENDINGS = re.compile(r"(\.ome)?\.(tiff?|btf|tf8|qptiff|mcd|zarr|txt)$", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class TableColumns:
    """What columns of a table mean, as far as the user says: the images, the label, the patient, the site."""

    by: str | None = None
    label: str | None = None
    patient: str | None = None
    site: str | None = None

    def options(self) -> dict[str, str]:
        """Those that are given, by their option."""
        given = {"--by": self.by, "--label": self.label, "--patient": self.patient, "--site": self.site}
        return {option: column for option, column in given.items() if column is not None}


NO_COLUMNS = TableColumns()


@dataclass(frozen=True)
class JoinedLabels:
    """What a table says of the images.

    Attributes:
        label: the column to separate, ``None`` where the table leaves it open.
        candidates: columns that may be the label.
        patient: the column of the samplesheet that names patients, if any.
        columns: those of the table that the samplesheet takes over, by their own names.
        rows: of every image the cells of ``columns``, ``None`` where the table has no row for it.
        members: (label, patient) of the labelled images.
        notes: (topic, sentence) of what was joined and what was not.
    """

    label: str | None
    candidates: tuple[str, ...]
    patient: str | None
    columns: tuple[str, ...]
    rows: tuple[dict[str, str] | None, ...]
    members: tuple[tuple[str, str], ...]
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
            none for any image; or the label is no set of groups.
    """
    table = read_table(path)
    for option, column in given.options().items():
        if column not in table.columns:
            raise StudyError(f"{path}: {option} {column}: no column has that name{did_you_mean(column, table.columns)}")
    names = ("image_id", "sample_id", "slide_id", "path")
    by = given.by or next((one for one in names if one in table.columns), None)
    if by is None:
        raise StudyError(f"{path}: give the column that names the images, by --by: {', '.join(table.columns)}")
    found = [_row_of(table, by, _names(root, image, own)) for image, own in zip(images, ids, strict=True)]
    notes = _report(table, by, found, ids)
    sources = {column: column for column in table.columns if column not in ("image_id", "path", "mask", "panel")}
    sources |= {name: one for name, one in (("patient_id", given.patient), ("site", given.site)) if one is not None}
    repeats = any(number > 1 for index, number in Counter(found).items() if index is not None)
    if repeats and not _PATIENTS & sources.keys():
        sources["patient_id"] = by
    rows = [
        None if index is None else {name: table.rows[index][column] for name, column in sources.items()}
        for index in found
    ]
    joined = [(own, row) for own, row in zip(ids, rows, strict=True) if row is not None]
    patients = [one for one in ("patient_id", *sources) if one in _PATIENTS & sources.keys()]
    patient = next((one for one in patients if any(row[one] for _, row in joined)), None)
    members = {
        column: [
            (row[column], row[patient] if patient else own)
            for own, row in joined
            if row[column] and not reads_missing(row[column])
        ]
        for column in sources
        if column not in _NO_LABELS | {by, given.patient, given.site}
    }
    measured = {column: why_measured(_patients_of(own)) for column, own in members.items()}
    if given.label is not None and measured.get(given.label):
        raise StudyError(f"{path}: column {given.label!r} {measured[given.label]}, in another column")
    if given.label is None and any(measured.values()):
        shown = ", ".join(repr(column) for column, why in measured.items() if why)
        notes.append(("labels", f"columns of measurements, which make no groups: {shown}"))
    candidates = [column for column, why in measured.items() if why is None and members[column]]
    chosen = given.label or ("label" if "label" in candidates else candidates[0] if len(candidates) == 1 else None)
    notes += _empty_missing(rows, [column for column in (chosen, "site", "split") if column in sources])
    of_label = [
        (row[chosen], row[patient] if patient else own) for own, row in joined if chosen in sources and row[chosen]
    ]
    notes += _describe_roles(joined, sources, patient, len(_patients_of(of_label)), chosen)
    return JoinedLabels(chosen, tuple(candidates), patient, tuple(sources), tuple(rows), tuple(of_label), tuple(notes))


def _patients_of(members: Sequence[tuple[str, str]]) -> Counter[str]:
    """Label → number of patients."""
    return Counter(label for label, _ in set(members))


def _describe_roles(
    joined: Sequence[tuple[str, dict[str, str]]],
    sources: Mapping[str, str],
    patient: str | None,
    num_classes: int,
    label: str | None,
) -> list[tuple[str, str]]:
    """What is taken for patients and sites, and which column may be that of the patients where none is."""
    rows, notes = [row for _, row in joined], []
    if patient is not None:
        number = counted(len({row[patient] for row in rows}), "patient")
        notes.append(("patients", f"{number} for {counted(len(rows), 'image')}, by column {sources[patient]!r}"))
    else:
        notes.append(("patients", "no column names them: each image counts as a patient"))
        values = {
            column: {row[column] for row in rows}
            for column in sources
            if column not in _NO_LABELS | {label, sources.get("site")} and all(row[column] for row in rows)
        }
        values = {
            column: own
            for column, own in values.items()
            if max(2, num_classes) < len(own) < len(rows) / (1 + all(map(reads_as_number, own)))
            and (label is None or len({(row[column], row[label]) for row in rows}) == len(own))
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


def _row_of(table: Table, by: str, named: tuple[list[str], str]) -> int | None:
    """Index of the one row that names an image: exactly, else in another spelling, else as a word."""
    names, words = named
    cells = [row[by] for row in table.rows]
    spelled = {fold_spelling(name) for name in names}
    ways: tuple[Callable[[str], bool], ...] = (
        lambda cell: cell in names or PurePosixPath(cell).name in names,
        lambda cell: bool(cell) and fold_spelling(cell) in spelled,
        lambda cell: bool(cell) and _is_word(cell, words),
    )
    for is_named in ways:
        way = [index for index, cell in enumerate(cells) if is_named(cell)]
        contents = {tuple(table.rows[index].items()) for index in way}
        if len(contents) > 1:
            longest = max(len(cells[index]) for index in way)
            way = [index for index in way if len(cells[index]) == longest]
            contents = {tuple(table.rows[index].items()) for index in way}
        if len(contents) > 1:
            lines = ", ".join(str(table.line_numbers[index]) for index in way[:_SHOWN])
            raise StudyError(
                f"{table.path}: column {by!r}: lines {lines} all name the image {names[0]} and differ; leave one of "
                "them, or give another column by --by"
            )
        if way:
            return way[0]
    return None


def _is_word(cell: str, text: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(cell)}(?![A-Za-z0-9])", text) is not None


def _report(table: Table, by: str, found: Sequence[int | None], ids: Sequence[str]) -> list[tuple[str, str]]:
    without = [own for own, index in zip(ids, found, strict=True) if index is None]
    unused = [row[by] for index, row in enumerate(table.rows) if index not in found]
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
