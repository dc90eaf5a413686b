"""Whether every fold has the patients that training needs: some of each class, and some to validate on."""

from __future__ import annotations

from collections.abc import Sequence

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import INNER_FOLDS, NO_FOLDS_HELP, Folds, make_folds, most_folds
from plexrank.cohorts.null_labels import null_labels
from plexrank.errors import PlexrankError, StudyError, problems_of
from plexrank.settings import Study

Findings = tuple[Sequence[PlexrankError], Sequence[str]]
"""Problems and warnings."""

_MOST_FOLDS = 20  # that are suggested


def role_findings(study: Study, cohort: Cohort) -> Findings:
    """What training would refuse of the folds, with what can be done, and what would make its results approximate."""
    num_folds = study.train.folds
    try:
        folds = make_folds(study, cohort.images)
    except PlexrankError as error:
        return problems_of(error), ()
    absent = _absent_classes(cohort, folds, num_folds)
    where = f"{study.cohort.samplesheet}: column {study.cohort.label!r}"
    problems: list[PlexrankError] = [
        StudyError(
            f"{where}: no patient of class {label!r} is left to train on in fold {_listed(without)}, which holds out "
            "all of them; set train.split: folds, or empty the label of these images"
        )
        for label, without in absent["training"].items()
    ]
    unvalidated = [
        fold
        for fold in range(num_folds)
        if all(fold in absent["validation"].get(label, []) for label in cohort.classes)
    ]
    if unvalidated:
        problems.append(
            StudyError(
                f"{where}: fold {_listed(unvalidated)} has no validation patients, which decide when training "
                f"stops, since every class keeps one patient to train on; {_remedy(study, cohort)}"
            )
        )
    problems += [] if problems else _null_problems(study, cohort, folds)
    warnings = [
        f"class {label!r} has no patient among the validation patients of fold {_listed(without)}, which decide when "
        f"training stops; with {num_folds} folds this takes {_patients_needed(num_folds, INNER_FOLDS - 1)} patients"
        for label, without in absent["validation"].items()
    ]
    return problems, [] if problems else [*_confounded(study, cohort), *warnings]


def _null_problems(study: Study, cohort: Cohort, folds: Folds) -> list[PlexrankError]:
    """Why null trainings cannot permute the labels, if so."""
    try:
        null_labels(study, cohort, folds)
    except StudyError as error:
        return [error]
    return []


def _absent_classes(cohort: Cohort, folds: Folds, num_folds: int) -> dict[str, dict[str, list[int]]]:
    """Role → class → the folds in which no image of the role is of that class."""
    absent: dict[str, dict[str, list[int]]] = {"training": {}, "validation": {}}
    for fold in range(num_folds):
        for role, without in absent.items():
            present = {cohort.images[index].label for index in folds.with_role(fold, role)}
            for label in cohort.classes:
                if label not in present:
                    without.setdefault(label, []).append(fold)
    return absent


def _remedy(study: Study, cohort: Cohort) -> str:
    """A number of folds that leaves all that is needed, where there is one."""
    folds = most_folds([(image.label, image.patient_id) for image in cohort.images], _MOST_FOLDS)
    if folds is None:
        return NO_FOLDS_HELP
    return f"set train.folds to {folds}" if study.train.split == "folds" else "set train.split: folds"


def _confounded(study: Study, cohort: Cohort) -> list[str]:
    """A warning where label and site are confounded, since every site has one class only."""
    labels: dict[str, set[str]] = {}
    for image in cohort.images:
        if image.site:
            labels.setdefault(image.site, set()).add(image.label)
    if len(labels) < 2 or any(len(own) > 1 for own in labels.values()):
        return []
    sites = ", ".join(f"{site} has {next(iter(own))!r} only" for site, own in sorted(labels.items())[:5])
    return [
        f"{study.cohort.samplesheet}: column {study.cohort.label!r}: every site has images of one class only "
        f"({sites}): label and site are confounded, no analysis can separate them, and no channel will be called "
        "significant. Add patients so that one site has two classes or more"
    ]


def _patients_needed(folds: int, training: int) -> int:
    """Patients of a class of which at least so many are trained on in every fold, besides some for validation."""
    patients = folds
    while (inside := patients - -(-patients // folds)) - -(-inside // INNER_FOLDS) < training:
        patients += 1
    return patients


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))
