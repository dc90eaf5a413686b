"""Simulated cohorts at small sizes, written or drawn, and their files read back."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from plexrank.simulate import SCENARIOS, simulate
from plexrank.simulate.cohort import SimulatedCohort

SMALL = {
    "demo": (16, 5, 48),
    "null": (8, 3, 48),
    "site": (20, 7, 48),
    "hierarchy": (32, 5, 48),
    "faint": (8, 7, 48),
    "wide": (8, 9, 48),
    "colocal": (8, 3, 48),
    "gains": (12, 7, 140),
    "redundant": (12, 16, 140),
    "paper": (12, 7, 140),
    "spatial": (12, 7, 48),
    "survival": (16, 5, 48),
    "ordinal": (16, 5, 48),
    "continuous": (16, 5, 48),
    "null_survival": (16, 3, 48),
    "null_ordinal": (16, 3, 48),
    "null_continuous": (16, 3, 48),
}


def write(scenario: str, out: Path, seed: int = 3) -> Path:
    images, channels, size_px = SMALL[scenario]
    return simulate(scenario, out, images=images, channels=channels, size_px=size_px, seed=seed)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def draw_all(scenario: str, images: int, seed: int = 0) -> tuple[SimulatedCohort, np.ndarray]:
    chosen = SCENARIOS[scenario]
    cohort = chosen.make(images, chosen.channels, chosen.size_px, seed)
    return cohort, np.stack([cohort.draw(index) for index in range(images)])
