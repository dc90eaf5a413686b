"""Images that cannot be used: told together, or left out and remembered."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plexrank.errors import ImageDataError, MissingInputError, PlexrankError
from plexrank.names import fold_name
from plexrank.rundir import reading_output, write_text
from plexrank.samplesheet import BadImage, ImageRecord

SHOWN = 3
EMPTY_SHARE = 0.05
"""Of the usual signal: tissue of one cohort keeps above a quarter of it, an acquisition beside it at 0.02."""


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


def find_empty(images: Sequence[ImageRecord], signal: Mapping[str, Mapping[str, float]]) -> list[BadImage]:
    """Images with next to no signal beside the others of the cohort: no tissue, or pixels on another scale.

    Noise gives every image some counts, and how many are few depends on the instrument; so the cohort is the measure,
    of the channels that the image holds: one that lacks a bright channel of the others is not empty for that.

    Args:
        images: those to judge together.
        signal: image_id → channel → mean over pixels, below zero where pixels have no zero to measure from.
    """
    own = {image.image_id: {fold_name(name): mean for name, mean in signal[image.image_id].items()} for image in images}
    by_channel: dict[str, list[float]] = {}
    for means in own.values():
        for name, mean in means.items():
            by_channel.setdefault(name, []).append(mean)
    if any(min(means) < 0 for means in by_channel.values()):
        return []
    medians = {name: statistics.median(means) for name, means in by_channel.items()}
    empty = []
    for image in images:
        value = statistics.fmean(own[image.image_id].values())
        usual = statistics.fmean(medians[name] for name in own[image.image_id])
        if value < EMPTY_SHARE * usual:
            error = ImageDataError(
                f"{image.path}: practically empty: its pixels are {value:.2g} on average, {value / usual:.1%} of what "
                "they are in the median image; leave the row out (--skip-bad does), or bring the images to one scale"
            )
            empty.append(BadImage(image, error))
    return empty


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
