"""The cohort: which images, patients and labels a study is about, and its folds.

Reading collects every problem of samplesheet and panel before it raises, so that one run of
``plexrank check`` shows them all. Patients are the unit of independence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plexrank.errors import MissingInputError, PlexrankError, StudyError, problems_of, raise_problems
from plexrank.image_path import join_image_path, split_image_path
from plexrank.panel import Panel, read_panel, unknown_channels
from plexrank.study import CohortSettings
from plexrank.tables import Table, did_you_mean, read_table

COLUMN_ALIASES = {
    "sample_id": "image_id",
    "slide_id": "image_id",
    "case_id": "patient_id",
    "patient": "patient_id",
}
IMAGE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +-]{0,199}")


@dataclass(frozen=True)
class ImageRecord:
    """One labelled image of the samplesheet; ``line`` is its line in the file.

    ``path`` is absolute and names a file, a folder, or one acquisition of a file (``slide.mcd#3``).
    """

    image_id: str
    path: Path
    patient_id: str
    label: str
    site: str | None
    line: int

    @property
    def file(self) -> Path:
        """The file or folder that ``path`` lies in."""
        return split_image_path(self.path)[0]


@dataclass(frozen=True)
class Cohort:
    """The labelled images in samplesheet order, the classes in sorted order, and what was noticed."""

    images: tuple[ImageRecord, ...]
    classes: tuple[str, ...]
    panel: Panel | None
    unlabelled: int
    warnings: tuple[str, ...]


def read_cohort(settings: CohortSettings, folds: int) -> Cohort:
    """Read samplesheet and panel of a resolved study.

    Args:
        settings: the study's ``cohort`` section with absolute paths.
        folds: number of folds, which every class must be able to fill with patients.

    Raises:
        PlexrankError: one problem, or :class:`~plexrank.errors.Problems` with all of them.
    """
    problems: list[PlexrankError] = []
    panel = None
    if settings.panel is not None:
        try:
            panel = read_panel(settings.panel)
            problems += unknown_channels(settings.exclude_channels, panel.kept_names, str(panel.path))
        except PlexrankError as error:
            problems += problems_of(error)
    try:
        table = _without_blank_patients(_rename_aliases(read_table(settings.samplesheet)))
        _require_columns(table, settings)
    except PlexrankError as error:
        raise_problems([*problems, *problems_of(error)])
        raise
    images, row_problems = _read_rows(table, settings)
    problems += row_problems
    classes = tuple(sorted({row[settings.label] for row in table.rows} - {""}))
    problems += _check_classes(table, settings, classes, folds)
    raise_problems(problems)
    return Cohort(
        images=tuple(images),
        classes=classes,
        panel=panel,
        unlabelled=sum(not row[settings.label] for row in table.rows),
        warnings=tuple(_notice(table, images)),
    )


def patient_strata(images: Iterable[ImageRecord]) -> dict[str, tuple[str, str]]:
    """Patient id → (labels, sites), each joined where a patient has several."""
    labels: dict[str, set[str]] = {}
    sites: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.patient_id, set()).add(image.label)
        sites.setdefault(image.patient_id, set()).add(image.site or "")
    return {patient: ("|".join(sorted(labels[patient])), "|".join(sorted(sites[patient]))) for patient in labels}


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


def _rename_aliases(table: Table) -> Table:
    renamed = {
        column: COLUMN_ALIASES[column]
        for column in table.columns
        if column in COLUMN_ALIASES and COLUMN_ALIASES[column] not in table.columns
    }
    if not renamed:
        return table
    rows = tuple({renamed.get(column, column): cell for column, cell in row.items()} for row in table.rows)
    return Table(table.path, tuple(rows[0]), rows, table.line_numbers)


def _without_blank_patients(table: Table) -> Table:
    """A column ``patient_id`` that is empty in every row, as a draft has it, counts as none."""
    if any(row.get("patient_id") for row in table.rows):
        return table
    columns = tuple(column for column in table.columns if column != "patient_id")
    rows = tuple({column: row[column] for column in columns} for row in table.rows)
    return Table(table.path, columns, rows, table.line_numbers)


def _require_columns(table: Table, settings: CohortSettings) -> None:
    problems: list[PlexrankError] = []
    for column in ("image_id", "path"):
        if column not in table.columns:
            problems.append(
                StudyError(f"{table.path}: column {column!r} is missing{did_you_mean(column, table.columns)}")
            )
    if settings.label not in table.columns:
        others = [column for column in table.columns if column not in ("image_id", "path", "patient_id")]
        problems.append(
            StudyError(
                f"{table.path}: cohort.label is {settings.label!r}, but no column has that name"
                + did_you_mean(settings.label, others)
            )
        )
    raise_problems(problems)


def _read_rows(table: Table, settings: CohortSettings) -> tuple[list[ImageRecord], list[PlexrankError]]:
    root = settings.root or table.path.parent
    images: list[ImageRecord] = []
    problems: list[PlexrankError] = []
    seen: dict[str, dict[str, int]] = {"image_id": {}, "path": {}}
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        where = f"{table.path}: line {line}"
        if not IMAGE_ID_PATTERN.fullmatch(row["image_id"]):
            problems.append(
                StudyError(f"{where}: image_id {row['image_id']!r}: expected letters, digits and . _ + - or blanks")
            )
        for column, lines in seen.items():
            if row[column] in lines:
                problems.append(
                    StudyError(f"{where}: {column} {row[column]!r} stands on line {lines[row[column]]} already")
                )
            lines.setdefault(row[column], line)
        if "patient_id" in row and not row["patient_id"]:
            problems.append(StudyError(f"{where}: patient_id is empty; give each image the patient it comes from"))
        path_problem = _check_path(root, row["path"], where)
        if path_problem is not None:
            problems.append(path_problem)
        elif row[settings.label]:
            images.append(
                ImageRecord(
                    image_id=row["image_id"],
                    path=_resolve(root, row["path"]),
                    patient_id=row.get("patient_id") or row["image_id"],
                    label=row[settings.label],
                    site=row.get("site") or None,
                    line=line,
                )
            )
    return images, problems


def _resolve(root: Path, path: str) -> Path:
    """Links are followed in the file part, so that none leads out of the root unseen."""
    file, acquisition = split_image_path(root / path)
    return join_image_path(file.resolve(), acquisition)


def _check_path(root: Path, path: str, where: str) -> PlexrankError | None:
    if not path:
        return StudyError(f"{where}: the column path is empty; give the image's file")
    target, _ = split_image_path(_resolve(root, path))
    if not target.is_relative_to(root.resolve()):
        return StudyError(f"{where}: path {path!r} leads out of {root}; move the image there or set cohort.root")
    if not target.exists():
        return MissingInputError(f"{where}: {target}: no such image; mend the path or leave the row out")
    return None


def _check_classes(table: Table, settings: CohortSettings, classes: Sequence[str], folds: int) -> list[PlexrankError]:
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "no value at all"
        return [StudyError(f"{table.path}: column {settings.label!r} holds {found}; two classes or more are needed")]
    patients: dict[str, set[str]] = {label: set() for label in classes}
    for row in table.rows:
        if row[settings.label]:
            patients[row[settings.label]].add(row.get("patient_id") or row["image_id"])
    return [
        StudyError(
            f"{table.path}: column {settings.label!r}: class {label!r} has {len(members)} patients, fewer than the "
            f"{folds} folds; set train.folds to {max(2, len(members))} or empty the label of these images"
        )
        for label, members in patients.items()
        if len(members) < folds
    ]


def _notice(table: Table, images: Sequence[ImageRecord]) -> list[str]:
    notes = []
    if "patient_id" not in table.columns:
        notes.append(f"{table.path}: no column patient_id, or an empty one: every image counts as a patient of its own")
    labels = Counter(patient for patient, label in {(image.patient_id, image.label) for image in images})
    mixed = sorted(patient for patient, count in labels.items() if count > 1)
    if mixed:
        notes.append(f"{len(mixed)} patients have images of several classes ({', '.join(mixed[:5])} …)")
    return notes
