"""Wrong cells of an outcome: each reason is one error with column, rows, what was found and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outcome_sheets import CONTINUOUS, FOLLOWED, ORDINAL, SURVIVAL, said, survey

from plexrank.cohorts.event_words import recognise_events
from plexrank.errors import PlexrankError

NUMBERS = [(str(number),) for number in range(30)]
GRADES = [(grade,) for grade in ("low", "mid", "high") * 10]
LOW_TO_HIGH = {**ORDINAL, "order": ["low", "mid", "high"]}


@pytest.mark.parametrize(
    ("keys", "rows", "words"),
    [
        (
            SURVIVAL,
            [*FOLLOWED, ("0", "1"), ("-3", "0")],
            "'months' holds '0', '-3' in 2 rows (lines 42, 43), which is no",
        ),
        (
            SURVIVAL,
            [*FOLLOWED, ("x", "1")],
            "column 'months' holds 'x' in 1 row (lines 42), which is no number; give the t",
        ),
        (
            SURVIVAL,
            [*FOLLOWED, ("12,5", "1")],
            "holds '12,5' in 1 row (lines 42), which is no number; give the time from",
        ),
        (SURVIVAL, [*FOLLOWED, ("inf", "1")], "holds 'inf' in 1 row (lines 42), which is no number"),
        (
            SURVIVAL,
            [*FOLLOWED, ("2012-03-04", "0")],
            "holds '2012-03-04' in 1 row (lines 42), which is a date and no time",
        ),
        (
            SURVIVAL,
            [*FOLLOWED, ("4", "2"), ("5", "2"), ("6", "lost")],
            "column 'died' holds '2', 'lost' in 3 rows (lines 42, 43, 44), which is neither the event nor censored "
            "(known: 1, 0); write 1 for the event and 0 for censored patients, or say in cohort.event_values what the "
            "words mean; competing events are not analysed as such: count them as censored (0), and report that",
        ),
        (
            SURVIVAL,
            [(time, {"0": "0:LIVING", "1": "1:DECEASED"}[event]) for time, event in FOLLOWED],
            'what the words mean, set cohort.event_values: {"0:LIVING": 0, "1:DECEASED": 1}',
        ),
        (SURVIVAL, [(event, time) for time, event in FOLLOWED], "exchange cohort.time and cohort.event"),
        (
            SURVIVAL,
            [*FOLLOWED, ("NA", "1")],
            "column 'months' holds 'NA' in 1 row (lines 42), which looks like a missing",
        ),
        (
            SURVIVAL,
            [*FOLLOWED, ("7", "unknown")],
            "column 'died' holds 'unknown' in 1 row (lines 42), which looks like",
        ),
        (
            CONTINUOUS,
            [*NUMBERS, ("old",), (">60",)],
            "column 'age' holds 'old', '>60' in 2 rows (lines 32, 33), which is n",
        ),
        (CONTINUOUS, [*NUMBERS, ("1_000",)], "holds '1_000' in 1 row (lines 32), which is no number; give a number or"),
        (CONTINUOUS, [*NUMBERS, ("1e99",)], "holds '1e99' in 1 row (lines 32), which is too large to compute with"),
        (CONTINUOUS, [("5",), ("5.0",), ("05",)] * 9, "column 'age': nothing but '5'; two different values or more"),
        (CONTINUOUS, [("",)] * 9, "column 'age': no value at all"),
        (SURVIVAL, [("4", "0")] * 30, "columns 'months' and 'died': nothing but '4 censored'"),
        (
            ORDINAL,
            GRADES,
            "s.csv: column 'grade' has the grades high, low, mid, not all of which are numbers; name each",
        ),
        (
            {**ORDINAL, "order": ["low", "mid"]},
            GRADES,
            "column 'grade' holds 'high' in 10 rows (lines 4, 7, 10, 13, 16, …), which is in no place of the order",
        ),
        (
            {**ORDINAL, "order": ["low", "mid", "high", "top"]},
            GRADES,
            "column 'grade': no image has top, which cohort.order names; remove it from the order or correct it there",
        ),
        (LOW_TO_HIGH, [*GRADES, ("NA",)], "column 'grade' holds 'NA' in 1 row (lines 32), which looks like a missing"),
    ],
)
def test_a_wrong_cell_is_one_error(tmp_path: Path, keys: dict[str, object], rows: list, words: str) -> None:
    (problem,), _ = said(survey(tmp_path, keys, rows))
    assert words in problem
    assert "s.csv" in problem


def test_all_reasons_are_told_at_once_and_beside_other_cells(tmp_path: Path) -> None:
    rows = [*FOLLOWED, ("0", "1"), ("x", "2"), ("2012-03-04", "9")]
    problems, warnings = said(survey(tmp_path, SURVIVAL, rows, patients=[*map(str, range(42)), ""]))
    assert len(problems) == 5
    assert "patient_id is empty" in problems[-1]
    assert warnings == []


@pytest.mark.parametrize(
    ("zero", "one", "keys"),
    [
        ("0", "1", {}),
        ("0.0", "1.0", {}),
        ("FALSE", "True", {}),
        ("0:LIVING", "1:DECEASED", {"event_values": {"0:LIVING": 0, "1:DECEASED": 1}}),
        ("alive", "Dead", {"event_values": {"Alive": 0, "DEAD": 1}}),
        ("none", "relapse", {"event_values": {"none": 0, "relapse": 1}}),
        ("-", "+", {"event_values": {"-": 0, "+": 1}}),
        ("2", "1", {"event_values": {"2.0": 0, "1": 1}}),
    ],
)
def test_events_in_many_words(tmp_path: Path, zero: str, one: str, keys: dict[str, object]) -> None:
    rows = [(time, one if event == "1" else zero) for time, event in FOLLOWED]
    found = survey(tmp_path, {**SURVIVAL, **keys}, rows)
    assert said(found) == ([], [])
    levels = [image.label for image in found.require_rows().images]
    assert levels == [f"{time} {'event' if event == '1' else 'censored'}" for time, event in FOLLOWED]


def test_grades_may_be_called_like_missing_values_where_the_order_names_them(tmp_path: Path) -> None:
    for order in (["none", "low", "high"], ["-", "+", "++"]):
        found = survey(tmp_path, {**ORDINAL, "order": order}, [(grade,) for grade in order * 10])
        assert said(found)[0] == []
        assert found.require_rows().outcome.levels == tuple(order)


def test_grades_in_numbers_need_no_order(tmp_path: Path) -> None:
    found = survey(tmp_path, ORDINAL, [(grade,) for grade in ("10", "9", "2") * 10])
    assert said(found)[0] == []
    assert found.require_rows().outcome.levels == ("2", "9", "10")


def test_numbers_have_one_spelling(tmp_path: Path) -> None:
    rows = [(cell,) for cell in ("7", "7.0", "007", "-0", "0", "2.50", "1e3")]
    levels = [image.label for image in survey(tmp_path, CONTINUOUS, rows, folds=2).require_rows().images]
    assert levels == ["7", "7", "7", "0", "0", "2.5", "1000"]


def test_rows_without_time_or_event_are_left_out_counted_and_named(tmp_path: Path) -> None:
    found = survey(tmp_path, SURVIVAL, [*FOLLOWED, ("", ""), ("7", ""), ("", "1"), ("", "0")])
    problems, warnings = said(found)
    assert problems == []
    assert found.require_rows().unlabelled == 4
    assert [warning.partition("s.csv: ")[2] for warning in warnings] == [
        "1 row has a value in column 'months' and none in column 'died' (lines 43); 1 image is left out for it",
        "2 rows have a value in column 'died' and none in column 'months' (lines 44, 45); 2 images are left out for it",
    ]


@pytest.mark.parametrize("start", [41000, 20120101, 1990])
def test_times_that_look_like_dates_are_warned_of(tmp_path: Path, start: int) -> None:
    rows = [(str(start + number % 28), event) for number, (_, event) in enumerate(FOLLOWED)]
    problems, (warning,) = said(survey(tmp_path, SURVIVAL, rows))
    assert problems == []
    assert f"column 'months' holds numbers that look like dates ({start}, {start + 1}, " in warning


def test_a_patient_has_one_time_and_one_number(tmp_path: Path) -> None:
    patients = [*map(str, range(40)), "7", "7"]
    (problem,), _ = said(survey(tmp_path, SURVIVAL, [*FOLLOWED, ("12.0", "1"), ("30", "0")], patients=patients))
    assert (
        "1 patient has images of several times or events: 7 (12 event on line 9, 42; 30 censored on line 43)" in problem
    )
    (problem,), _ = said(survey(tmp_path, CONTINUOUS, [("1",), ("2",), ("2",)], patients=["a", "a", "b"]))
    assert (
        "1 patient has images of several values: a (1 on line 2; 2 on line 3); give all images of a patient" in problem
    )


@pytest.mark.parametrize(
    ("rows", "folds", "problem", "warning"),
    [
        (FOLLOWED[:18], 5, "9 events among 18 patients, fewer than the 10 that any analysis takes", None),
        (FOLLOWED[:22], 5, None, "11 events among 22 patients: with fewer than 20, intervals are wide"),
        (
            FOLLOWED[:22],
            6,
            "11 events, and every one of 6 folds must hold out 2; set train.folds to 5",
            "fewer than 20",
        ),
        (FOLLOWED[:22], None, None, "fewer than 20"),
        (FOLLOWED, 5, None, None),
        ([("12", "1")] * 20 + [("20", "0")], 5, None, "all 20 events are at one time (12); check that it is the time"),
        ([("12", "1")] * 20 + [("9", "0")], 5, "no patient was followed beyond the first event, at 12; no two", None),
    ],
)
def test_too_few_or_odd_events(
    tmp_path: Path, rows: list, folds: int | None, problem: str | None, warning: str | None
) -> None:
    for expected, found in zip((problem, warning), said(survey(tmp_path, SURVIVAL, rows, folds)), strict=True):
        assert len(found) == (expected is not None)
        assert expected is None or expected in found[0]


CELL = st.one_of(
    st.sampled_from(
        ["", "0", "1", "-1", "2", "1e400", "1e-320", "-0", "nan", "NA", "+", "-", "0:LIVING", "1,5", "TRUE"]
    ),
    st.floats(allow_nan=True).map(str),
    st.text(st.characters(exclude_characters=';"\r\n\0', exclude_categories=("Cs", "Zl", "Zp", "Cc")), max_size=6),
)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.sampled_from([SURVIVAL, CONTINUOUS, ORDINAL, LOW_TO_HIGH, {"label": "grade"}]),
    cells=st.lists(st.tuples(CELL, CELL), max_size=6),
    folds=st.sampled_from([None, 2, 5]),
)
def test_no_cells_make_reading_fail_otherwise_than_by_an_error(
    tmp_path: Path, keys: dict[str, object], cells: list[tuple[str, str]], folds: int | None
) -> None:
    is_survival = keys is SURVIVAL
    good = FOLLOWED if is_survival else GRADES if keys is LOW_TO_HIGH else NUMBERS
    try:
        found = survey(tmp_path, keys, [*good, *(pair if is_survival else pair[:1] for pair in cells)], folds)
    except PlexrankError:
        return
    cohort = found.require_rows()
    if not found.problems:
        assert len(cohort.images) + cohort.unlabelled == len(good) + len(cells)
    assert len(cohort.labels) == len(cohort.images)


def test_words_for_events_are_recognised_together_or_not_at_all() -> None:
    assert recognise_events(["alive", "DECEASED"]) == {"alive": False, "DECEASED": True}
    assert recognise_events(["0:DiseaseFree", "1:Recurred/Progressed"]) == {
        "0:DiseaseFree": False,
        "1:Recurred/Progressed": True,
    }
    assert recognise_events(["0", "1", "2"]) is None
    assert recognise_events(["dead", "withdrawn"]) is None
    assert recognise_events([]) is None
