"""Small tables that users write by hand: CSV with ``,``, ``;`` or tabs, read as text, wrong cells named."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import MissingInputError, StudyError, naming_input


@dataclass(frozen=True)
class Table:
    """The rows of a file as dictionaries of trimmed text; ``line_numbers`` are those of the file."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    line_numbers: tuple[int, ...]


def read_table(path: Path) -> Table:
    """Read a CSV file with a header.

    Raises:
        MissingInputError: there is no such file, or it cannot be read.
        StudyError: it is no CSV text, has no header or no row, or a row has too many or too few cells.
    """
    with naming_input(str(path)):
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file; mend the path or write the file")
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV in UTF-8"
        ) from error
    if not text.strip():
        raise StudyError(f"{path}: the file is empty; expected a header and a row for each entry")
    first_line = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=first_line.count)
    lines = _read_lines(path, text, delimiter)
    _, columns = lines[0]
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise StudyError(f"{path}: column {repeated[0]!r} stands in the header {columns.count(repeated[0])} times")
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise StudyError(
                f"{path}: line {number}: {len(cells)} cells, but the header has {len(columns)} columns; "
                f"quote cells that contain {delimiter!r}"
            )
    if len(lines) == 1:
        raise StudyError(f"{path}: a header and no row below it")
    rows = tuple(dict(zip(columns, cells, strict=True)) for _, cells in lines[1:])
    return Table(path, columns, rows, tuple(number for number, _ in lines[1:]))


def _read_lines(path: Path, text: str, delimiter: str) -> list[tuple[int, tuple[str, ...]]]:
    """Line number and trimmed cells of every line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines = []
    try:
        for cells in reader:
            trimmed = tuple(cell.strip() for cell in cells)
            if any("\0" in cell for cell in trimmed):
                raise StudyError(f"{path}: line {reader.line_num}: a cell holds a NUL character; save the file as CSV")
            if any(trimmed):
                lines.append((reader.line_num, trimmed))
    except csv.Error as error:
        raise StudyError(
            f"{path}: line {reader.line_num}: no CSV ({error}); close every quote, and double a quote within a cell"
        ) from error
    return lines


def did_you_mean(wanted: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` where a near name exists, otherwise the list of what there is."""
    near = difflib.get_close_matches(wanted.casefold(), [name.casefold() for name in known], n=1)
    if near:
        return f"; did you mean {next(name for name in known if name.casefold() == near[0])!r}?"
    return f"; there are: {', '.join(known)}."
