"""Tables as spreadsheets and pandas write them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from plexrank.cohorts.cohort import survey_cohort
from plexrank.cohorts.panel import notes_on_names, read_panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.cohorts.tables import read_table
from plexrank.errors import MissingInputError, Problems, StudyError
from plexrank.settings import CohortSettings
from plexrank.wording import did_you_mean

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
        (",\n", "the file is empty"),
        (" , \u200b\n,\n", "the file is empty"),
        ('sep="\na,b\n', "line 2: 'b' to the right of the last column"),
        ("sep=\0\na\n", "NUL"),
        (f"a,b\n1,{'x' * 40_000}\n", "line 2: a cell of 40,000 characters, more than 32,767"),
        (f"a,b\n1,{'x' * 140_000}\n", "field larger than field limit"),
        (f"{','.join(map(str, range(100_001)))}\n1\n", "100,001 columns, more than 100,000"),
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


def test_of_many_columns_the_first_are_named() -> None:
    told = did_you_mean("image_id", [f"gene{number}" for number in range(30_000)])
    assert told.startswith("; there are: gene0, gene1, ")
    assert told.endswith(", gene63, … (30000 in all).")


ESCAPING = "CD3\x1b[2J"


def test_names_that_would_steer_a_terminal_are_refused(tmp_path: Path) -> None:
    (tmp_path / "panel.csv").write_text(f"channel,name\n1,{ESCAPING}\n2,{'x' * 501}\n3,CD8\n")
    with pytest.raises(Problems) as caught:
        read_panel(tmp_path / "panel.csv")
    first, second = map(str, caught.value.problems)
    assert first.endswith("channel 'CD3\\x1b[2J' holds a control character; remove it")
    assert second.endswith("x… has 501 characters; use 500 at most")
    with pytest.raises(StudyError, match=r"an image: channel 'CD3.* holds a control character; remove it, or name the"):
        locate_channels(None, [ESCAPING, "CD8"], 2, "an image")
    rows = "".join(f"i{n},a{n}.tiff,p{n},{grade},s\x9b\n" for n, grade in enumerate(("a", "a\x1bb", "b", "a", "b")))
    (tmp_path / "s.csv").write_text(f"image_id,path,patient_id,grade,site\n{rows}")
    survey = survey_cohort(CohortSettings(samplesheet=tmp_path / "s.csv", label="grade"), folds=2, need_images=False)
    told = [str(problem).removeprefix(f"{tmp_path / 's.csv'}: ") for problem in survey.problems]
    assert "line 3: grade 'a\\x1bb' holds a control character; remove it" in told
    assert sum("site 's\\x9b' holds a control character" in one for one in told) == 5


def test_names_that_a_spreadsheet_would_run_are_warned_of(tmp_path: Path) -> None:
    names = ("=cmd|' /C calc'!A0", "@SUM(A1)", "+CD4", "CD8+", "-")
    (tmp_path / "panel.csv").write_text(
        "channel,name,keep\n" + "".join(f'{n},"{x}",{int(n < 5)}\n' for n, x in enumerate(names, 1))
    )
    panel = read_panel(tmp_path / "panel.csv")
    assert panel.kept_names == names[:4]
    (told,) = notes_on_names(panel)
    assert told.startswith(
        f"{tmp_path / 'panel.csv'}: channels named \"=cmd|' /C calc'!A0\", '@SUM(A1)', '+CD4': spreadsheets"
    )


def test_patients_classes_and_sites_that_a_spreadsheet_would_run_are_warned_of(tmp_path: Path) -> None:
    rows = "".join(f"i{n},a{n}.tiff,{p},{'+-'[n % 2]},@S{n}\n" for n, p in enumerate(("=1+1", "-1.2e-5", "+p", "-3")))
    (tmp_path / "s.csv").write_text(f"image_id,path,patient_id,grade,site\n{rows}")
    survey = survey_cohort(CohortSettings(samplesheet=tmp_path / "s.csv", label="grade"), folds=2, need_images=False)
    told = [one.split(": ")[1] for one in survey.cohort.warnings if "formulas" in one]
    assert told == ["patients named '=1+1', '+p'", "sites named '@S0', '@S1', '@S2', '@S3'"]


def test_a_path_that_is_too_long_for_any_file_makes_a_bad_image(tmp_path: Path) -> None:
    rows = "".join(f"i{n},a.mcd{'x' * 300}#{n},{'ab'[n % 2]}\n" for n in range(4))
    (tmp_path / "s.csv").write_text(f"image_id,path,grade\n{rows}")
    survey = survey_cohort(CohortSettings(samplesheet=tmp_path / "s.csv", label="grade"), folds=2)
    assert ["not a usable path (File name too long)" in str(bad.error) for bad in survey.bad] == [True] * 4


@pytest.mark.parametrize(
    ("numbers", "told"), [((-1, 1, 2), "holds -1"), ((0, 2, 999_999_999), "leaves out 1"), ((1, 2, 4), "leaves out 3")]
)
def test_numbers_of_planes_that_do_not_count_are_named(tmp_path: Path, numbers: tuple[int, ...], told: str) -> None:
    rows = "".join(f"{number},{name}\n" for number, name in zip(numbers, ("CD3", "CD8", "Ki-67"), strict=True))
    (tmp_path / "markers.csv").write_text(f"channel_number,marker_name\n{rows}")
    with pytest.raises(StudyError, match=f"channel_number {told}; channel_number must count the planes"):
        read_panel(tmp_path / "markers.csv")
