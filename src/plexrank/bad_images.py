"""Images that cannot be used: told together, or left out and remembered."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plexrank.errors import ImageDataError, MissingInputError, PlexrankError
from plexrank.rundir import reading_output, write_text
from plexrank.samplesheet import BadImage, ImageRecord

SHOWN = 3
EMPTY_SHARE = 0.05
"""Of the median image's signal: tissue of one cohort keeps above a quarter of it, an acquisition beside it at 0.02."""


@dataclass(frozen=True)
class SkippedImage:
    """An image that a run leaves out, and why."""

    image_id: str
    path: str
    reason: str


def problems_of_images(bad: Sequence[BadImage], root: Path) -> list[PlexrankError]:
    """One problem an image; what more than a few share is told once, with examples.

    Args:
        bad: the images.
        root: where the paths in the samplesheet start.
    """
    groups: dict[tuple[type[PlexrankError], str], list[BadImage]] = {}
    for image in bad:
        groups.setdefault((type(image.error), image.reason), []).append(image)
    problems: list[PlexrankError] = []
    for (kind, reason), images in groups.items():
        if len(images) <= SHOWN:
            problems += [image.error for image in images]
            continue
        examples = ", ".join(f"{image.record.path} (line {image.record.line})" for image in images[:SHOWN])
        hint = f" The paths of the samplesheet start at cohort.root, {root}" if kind is MissingInputError else ""
        problems.append(kind(f"{images[0].record.sheet}: {len(images)} images: {reason}: {examples}, ….{hint}"))
    return problems


def find_empty(images: Sequence[ImageRecord], signal: Mapping[str, float]) -> list[BadImage]:
    """Images with next to no signal beside the others of the cohort: no tissue, or pixels on another scale.

    Noise gives every image some counts, and how many are few depends on the instrument; so the cohort is the measure.

    Args:
        images: those to judge together.
        signal: image_id → mean over channels and pixels, NaN where pixels have no zero to measure from.
    """
    values = [signal[image.image_id] for image in images]
    if not values or any(math.isnan(value) for value in values):
        return []
    usual = statistics.median(values)
    return [
        BadImage(
            image,
            ImageDataError(
                f"{image.path}: practically empty: its pixels are {value:.2g} on average, {value / usual:.1%} of what "
                f"they are in the median image; leave the row out, or bring the images to one scale"
            ),
        )
        for image, value in zip(images, values, strict=True)
        if value < EMPTY_SHARE * usual
    ]


def skipped_images(bad: Sequence[BadImage]) -> tuple[SkippedImage, ...]:
    """What is remembered of images that are left out."""
    return tuple(SkippedImage(image.record.image_id, str(image.record.path), image.reason) for image in bad)


def write_skipped(path: Path, skipped: Sequence[SkippedImage]) -> None:
    """Write ``skipped.json``, a list of {image_id, path, reason}."""
    write_text(path, json.dumps([asdict(image) for image in skipped], indent=1) + "\n")


def read_skipped(path: Path) -> tuple[SkippedImage, ...]:
    """Read what :func:`write_skipped` wrote; nothing where it wrote nothing yet.

    Raises:
        RunDirError: the file is damaged.
    """
    if not path.exists():
        return ()
    with reading_output(path):
        return tuple(SkippedImage(**image) for image in json.loads(path.read_text(encoding="utf-8")))
