"""Small tables that users write by hand: CSV with ``,``, ``;`` or tabs, read as text, wrong cells named."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.cohorts.spelling import trimmed
from plexrank.errors import MissingInputError, StudyError, naming_input
from plexrank.images.image_path import backslash_hint
from plexrank.limits import TEXT_BYTES
from plexrank.wording import shown

_SEPARATOR_LINE = re.compile(r'"?sep=([^"\0\r\n])"?[,;\t]*', re.IGNORECASE)
"""What Excel writes and reads as the first line to say what separates cells."""
_WORKBOOKS = {
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
}
"""By the first bytes of the file."""
_MOST_COLUMNS = 100_000
_MOST_CELLS = 20_000_000
_LONGEST_CELL = 32_767  # as in spreadsheets


@dataclass(frozen=True)
class Table:
    """The rows of a file as dictionaries of trimmed text; ``line_numbers`` are those of the file."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    line_numbers: tuple[int, ...]


def read_table(path: Path) -> Table:
    """Read a CSV file with a header.

    A first line ``sep=;`` is honoured. Columns without a name are left out where they are empty, as spreadsheets leave
    them at the right, and so is a first one, the row numbers of pandas.

    Raises:
        MissingInputError: there is no such file, or it cannot be read.
        StudyError: it is no CSV text, has no header or no row, or a row has too many or too few cells.
    """
    text = _read_text(path)
    separator = _SEPARATOR_LINE.fullmatch(text.lstrip().split("\n", 1)[0].strip("\r"))
    if separator:
        delimiter = separator[1]
    else:
        first_line = text.lstrip().splitlines()[0]
        delimiter = max(",;\t", key=first_line.count)
    lines = _read_lines(path, text, delimiter)
    if separator:
        del lines[0]
    if not lines:
        raise StudyError(f"{path}: the file is empty; expected a header and a row for each entry")
    header, *body = lines
    columns = _columns(path, header[1])
    if not body:
        raise StudyError(f"{path}: a header and no row below it")
    rows = tuple(_row(path, number, cells, columns, delimiter) for number, cells in body)
    return Table(path, tuple(filter(None, columns)), rows, tuple(number for number, _ in body))


def _columns(path: Path, header: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a header without the empty ones at its right."""
    last = max((position for position, name in enumerate(header, 1) if name), default=0)
    columns = header[:last]
    if last > _MOST_COLUMNS:
        raise StudyError(f"{path}: {last:,} columns, more than {_MOST_COLUMNS:,}; keep those with labels")
    repeated = [column for column, count in Counter(columns).items() if count > 1 and column]
    if repeated:
        raise StudyError(f"{path}: column {shown(repeated[0])} is in the header {columns.count(repeated[0])} times")
    return columns


def _row(path: Path, number: int, cells: Sequence[str], columns: Sequence[str], delimiter: str) -> dict[str, str]:
    """The cells of a line by column; refuses one whose cells are not below the names that they belong to."""
    beyond = next((cell for cell in cells[len(columns) :] if cell), None)
    if len(cells) < len(columns) or beyond:
        found = len(cells) if beyond is None else f"{shown(beyond)} to the right of the last column, {len(cells)}"
        raise StudyError(
            f"{path}: line {number}: {found} cells, but the header has {len(columns)} columns; "
            f"quote cells that contain {delimiter!r}"
        )
    for position, (column, cell) in enumerate(zip(columns, cells, strict=False), start=1):
        if cell and not column and position > 1:
            raise StudyError(
                f"{path}: line {number}: column {position} holds {shown(cell)} and has no name in the header; name the "
                f"column or delete it, and quote cells that contain {delimiter!r}"
            )
    return {column: cell for column, cell in zip(columns, cells, strict=False) if column}


def _read_text(path: Path) -> str:
    with naming_input(str(path)):
        if not path.is_file():
            raise MissingInputError(
                f"{path}: no such file{backslash_hint(str(path)) or '; fix the path or write the file'}"
            )
        TEXT_BYTES.require(path.stat().st_size, str(path), StudyError)
        content = path.read_bytes()
    for start, what in _WORKBOOKS.items():
        if content.startswith(start):
            raise StudyError(
                f"{path}: {what}, not a table as text; save the sheet as CSV (in Excel: Save As, CSV UTF-8) and name "
                "that file"
            )
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Excel's "Unicode text"
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV in UTF-8"
        ) from error
    if not text.strip():
        raise StudyError(f"{path}: the file is empty; expected a header and a row for each entry")
    return text


def _read_lines(path: Path, text: str, delimiter: str) -> list[tuple[int, tuple[str, ...]]]:
    """Line number and trimmed cells of every line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = []
    num_cells = 0
    try:
        for cells in reader:
            row = tuple(trimmed(cell) for cell in cells)
            if any("\0" in cell for cell in row):
                raise StudyError(f"{path}: line {reader.line_num}: a cell holds a NUL character; save the file as CSV")
            if (longest := max(map(len, row), default=0)) > _LONGEST_CELL:
                raise StudyError(
                    f"{path}: line {reader.line_num}: a cell of {longest:,} characters, more than {_LONGEST_CELL:,}; "
                    "shorten it, or close the quote that it begins with"
                )
            if any(row):
                lines.append((reader.line_num, row))
            num_cells += len(row)
            if num_cells > _MOST_CELLS:
                raise StudyError(f"{path}: line {reader.line_num}: more than {_MOST_CELLS:,} cells; keep fewer columns")
    except csv.Error as error:
        raise StudyError(
            f"{path}: line {reader.line_num}: not readable as CSV ({error}); close every quote, and double a "
            "quote within a cell"
        ) from error
    return lines
