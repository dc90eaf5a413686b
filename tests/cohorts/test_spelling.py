"""Spellings that people and spreadsheets give one value: missing, alike, turned into dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from plexrank.cohorts.cohort import Survey, survey_cohort
from plexrank.cohorts.panel import read_panel
from plexrank.cohorts.samplesheet import read_samplesheet
from plexrank.cohorts.spelling import alike, fold_spelling, reads_like_a_date, reads_missing, reads_shortened, trimmed
from plexrank.errors import PlexrankError
from plexrank.settings import CohortSettings
from plexrank.study import survey_study


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "7.0"),
        ("7", "007"),
        ("0", "0.0"),
        ("1", "1,0"),
        ("P7", "P-007"),
        ("High", "high"),
        ("TRUE", "True"),
        ("T", "True"),
        ("non-responder", "non responder"),
        ("non-responder", "Nonresponder"),
        ("stage–2", "stage-2"),
        ("P1", "P\u200b1"),
        ("Müller", "Mu\u0308ller"),
        ("ER+", "ER +"),
    ],
)
def test_these_read_like_one_value(one: str, other: str) -> None:
    assert fold_spelling(one) == fold_spelling(other)
    assert alike([one, "other", other, one]) == [(one, other)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1-11", "11-1"),
        ("P1-1", "P11"),
        ("1.1", "1.10"),
        ("ER+", "ER-"),
        ("+", "-"),
        ("-1", "1"),
        ("<5", ">5"),
        ("I", "II"),
        ("10", "1"),
        ("é", "e"),
    ],
)
def test_these_are_two_values(one: str, other: str) -> None:
    assert alike([one, other]) == []


MISSING = [
    "NA",
    "N/A",
    "nan",
    "NaN",
    "null",
    "None",
    "<NA>",
    "#N/A",
    "#NA",
    "-NaN",
    "1.#QNAN",
    "#REF!",
    "#DIV/0!",
    "#NAME?",
    "#VALUE!",
    "#NV",
    "#¡VALOR!",
    "#BEZUG!",
    "#SPILL!",
    "n.a.",
    "-",
    "--",
    "—",
    "?",
    "???",
    ".",
    "unknown",
    "Missing",
    "UNK",
]


@pytest.mark.parametrize("word", [*MISSING, "not available", "Not  Applicable", "#N/A N/A"])
def test_these_read_like_a_missing_value(word: str) -> None:
    assert reads_missing(word)


@pytest.mark.parametrize("word", ["#1", "#A12", "+", "ER-", "ND", "blank", "0", "negative", "no", "P-1", "a?"])
def test_these_are_values(word: str) -> None:
    assert not reads_missing(word)


DATES = ["2-Mar", "1-Sep", "Sep-09", "SEP-1", "02. Sep", "01. Mrz", "1-Sep-2001", "2001-09-01 00:00:00", "44256"]
NO_DATES = ["MARCH2", "SEPT9", "CD3", "DEC-205", "PD-1", "CD45-1", "H3K27-3", "41BB", "1", "191", "Mar1", "DEC1"]


@pytest.mark.parametrize("name", DATES)
def test_these_read_like_dates(name: str) -> None:
    assert reads_like_a_date(name)


@pytest.mark.parametrize("name", NO_DATES)
def test_these_are_names(name: str) -> None:
    assert not reads_like_a_date(name)


def test_a_long_number_cut_short_is_seen() -> None:
    assert [reads_shortened(cell) for cell in ("2.01903E+11", "2,01903E+11", "1E5", "E+11", "P2E")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_blanks_and_invisible_characters_at_the_ends_do_not_count() -> None:
    assert trimmed("\ufeff\u00a0P\u200b1 \u200b\u200e") == "P\u200b1"
    assert trimmed("\u200b ") == ""


def survey(folder: Path, column: str, values: list[str]) -> Survey:
    """The cohort of eight images whose cells in a column are ``values``, over and over."""
    columns = {"patient_id": [f"Q{n}" for n in range(8)], "grade": ["hi", "lo"] * 4, "site": ["a"] * 8}
    columns[column] = [values[n % len(values)] for n in range(8)]
    rows = [f"i{n},i{n}.tiff,{','.join(cells)}" for n, cells in enumerate(zip(*columns.values(), strict=True))]
    (folder / "sheet.csv").write_text("\n".join([f"image_id,path,{','.join(columns)}", *rows]) + "\n")
    return survey_cohort(CohortSettings(samplesheet=folder / "sheet.csv", label="grade"), 2, need_images=False)


@pytest.mark.parametrize("word", [*MISSING, "not available"])
@pytest.mark.parametrize("column", ["grade", "patient_id", "site"])
def test_a_missing_value_is_no_class_patient_or_site(tmp_path: Path, column: str, word: str) -> None:
    values = ["hi", "lo", word, "lo"] if column == "grade" else ["Q1", "Q2", "Q3", "Q4", "Q5", "Q6", word, word]
    (problem,) = survey(tmp_path, column, values).problems
    lines = "4, 8" if column == "grade" else "8, 9"
    assert f"column {column!r} holds {word!r} in 2 rows (lines {lines}), which looks like a missing" in str(problem)


def test_minus_is_a_class_beside_plus(tmp_path: Path) -> None:
    assert not survey(tmp_path, "grade", ["+", "-"]).problems
    assert survey(tmp_path, "grade", ["hi", "-"]).problems


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("grade", ["High", "low", "high", "low"], "'High' (line 2, 6) and 'high' (line 4, 8)"),
        ("grade", ["1", "0", "1.0", "0.0"], "'1' (line 2, 6) and '1.0' (line 4, 8), '0' (line 3, 7) and '0.0'"),
        ("grade", ["TRUE", "FALSE", "True", "False"], "'TRUE' (line 2, 6) and 'True' (line 4, 8)"),
        ("grade", ["non-responder", "r", "non responder", "r"], "'non-responder' (line 2, 6) and 'non responder'"),
        ("patient_id", ["7", "8", "007", "8.0"], "'7' (line 2, 6) and '007' (line 4, 8), '8' (line 3, 7) and '8.0'"),
        ("patient_id", ["P-1", "P2", "p1", "P3"], "'P-1' (line 2, 6) and 'p1' (line 4, 8)"),
        ("site", ["Basel", "Zurich", "basel"], "'Basel' (line 2, 5, 8) and 'basel' (line 4, 7)"),
        ("patient_id", ["2.01903E+11", "Q1", "Q2", "Q3"], "long numbers cut short: '2.01903E+11' (line 2, 6)"),
        ("grade", ["1-2", "2-Jan"], "dates: '2-Jan' (line 3, 5, 7, 9)"),
    ],
)
def test_odd_spellings_are_warned_of_with_their_rows(tmp_path: Path, column: str, values: list[str], told: str) -> None:
    found = survey(tmp_path, column, values)
    assert not found.problems
    warnings = [warning for warning in found.require_cohort().warnings if f"column {column!r}" in warning]
    assert told in warnings[0]


def test_plain_spellings_are_not_warned_of(tmp_path: Path) -> None:
    assert survey(tmp_path, "grade", ["ER+", "ER-", "triple negative"]).require_cohort().warnings == ()


def panel_warnings(folder: Path, names: list[str]) -> tuple[str, ...]:
    (folder / "panel.csv").write_text("channel,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(names)))
    survey(folder, "site", ["a"])
    settings = CohortSettings(samplesheet=folder / "sheet.csv", label="grade", panel=folder / "panel.csv")
    return survey_cohort(settings, 2, need_images=False).require_cohort().warnings


def test_channels_named_like_dates_are_warned_of(tmp_path: Path) -> None:
    (warning,) = panel_warnings(tmp_path, ["CD3", "1-Mar", "Sep-09"])
    assert "channels named 1-Mar, Sep-09: spreadsheets make dates of names" in warning
    assert panel_warnings(tmp_path, ["CD3", "MARCH1", "DEC-205"]) == ()


@pytest.mark.parametrize("name", ["#N/A", "NA", "unknown", "?"])
def test_a_kept_channel_has_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "panel.csv").write_text(f"channel,name,keep\n1,CD3,1\n2,{name},1\n3,NA,0\n4,Na,Y\n5,B,n\n")
    with pytest.raises(PlexrankError, match=r"channels named .* \(2\), which looks like a missing value"):
        read_panel(tmp_path / "panel.csv")
    (tmp_path / "panel.csv").write_text("channel,name,keep\n1,CD3,1\n3,NA,0\n4,Na,Y\n5,B,n\n")
    assert read_panel(tmp_path / "panel.csv").kept_names == ("CD3", "Na")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rank: {ordered: [no, yes]}", "rank.ordered.0: expected text, and YAML makes the truth value False of no"),
        ("rank: {ordered: [low, yes]}", 'of yes, on and true; put what you mean in quotes, such as "yes"'),
        ("rank: {ordered: [1, 2]}", "rank.ordered.1: expected text, and YAML reads 2 as a number"),
        ("rank: {ordered: [a, ~]}", "rank.ordered.1: expected text, and YAML reads null, ~ or nothing as no value"),
        ("name: 2024-01-01", "name: expected text, and YAML reads 2024-01-01 as a date; put what you mean in quotes"),
    ],
)
def test_what_yaml_makes_of_words_is_explained(tmp_path: Path, text: str, told: str) -> None:
    name = "" if text.startswith("name") else "name: a\n"
    (tmp_path / "study.yaml").write_text(f"{name}cohort: {{samplesheet: a.csv, label: grade}}\n{text}\n")
    problems: list[PlexrankError] = survey_study(tmp_path / "study.yaml")[1]
    assert any(told in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("column", "target"),
    [("Site", "site"), ("batch", "site"), ("Slide", "site"), ("Patient_ID", "patient_id"), ("donor", "patient_id")],
)
def test_a_column_that_may_be_meant_for_another_is_warned_of(tmp_path: Path, column: str, target: str) -> None:
    known = {"site": "patient_id", "patient_id": "site"}[target]
    rows = [f"i{number},i{number}.tif,{'ab'[number % 2]},k{number},v{number}" for number in range(4)]
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text("\n".join([f"image_id,path,label,{known},{column}", *rows]) + "\n")
    settings = CohortSettings(samplesheet=sheet, label="label")
    notes = [note for note in read_samplesheet(settings, None, need_images=False).notes if "is not used" in note]
    assert len(notes) == 1
    assert f"there is no column {target}, and {column!r} is not used; rename it to {target} if" in notes[0]
    sheet.write_text(sheet.read_text().replace(column, target))
    assert not [note for note in read_samplesheet(settings, None, need_images=False).notes if "is not used" in note]
