"""Folds that leave nothing to train or validate on, and labels that are the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.roles import role_findings
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.outcome.nominal import Nominal
from plexrank.settings import CohortSettings, ModelSettings, Study, TrainSettings


def findings(num_a: int, num_b: int, folds: int, sites: str = "") -> tuple[list[str], list[str]]:
    """Problems and warnings of a cohort with so many patients of two classes; a site a patient, over and over."""
    images = tuple(
        ImageRecord(
            image_id=f"i{number}",
            path=Path(f"/i{number}"),
            patient_id=f"P{number}",
            label="a" if number < num_a else "b",
            site=sites[number % len(sites)] if sites else None,
            mask=None,
            panel=None,
            sheet=Path("/s.csv"),
            line=number + 2,
        )
        for number in range(num_a + num_b)
    )
    study = Study(
        name="roles",
        cohort=CohortSettings(samplesheet=Path("/s.csv"), label="grade"),
        model=ModelSettings(backbone="shallow", weights="none"),
        train=TrainSettings(folds=folds),
    )
    problems, warnings = role_findings(study, Cohort(images, Nominal(("a", "b")), None, 0, ()))
    return [str(problem) for problem in problems], list(warnings)


@pytest.mark.parametrize(("num_a", "num_b", "folds"), [(3, 3, 2), (3, 3, 3), (2, 4, 2), (10, 10, 5)])
def test_folds_with_someone_to_validate_on_are_fine(num_a: int, num_b: int, folds: int) -> None:
    assert findings(num_a, num_b, folds)[0] == []


@pytest.mark.parametrize(("num_a", "num_b", "folds"), [(2, 2, "0, 1"), (3, 2, "0")])
def test_folds_without_validation_are_refused_with_what_helps(num_a: int, num_b: int, folds: str) -> None:
    (problem,) = findings(num_a, num_b, 2)[0]
    assert f"fold {folds} has no validation patients" in problem
    assert "no number of folds helps: every class needs two patients, and one class three" in problem


def test_a_label_that_is_the_site_is_warned_of() -> None:
    problems, warnings = findings(10, 10, 5, "x" * 10 + "y" * 10)
    assert problems == []
    assert "every site has images of one class only (x has 'a' only, y has 'b' only)" in warnings[0]
    assert not [one for one in findings(10, 10, 5, "xy")[1] if "every site" in one]
    assert not [one for one in findings(10, 10, 5, "x")[1] if "every site" in one]
