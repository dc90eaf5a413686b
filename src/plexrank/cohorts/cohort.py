"""The cohort: which images, patients and labels a study is about, and its folds.

Reading collects every problem of samplesheet and panel before it raises, so that one run of
``plexrank check`` shows them all. Patients are the unit of independence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from plexrank.cohorts.folds import NO_FOLDS_HELP, most_folds
from plexrank.cohorts.panel import Panel, dates_for_names, read_panel, wrong_exclusions
from plexrank.cohorts.samplesheet import BadImage, ImageRecord, Samplesheet, read_samplesheet
from plexrank.cohorts.spelling import reads_as_number
from plexrank.errors import PlexrankError, StudyError, problems_of, raise_problems
from plexrank.settings import CohortSettings
from plexrank.wording import counted

_SHOWN = 5
_MOST_NUMBERED_GROUPS = 5  # grades, subtypes


@dataclass(frozen=True)
class Cohort:
    """The labelled images in samplesheet order, the classes in sorted order (none if measured), what was noticed."""

    images: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    panel: Panel | None
    unlabelled: int
    warnings: tuple[str, ...]

    def without(self, image_ids: Container[str]) -> Cohort:
        """The same classes with fewer images."""
        return replace(self, images=tuple(image for image in self.images if image.image_id not in image_ids))


@dataclass(frozen=True)
class Survey:
    """What samplesheet and panel say.

    Attributes:
        cohort: of the good rows, ``None`` where the samplesheet cannot be read at all; without panel where that is
            wrong.
        problems: what is wrong with the tables.
        bad: images that cannot be used, as far as their paths tell it.
        skipped: images that were to be left out and are in the samplesheet.
    """

    cohort: Cohort | None
    problems: tuple[PlexrankError, ...]
    bad: tuple[BadImage, ...] = ()
    skipped: tuple[ImageRecord, ...] = ()

    def require_cohort(self) -> Cohort:
        """The cohort where no problem stands in the way; otherwise raises the problems."""
        raise_problems(self.problems)
        return self.require_rows()

    def require_rows(self) -> Cohort:
        """The cohort of the good rows, whatever is wrong with others."""
        if self.cohort is None:
            raise_problems(self.problems)
            raise ValueError("a survey without a problem has a cohort")
        return self.cohort


def read_cohort(settings: CohortSettings, folds: int, need_images: bool = True) -> Cohort:
    """Read samplesheet and panel of a resolved study.

    Args:
        settings: the study's ``cohort`` section with absolute paths.
        folds: number of folds, which every class must be able to fill with patients.
        need_images: refuse images that do not exist; what comes after tiling needs none.

    Raises:
        PlexrankError: one problem, or :class:`~plexrank.errors.Problems` with all of them.
    """
    survey = survey_cohort(settings, folds, need_images)
    raise_problems([*survey.problems, *(image.error for image in survey.bad)])
    return survey.require_cohort()


def survey_cohort(
    settings: CohortSettings,
    folds: int | None,
    need_images: bool = True,
    skipped: Container[tuple[str, str]] = frozenset(),
) -> Survey:
    """Like :func:`read_cohort`, but returns the problems beside the cohort of the good rows.

    Args:
        settings, folds, need_images: as there.
        skipped: (image_id, path) of images to leave out.
    """
    problems: list[PlexrankError] = []
    panel = None
    if settings.panel is not None:
        try:
            panel = read_panel(settings.panel)
        except PlexrankError as error:
            problems += problems_of(error)
    try:
        sheet = read_samplesheet(settings, panel, need_images)
    except PlexrankError as error:
        return Survey(None, (*problems, *problems_of(error)))
    records = (*sheet.images, *(image.record for image in sheet.bad))
    if panel is not None and all(record.panel is panel for record in records):
        problems += wrong_exclusions(settings.exclude_channels, panel.kept_names, str(panel.path))
    to_skip = [record for record in records if (record.image_id, str(record.path)) in skipped]
    ids = {record.image_id for record in to_skip}
    bad = tuple(image for image in sheet.bad if image.record.image_id not in ids)
    left_out = ids | ({image.record.image_id for image in bad} if settings.skip_bad else set())
    classes = tuple(sorted({label for label, _, _ in sheet.members}))
    members = [(label, patient) for label, patient, image_id in sheet.members if image_id not in left_out]
    problems += [*sheet.problems, *class_problems(settings, classes, members, folds, len(left_out))]
    if why_measured(patients_of(members)) is not None:
        classes = ()
    images = tuple(image for image in sheet.images if image.image_id not in ids)
    cohort = Cohort(images, classes, panel, sheet.unlabelled, tuple(_notice(settings, sheet, images)))
    return Survey(cohort, tuple(problems), bad, tuple(to_skip))


def order_problems(ordered: Sequence[str], classes: Sequence[str]) -> list[PlexrankError]:
    """Whether an order of the classes (``rank.ordered``; empty for none) names each of them once."""
    if not ordered or sorted(ordered) == sorted(classes):
        return []
    return [
        StudyError(
            f"rank.ordered is {', '.join(ordered)}, but the classes are {', '.join(classes)}; "
            "name each once, the lowest first"
        )
    ]


def class_problems(
    settings: CohortSettings,
    classes: Sequence[str],
    members: Iterable[tuple[str, str]],
    folds: int | None,
    num_left_out: int = 0,
) -> list[PlexrankError]:
    """Whether there are classes, and of each as many patients as folds.

    Args:
        settings: name the column.
        classes: all labels.
        members: (label, patient) of the images to count.
        folds: patients that a class needs, to be dealt into as many folds; ``None`` where folds are given, which takes
            one to train on and one to hold out.
        num_left_out: how many images are left out as bad, to tell.
    """
    where = f"{settings.samplesheet}: column {settings.label!r}"
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "no value at all"
        return [StudyError(f"{where} has {found}; two classes or more are needed")]
    members = [*members]
    numbers = dict.fromkeys(classes, 0) | patients_of(members)
    measured = why_measured(numbers)
    if measured is not None:
        return [StudyError(f"{where} {measured}, in another column")]
    needed = folds or 2
    few = {label: number for label, number in numbers.items() if number < needed}
    if not few:
        return []
    without = f" without the {counted(num_left_out, 'image')} left out as bad" if num_left_out else ""
    what = f"fewer than the {folds} folds" if folds else "too few to train on one and hold out another"
    other = [(label, patient) for label, patient in members if label not in few]
    remedies = []
    if folds and all(numbers.values()) and (possible := most_folds(members, folds)) is not None:
        remedies.append(f"set train.folds to {possible}")
    if len(numbers) - len(few) > 1 and (folds is None or most_folds(other, folds) is not None):
        misspelt = " (or correct it, where it is misspelt)" if 1 in few.values() else ""
        remedies.append(f"empty the label of these images{misspelt}")
    remedy = " or ".join(remedies) or (NO_FOLDS_HELP if folds else "it takes two patients of every class")
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
        f"has {len(patients)} different numbers for {counted(sum(patients.values()), 'patient')}; plexrank compares "
        "groups: divide it into groups, such as below and above the median"
    )


def _describe_classes(patients: Mapping[str, int]) -> str:
    """``class 'a' has 1 patient and class 'b' has 2 patients``."""
    *first, last = [f"class {label!r} has {counted(number, 'patient')}" for label, number in patients.items()]
    if len(first) >= _SHOWN:
        return f"{', '.join(first[:_SHOWN])}, … ({len(patients)} such classes)"
    return f"{', '.join(first)} and {last}" if first else last


def _notice(settings: CohortSettings, sheet: Samplesheet, images: Sequence[ImageRecord]) -> list[str]:
    panels = dict.fromkeys(image.panel for image in images if image.panel is not None)
    notes = [*sheet.notes, *(note for panel in panels for note in dates_for_names(panel))]
    if not sheet.has_patients:
        notes.append(
            f"{settings.samplesheet}: the column patient_id is missing or empty: every image counts as a "
            "separate patient"
        )
    labels = Counter(patient for patient, label in {(image.patient_id, image.label) for image in images})
    mixed = sorted(patient for patient, count in labels.items() if count > 1)
    if mixed:
        named = ", ".join(
            f"{patient} (lines {', '.join(str(image.line) for image in images if image.patient_id == patient)})"
            for patient in mixed[:_SHOWN]
        )
        more = ", …" if len(mixed) > _SHOWN else ""
        notes.append(
            f"{settings.samplesheet}: {counted(len(mixed), 'patient', 'has')} images of several values of "
            f"{settings.label!r}: {named}{more}; each such patient counts once per value"
        )
    site_of: dict[str, str] = {}
    moved = sorted(
        {
            image.patient_id
            for image in images
            if site_of.setdefault(image.patient_id, image.site or "") != (image.site or "")
        }
    )
    if moved:
        notes.append(
            f"{settings.samplesheet}: {counted(len(moved), 'patient', 'has')} images of several sites "
            f"({', '.join(moved[:_SHOWN])}{', …' if len(moved) > _SHOWN else ''}); they are compared with patients of "
            "the same sites only"
        )
    return notes
