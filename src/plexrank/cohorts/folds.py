"""Folds: which patients each holds out, validates on and trains on: dealt evenly, by site, or as given."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.cohorts.tables import read_table
from plexrank.errors import MissingInputError, StudyError
from plexrank.outcome import Outcome
from plexrank.settings import Study
from plexrank.wording import counted

ROLES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Values of a column ``split`` that do not name folds."""
INNER_FOLDS = 5
"""Parts of the training patients, one of which chooses the epoch."""
_NO_FOLDS_HELP = "no number of folds helps"


@dataclass(frozen=True)
class Split:
    """The folds of a cohort.

    Attributes:
        fold_of_patient: the fold that holds each patient out, 0-based.
        validation: for each fold the patients that choose the epoch; empty where they are to be dealt.
        unused: for each fold the patients that it neither trains on nor holds out; empty where there are none.
    """

    fold_of_patient: dict[str, int]
    validation: tuple[frozenset[str], ...] = ()
    unused: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True)
class Folds:
    """Which images of a cohort have which role in each fold.

    Attributes:
        images: of the cohort.
        split: which patients each fold holds out, and which choose the epoch where that is given.
        outcome: of the cohort.
        seed: of the study, by which validation patients are dealt.
    """

    images: tuple[ImageRecord, ...]
    split: Split
    outcome: Outcome
    seed: int

    @functools.cached_property
    def strata(self) -> dict[str, tuple[str, str]]:
        """Patient id → (outcome, sites), as :func:`patient_strata`."""
        return patient_strata(self.images, self.outcome)

    @functools.cached_property
    def groups(self) -> dict[str, str]:
        """Patient id → groups, as :func:`groups_of_patients`."""
        return groups_of_patients(((image.label, image.patient_id) for image in self.images), self.outcome)

    def with_role(self, fold: int, role: str) -> list[int]:
        """Indices into ``images`` of a fold's ``held_out``, ``validation`` or ``training`` images.

        The inner validation patients are as given, or one of :data:`INNER_FOLDS` parts of the training patients, dealt
        like the folds, so that no patient has images in two roles. Patients that given splits leave out of a fold have
        none of these roles in it.
        """
        unused = self.split.unused[fold] if self.split.unused else frozenset()
        roles = dict.fromkeys(self.split.fold_of_patient, "training")
        roles |= dict.fromkeys(self._validation(fold), "validation") | dict.fromkeys(unused, "unused")
        roles |= {patient: "held_out" for patient, own in self.split.fold_of_patient.items() if own == fold}
        return [index for index, image in enumerate(self.images) if roles[image.patient_id] == role]

    def _validation(self, fold: int) -> frozenset[str]:
        if self.split.validation:
            return self.split.validation[fold]
        inside = {patient: self.strata[patient] for patient, own in self.split.fold_of_patient.items() if own != fold}
        left = Counter(self.groups[patient] for patient in inside)
        inside = {patient: own for patient, own in inside.items() if left[self.groups[patient]] > 1}  # or trained on
        inner = deal_folds(inside, INNER_FOLDS, seed=self.seed + 1 + fold)
        return frozenset(patient for patient, part in inner.items() if part == 0)


def make_folds(study: Study, images: Sequence[ImageRecord], outcome: Outcome) -> Folds:
    """The folds of a study.

    Raises:
        StudyError, MissingInputError: as :func:`split_patients`.
    """
    return Folds(tuple(images), split_patients(study, images, outcome), outcome, study.seed)


def split_patients(study: Study, images: Sequence[ImageRecord], outcome: Outcome) -> Split:
    """Assign every patient to the fold that holds it out, as ``train.split`` says.

    Raises:
        StudyError: what is given does not hold out every patient once, or ``train.folds`` is another number of folds.
        MissingInputError: the folder of splits lacks a file.
    """
    split, folds = study.train.split, study.train.folds
    if split == "folds":
        return Split(deal_folds(patient_strata(images, outcome), folds, study.seed))
    if isinstance(split, Path):
        return _from_files(split, images, folds)
    if split == "site":
        of_patient = _one_each(((image.patient_id, image.site) for image in images), "site")
        names = sorted(set(of_patient.values()))
    else:
        of_patient = _one_each(((image.patient_id, image.split) for image in images), "split")
        names = sorted(set(of_patient.values()), key=lambda name: (len(name), name))
        _refuse_roles(names)
    if len(names) != folds:
        raise StudyError(
            f"train.folds is {folds}, but train.split: {split} makes a fold of each of {len(names)} values "
            f"({', '.join(names[:8])}); " + (f"set train.folds: {len(names)}" if len(names) > 1 else "use folds")
        )
    return Split({patient: names.index(name) for patient, name in of_patient.items()})


def patient_strata(images: Iterable[ImageRecord], outcome: Outcome) -> dict[str, tuple[str, str]]:
    """Patient id → (outcome, sites), each joined where a patient has several; of the outcome what is dealt evenly."""
    images = list(images)
    sites: dict[str, set[str]] = {}
    for image in images:
        sites.setdefault(image.patient_id, set()).add(image.site or "")
    dealt = outcome_strata(((image.label, image.patient_id) for image in images), outcome)
    return {patient: (dealt[patient], "|".join(sorted(own))) for patient, own in sites.items()}


def outcome_strata(members: Iterable[tuple[str, str]], outcome: Outcome) -> dict[str, str]:
    """Patient id → what is dealt evenly of its outcome, of (level, patient) of the images."""
    pairs = sorted(set(members))
    strata: dict[str, set[str]] = {}
    for (_, patient), stratum in zip(pairs, outcome.strata([level for level, _ in pairs]), strict=True):
        strata.setdefault(patient, set()).add(stratum)
    return {patient: "|".join(sorted(own)) for patient, own in strata.items()}


def deal_folds(strata: Mapping[str, Sequence[str]], folds: int, seed: int) -> dict[str, int]:
    """Deal patients into folds so that every stratum is spread evenly.

    Args:
        strata: patient id → what to balance, most important first (label, then site).
        folds: number of folds.
        seed: decides the order within equal strata.

    Returns:
        Patient id → fold, 0-based. Fold sizes differ by at most one, and so does every label's share.
    """
    generator = np.random.default_rng(seed)
    patients = sorted(strata)
    shuffled = [patients[index] for index in generator.permutation(len(patients))]
    ordered = sorted(shuffled, key=lambda patient: tuple(strata[patient]))
    return {patient: position % folds for position, patient in enumerate(ordered)}


def most_folds(members: Iterable[tuple[str, str]], limit: int, outcome: Outcome) -> int | None:
    """The most folds, up to ``limit``, of which each holds out, trains on and validates on some patients.

    Args:
        members: (level, patient) of the images.
        limit: at least 2.
        outcome: of the cohort.

    Returns:
        ``None`` where there are too few patients for any number of folds.
    """
    members = [*members]
    most = min(
        (
            count // group.least_held_out
            for group, count in zip(outcome.groups, patients_of_groups(members, outcome), strict=True)
            if group.least_held_out and (count or not outcome.has_classes)
        ),
        default=0,
    )
    strata = {patient: (own,) for patient, own in outcome_strata(members, outcome).items()}
    groups = groups_of_patients(members, outcome)
    for folds in range(min(limit, most), 1, -1):
        dealt = deal_folds(strata, folds, seed=0)
        left = [Counter(groups[patient] for patient, own in dealt.items() if own != fold) for fold in range(folds)]
        if all(max(of_fold.values()) > 1 for of_fold in left):
            return folds
    return None


def no_folds_help(outcome: Outcome) -> str:
    """What to say where :func:`most_folds` finds none."""
    if outcome.has_classes:
        return f"{_NO_FOLDS_HELP}: every class needs two patients, and one class three"
    needed = [counted(2 * group.least_held_out, group.one) for group in outcome.groups if group.least_held_out]
    return f"{_NO_FOLDS_HELP}: it takes {' and '.join(needed)}"


def groups_of_patients(members: Iterable[tuple[str, str]], outcome: Outcome) -> dict[str, str]:
    """Patient id → names of its groups, joined where it has several, of (level, patient) of the images."""
    pairs = sorted(set(members))
    found: dict[str, set[str]] = {}
    for (_, patient), group in zip(pairs, outcome.group_of(outcome.labels([own for own, _ in pairs])), strict=True):
        found.setdefault(patient, set()).add(outcome.groups[group].name)
    return {patient: "|".join(sorted(own)) for patient, own in found.items()}


def patients_of_groups(members: Iterable[tuple[str, str]], outcome: Outcome) -> list[int]:
    """How many patients each group of the outcome has, of (level, patient) of the images."""
    pairs = sorted(set(members))
    group = outcome.group_of(outcome.labels([level for level, _ in pairs]))
    found = {(int(own), patient) for own, (_, patient) in zip(group, pairs, strict=True)}
    counts = Counter(own for own, _ in found)
    return [counts[number] for number in range(len(outcome.groups))]


def _refuse_roles(names: Sequence[str]) -> None:
    """A split into training and test is no set of folds, though its values could be taken for one."""
    roles = [name for name in names if name.lower() in ROLES]
    if roles:
        raise StudyError(
            f"train.split: given makes a fold of each value of the column split, and {', '.join(roles)} says what a "
            "patient is for instead; a ranking needs every patient held out once: number the folds in the column, or "
            "set train.split: folds"
        )


def _one_each(values: Iterable[tuple[str, str | None]], column: str) -> dict[str, str]:
    """The one value that all images of each patient have in a column."""
    found: dict[str, set[str | None]] = {}
    for patient, value in values:
        found.setdefault(patient, set()).add(value)
    wrong = [patient for patient, own in found.items() if len(own) > 1 or None in own]
    if len(wrong) == len(found) and not any(value for own in found.values() for value in own):
        raise StudyError(
            f"train.split needs one {column} for each patient, but the samplesheet has no column {column!r} or an "
            "empty one; fill it in or set train.split: folds"
        )
    if wrong:
        raise StudyError(
            f"train.split needs one {column} for each patient, but {len(wrong)} have several or none "
            f"({', '.join(sorted(wrong)[:5])}); fix the column {column!r} of the samplesheet or set train.split: folds"
        )
    return {patient: value for patient, own in found.items() for value in own if value is not None}


def _from_files(folder: Path, images: Sequence[ImageRecord], folds: int) -> Split:
    """The folds of ``splits_0.csv`` and so on, as CLAM writes them: columns train, val and test of image ids."""
    if not folder.is_dir():
        raise MissingInputError(
            f"train.split: {folder}: no such folder; give folds, site, given, or the folder that holds splits_0.csv"
        )
    patient_of = {image.image_id: image.patient_id for image in images}
    roles = [_read_roles(folder / f"splits_{fold}.csv", patient_of) for fold in range(folds)]
    fold_of_patient: dict[str, int] = {}
    for fold, (_, _, held_out) in enumerate(roles):
        twice = sorted(held_out & fold_of_patient.keys())
        if twice:
            raise StudyError(
                f"{folder}: splits_{fold_of_patient[twice[0]]}.csv and splits_{fold}.csv both hold out {twice[0]} in "
                "the column test; a ranking needs every patient held out once"
            )
        fold_of_patient |= dict.fromkeys(held_out, fold)
    never = sorted(set(patient_of.values()) - fold_of_patient.keys())
    if never:
        raise StudyError(
            f"{folder}: {counted(len(never), 'patient', 'is')} in no column test of splits_0.csv to "
            f"splits_{folds - 1}.csv ({', '.join(never[:5])}); a ranking needs every patient held out once"
        )
    for fold, (training, validation, held_out) in enumerate(roles):
        shared = sorted((training & validation) | (training & held_out) | (validation & held_out))
        if shared:
            raise StudyError(f"{folder / f'splits_{fold}.csv'}: patient {shared[0]} is in several columns")
    return Split(
        fold_of_patient,
        validation=tuple(frozenset(validation) for _, validation, _ in roles),
        unused=tuple(frozenset(fold_of_patient.keys() - set().union(*of_fold)) for of_fold in roles),
    )


def _read_roles(path: Path, patient_of: dict[str, str]) -> tuple[set[str], set[str], set[str]]:
    """Patients of the columns train, val and test; images that the cohort does not have are passed over."""
    table = read_table(path)
    missing = [column for column in ("train", "val", "test") if column not in table.columns]
    if missing:
        raise StudyError(f"{path}: column {missing[0]!r} is missing; expected train, val and test with image ids")
    train, validation, test = (
        {patient_of[row[column]] for row in table.rows if row[column] in patient_of}
        for column in ("train", "val", "test")
    )
    return train, validation, test
