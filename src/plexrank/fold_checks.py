"""Whether every fold can be trained, before any compute. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from plexrank.cohort import Cohort
from plexrank.errors import PlexrankError, StudyError, problems_of
from plexrank.plan import INNER_FOLDS, Plan
from plexrank.rundir import RunDir
from plexrank.settings import Study
from plexrank.splits import split_patients


def check_folds(study: Study, cohort: Cohort) -> tuple[list[PlexrankError], list[str]]:
    """Problems and warnings of the folds.

    A class that is not among the training images of a fold is a problem, and so are labels that null trainings cannot
    permute; a class without validation patients is worth a warning.
    """
    folds = study.train.folds
    try:
        plan = Plan(RunDir(Path()), study, cohort, split_patients(study, cohort.images))
    except PlexrankError as error:
        return problems_of(error), []
    absent: dict[str, dict[str, list[int]]] = {"training": {}, "validation": {}}
    for fold in range(folds):
        for role, without in absent.items():
            present = {cohort.images[index].label for index in plan.images(fold, role)}
            for label in cohort.classes:
                if label not in present:
                    without.setdefault(label, []).append(fold)
    problems: list[PlexrankError] = [
        StudyError(
            f"{study.cohort.samplesheet}: column {study.cohort.label!r}: no patient of class {label!r} is left to "
            f"train on in fold {_listed(without)}, which holds out all of them; set train.split: folds, or empty the "
            "label of these images"
        )
        for label, without in absent["training"].items()
    ]
    if not problems:
        try:
            plan.null_labels  # noqa: B018  raises what stands in their way
        except StudyError as error:
            problems.append(error)
    warnings = [
        f"class {label!r} has no patient among the validation patients of fold {_listed(without)}, which decide when "
        f"training stops; with {folds} folds this takes {_patients_needed(folds, INNER_FOLDS - 1)} patients"
        for label, without in absent["validation"].items()
    ]
    return problems, warnings


def _patients_needed(folds: int, training: int) -> int:
    """Patients of a class of which at least so many are trained on in every fold, besides some for validation."""
    patients = folds
    while (inside := patients - -(-patients // folds)) - -(-inside // INNER_FOLDS) < training:
        patients += 1
    return patients


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))
