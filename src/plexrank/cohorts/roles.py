"""Whether every fold has the patients that training needs: some of each class or events, and some to validate on."""

from __future__ import annotations

from collections.abc import Sequence

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import INNER_FOLDS, Folds, make_folds, most_folds, no_folds_help, patients_of_groups
from plexrank.cohorts.null_labels import null_labels
from plexrank.errors import PlexrankError, StudyError, problems_of
from plexrank.outcome import Group
from plexrank.settings import Study
from plexrank.wording import counted

Findings = tuple[Sequence[PlexrankError], Sequence[str]]
"""Problems and warnings."""

_MOST_FOLDS = 20  # that are suggested


def role_findings(study: Study, cohort: Cohort) -> Findings:
    """What training would refuse of the folds, with what can be done, and what would make its results approximate."""
    num_folds = study.train.folds
    try:
        folds = make_folds(study, cohort.images, cohort.outcome)
    except PlexrankError as error:
        return problems_of(error), ()
    absent = _absent_groups(cohort, folds, num_folds)
    where, groups = study.cohort.where, cohort.outcome.groups
    all_out = (
        "holds out all of them" if cohort.outcome.has_classes else "holds out, validates on or leaves out all of them"
    )
    remedy = ", or empty the label of these images" if cohort.outcome.has_classes else ""
    problems: list[PlexrankError] = [
        StudyError(
            f"{where}: no {groups[group].one} is left to train on in fold {_listed(without)}, which {all_out}; "
            f"set train.split: folds{remedy}"
        )
        for group, without in absent["training"].items()
    ]
    unvalidated = [
        fold
        for fold in range(num_folds)
        if all(fold in absent["validation"].get(group, []) for group in _trained_on(groups))
    ]
    if unvalidated:
        what = "has no validation patients, which decide when training stops, since every class keeps one patient to"
        found = f"{what} train on" if cohort.outcome.has_classes else _without_validation(groups)
        problems.append(StudyError(f"{where}: fold {_listed(unvalidated)} {found}; {_remedy(study, cohort)}"))
    lonely, doubtful = _within_sites(cohort, folds)
    problems += [StudyError(f"{where}: {reason}") for reason in lonely]
    problems += [] if problems else _null_problems(study, cohort, folds)
    warnings = [*(f"{where}: {reason}" for reason in doubtful), *_held_out_warnings(study, cohort, folds)]
    warnings += [
        f"class {groups[group].name!r} has no patient among the validation patients of fold {_listed(without)}, which "
        f"decide when training stops; with {num_folds} folds this takes "
        f"{_patients_needed(num_folds, INNER_FOLDS - 1)} patients"
        for group, without in absent["validation"].items()
    ]
    return problems, [] if problems else [*_confounded(study, cohort), *warnings]


def _within_sites(cohort: Cohort, folds: Folds) -> tuple[list[str], list[str]]:
    """Why patients cannot be compared within their sites, and what makes that doubtful."""
    members = sorted({(image.label, image.patient_id) for image in cohort.images})
    sites = [folds.strata[patient][1] for _, patient in members]
    return cohort.outcome.lonely([level for level, _ in members], sites)


def _without_validation(groups: Sequence[Group]) -> str:
    missing = " or ".join(groups[group].one for group in _trained_on(groups))
    return f"has no {missing} among its validation patients, which decide when training stops"


def _held_out_warnings(study: Study, cohort: Cohort, folds: Folds) -> list[str]:
    """Where given folds hold out fewer of a group than those that are dealt; of classes any number is fine."""
    if cohort.outcome.has_classes:
        return []
    warnings = []
    for group, counts in zip(cohort.outcome.groups, held_out_patients(cohort, folds, study.train.folds), strict=True):
        few = [fold for fold, count in enumerate(counts) if count < group.least_held_out]
        if few:
            warnings.append(
                f"{study.cohort.where}: fold {_listed(few)} holds out fewer than "
                f"{counted(group.least_held_out, group.one)}: within such a fold no prediction can be judged"
            )
    return warnings


def held_out_patients(cohort: Cohort, folds: Folds, num_folds: int) -> list[list[int]]:
    """How many patients of each group of the outcome each fold holds out."""
    members = [
        [(cohort.images[index].label, cohort.images[index].patient_id) for index in folds.with_role(fold, "held_out")]
        for fold in range(num_folds)
    ]
    of_folds = [patients_of_groups(own, cohort.outcome) for own in members]
    return [[counts[group] for counts in of_folds] for group in range(len(cohort.outcome.groups))]


def _null_problems(study: Study, cohort: Cohort, folds: Folds) -> list[PlexrankError]:
    """Why null trainings cannot permute the labels, if so."""
    try:
        null_labels(study, cohort, folds)
    except StudyError as error:
        return [error]
    return []


def _absent_groups(cohort: Cohort, folds: Folds, num_folds: int) -> dict[str, dict[int, list[int]]]:
    """Role → group that is to be trained on → the folds in which no image of the role is of that group."""
    absent: dict[str, dict[int, list[int]]] = {"training": {}, "validation": {}}
    group_of_image = cohort.outcome.group_of(cohort.labels)
    for fold in range(num_folds):
        for role, without in absent.items():
            present = set(group_of_image[folds.with_role(fold, role)].tolist())
            for group in _trained_on(cohort.outcome.groups):
                if group not in present:
                    without.setdefault(group, []).append(fold)
    return absent


def _trained_on(groups: Sequence[Group]) -> list[int]:
    return [number for number, group in enumerate(groups) if group.is_trained_on]


def _remedy(study: Study, cohort: Cohort) -> str:
    """A number of folds that leaves all that is needed, where there is one."""
    members = [(image.label, image.patient_id) for image in cohort.images]
    folds = most_folds(members, _MOST_FOLDS, cohort.outcome)
    if folds is None:
        return no_folds_help(cohort.outcome)
    return f"set train.folds to {folds}" if study.train.split == "folds" else "set train.split: folds"


def _confounded(study: Study, cohort: Cohort) -> list[str]:
    """A warning where label and site are confounded, since every site has one class only."""
    labels: dict[str, set[str]] = {}
    for image in cohort.images if cohort.outcome.has_classes else ():
        if image.site:
            labels.setdefault(image.site, set()).add(image.label)
    if len(labels) < 2 or any(len(own) > 1 for own in labels.values()):
        return []
    sites = ", ".join(f"{site} has {next(iter(own))!r} only" for site, own in sorted(labels.items())[:5])
    return [
        f"{study.cohort.where}: every site has images of one class only "
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
