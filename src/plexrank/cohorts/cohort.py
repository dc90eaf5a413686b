"""The cohort: which images, patients and labels a study is about, and its folds.

Reading collects every problem of samplesheet and panel before it raises, so that one run of
``plexrank check`` shows them all. Patients are the unit of independence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from plexrank.arrays import IntArray
from plexrank.cohorts.outcomes import outcome_problems, outcome_warnings, read_outcome
from plexrank.cohorts.panel import Panel, notes_on_formulas, notes_on_names, read_panel, wrong_exclusions
from plexrank.cohorts.samplesheet import BadImage, ImageRecord, Samplesheet, read_samplesheet
from plexrank.errors import PlexrankError, problems_of, raise_problems
from plexrank.outcome import Outcome
from plexrank.settings import CohortSettings
from plexrank.wording import counted

_SHOWN = 5


@dataclass(frozen=True)
class Cohort:
    """The labelled images by image_id, the outcome of their patients, what was noticed.

    The order is that of the ids, so that nothing follows from the order of the samplesheet's rows.
    """

    images: tuple[ImageRecord, ...]
    outcome: Outcome
    panel: Panel | None
    unlabelled: int
    warnings: tuple[str, ...]
    unlabelled_patients: int = 0

    def without(self, image_ids: Container[str]) -> Cohort:
        """The same outcome with fewer images."""
        return replace(self, images=tuple(image for image in self.images if image.image_id not in image_ids))

    @property
    def labels(self) -> IntArray:
        """(image,) the place of each image's label among the levels of the outcome."""
        return self.outcome.labels([image.label for image in self.images])


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
    outcome = read_outcome(settings, [(label, patient) for label, patient, _ in sheet.members])
    members = [(label, patient) for label, patient, image_id in sheet.members if image_id not in left_out]
    problems += sheet.problems
    kept = (image for image in sheet.images if image.image_id not in ids)
    images = tuple(sorted(kept, key=lambda image: _place_of_id(image.image_id)))
    notes = _notice(settings, sheet, images)
    if not sheet.wrong_levels:
        problems += outcome_problems(settings, outcome, members, folds, len(left_out))
        notes += outcome_warnings(settings, outcome, members)
    cohort = Cohort(images, outcome, panel, sheet.unlabelled, tuple(notes), sheet.unlabelled_patients)
    return Survey(cohort, tuple(problems), bad, tuple(to_skip))


def _place_of_id(image_id: str) -> tuple[list[tuple[int, str]], str]:
    """What sorts ids as people do: image2 before image10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", image_id)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts], image_id


def _notice(settings: CohortSettings, sheet: Samplesheet, images: Sequence[ImageRecord]) -> list[str]:
    panels = dict.fromkeys(image.panel for image in images if image.panel is not None)
    notes = [*sheet.notes, *(note for panel in panels for note in notes_on_names(panel))]
    if not sheet.has_patients:
        notes.append(
            f"{settings.samplesheet}: the column patient_id is missing or empty: every image counts as a "
            "separate patient"
        )
    labels = Counter(patient for patient, label in {(image.patient_id, image.label) for image in images})
    mixed = sorted(patient for patient, count in labels.items() if count > 1) if settings.has_classes else []
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
    return [
        *notes,
        *notes_on_formulas(settings.samplesheet, "patients", (image.patient_id for image in images)),
        *notes_on_formulas(settings.samplesheet, "classes", (image.label for image in images if settings.has_classes)),
        *notes_on_formulas(settings.samplesheet, "sites", (image.site or "" for image in images)),
    ]
