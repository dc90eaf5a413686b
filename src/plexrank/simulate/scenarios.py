"""The scenarios, declared here and nowhere else, and the one way to simulate any of them.

A new one is an entry in ``SCENARIOS`` and its maker, a function in the file of its family.
Loads no numpy: the command line names the scenarios without it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from plexrank.errors import StudyError

if TYPE_CHECKING:
    from plexrank.simulate.cohort import SimulatedCohort

_SMALLEST_PX, _LARGEST_PX = 32, 4096


@dataclass(frozen=True)
class Scenario:
    """A family of cohorts.

    Attributes:
        description: one line.
        images, channels, size_px: where nothing else is asked for.
        patients_a_fold: fewest that a fold needs, one of each class or grade where there are such.
        num_planted: channels that depend on the outcome.
        maker: module of ``plexrank.simulate`` and its function (images, channels, size_px, seed) → cohort.
        images_a_patient: how many images share a patient.
    """

    description: str
    images: int
    channels: int
    size_px: int
    patients_a_fold: int
    num_planted: int
    maker: str
    images_a_patient: int = 1

    @property
    def make(self) -> Callable[[int, int, int, int], SimulatedCohort]:
        """Its maker, loaded."""
        make: Callable[[int, int, int, int], SimulatedCohort] = pkgutil.resolve_name(f"plexrank.simulate.{self.maker}")
        return make


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "demo": Scenario(
            "two classes; two channels differ in intensity, two only in the arrangement of bright cells",
            64, 12, 64, 2, 4, "demo.demo_cohort",
        ),
        "null": Scenario("two classes; the labels mean nothing", 64, 12, 64, 2, 0, "demo.null_cohort"),
        "site": Scenario(
            "demo at two sites, 80 % of each class at its own; other channels are brighter at one site",
            80, 16, 64, 2, 4, "demo.site_cohort",
        ),
        "hierarchy": Scenario(
            "demo with four images a patient, and brightness that patients share (intraclass correlation 0.2 to 0.8)",
            128, 16, 64, 2, 4, "demo.hierarchy_cohort", images_a_patient=4,
        ),
        "faint": Scenario(
            "two classes; six channels brighter by factors from 1.6 down to 1.04",
            96, 16, 64, 2, 6, "demo.faint_cohort",
        ),
        "wide": Scenario("demo with a hundred channels", 96, 100, 48, 2, 4, "demo.demo_cohort"),
        "colocal": Scenario(
            "two channels are bright in the same cells in one class, in different ones in the other",
            64, 12, 64, 2, 2, "demo.colocal_cohort",
        ),
        "gains": Scenario(
            "paper with a brightness of every channel in every image", 1200, 30, 224, 3, 6, "paper.gains_cohort"
        ),
        "redundant": Scenario(
            "paper with copies and correlated partners of the informative channels",
            1200, 30, 224, 3, 12, "paper.redundant_cohort",
        ),
        "paper": Scenario(
            "the synthetic benchmark of the paper: three classes, two informative channels each of 30",
            1200, 30, 224, 3, 6, "paper.paper_cohort",
        ),
        "spatial": Scenario(
            "three classes; every histogram is exactly the same, only the arrangement of bright cells differs",
            120, 12, 64, 3, 6, "spatial.spatial_cohort",
        ),
        "survival": Scenario(
            "times to an event, nearly half censored; two channels follow the hazard in intensity, two in arrangement",
            120, 12, 64, 4, 4, "severity.survival_cohort",
        ),
        "ordinal": Scenario(
            "grades 1 to 4; two channels follow them in intensity, two in arrangement",
            96, 12, 64, 4, 4, "severity.ordinal_cohort",
        ),
        "continuous": Scenario(
            "a number; two channels follow it in intensity, two in arrangement",
            96, 12, 64, 4, 4, "severity.continuous_cohort",
        ),
        "null_survival": Scenario(
            "survival with nothing planted", 120, 12, 64, 4, 0, "severity.null_survival_cohort"
        ),
        "null_ordinal": Scenario("ordinal with nothing planted", 96, 12, 64, 4, 0, "severity.null_ordinal_cohort"),
        "null_continuous": Scenario(
            "continuous with nothing planted", 96, 12, 64, 4, 0, "severity.null_continuous_cohort"
        ),
    }
)  # fmt: skip
"""Every scenario by name, in the order of the help."""

if TYPE_CHECKING:
    ScenarioName = str
else:  # the same names for the command line, which reads annotations
    ScenarioName = Literal[tuple(SCENARIOS)]


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
    from plexrank.simulate.cohort import FOLDS
    from plexrank.simulate.files import write_cohort

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
    fewest = chosen.patients_a_fold * FOLDS * chosen.images_a_patient
    if num_images < fewest:
        raise StudyError(
            f"simulate {scenario}: {num_images} images; expected ≥ {fewest}, "
            f"{chosen.patients_a_fold} patients for each of {FOLDS} folds"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"{out}: exists and is not an empty folder; give another --out or remove it")
    cohort = chosen.make(num_images, num_channels, side_px, seed)
    return write_cohort(cohort, out, f"{scenario}-{num_images}x{num_channels}x{side_px}-{seed}", seed)
