"""What `check` says first of a study: what its outcome is, so that a wrong column or coding is seen at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.event_words import turned_values, words_of_event
from plexrank.cohorts.folds import make_folds
from plexrank.cohorts.roles import held_out_patients
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import PlexrankError
from plexrank.outcome import Outcome
from plexrank.outcome.survival import Survival
from plexrank.settings import CohortSettings, Study
from plexrank.wording import counted

_NAMED = {"ordinal": "ordinal, patients of each grade, lowest first"}


@dataclass(frozen=True)
class ClassCounts:
    """A class of the cohort: its patients, its images, and its images of each site, where the samplesheet has sites."""

    label: str
    n_patients: int
    n_images: int
    images_of_site: dict[str, int]


@dataclass(frozen=True)
class OutcomeSummary:
    """The outcome of a cohort.

    Attributes:
        kind: nominal, ordinal, continuous or survival.
        described: sentences, none where the counts say all.
        groups: classes, or patients with and without an event.
    """

    kind: str
    described: tuple[str, ...]
    groups: tuple[ClassCounts, ...]

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        first = "outcome"
        return [f"{first if not place else '':18} {line}" for place, line in enumerate(self.described)]


def summarise_outcome(
    study: Study, cohort: Cohort, records: Sequence[ImageRecord], *, has_folds: bool
) -> OutcomeSummary:
    """What is to say of the outcome.

    Args:
        study: of the cohort.
        cohort: the images that can be used.
        records: the images to count.
        has_folds: whether patients can be dealt into folds, as far as is known.
    """
    settings, outcome = study.cohort, cohort.outcome
    members = sorted({(record.label, record.patient_id) for record in records})
    levels = [level for level, _ in members]
    groups = count_classes(outcome, records)
    described = outcome.describe(levels) if levels else ""
    if settings.outcome == "ordinal" and levels:
        described = ", ".join(f"{group.label} ({group.n_patients})" for group in groups)
    if not described:
        return OutcomeSummary(settings.outcome, (), groups)
    lines = [f"{_NAMED.get(settings.outcome, settings.outcome)}: {described}"]
    if isinstance(outcome, Survival):
        lines.append(_coding(settings, outcome, levels))
    if has_folds and not outcome.has_classes:
        lines += _of_folds(study, cohort)
    if cohort.unlabelled:
        what = f"value in {' or '.join(f'column {column!r}' for column in settings.outcome_columns)}"
        lines.append(f"{counted(cohort.unlabelled, 'image', 'has')} no {what} and {_are(cohort.unlabelled)} left out")
    return OutcomeSummary(settings.outcome, tuple(lines), groups)


def count_classes(outcome: Outcome, images: Sequence[ImageRecord]) -> tuple[ClassCounts, ...]:
    """Patients and images of each group of an outcome."""
    sites = sorted({image.site for image in images if image.site})
    groups = outcome.group_of(outcome.labels([image.label for image in images]))
    counts = []
    for number, group in enumerate(outcome.groups):
        own = [image for image, of_image in zip(images, groups, strict=True) if of_image == number]
        of_site = {site: sum(image.site == site for image in own) for site in sites}
        counts.append(ClassCounts(group.name, len({image.patient_id for image in own}), len(own), of_site))
    return tuple(counts)


def _coding(settings: CohortSettings, outcome: Survival, levels: Sequence[str]) -> str:
    """Which word counts as the event, and what to do where it means the contrary, if it may."""
    label = outcome.labels(levels)
    time, event = outcome.time[label], outcome.event[label]
    words = words_of_event(settings.event_values)
    found = f"{words} in column {settings.event!r} = the event happened: {event.sum()} of {len(event)}"
    doubts = []
    if 2 * event.sum() > len(event):
        doubts.append("that is most patients")
    if event.any() and not event.all() and np.median(time[~event]) < np.median(time[event]):
        doubts.append("those without it were followed for less time")
    if not doubts:
        return found
    turned = turned_values(settings.event_values)
    return f"{found} ({' and '.join(doubts)}; where it means censored, set cohort.event_values: {turned})"


def _of_folds(study: Study, cohort: Cohort) -> list[str]:
    try:
        folds = make_folds(study, cohort.images, cohort.outcome)
    except PlexrankError:  # reported with the problems
        return []
    group, counts = cohort.outcome.groups[0], held_out_patients(cohort, folds, study.train.folds)[0]
    return [f"{group.one}s in the folds: {', '.join(map(str, counts))}"]


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
