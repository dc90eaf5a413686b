"""The outcome of a cohort as its samplesheet has it, and whether there are patients enough to learn it from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from plexrank.cohorts.event_words import turned_values, words_of_event
from plexrank.cohorts.folds import most_folds, no_folds_help, patients_of_groups
from plexrank.cohorts.spelling import reads_as_number
from plexrank.errors import PlexrankError, StudyError
from plexrank.outcome import Outcome, make_outcome
from plexrank.outcome.survival import Survival
from plexrank.settings import CohortSettings
from plexrank.wording import counted

NUMBERS_HELP = "set cohort.outcome: continuous, or divide them into groups in another column"
_SHOWN = 5
_MOST_NUMBERED_GROUPS = 5  # grades, subtypes


def read_outcome(settings: CohortSettings, members: Iterable[tuple[str, str]]) -> Outcome:
    """The outcome, of (level, patient) of the labelled images."""
    levels = [level for level, _ in sorted(set(members))]
    order = settings.order or _numbers_in_order(levels)
    return make_outcome(settings.outcome, levels, order)


def _numbers_in_order(levels: Sequence[str]) -> tuple[str, ...]:
    """Different levels, the lowest first where they are numbers."""
    different = sorted(set(levels))
    return tuple(sorted(different, key=float) if all(map(reads_as_number, different)) else different)


def outcome_problems(
    settings: CohortSettings,
    outcome: Outcome,
    members: Iterable[tuple[str, str]],
    folds: int | None,
    num_left_out: int = 0,
) -> list[PlexrankError]:
    """Whether there is something to explain, and of each group as many patients as the folds take.

    Args:
        settings: name the columns.
        outcome: of all labelled images.
        members: (level, patient) of the images to count.
        folds: into how many parts patients are dealt; ``None`` where folds are given, which takes one to train on and
            one to hold out.
        num_left_out: how many images are left out as bad.
    """
    members = [*members]
    levels = {level for level, _ in members}
    if settings.outcome == "ordinal" and not num_left_out and (problems := _grade_problems(settings, levels)):
        return problems
    if outcome.has_classes:
        return class_problems(settings, outcome, members, folds, num_left_out)
    return _number_problems(settings, outcome, members, folds)


def outcome_warnings(settings: CohortSettings, outcome: Outcome, members: Iterable[tuple[str, str]]) -> list[str]:
    """What makes the outcome doubtful."""
    members = [*members]
    _, few = outcome.shortcomings(patients_of_groups(members, outcome))
    levels = _levels_of_patients(members)
    wrong, odd = outcome.oddities(levels)
    doubts = [] if wrong else _doubts_of_coding(settings, outcome, levels)
    return [f"{settings.where}: {warning}" for warning in (*few, *odd, *doubts)]


def _doubts_of_coding(settings: CohortSettings, outcome: Outcome, levels: Sequence[str]) -> list[str]:
    """That the event may be coded the other way round: copies of one cohort are published both ways."""
    if not isinstance(outcome, Survival) or not levels:
        return []
    label = outcome.labels(levels)
    time, event = outcome.time[label], outcome.event[label]
    if 2 * event.sum() <= len(event) or event.all() or np.median(time[~event]) >= np.median(time[event]):
        return []
    return [
        f"the event may be coded the other way round: {event.sum()} of {len(event)} patients have it "
        f"({settings.event} = {words_of_event(settings.event_values)}), and the others were followed for less time, as "
        f"those who have an event are; where it means censored, set cohort.event_values: "
        f"{turned_values(settings.event_values)}"
    ]


def _levels_of_patients(members: Iterable[tuple[str, str]]) -> list[str]:
    return [level for level, _ in sorted(set(members))]


def _grade_problems(settings: CohortSettings, levels: set[str]) -> list[PlexrankError]:
    if not settings.order:
        if all(map(reads_as_number, levels)):
            return []
        return [
            StudyError(
                f"cohort.order is missing: {settings.where} has the grades {', '.join(sorted(levels))}, not all of "
                "which are numbers; name each once, the lowest first"
            )
        ]
    without = [grade for grade in settings.order if grade not in levels]
    if not without or not levels:
        return []
    return [
        StudyError(
            f"{settings.where}: no image has {_listed(without)}, which cohort.order names; remove it from the order "
            f"or correct it there: the column has {', '.join(sorted(levels))}"
        )
    ]


def order_problems(key: str, ordered: Sequence[str], classes: Sequence[str]) -> list[PlexrankError]:
    """Whether an order of the classes (empty for none) names each of them once.

    Args:
        key: of the study that gives it.
    """
    if not ordered or sorted(ordered) == sorted(classes):
        return []
    return [
        StudyError(
            f"{key} is {', '.join(ordered)}, but the classes are {', '.join(classes)}; name each once, the lowest first"
        )
    ]


def _number_problems(
    settings: CohortSettings, outcome: Outcome, members: Sequence[tuple[str, str]], folds: int | None
) -> list[PlexrankError]:
    if len({level for level, _ in members}) < 2:
        found = f"nothing but {members[0][0]!r}" if members else "no value at all"
        return [StudyError(f"{settings.where}: {found}; two different values or more are needed")]
    counts = patients_of_groups(members, outcome)
    too_few, _ = outcome.shortcomings(counts)
    odd, _ = outcome.oddities(_levels_of_patients(members))
    if too_few or odd:
        return [StudyError(f"{settings.where}: {reason}") for reason in (*too_few, *odd)]
    problems: list[PlexrankError] = []
    for group, count in zip(outcome.groups, counts, strict=True):
        needed = group.least_held_out * (folds or 2)
        if count < needed:
            possible = most_folds(members, folds, outcome) if folds else None
            remedy = f"set train.folds to {possible}" if possible else no_folds_help(outcome)
            problems.append(
                StudyError(
                    f"{settings.where}: {counted(count, group.one)}, and every one of "
                    f"{folds or 2} folds must hold out {group.least_held_out}; {remedy}"
                )
            )
    return problems


def class_problems(
    settings: CohortSettings,
    outcome: Outcome,
    members: Iterable[tuple[str, str]],
    folds: int | None,
    num_left_out: int = 0,
) -> list[PlexrankError]:
    """Whether there are classes, and of each as many patients as folds; arguments as for :func:`outcome_problems`."""
    where, classes = settings.where, outcome.levels
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "no value at all"
        return [StudyError(f"{where} has {found}; two classes or more are needed")]
    members = [*members]
    numbers = dict.fromkeys(classes, 0) | patients_of(members)
    measured = why_measured(numbers)
    if measured is not None:
        return [StudyError(f"{where} {measured}; {NUMBERS_HELP}")]
    needed = folds or 2
    few = {label: number for label, number in numbers.items() if number < needed}
    if not few:
        return []
    without = f" without the {counted(num_left_out, 'image')} left out as bad" if num_left_out else ""
    what = f"fewer than the {folds} folds" if folds else "too few to train on one and hold out another"
    other = [(label, patient) for label, patient in members if label not in few]
    remedies = []
    if folds and all(numbers.values()) and (possible := most_folds(members, folds, outcome)) is not None:
        remedies.append(f"set train.folds to {possible}")
    if len(numbers) - len(few) > 1 and (folds is None or most_folds(other, folds, outcome) is not None):
        misspelt = " (or correct it, where it is misspelt)" if 1 in few.values() else ""
        remedies.append(f"empty the label of these images{misspelt}")
    remedy = " or ".join(remedies) or (no_folds_help(outcome) if folds else "it takes two patients of every class")
    return [StudyError(f"{where}: {_describe_classes(few)}{without}, {what}; {remedy}")]


def patients_of(members: Iterable[tuple[str, str]]) -> Counter[str]:
    """Label → number of patients, of (label, patient) of images."""
    return Counter(label for label, _ in set(members))


def why_measured(patients: Mapping[str, int]) -> str | None:
    """What to say of labels that are measurements and make no groups: numbers, most of them of a single patient.

    Args:
        patients: label → number of patients.
    """
    alone = sum(number == 1 for number in patients.values())
    if len(patients) <= _MOST_NUMBERED_GROUPS or 2 * alone <= len(patients) or not all(map(reads_as_number, patients)):
        return None
    return (
        f"has {len(patients)} different numbers for {counted(sum(patients.values()), 'patient')}, which make no classes"
    )


def _describe_classes(patients: Mapping[str, int]) -> str:
    """``class 'a' has 1 patient and class 'b' has 2 patients``."""
    *first, last = [f"class {label!r} has {counted(number, 'patient')}" for label, number in patients.items()]
    if len(first) >= _SHOWN:
        return f"{', '.join(first[:_SHOWN])}, … ({len(patients)} such classes)"
    return f"{', '.join(first)} and {last}" if first else last


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
