"""Samplesheets with an outcome of some kind, and what is found in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plexrank.cohorts.cohort import Survey, survey_cohort
from plexrank.settings import CohortSettings

SURVIVAL = {"outcome": "survival", "time": "months", "event": "died"}
CONTINUOUS = {"outcome": "continuous", "label": "age"}
ORDINAL = {"outcome": "ordinal", "label": "grade"}

FOLLOWED = [(str(5 + number), "01"[number % 2]) for number in range(40)]
"""(months, died) of 40 patients, 20 of whom died."""


def settings_of(folder: Path, keys: dict[str, object]) -> CohortSettings:
    return CohortSettings.model_validate({"samplesheet": folder / "s.csv", "root": folder, **keys})


def survey(
    folder: Path,
    keys: dict[str, object],
    rows: Sequence[Sequence[str]],
    folds: int | None = 5,
    patients: Sequence[str] | None = None,
) -> Survey:
    """What is found in a samplesheet with the columns that the keys name; an image and a patient a row."""
    settings = settings_of(folder, keys)
    own = patients or [f"P{number}" for number in range(len(rows))]
    lines = [
        ";".join((f"i{number}", f"i{number}.tiff", patient, *row))
        for number, (patient, row) in enumerate(zip(own, rows, strict=True))
    ]
    header = ";".join(("image_id", "path", "patient_id", *settings.outcome_columns))
    settings.samplesheet.write_text("\n".join([header, *lines]) + "\n")
    return survey_cohort(settings, folds, need_images=False)


def said(found: Survey) -> tuple[list[str], list[str]]:
    """Problems and warnings."""
    return [str(problem) for problem in found.problems], [*found.require_rows().warnings]
