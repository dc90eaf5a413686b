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

from plexrank.errors import (
    MissingInputError,
    PlexrankError,
    Problems,
    StudyError,
    naming_input,
    problems_of,
    raise_problems,
    resolve_input,
)
from plexrank.image_path import join_image_path, split_image_path
from plexrank.panel import Panel, read_panel, wrong_exclusions
from plexrank.study import CohortSettings
from plexrank.tables import Table, did_you_mean, read_table

COLUMN_ALIASES = {
    "sample_id": "image_id",
    "slide_id": "image_id",
    "case_id": "patient_id",
    "patient": "patient_id",
}
MISSING_WORDS = frozenset({"na", "n/a", "nan", "null", "none", "<na>"})
"""What tables write for an unknown value; as a class or a patient it would join what does not belong together."""

IMAGE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +-]{0,199}")


@dataclass(frozen=True)
class ImageRecord:
    """One labelled image of the samplesheet; ``line`` is its line in the file.

    ``path`` is absolute and names a file, a folder, or one acquisition of a file (``slide.mcd#3``); ``mask`` is the
    file that says where tissue is, if there is one.
    """

    image_id: str
    path: Path
    patient_id: str
    label: str
    site: str | None
    line: int
    mask: Path | None = None

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


def read_cohort(settings: CohortSettings, folds: int, need_images: bool = True) -> Cohort:
    """Read samplesheet and panel of a resolved study.

    Args:
        settings: the study's ``cohort`` section with absolute paths.
        folds: number of folds, which every class must be able to fill with patients.
        need_images: refuse images that do not exist; what comes after tiling needs none.

    Raises:
        PlexrankError: one problem, or :class:`~plexrank.errors.Problems` with all of them.
    """
    cohort, problems = survey_cohort(settings, folds, need_images)
    if cohort is None or problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)
    return cohort


def survey_cohort(
    settings: CohortSettings, folds: int, need_images: bool = True
) -> tuple[Cohort | None, list[PlexrankError]]:
    """Like :func:`read_cohort`, but returns the problems beside the cohort of the good rows.

    Returns:
        The cohort, ``None`` where the samplesheet cannot be read at all, without panel where that is wrong;
        and every problem.
    """
    problems: list[PlexrankError] = []
    panel = None
    if settings.panel is not None:
        try:
            panel = read_panel(settings.panel)
            problems += wrong_exclusions(settings.exclude_channels, panel.kept_names, str(panel.path))
        except PlexrankError as error:
            problems += problems_of(error)
    try:
        table = _without_blank_patients(_rename_aliases(read_table(settings.samplesheet)))
        _require_columns(table, settings)
    except PlexrankError as error:
        return None, [*problems, *problems_of(error)]
    images, row_problems = _read_rows(table, settings, need_images)
    problems += row_problems
    classes = tuple(sorted({row[settings.label] for row in table.rows} - {""}))
    problems += _check_classes(table, settings, classes, folds)
    cohort = Cohort(
        images=tuple(images),
        classes=classes,
        panel=panel,
        unlabelled=sum(not row[settings.label] for row in table.rows),
        warnings=tuple(_notice(table, images)),
    )
    return cohort, problems


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
    for target in sorted(set(renamed.values())):
        sources = [column for column, name in renamed.items() if name == target]
        if len(sources) > 1:
            raise StudyError(
                f"{table.path}: the columns {' and '.join(map(repr, sources))} both mean {target!r}; "
                f"name the right one {target}"
            )
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


def _read_rows(
    table: Table, settings: CohortSettings, need_images: bool
) -> tuple[list[ImageRecord], list[PlexrankError]]:
    root = settings.root or table.path.parent
    images: list[ImageRecord] = []
    problems: list[PlexrankError] = _missing_words(table, settings)
    line_of_id: dict[str, int] = {}
    line_of_image: dict[tuple[Path, int | None], tuple[int, str]] = {}
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        where = f"{table.path}: line {line}"
        wrong: list[PlexrankError] = []
        image_id = row["image_id"]
        if not IMAGE_ID_PATTERN.fullmatch(image_id):
            wrong.append(StudyError(f"{where}: image_id {image_id!r}: expected letters, digits and . _ + - or blanks"))
        if image_id in line_of_id:
            wrong.append(StudyError(f"{where}: image_id {image_id!r} stands on line {line_of_id[image_id]} already"))
        line_of_id.setdefault(image_id, line)
        if "patient_id" in row and not row["patient_id"]:
            wrong.append(StudyError(f"{where}: patient_id is empty; give each image the patient it comes from"))
        try:
            file, acquisition = _find_image(root, row["path"], "path", where, need_images)
            mask = None
            if row.get("mask"):
                mask = join_image_path(*_find_image(root, row["mask"], "mask", where, need_images))
            _refuse_twice(line_of_image, (file, acquisition), line, row["path"], where)
        except PlexrankError as error:
            problems += [*wrong, error]
            continue
        problems += wrong
        if row[settings.label] and not wrong:
            images.append(
                ImageRecord(
                    image_id=image_id,
                    path=join_image_path(file, acquisition),
                    patient_id=row.get("patient_id") or image_id,
                    label=row[settings.label],
                    site=row.get("site") or None,
                    line=line,
                    mask=mask,
                )
            )
    return images, problems


def _missing_words(table: Table, settings: CohortSettings) -> list[PlexrankError]:
    """Labels and patients that say they are unknown: neither a class nor silently left out."""
    problems: list[PlexrankError] = []
    for column, remedy in (
        (settings.label, "empty these cells to leave the images out, or give the class another name"),
        ("patient_id", "give each image the patient it comes from"),
    ):
        found = [
            (line, row[column])
            for line, row in zip(table.line_numbers, table.rows, strict=True)
            if row.get(column, "").casefold() in MISSING_WORDS
        ]
        if found:
            lines = ", ".join(str(line) for line, _ in found[:5]) + (", …" if len(found) > 5 else "")
            problems.append(
                StudyError(
                    f"{table.path}: column {column!r} holds {found[0][1]!r} in {len(found)} rows (lines {lines}), "
                    f"which reads like a missing value; {remedy}"
                )
            )
    return problems


def _find_image(root: Path, path: str, column: str, where: str, need_images: bool) -> tuple[Path, int | None]:
    """The file of an image and its acquisition; links are followed, so that none leads out of the root unseen."""
    if not path:
        raise StudyError(f"{where}: the column {column} is empty; give the image's file")
    with naming_input(f"{where}: {column} {_shown(path)}"):
        file, acquisition = split_image_path(root / path)
        target = resolve_input(file, f"{where}: {column} {_shown(path)}")
        if not target.is_relative_to(root.resolve()):
            raise StudyError(f"{where}: {column} {path!r} leads out of {root}; move the file there or set cohort.root")
        if need_images and not target.exists():
            what, other = ("mask", "empty the cell") if column == "mask" else ("image", "leave the row out")
            raise MissingInputError(f"{where}: {target}: no such {what}; mend the path or {other}")
    return target, acquisition


def _refuse_twice(
    seen: dict[tuple[Path, int | None], tuple[int, str]],
    image: tuple[Path, int | None],
    line: int,
    path: str,
    where: str,
) -> None:
    """One image under two patients would stand in two folds; a spelling or a link does not make it another."""
    if image in seen:
        before, spelling = seen[image]
        alias = "" if spelling == path else f", as {spelling!r}"
        raise StudyError(f"{where}: path {path!r} stands on line {before} already{alias}")
    seen[image] = (line, path)


def _shown(path: str) -> str:
    return repr(path if len(path) <= 80 else f"{path[:77]}…")


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
