"""The scenarios by name, and the one way to simulate any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import StudyError
from plexrank.simulate import demo, paper, spatial
from plexrank.simulate.cohort import FOLDS, SimulatedCohort
from plexrank.simulate.files import write_cohort

_SMALLEST_PX, _LARGEST_PX = 32, 4096


@dataclass(frozen=True)
class Scenario:
    """A family of cohorts: one line about it, its default sizes, and what makes it."""

    description: str
    images: int
    channels: int
    size_px: int
    class_names: tuple[str, ...]
    num_planted: int
    make: Callable[[int, int, int, int], SimulatedCohort]
    images_a_patient: int = 1


SCENARIOS = {
    "demo": Scenario(
        "two classes; two channels differ in intensity, two only in the arrangement of bright cells",
        64,
        12,
        64,
        demo.CLASS_NAMES,
        len(demo.DEMO_PLANTS),
        demo.demo_cohort,
    ),
    "null": Scenario("two classes; the labels mean nothing", 64, 12, 64, demo.CLASS_NAMES, 0, demo.null_cohort),
    "site": Scenario(
        "demo at two sites, 80 % of each class at its own; other channels are brighter at one site",
        80,
        16,
        64,
        demo.CLASS_NAMES,
        len(demo.DEMO_PLANTS),
        demo.site_cohort,
    ),
    "hierarchy": Scenario(
        "demo with four images a patient, and brightness that patients share (intraclass correlation 0.2 to 0.8)",
        128,
        16,
        64,
        demo.CLASS_NAMES,
        len(demo.DEMO_PLANTS),
        demo.hierarchy_cohort,
        demo.IMAGES_A_PATIENT,
    ),
    "faint": Scenario(
        "two classes; six channels brighter by factors from 1.6 down to 1.04",
        96,
        16,
        64,
        demo.CLASS_NAMES,
        len(demo.FAINT_PLANTS),
        demo.faint_cohort,
    ),
    "wide": Scenario(
        "demo with a hundred channels", 96, 100, 48, demo.CLASS_NAMES, len(demo.DEMO_PLANTS), demo.demo_cohort
    ),
    "colocal": Scenario(
        "two channels are bright in the same cells in one class, in different ones in the other",
        64,
        12,
        64,
        demo.CLASS_NAMES,
        len(demo.COLOCAL_PLANTS),
        demo.colocal_cohort,
    ),
    "gains": Scenario(
        "paper with a brightness of every channel in every image",
        1200,
        30,
        224,
        paper.CLASS_NAMES,
        paper.NUM_PLANTED,
        paper.gains_cohort,
    ),
    "redundant": Scenario(
        "paper with copies and correlated partners of the informative channels",
        1200,
        30,
        224,
        paper.CLASS_NAMES,
        paper.COPIED,
        paper.redundant_cohort,
    ),
    "paper": Scenario(
        "the synthetic benchmark of the paper: three classes, two informative channels each of 30",
        1200,
        30,
        224,
        paper.CLASS_NAMES,
        paper.NUM_PLANTED,
        paper.paper_cohort,
    ),
    "spatial": Scenario(
        "three classes; every histogram is exactly the same, only the arrangement of bright cells differs",
        120,
        12,
        64,
        spatial.CLASS_NAMES,
        spatial.NUM_PLANTED,
        spatial.spatial_cohort,
    ),
}


def simulate(
    scenario: str,
    out: Path,
    *,
    images: int | None = None,
    channels: int | None = None,
    size_px: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a simulated cohort and return its study file; the same arguments write the same bytes.

    Writes images/*.ome.tiff, samplesheet.csv, panel.csv, truth.csv and study.yaml.

    Args:
        scenario: a name in :data:`SCENARIOS`, whose sizes hold where none is given.
        out: a folder that does not exist or is empty; it appears when all is written.
        images: number of images, one a patient.
        channels: number of channels.
        size_px: side of an image, pixels.
        seed: of all random numbers, ≥ 0.

    Raises:
        StudyError: the scenario is unknown, a size is too small, or ``out`` holds something.
    """
    if scenario not in SCENARIOS:
        raise StudyError(f"simulate {scenario}: no such scenario; choose one of {', '.join(SCENARIOS)}")
    chosen = SCENARIOS[scenario]
    num_images = chosen.images if images is None else images
    num_channels = chosen.channels if channels is None else channels
    side_px = chosen.size_px if size_px is None else size_px
    if num_channels < chosen.num_planted:
        raise StudyError(
            f"simulate {scenario}: {num_channels} channels; expected at least the {chosen.num_planted} planted ones"
        )
    if not _SMALLEST_PX <= side_px <= _LARGEST_PX:
        raise StudyError(f"simulate {scenario}: size of {side_px} pixels; expected {_SMALLEST_PX} to {_LARGEST_PX}")
    if seed < 0:
        raise StudyError(f"simulate {scenario}: seed {seed}; expected 0 or more")
    fewest = len(chosen.class_names) * FOLDS * chosen.images_a_patient
    if num_images < fewest:
        raise StudyError(
            f"simulate {scenario}: {num_images} images; expected ≥ {fewest}, one patient per class and fold"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out}: exists and is not an empty folder; give another --out or remove it")
    cohort = chosen.make(num_images, num_channels, side_px, seed)
    return write_cohort(cohort, out, f"{scenario}-{num_images}x{num_channels}x{side_px}-{seed}", seed)
