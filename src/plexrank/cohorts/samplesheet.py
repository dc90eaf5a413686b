"""The samplesheet: one row an image, with its patient, label, site and panel; all wrong cells are reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from plexrank.cohorts.levels import missing_words, read_levels
from plexrank.cohorts.panel import Panel, read_panel
from plexrank.cohorts.root import Root, shorten
from plexrank.cohorts.spelling import alike, reads_like_a_date, reads_shortened
from plexrank.cohorts.tables import Table, read_table
from plexrank.errors import (
    PlexrankError,
    ReadFailedError,
    StudyError,
    problems_of,
    raise_problems,
    resolve_input,
)
from plexrank.images.image_path import split_image_path
from plexrank.settings import CohortSettings
from plexrank.wording import counted, did_you_mean, shown, why_no_name

COLUMN_ALIASES = {
    "sample_id": "image_id",
    "slide_id": "image_id",
    "case_id": "patient_id",
    "patient": "patient_id",
}
LOOKALIKES = {
    "site": ("site", "sites", "center", "centre", "hospital", "institution", "batch", "slide", "scanner"),
    "patient_id": ("patientid", "patient", "patients", "donor", "donorid", "subject", "subjectid", "caseid", "case"),
}
"""Columns that are not read but may be meant for one that is, without case and separators."""
IMAGE_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ +-]{0,199}")


@dataclass(frozen=True)
class ImageRecord:
    """One labelled image of the samplesheet.

    Attributes:
        label: the patient's outcome as text, one of the levels of the cohort's outcome.
        path: absolute; names a file, a folder, or one acquisition of a file (``slide.mcd#3``).
        mask: the file that says where tissue is, if any.
        panel: names its channels: its own of the column ``panel``, otherwise the cohort's, if any.
        sheet, line: where it stands.
        split: the fold that is to hold it out, if given.
    """

    image_id: str
    path: Path
    patient_id: str
    label: str
    site: str | None
    mask: Path | None
    panel: Panel | None
    sheet: Path
    line: int
    split: str | None = None

    @property
    def file(self) -> Path:
        """The file or folder that ``path`` lies in."""
        return split_image_path(self.path)[0]


@dataclass(frozen=True)
class BadImage:
    """An image and why it cannot be used; of one that could not be read now, nothing is known."""

    record: ImageRecord
    error: PlexrankError

    @property
    def reason(self) -> str:
        """The error without the place that it begins with, in which images differ that fail for one reason."""
        text = str(self.error)
        for place in (
            f"{self.record.sheet}: line {self.record.line}: ",
            f"{self.record.path}: ",
            f"{self.record.mask}: ",
        ):
            text = text.removeprefix(place)
        return text.replace(str(self.record.path), "the image")


@dataclass(frozen=True)
class Samplesheet:
    """What a samplesheet says.

    Attributes:
        images: the labelled images of rows without a problem, in order.
        bad: those whose file cannot be used, as far as the path tells it.
        members: (label, patient_id, image_id) of every labelled row.
        unlabelled: number of rows without an outcome.
        unlabelled_patients: number of patients all of whose rows have none.
        has_patients: whether it tells patients apart.
        problems: what is wrong with other cells.
        wrong_levels: whether cells of the outcome are among them.
        notes: cells that read as if they were spelled wrongly.
    """

    images: tuple[ImageRecord, ...]
    bad: tuple[BadImage, ...]
    members: tuple[tuple[str, str, str], ...]
    unlabelled: int
    unlabelled_patients: int
    has_patients: bool
    problems: tuple[PlexrankError, ...]
    wrong_levels: bool
    notes: tuple[str, ...]


def read_samplesheet(settings: CohortSettings, panel: Panel | None, need_images: bool) -> Samplesheet:
    """Read a samplesheet.

    Args:
        settings: the study's ``cohort`` section with absolute paths.
        panel: of images that name none.
        need_images: images that do not exist are bad; what comes after tiling needs none.

    Raises:
        MissingInputError: there is no such file.
        StudyError: it is no table, or lacks a column.
    """
    table = _rename_aliases(_without_blank_patients(read_table(settings.samplesheet)))
    _require_columns(table, settings)
    problems = _missing_words(table, settings)
    levels = read_levels(table, settings)
    problems += levels.problems
    panels = _read_panels(table, panel, problems)
    root = Root(settings.root or table.path.parent)
    images: list[ImageRecord] = []
    bad: list[BadImage] = []
    line_of_id: dict[str, int] = {}
    seen: dict[Path, dict[int | None, tuple[int, str]]] = {}
    named = dict.fromkeys([*settings.outcome_columns, "patient_id", "site", "split"])
    for line, row, level in zip(table.line_numbers, table.rows, levels.of_rows, strict=True):
        where = f"{table.path}: line {line}"
        wrong = _wrong_cells(row, where, line_of_id, named)
        line_of_id.setdefault(row["image_id"], line)
        problems += wrong
        if level == "":
            continue
        if not row["path"]:
            problems.append(StudyError(f"{where}: the column path is empty; give the image's file"))
            continue
        path, error = root.find(row["path"], "path", where, need_images)
        mask = None
        if row.get("mask"):
            mask, mask_error = root.find(row["mask"], "mask", where, need_images)
            error = error or mask_error
        twice = _why_twice(seen, path, line, row["path"], where)
        unknown = isinstance(error, ReadFailedError)  # of which nothing is known is not left out
        if wrong or twice or unknown or level is None or row.get("panel", "") not in panels:
            problems += [one for one in (twice, error) if one is not None]
            continue
        record = _record(row, level, path, mask, panels[row.get("panel", "")], table.path, line)
        if error is None:
            images.append(record)
        else:
            bad.append(BadImage(record, error))
    labelled = [(row, level) for row, level in zip(table.rows, levels.of_rows, strict=True) if level]
    members = tuple((level, row.get("patient_id") or row["image_id"], row["image_id"]) for row, level in labelled)
    without = {
        row.get("patient_id") or row["image_id"]
        for row, level in zip(table.rows, levels.of_rows, strict=True)
        if level == ""
    }
    return Samplesheet(
        images=tuple(images),
        bad=tuple(bad),
        members=members,
        unlabelled=levels.of_rows.count(""),
        unlabelled_patients=len(without - {patient for _, patient, _ in members}),
        has_patients="patient_id" in table.columns,
        problems=tuple(problems),
        wrong_levels=bool(levels.problems) or None in levels.of_rows,
        notes=(*_lookalikes(table, settings), *_odd_spellings(table, settings), *levels.notes),
    )


def _record(
    row: dict[str, str], label: str, path: Path, mask: Path | None, panel: Panel | None, sheet: Path, line: int
) -> ImageRecord:
    return ImageRecord(
        image_id=row["image_id"],
        path=path,
        patient_id=row.get("patient_id") or row["image_id"],
        label=label,
        site=row.get("site") or None,
        mask=mask,
        panel=panel,
        sheet=sheet,
        line=line,
        split=row.get("split") or None,
    )


def _read_panels(table: Table, default: Panel | None, problems: list[PlexrankError]) -> dict[str, Panel | None]:
    """The panels of the column ``panel`` by their spelling, empty for the default; a wrong one is reported once."""
    lines: dict[str, list[int]] = {}
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        if row.get("panel"):
            lines.setdefault(row["panel"], []).append(line)
    panels: dict[str, Panel | None] = {"": default}
    for spelling, at in lines.items():
        where = f"{table.path}: line {_listed(at)}: panel {shorten(spelling)}"
        try:
            path = resolve_input(table.path.parent / spelling, where)
            panels[spelling] = default if default is not None and default.path == path else read_panel(path)
        except PlexrankError as error:
            problems += [type(part)(f"{where}: {part}") for part in problems_of(error)]
    return panels


def _wrong_cells(
    row: dict[str, str], where: str, line_of_id: dict[str, int], named: Iterable[str]
) -> list[PlexrankError]:
    image_id = row["image_id"]
    wrong: list[PlexrankError] = []
    if not IMAGE_ID_PATTERN.fullmatch(image_id):
        wrong.append(StudyError(f"{where}: image_id {shown(image_id)}: expected letters, digits and . _ + - or blanks"))
    if image_id in line_of_id:
        wrong.append(StudyError(f"{where}: image_id {image_id!r} is on line {line_of_id[image_id]} already"))
    wrong += [StudyError(f"{where}: {column} {why}") for column in named if (why := why_no_name(row.get(column, "")))]
    if "patient_id" in row and not row["patient_id"]:
        wrong.append(StudyError(f"{where}: patient_id is empty; give each image the patient it comes from"))
    return wrong


def _why_twice(
    seen: dict[Path, dict[int | None, tuple[int, str]]], path: Path, line: int, spelling: str, where: str
) -> StudyError | None:
    """One image under two patients would stand in two folds; a spelling or a link does not make it another.

    A file is the same image as any acquisition of it: without ``#`` it must hold only one.
    """
    file, acquisition = split_image_path(path)
    known = seen.setdefault(file, {})
    same = known if acquisition is None else {one: known[one] for one in (acquisition, None) if one in known}
    if same:
        before, other = next(iter(same.values()))
        alias = "" if other == spelling else f", as {other!r}"
        return StudyError(f"{where}: path {spelling!r} is on line {before} already{alias}")
    known[acquisition] = (line, spelling)
    return None


def _missing_words(table: Table, settings: CohortSettings) -> list[PlexrankError]:
    """Cells that say that they are unknown: neither a class, a patient or a site, nor silently left out."""
    problems: list[PlexrankError] = []
    other = "give the class another name" if settings.has_classes else "correct them"
    remedies = {
        **dict.fromkeys(settings.outcome_columns, f"empty these cells to leave the images out, or {other}"),
        "path": "give the image's file, or leave the row out",
        "patient_id": "give each image the patient it comes from",
        **dict.fromkeys(("site", "split", "mask", "panel"), "empty these cells"),
    }
    for column, remedy in remedies.items():
        cells = [(line, row.get(column, "")) for line, row in zip(table.line_numbers, table.rows, strict=True)]
        words = missing_words(settings, column, [cell for _, cell in cells])
        found = [(line, cell) for line, cell in cells if cell in words]
        if found:
            lines = _listed([line for line, _ in found])
            problems.append(
                StudyError(
                    f"{table.path}: column {column!r} holds {found[0][1]!r} in {counted(len(found), 'row')} (lines "
                    f"{lines}), which looks like a missing value; {remedy}"
                )
            )
    return problems


def _odd_spellings(table: Table, settings: CohortSettings) -> list[str]:
    """What reads as if one value were spelled in several ways, or as if a spreadsheet had changed it."""
    notes = []
    for column, what in (
        *((column, "counts as a separate class") for column in settings.outcome_columns if settings.has_classes),
        ("patient_id", "counts as a separate patient, who may be trained on in the fold that holds out the other"),
        ("site", "counts as a separate site"),
        ("split", "counts as a separate fold"),
    ):
        lines: dict[str, list[int]] = {}
        for line, row in zip(table.line_numbers, table.rows, strict=True):
            if row.get(column):
                lines.setdefault(row[column], []).append(line)
        at = {value: f"{value!r} (line {_listed(own)})" for value, own in lines.items()}
        groups = [" and ".join(at[value] for value in group) for group in alike(lines)]
        if groups:
            notes.append(
                f"{table.path}: column {column!r}: these look like one value in several spellings, of which each "
                f"{what}: {_some(groups)}; use one spelling throughout"
            )
        dates = [at[value] for value in lines if reads_like_a_date(value)] if column != "split" else []
        shortened = [at[value] for value in lines if reads_shortened(value)]
        for changed, how in ((dates, "dates"), (shortened, "long numbers cut short")):
            if changed:
                notes.append(
                    f"{table.path}: column {column!r} holds what spreadsheets make of other text, {how}: "
                    f"{_some(changed)}; compare with the original table, and format the column as text"
                )
    return notes


def _lookalikes(table: Table, settings: CohortSettings) -> list[str]:
    """What to say where a column is not read that may be meant for a missing one which the analysis rests on."""
    notes = []
    for target, names in LOOKALIKES.items():
        alike = [
            column
            for column in table.columns
            if re.sub("[^a-z]", "", column.lower()) in names and column not in settings.outcome_columns
        ]
        if target not in table.columns and alike:
            notes.append(
                f"{table.path}: there is no column {target}, and {' and '.join(map(repr, alike))} is not used; rename "
                f"it to {target} if it holds {'patients' if target == 'patient_id' else 'where images come from'}"
            )
    return notes


def _some(parts: list[str], most: int = 5) -> str:
    return ", ".join(parts[:most]) + (f", … ({len(parts)} in all)" if len(parts) > most else "")


def _listed(lines: list[int], most: int = 5) -> str:
    return ", ".join(map(str, lines[:most])) + (", …" if len(lines) > most else "")


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
                f"rename the right one to {target}"
            )
    rows = tuple({renamed.get(column, column): cell for column, cell in row.items()} for row in table.rows)
    return Table(table.path, tuple(rows[0]), rows, table.line_numbers)


def _without_blank_patients(table: Table) -> Table:
    """A column of patients that is empty in every row, as a draft has it, counts as none."""
    filled = {column for row in table.rows for column, cell in row.items() if cell}
    columns = tuple(one for one in table.columns if one in filled or COLUMN_ALIASES.get(one, one) != "patient_id")
    rows = tuple({column: row[column] for column in columns} for row in table.rows)
    return Table(table.path, columns, rows, table.line_numbers)


def _require_columns(table: Table, settings: CohortSettings) -> None:
    problems: list[PlexrankError] = []
    for column in ("image_id", "path"):
        if column not in table.columns:
            problems.append(
                StudyError(f"{table.path}: column {column!r} is missing{did_you_mean(column, table.columns)}")
            )
    others = [column for column in table.columns if column not in ("image_id", "path", "patient_id")]
    for key in ("label", "time", "event"):
        column = getattr(settings, key)
        if column is not None and column not in table.columns:
            why = f"is {column!r}, but no column has that name" if column else "is empty; name a column"
            problems.append(StudyError(f"{table.path}: cohort.{key} {why}{did_you_mean(column, others)}"))
    raise_problems(problems)
