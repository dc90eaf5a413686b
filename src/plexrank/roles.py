"""Whether every fold has the patients that training needs: some of each class, and some to validate on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plexrank.cohort import NO_FOLDS_HELP, Cohort, most_folds
from plexrank.errors import PlexrankError, StudyError, problems_of
from plexrank.plan import INNER_FOLDS, Plan
from plexrank.rundir import RunDir
from plexrank.settings import Study
from plexrank.splits import split_patients

Findings = tuple[Sequence[PlexrankError], Sequence[str]]
"""Problems and warnings."""

_MOST_FOLDS = 20  # that are suggested


def role_findings(study: Study, cohort: Cohort) -> Findings:
    """What training would refuse of the folds, with what can be done, and what would make it rough."""
    folds = study.train.folds
    try:
        absent = _absent_classes(study, cohort)
    except PlexrankError as error:
        return problems_of(error), ()
    where = f"{study.cohort.samplesheet}: column {study.cohort.label!r}"
    problems: list[PlexrankError] = [
        StudyError(
            f"{where}: no patient of class {label!r} is left to train on in fold {_listed(without)}, which holds out "
            "all of them; set train.split: folds, or empty the label of these images"
        )
        for label, without in absent["training"].items()
    ]
    unvalidated = [
        fold for fold in range(folds) if all(fold in absent["validation"].get(label, []) for label in cohort.classes)
    ]
    if unvalidated:
        problems.append(
            StudyError(
                f"{where}: fold {_listed(unvalidated)} leaves no patient to validate on, by whom training chooses when "
                f"to stop: every class keeps one patient to train on; {_remedy(study, cohort)}"
            )
        )
    problems += [] if problems else _null_problems(study, cohort)
    warnings = [
        f"class {label!r} has no patient among the validation patients of fold {_listed(without)}, which decide when "
        f"training stops; with {folds} folds this takes {_patients_needed(folds, INNER_FOLDS - 1)} patients"
        for label, without in absent["validation"].items()
    ]
    return problems, [] if problems else [*_confounded(study, cohort), *warnings]


def _null_problems(study: Study, cohort: Cohort) -> list[PlexrankError]:
    """Why null trainings cannot permute the labels, if so."""
    try:
        _ = _plan(study, cohort).null_labels
    except StudyError as error:
        return [error]
    return []


def _plan(study: Study, cohort: Cohort) -> Plan:
    return Plan(RunDir(Path()), study, cohort, split_patients(study, cohort.images))


def _absent_classes(study: Study, cohort: Cohort) -> dict[str, dict[str, list[int]]]:
    """Role → class → the folds in which no image of the role is of that class."""
    plan = _plan(study, cohort)
    absent: dict[str, dict[str, list[int]]] = {"training": {}, "validation": {}}
    for fold in range(study.train.folds):
        for role, without in absent.items():
            present = {cohort.images[index].label for index in plan.images(fold, role)}
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
    """A warning where the site of a patient tells the class, so that one cannot be told from the other."""
    labels: dict[str, set[str]] = {}
    for image in cohort.images:
        if image.site:
            labels.setdefault(image.site, set()).add(image.label)
    if len(labels) < 2 or any(len(own) > 1 for own in labels.values()):
        return []
    sites = ", ".join(f"{site} has {next(iter(own))!r} only" for site, own in sorted(labels.items())[:5])
    return [
        f"{study.cohort.samplesheet}: column {study.cohort.label!r}: every site has images of one class only "
        f"({sites}), so that no analysis can tell the label from the site: no channel will be called significant. It "
        "takes patients of both classes from one site"
    ]


def _patients_needed(folds: int, training: int) -> int:
    """Patients of a class of which at least so many are trained on in every fold, besides some for validation."""
    patients = folds
    while (inside := patients - -(-patients // folds)) - -(-inside // INNER_FOLDS) < training:
        patients += 1
    return patients


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))
