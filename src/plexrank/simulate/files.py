"""Writes a simulated cohort as the files that a user would bring."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import yaml

from plexrank.rundir import clear_leftovers, replacing
from plexrank.simulate.cohort import SimulatedCohort

_TILED_FROM_PX, _TIFF_TILE_PX = 128, 64


def write_cohort(cohort: SimulatedCohort, out: Path, name: str, seed: int) -> Path:
    """Write all files, or none where it fails, and return the study.yaml."""
    clear_leftovers([out])
    with replacing(out) as partial:
        _write_files(cohort, partial, name, seed)
    return out / "study.yaml"


def _write_files(cohort: SimulatedCohort, folder: Path, name: str, seed: int) -> None:
    (folder / "images").mkdir(parents=True)
    channel_names = _numbered("C", len(cohort.plants), 2)
    image_ids = _numbered("image", len(cohort.sites), 3)
    for index, image_id in enumerate(image_ids):
        path = folder / "images" / f"{image_id}.ome.tiff"
        _write_image(path, cohort.draw(index), channel_names, uuid.uuid5(uuid.NAMESPACE_OID, f"{name}/{image_id}"))
    _write_tables(cohort, folder, image_ids, channel_names)
    study = {
        "name": name,
        "cohort": {
            "samplesheet": "samplesheet.csv",
            **cohort.outcome.keys,
            "panel": "panel.csv",
            "truth": "truth.csv",
        },
        **cohort.study,
        "seed": seed % 2**31,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def _write_tables(
    cohort: SimulatedCohort, folder: Path, image_ids: Sequence[str], channel_names: Sequence[str]
) -> None:
    names = _numbered("P", len(image_ids), 3)
    patients = names if cohort.patients is None else [names[number] for number in cohort.patients]
    outcomes = zip(*cohort.outcome.columns.values(), strict=True)
    _write_csv(
        folder / "samplesheet.csv",
        ("image_id", "path", "patient_id", *cohort.outcome.columns, "site"),
        (
            (image_id, f"images/{image_id}.ome.tiff", patient, *outcome, site)
            for image_id, patient, outcome, site in zip(image_ids, patients, outcomes, cohort.sites, strict=True)
        ),
    )
    _write_csv(folder / "panel.csv", ("channel", "name", "keep"), ((name, name, 1) for name in channel_names))
    _write_csv(
        folder / "truth.csv",
        ("channel", "informative", "class", "kind"),
        (
            (name, 0, "", "none") if plant is None else (name, int(plant.informative), plant.class_name, plant.kind)
            for name, plant in zip(channel_names, cohort.plants, strict=True)
        ),
    )


def _write_image(path: Path, pixels: npt.NDArray[np.generic], channel_names: Sequence[str], key: uuid.UUID) -> None:
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": list(channel_names)},
        "PhysicalSizeX": 1.0,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 1.0,
        "PhysicalSizeYUnit": "µm",
        "UUID": f"urn:uuid:{key}",  # tifffile's own changes with the clock
    }
    tile = (_TIFF_TILE_PX, _TIFF_TILE_PX) if min(pixels.shape[1:]) >= _TILED_FROM_PX else None
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", compression="zstd", tile=tile, metadata=metadata)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _numbered(prefix: str, count: int, digits: int) -> list[str]:
    """Names of equal length that sort in their order: C01, C02, …"""
    digits = max(digits, len(str(count)))
    return [f"{prefix}{number:0{digits}d}" for number in range(1, count + 1)]
