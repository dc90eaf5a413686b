"""Joins a table of labels, such as clinical data, to the images of a drafted study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from plexrank.errors import StudyError
from plexrank.images.find import FoundImage
from plexrank.samplesheet import COLUMN_ALIASES
from plexrank.spelling import fold_spelling, reads_missing
from plexrank.tables import Table, did_you_mean, read_table

SAMPLESHEET = "samplesheet.csv"
_NO_LABELS = frozenset({"image_id", "path", "patient_id", "site", "split", "mask", "panel", *COLUMN_ALIASES})
_ENDINGS = re.compile(r"(\.ome)?\.(tiff?|btf|tf8|qptiff|mcd|zarr|txt)$", re.IGNORECASE)
_SHOWN = 5


@dataclass(frozen=True)
class JoinedLabels:
    """What a table says of the images.

    Attributes:
        label: the column to separate, ``None`` where the table leaves it open.
        columns: those of the table that the samplesheet takes over, by their own names.
        rows: of every image the cells of ``columns``, ``None`` where the table has no row for it.
        notes: (topic, sentence) of what was joined and what was not.
    """

    label: str | None
    columns: tuple[str, ...]
    rows: tuple[dict[str, str] | None, ...]
    notes: tuple[tuple[str, str], ...]


def find_samplesheet(root: Path) -> Path | None:
    """A samplesheet in the folder of the images, or beside it."""
    return next((folder / SAMPLESHEET for folder in (root, root.parent) if (folder / SAMPLESHEET).is_file()), None)


def join_labels(
    path: Path, by: str | None, label: str | None, root: Path, images: Sequence[FoundImage], ids: Sequence[str]
) -> JoinedLabels:
    """Find the row of every image.

    A cell of ``by`` names an image by its id, its path or its file name with or without ending; or else, as a whole
    word, by what its file or folders are called, as a patient names all of its images.

    Args:
        path: the table.
        by: its column that names the images; image_id or path if absent.
        label: the column to separate; the only one that may be it if absent.
        root: where the paths of the images start.
        images: those of the study.
        ids: what the study calls each.

    Raises:
        MissingInputError, StudyError: the table cannot be read, lacks a column, has several rows for an image, or has
            none for any image.
    """
    table = read_table(path)
    by = by or next((one for one in ("image_id", "sample_id", "slide_id", "path") if one in table.columns), None)
    for column, option in ((by, "--by"), (label, "--label")):
        if column is None and option == "--by":
            raise StudyError(f"{path}: give the column that names the images, by --by: {', '.join(table.columns)}")
        if column is not None and column not in table.columns:
            raise StudyError(f"{path}: {option} {column}: no column has that name{did_you_mean(column, table.columns)}")
    assert by is not None
    found = [_row_of(table, by, _names(root, image, own)) for image, own in zip(images, ids, strict=True)]
    notes = _report(table, by, found, ids)
    candidates = [column for column in table.columns if column not in _NO_LABELS | {by}]
    chosen = label or ("label" if "label" in candidates else candidates[0] if len(candidates) == 1 else None)
    if chosen is None:
        notes.append(("labels", f"give the column to separate by --label: {', '.join(candidates) or 'there is none'}"))
    columns = tuple(column for column in table.columns if column not in ("image_id", "path", "mask", "panel"))
    rows = [None if index is None else {column: table.rows[index][column] for column in columns} for index in found]
    shared = [index for index in found if index is not None and found.count(index) > 1]
    if shared and not {"patient_id", "patient", "case_id"} & set(columns):
        columns = (*columns, "patient_id")
        rows = [
            row and {**row, "patient_id": "" if index is None else table.rows[index][by]}
            for row, index in zip(rows, found, strict=True)
        ]
        notes.append(("patients", f"column {by!r} names several images by one value, which is taken for the patient"))
    notes += _empty_missing(rows, [column for column in (chosen, "site", "split") if column in columns])
    return JoinedLabels(chosen, columns, tuple(rows), tuple(notes))


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
    ways = (
        [index for index, cell in enumerate(cells) if cell in names or PurePosixPath(cell).name in names],
        [index for index, cell in enumerate(cells) if cell and fold_spelling(cell) in spelled],
        [index for index, cell in enumerate(cells) if cell and _is_word(cell, words)],
    )
    for way in ways:
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
    notes = [("labels", f"{len(ids) - len(without)} of {len(ids)} images have a row in {table.path}, by {by}")]
    if without:
        notes.append(("labels", f"no row for {len(without)} images, which are left out: {_some(without)}"))
    if unused:
        notes.append(("labels", f"{len(unused)} rows name no image: {_some(unused)}"))
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
        notes += [("labels", f"{word!r} in column {column!r} ({n} images) is left empty") for word, n in words.items()]
    return notes


def _some(values: Sequence[str]) -> str:
    return ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
