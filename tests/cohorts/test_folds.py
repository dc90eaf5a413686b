"""Folds, classes that are too small for them, and patients with several sites or labels."""

from pathlib import Path

import pytest
from test_cohort import GOOD_ROWS, sheet

from plexrank.cohorts.cohort import read_cohort
from plexrank.cohorts.folds import deal_folds, most_folds, patient_strata
from plexrank.cohorts.outcomes import class_problems
from plexrank.outcome import make_outcome
from plexrank.settings import CohortSettings


def test_folds_share_no_patient_and_spread_every_label() -> None:
    strata = {f"p{number}": (("low", "high")[number % 3 == 0], ("x", "y")[number % 2]) for number in range(53)}
    folds = deal_folds(strata, 5, seed=1)
    assert folds.keys() == strata.keys()
    for label in ("low", "high"):
        counts = [sum(folds[p] == fold and strata[p][0] == label for p in strata) for fold in range(5)]
        assert max(counts) - min(counts) <= 1
    assert deal_folds(dict(reversed(strata.items())), 5, seed=1) == folds
    assert deal_folds(strata, 5, seed=2) != folds


def test_a_patient_of_two_sites_is_told(tmp_path: Path) -> None:
    rows = GOOD_ROWS.replace("i2,b.tiff,p2,", "i2,b.tiff,p1,") + "i6,f.tiff,p6,low,x\n"
    sites = [line.split(",")[-1] for line in rows.splitlines()[1:3]]
    assert sites[0] != sites[1]
    (warning,) = read_cohort(sheet(tmp_path, rows), folds=2).warnings[-1:]
    assert warning.endswith(
        "1 patient has images of several sites (p1); they are compared with patients of the same sites only"
    )


def test_a_patient_with_two_labels_is_one_stratum(tmp_path: Path) -> None:
    rows = GOOD_ROWS.replace("i2,b.tiff,p2,low", "i2,b.tiff,p3,low") + "i6,f.tiff,p6,low,x\n"
    cohort = read_cohort(sheet(tmp_path, rows), folds=2)
    assert patient_strata(cohort.images, cohort.outcome)["p3"] == ("high|low", "x|y")
    assert cohort.warnings[0].endswith(
        "sheet.csv: 1 patient has images of several values of 'grade': p3 (lines 3, 4); "
        "each such patient counts once per value"
    )


def members(**classes: int) -> list[tuple[str, str]]:
    return [(label, f"{label}{number}") for label, count in classes.items() for number in range(count)]


@pytest.mark.parametrize(
    ("classes", "folds"),
    [
        ({"a": 10, "b": 7}, 5),
        ({"a": 10, "b": 3}, 3),
        ({"a": 4, "b": 2}, 2),
        ({"a": 3, "b": 2}, None),
        ({"a": 2, "b": 2}, None),
        ({"a": 9, "b": 1}, None),
    ],
)
def test_as_many_folds_as_the_smallest_class_allows(classes: dict[str, int], folds: int | None) -> None:
    assert most_folds(members(**classes), 5, make_outcome("nominal", [*classes])) == folds


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            {"NR": 2, "R": 3},
            "class 'NR' has 2 patients and class 'R' has 3 patients, fewer than the 5 folds; no number of",
        ),
        ({"NR": 4, "R": 3}, "and class 'R' has 3 patients, fewer than the 5 folds; set train.folds to 3"),
        ({"NR": 9, "R": 3}, "class 'R' has 3 patients, fewer than the 5 folds; set train.folds to 3"),
        (
            {"NR": 9, "R": 1},
            "class 'R' has 1 patient, fewer than the 5 folds; no number of folds helps: every class needs two",
        ),
        (
            {"NR": 9, "R": 9, "r": 1},
            "class 'r' has 1 patient, fewer than the 5 folds; empty the label of these images (or correct it, "
            "where it is misspelt)",
        ),
        (
            {"NR": 9, "R": 9, "SD": 3, "PD": 4},
            "class 'PD' has 4 patients and class 'SD' has 3 patients, fewer than the 5 folds; set train.folds to 3 or "
            "empty the label of these images",
        ),
        (
            {str(n / 4): 1 for n in range(12)},
            "column 'grade' has 12 different numbers for 12 patients, which make no classes; set cohort.outcome: "
            "continuous, or divide them into groups in another column",
        ),
        (
            {f"g{n}": 1 for n in range(9)},
            "class 'g4' has 1 patient, … (9 such classes), fewer than the 5 folds; no num",
        ),
    ],
)
def test_small_classes_are_named_together_with_what_is_possible(classes: dict[str, int], message: str) -> None:
    settings = CohortSettings(samplesheet=Path("s.csv"), label="grade")
    (problem,) = class_problems(settings, make_outcome("nominal", [*classes]), members(**classes), 5)
    assert message in str(problem)
    assert ("set train.folds" in str(problem)) == ("set train.folds" in message)


def test_few_grades_in_numbers_are_groups() -> None:
    settings = CohortSettings(samplesheet=Path("s.csv"), label="grade")
    assert class_problems(settings, make_outcome("nominal", "123"), members(**{"1": 5, "2": 6, "3": 5}), 5) == []
    grades = {str(grade): 9 for grade in range(1, 7)} | {"33": 1}
    (problem,) = class_problems(settings, make_outcome("nominal", [*grades]), members(**grades), 5)
    assert "class '33' has 1 patient, fewer than the 5 folds; empty the label of these images (or correct" in str(
        problem
    )
