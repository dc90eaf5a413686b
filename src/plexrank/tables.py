"""Small tables that users write by hand: CSV with ``,`` or ``;``, read as text, wrong cells named."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import MissingInputError, StudyError


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
        MissingInputError: there is no such file.
        StudyError: it is no text, has no header or no row, or a row has too many or too few cells.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; mend the path in the study or write the file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV") from error
    if not lines:
        raise StudyError(f"{path}: the file is empty; expected a header and a row for each entry")
    delimiter = ";" if lines[0].count(";") > lines[0].count(",") else ","
    reader = csv.reader(lines, delimiter=delimiter)
    columns = tuple(cell.strip() for cell in next(reader))
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise StudyError(f"{path}: column {repeated[0]!r} stands in the header {columns.count(repeated[0])} times")
    rows, numbers = [], []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise StudyError(
                f"{path}: line {reader.line_num}: {len(cells)} cells, but the header has {len(columns)} columns; "
                f"quote cells that contain {delimiter!r}"
            )
        rows.append(dict(zip(columns, (cell.strip() for cell in cells), strict=True)))
        numbers.append(reader.line_num)
    if not rows:
        raise StudyError(f"{path}: a header and no row below it")
    return Table(path, columns, tuple(rows), tuple(numbers))


def did_you_mean(wanted: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` where a near name exists, otherwise the list of what there is."""
    near = difflib.get_close_matches(wanted.casefold(), [name.casefold() for name in known], n=1)
    if near:
        return f"; did you mean {next(name for name in known if name.casefold() == near[0])!r}?"
    return f"; there are: {', '.join(known)}"
