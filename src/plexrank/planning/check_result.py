"""What was found of a study before any compute, for programs and for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from plexrank.cohorts.bad_images import SkippedImage
from plexrank.cohorts.cohort import Survey
from plexrank.errors import PlexrankError
from plexrank.planning.image_units import ImageUnits
from plexrank.planning.outcome_summary import ClassCounts, OutcomeSummary
from plexrank.settings import Study

CHANNELS_SHOWN = 8
_COUNTED = {"nominal": "class", "ordinal": "grade", "continuous": "", "survival": ""}
"""What the rows of the table of patients are, by the kind of outcome."""


@dataclass(frozen=True)
class Cost:
    """What a run would take; pixels count after downsampling, before background tiles are left out.

    Attributes:
        n_images, n_patients, n_channels, n_classes: size of the cohort.
        unlabelled_images: images left out because their label is empty.
        n_source_pixels: of all channels that are kept, before downsampling.
        n_tiles: tiles, at most.
        n_trainings: folds × seeds.
        n_null_trainings: permutations of the labels × folds, each of which costs about as much as a training.
        tile_store_gb: size of the tile stores without compression, 10⁹ bytes.
        tiling_gb: memory of tiling: the region of an image that is worked on at once on this machine's cores, and 1 GB
            for the program itself.
        memory_gb: memory of the largest stage: tiling, or training as :func:`measure_cost` finds it; before, with 1 GB
            and the tiles as float32 for training.
        minutes: how long a run takes on this machine, where that was measured.
        n_parameters: weights of the network that is trained, where it was built to measure that.
    """

    n_images: int
    n_patients: int
    n_channels: int
    n_classes: int | None
    unlabelled_images: int
    n_source_pixels: int
    n_tiles: int
    n_trainings: int
    n_null_trainings: int
    tile_store_gb: float
    tiling_gb: float
    memory_gb: float
    minutes: float | None = None
    n_parameters: int | None = None


@dataclass(frozen=True)
class CheckResult:
    """What stands in the way of a run and what it would be.

    Attributes:
        problems: everything that is wrong; what more than a few images share is reported once.
        warnings: what is worth one.
        cost: where nothing stands in the way.
        outcome: of the labelled images, without those that would be left out, where they could be read.
        skipped: images that the run would leave out, where the study says so (``cohort.skip_bad``).
        study, survey: what was looked at, where it could be read.
        image_units: of the run that would go on, where there is one.
        channels: names of those that would be ranked or shown, in their order.
    """

    problems: tuple[PlexrankError, ...]
    warnings: tuple[str, ...] = ()
    cost: Cost | None = None
    outcome: OutcomeSummary | None = None
    skipped: tuple[SkippedImage, ...] = ()
    study: Study | None = None
    survey: Survey | None = None
    image_units: ImageUnits | None = None
    channels: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[ClassCounts, ...]:
        """The classes of the outcome, or its patients with and without an event; none of numbers."""
        return self.outcome.groups if self.outcome else ()

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "problems": [{"message": str(p), "exit_code": p.exit_code} for p in self.problems],
            "warnings": self.warnings,
            "skipped": [asdict(image) for image in self.skipped],
            "outcome": self.outcome.to_dict() if self.outcome else None,
            "classes": [asdict(counts) for counts in self.classes],
            "channels": self.channels,
            "cost": asdict(self.cost) if self.cost else None,
        }

    def to_text(self) -> str:
        """For a person: all but the problems, what the outcome is first."""
        cost = asdict(self.cost) if self.cost and not self.problems else {}
        lines = [f"{key:18} {value:,}" for key, value in cost.items() if value is not None]
        warnings = "".join(f"warning: {warning}\n" for warning in self.warnings)
        if self.channels and not self.problems:
            more = ", …" if len(self.channels) > CHANNELS_SHOWN else ""
            lines.insert(0, f"{'channels':18} {', '.join(self.channels[:CHANNELS_SHOWN])}{more}")
        outcome = "".join(f"{line}\n" for line in self.outcome.lines()) if self.outcome else ""
        table = describe_classes(self.classes, _COUNTED[self.outcome.kind]) if self.outcome else ""
        return outcome + warnings + table + "".join(f"{line}\n" for line in lines)


def describe_classes(classes: Sequence[ClassCounts], what: str) -> str:
    """A table of classes × patients × images, with the images of every site; as lines."""
    if not classes:
        return ""
    rows = [(what, "patients", "images", *(f"of site {site}" for site in classes[0].images_of_site))]
    rows += [(one.label, *map(str, (one.n_patients, one.n_images, *one.images_of_site.values()))) for one in classes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() + "\n" for row in rows)
    return "".join(lines)
