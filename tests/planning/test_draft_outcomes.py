"""Outcomes that init drafts: numbers, survival, and grades that are numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_draft import rows
from test_draft_labels import draft, write_images

from plexrank.errors import StudyError
from plexrank.planning.check import check_study_file
from plexrank.planning.draft import draft_study
from plexrank.planning.draft_labels import TableColumns
from plexrank.planning.draft_outcome import survival_pairs
from plexrank.study import load_study

IMAGES = 24
SURVIVAL = TableColumns("image", time="OS_MONTHS", event="OS_STATUS")


def clinical(zero: str = "0:LIVING", one: str = "1:DECEASED") -> str:
    """A table with one time that is not known, 11 known events, ages, and three grades."""
    lines = [
        f"a{n},{'NA' if n == 3 else 5 + n * 1.5},{one if n % 2 else zero},{40 + n * 1.1:.1f},{n % 3 + 1}"
        for n in range(IMAGES)
    ]
    return "\n".join(["image,OS_MONTHS,OS_STATUS,age,grade", *lines]) + "\n"


@pytest.mark.parametrize(
    ("zero", "one", "is_written"),
    [
        ("0:LIVING", "1:DECEASED", True),
        ("alive", "dead", True),
        ("censored", "event", True),
        ("no", "yes", True),
        ("0", "1", False),
        ("FALSE", "TRUE", False),
    ],
)
def test_survival_is_drafted_with_what_its_words_mean(tmp_path: Path, zero: str, one: str, is_written: bool) -> None:
    said = draft(tmp_path, clinical(zero, one), SURVIVAL, IMAGES)
    assert (
        "outcome      survival, by 'OS_MONTHS' and 'OS_STATUS': 11 events among 23 patients, median follow-up" in said
    )
    assert f"outcome      assumed: {one!r} is the event, {zero!r} is censored" in said
    assert "labels       'NA' in column 'OS_MONTHS' (1 image) is left empty" in said
    assert "training     5 folds" in said
    assert said.endswith(f"next: plexrank check {tmp_path / 'out' / 'study.yaml'}")
    cohort = load_study(tmp_path / "out" / "study.yaml").cohort
    assert (cohort.outcome, cohort.outcome_columns) == ("survival", ("OS_MONTHS", "OS_STATUS"))
    assert cohort.event_values == ({zero: 0, one: 1} if is_written else {})
    result = check_study_file(tmp_path / "out" / "study.yaml")
    assert not result.problems
    assert result.outcome is not None
    assert "11 events among 23 patients" in result.outcome.described[0]


def test_words_that_are_not_known_are_left_to_the_user(tmp_path: Path) -> None:
    said = draft(tmp_path, clinical("stayed well", "relapse"), SURVIVAL, IMAGES)
    study = tmp_path / "out" / "study.yaml"
    assert "next: say in cohort.event_values of " in said
    assert "study.yaml which of 'relapse', 'stayed well' is the event; then plexrank check" in said
    (problem,) = check_study_file(study).problems
    assert "column 'OS_STATUS' holds 'stayed well', 'relapse' in 24 rows" in str(problem)
    values = "cohort.event_values={stayed well: 0, relapse: 1}"
    assert not check_study_file(study, [values]).problems


def test_too_few_events_are_said(tmp_path: Path) -> None:
    table = "\n".join(clinical("alive", "dead").splitlines()[:13]) + "\n"
    said = draft(tmp_path, table, SURVIVAL, 12)
    assert "5 events among 11 patients, fewer than the 10 that any analysis takes" in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            TableColumns("image", time="OS_MONTHS"),
            "--time OS_MONTHS: survival takes two columns; give --event COLUMN too",
        ),
        (TableColumns("image", event="OS_STATUS"), "--event OS_STATUS: survival takes two columns; give --time COLUMN"),
        (
            TableColumns("image", "age", time="OS_MONTHS", event="OS_STATUS"),
            "--label age: --time and --event are anoth",
        ),
        (
            TableColumns("image", time="OS_MONTH", event="OS_STATUS"),
            "--time OS_MONTH: no column has that name; did you",
        ),
    ],
)
def test_options_that_do_not_make_an_outcome_are_refused(tmp_path: Path, given: TableColumns, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        draft(tmp_path, clinical(), given, 2)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_time_needs_a_table(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", "a.ome.tiff")
    with pytest.raises(StudyError, match="--time --event: no table that has such a column; give it by --labels TABLE"):
        draft_study(data, tmp_path / "out", columns=TableColumns(time="t", event="e"))


def test_measurements_are_drafted_as_numbers(tmp_path: Path) -> None:
    said = draft(tmp_path, clinical(), TableColumns("image", "age"), IMAGES)
    assert "outcome      continuous, by 'age': 24 values from 40 to 65.3, median 52.65" in said
    cohort = load_study(tmp_path / "out" / "study.yaml").cohort
    assert (cohort.outcome, cohort.label) == ("continuous", "age")
    assert not check_study_file(tmp_path / "out" / "study.yaml").problems


def test_missing_numbers_are_emptied_and_left_out(tmp_path: Path) -> None:
    said = draft(tmp_path, clinical(), TableColumns("image", "OS_MONTHS"), IMAGES)
    assert "'NA' in column 'OS_MONTHS' (1 image) is left empty" in said
    assert "outcome      continuous, by 'OS_MONTHS': 23 values from" in said
    assert {row["image_id"]: row["OS_MONTHS"] for row in rows(tmp_path / "out")}["a3"] == ""


def test_grades_in_numbers_stay_classes_with_a_hint(tmp_path: Path) -> None:
    said = draft(tmp_path, clinical(), TableColumns("image", "grade"), IMAGES)
    assert "classes      of column 'grade': 1 (8 patients), 2 (8 patients), 3 (8 patients)" in said
    study = tmp_path / "out" / "study.yaml"
    text = study.read_text()
    assert load_study(study).cohort.outcome == "nominal"
    assert "  # outcome: ordinal             # if these are grades in order: 1 < 2 < 3\n" in text
    study.write_text(text.replace("# outcome: ordinal", "outcome: ordinal"))
    result = check_study_file(study)
    assert not result.problems
    assert result.outcome is not None
    assert result.outcome.kind == "ordinal"


def test_columns_that_look_like_survival_are_mentioned(tmp_path: Path) -> None:
    said = draft(tmp_path, clinical(), TableColumns("image"), IMAGES)
    assert "'OS_MONTHS' and 'OS_STATUS' look like times to an event; to explain these, give --time OS_MONTHS" in said
    assert "columns of measurements, which make no groups: 'OS_MONTHS', 'age'; to explain such numbers, give" in said


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        ({"os_days": "5 6 7", "os_event": "0 1 1"}, [("os_days", "os_event")]),
        ({"follow_up_months": "5 6 7", "event": "0 1 1"}, [("follow_up_months", "event")]),
        (
            {"OS_MONTHS": "5 6 7", "OS_STATUS": "0:LIVING 1:DECEASED 1:DECEASED", "DFS_MONTHS": "1 2 3"}
            | {"DFS_STATUS": "0:DiseaseFree 0:DiseaseFree 1:Recurred"},
            [("OS_MONTHS", "OS_STATUS"), ("DFS_MONTHS", "DFS_STATUS")],
        ),
        ({"age_years": "50 61 72", "her2_status": "0 1 1"}, []),
        ({"days_to_birth": "50 61 72", "dead": "0 1 1"}, []),
        ({"months": "5 6 x", "dead": "0 1 1"}, []),
        ({"months": "5 6 7", "dead": "1 1 1"}, []),
        ({"months": "5 6 7", "er_status": "ER+ ER- ER-"}, []),
        ({"months": "5 6 7", "days": "9 8 7", "dead": "0 1 1"}, []),
    ],
)
def test_pairs_of_time_and_event_are_told_by_names_and_cells(columns: dict[str, str], pairs: list) -> None:
    cells = {name: text.split() for name, text in columns.items()}
    table = {f"i{n}": {name: own[n] for name, own in cells.items()} for n in range(3)}
    assert survival_pairs(columns, table) == pairs
