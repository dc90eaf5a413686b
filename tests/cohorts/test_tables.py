"""Tables as spreadsheets and pandas write them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from plexrank.cohorts.cohort import survey_cohort
from plexrank.cohorts.tables import read_table
from plexrank.errors import MissingInputError, StudyError
from plexrank.settings import CohortSettings

PLAIN = ({"a": "1", "b": "x"}, {"a": "2", "b": "y"})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,x\n2,y\n", (2, 3)),
        ("a,b,,\n1,x,,\n2,y,,\n", (2, 3)),
        ("a,b\n1,x,,\n2,y\n", (2, 3)),
        ("a,,b\n1,,x\n2,,y\n", (2, 3)),
        (",a,b\n0,1,x\n1,2,y\n", (2, 3)),
        ("a,b,,\n1,x,,\n,,,\n2,y,,\n", (2, 4)),
        ("sep=;\na;b\n1;x\n2;y\n", (3, 4)),
        ("\ufeffSEP=|\r\na|b\r\n1|x\r\n2|y\r\n", (3, 4)),
        ('"sep=,"\na,b\n1,x\n2,y\n', (3, 4)),
        ("sep=\t\na\tb\n1\tx\n2\ty\n", (3, 4)),
        ("sep=,,\na,b,\n1,x,\n2,y,\n", (3, 4)),
        ("a,b\r1,x\r2,y\r", (2, 3)),
        ("a\u200b,\u00a0b\n1,x\u200b\n2,y\u00a0\n", (2, 3)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_spreadsheets_add_does_not_count(tmp_path: Path, text: str, lines: tuple[int, int], encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.removeprefix("\ufeff").encode(encoding))
    table = read_table(tmp_path / "t.csv")
    assert (table.columns, table.rows, table.line_numbers) == (("a", "b"), PLAIN, lines)


def test_the_row_numbers_of_pandas_do_not_count(tmp_path: Path) -> None:
    pd.DataFrame(PLAIN).to_csv(tmp_path / "t.csv")
    assert read_table(tmp_path / "t.csv").rows == PLAIN


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b,\n1,x,\n2,y,z\n", "line 3: 'z' to the right of the last column, 3 cells, but the header has 2 columns"),
        ("a,b\n1,x\n2,y,z\n", "line 3: 'z' to the right of the last column"),
        ("a,,b\n1,,x\n2,z,y\n", "line 3: column 2 holds 'z' and has no name in the header"),
        ("a,b\n1\n", "line 2: 1 cells, but the header has 2 columns"),
        ("sep=;\n", "the file is empty"),
        ("sep=;\na;b\n", "a header and no row below it"),
    ],
)
def test_a_cell_below_no_name_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StudyError) as caught:
        read_table(tmp_path / "t.csv")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"PK\x03\x04rest", "a workbook (.xlsx, .ods)"), (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook (.xls)")],
)
def test_a_workbook_is_named_as_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "sheet.csv").write_bytes(content)
    with pytest.raises(StudyError) as caught:
        read_table(tmp_path / "sheet.csv")
    assert f"{what}" in str(caught.value)
    assert "save the sheet as CSV" in str(caught.value)


def test_backslashes_in_paths_are_explained(tmp_path: Path) -> None:
    cells = ["sub\\a0.tiff", "C:\\data\\a1.tiff", "\\\\server\\a2.tiff", "a3.tiff"]
    rows = "".join(f"i{n},{cell},{'hi' if n % 2 else 'lo'}\n" for n, cell in enumerate(cells))
    (tmp_path / "sheet.csv").write_text(f"image_id,path,grade\n{rows}")
    bad = survey_cohort(CohortSettings(samplesheet=tmp_path / "sheet.csv", label="grade"), None).bad
    assert [str(image.error).partition("no such image; ")[2] for image in bad] == [
        "it is written with backslashes: put / between folders",
        "it is a path of a Windows machine: give where the file lies on this one, with / between folders",
        "it is a path of a Windows machine: give where the file lies on this one, with / between folders",
        "fix the path or leave the row out",
    ]
    with pytest.raises(MissingInputError, match="written with backslashes"):
        read_table(tmp_path / "data\\sheet.csv")
