"""Images that cannot be used: reported together, or left out and remembered."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.errors import ImageDataError, MissingInputError, PlexrankError, ReadFailedError
from plexrank.images.channel_names import fold_name
from plexrank.rundir import read_text, reading_output, write_text
from plexrank.wording import counted

SHOWN = 3
EMPTY_SHARE = 0.05
"""Of the usual signal, an image has less that is empty: an acquisition beside tissue has 0.02 of it."""
TISSUE_SHARE = 0.25
"""Of the usual signal, tissue of one cohort keeps so much."""
ANOTHER_SCALE = 10
"""Times the usual signal, beyond which no tissue of one cohort goes; number types are at least 16-fold apart."""

Signal = Mapping[str, Mapping[str, float]]
"""image_id → channel → mean over pixels."""


@dataclass(frozen=True)
class SkippedImage:
    """An image that a run leaves out, and why."""

    image_id: str
    path: str
    reason: str


def problems_of_images(bad: Sequence[BadImage], root: Path) -> list[PlexrankError]:
    """One problem an image; what more than a few share is reported once, with examples.

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


def not_read_now(bad: Sequence[BadImage]) -> list[BadImage]:
    """Those of which nothing is known, and which are not to be left out: they may be whole."""
    return [image for image in bad if isinstance(image.error, ReadFailedError)]


def find_empty(images: Sequence[ImageRecord], signal: Signal) -> list[BadImage]:
    """Images with next to no signal beside the others of the cohort: no tissue, or pixels on another scale.

    Noise gives every image some counts, and how many are few depends on the instrument; so the cohort is the measure,
    of the channels that the image holds: one that lacks a bright channel of the others is not empty for that, nor is
    one of a class that a bright marker does not stain. For that at least half of the channels, or one of the bright
    ones, must keep :data:`TISSUE_SHARE` of their usual signal.

    Args:
        images: those to judge together.
        signal: image_id → channel → mean over pixels, below zero where pixels have no zero to measure from.
    """
    beside = _beside_the_usual(images, signal)
    if beside is None:
        return []
    empty = []
    for image in images:
        channels = beside[image.image_id]
        value = statistics.fmean(own for own, _ in channels)
        usual = statistics.fmean(median for _, median in channels)
        if value < EMPTY_SHARE * usual and not _has_tissue(channels):
            error = ImageDataError(
                f"{image.path}: practically empty: its pixels are {value:.2g} on average, {value / usual:.1%} of what "
                "they are in the median image; leave the row out (--skip-bad does), or bring the images to one scale"
            )
            empty.append(BadImage(image, error))
    return empty


def _has_tissue(channels: Sequence[tuple[float, float]]) -> bool:
    """Whether enough channels have what is usual: (own, median) means of each."""
    bright = TISSUE_SHARE * max(median for _, median in channels)
    keeps = [(own >= TISSUE_SHARE * median, median >= bright) for own, median in channels if median > 0]
    return 2 * sum(kept for kept, _ in keeps) >= len(keeps) or any(kept and is_bright for kept, is_bright in keeps)


def brightness_warnings(images: Sequence[ImageRecord], signal: Signal, *, of_middles: bool = False) -> list[str]:
    """A warning where images are many times as bright, or as dark, as the median image in most of their channels.

    Args:
        images, signal: as for :func:`find_empty`.
        of_middles: the means are of a part of each image, which may hold no tissue: being dark says nothing.
    """
    beside = _beside_the_usual(images, signal)
    if beside is None:
        return []
    factors = {}
    for image in images:
        ratios = [own / median for own, median in beside[image.image_id] if median > 0]
        factor = statistics.median(ratios) if ratios else 1.0
        if factor > ANOTHER_SCALE or (factor < 1 / ANOTHER_SCALE and not of_middles):
            factors[image] = factor
    if not factors:
        return []
    examples = ", ".join(
        f"{image.image_id} ({factor:.3g} times, {image.label})" for image, factor in list(factors.items())[:SHOWN]
    )
    more = ", …" if len(factors) > SHOWN else ""
    how = "as bright" if of_middles else "as bright or as dark"
    return [
        f"{counted(len(factors), 'image', 'is', of=len(images))} {ANOTHER_SCALE} times {how} as the median image, "
        f"or more, as images on another scale are (16 bit beside 8 bit: 257 times): {examples}{more}. They would "
        "set the scale of every channel and stand out by that alone; bring the images to one scale or leave them out"
    ]


def _beside_the_usual(images: Sequence[ImageRecord], signal: Signal) -> dict[str, list[tuple[float, float]]] | None:
    """image_id → of every channel that it holds the (own, median over images) mean; None where one is below zero."""
    own = {image.image_id: {fold_name(name): mean for name, mean in signal[image.image_id].items()} for image in images}
    by_channel: dict[str, list[float]] = {}
    for means in own.values():
        for name, mean in means.items():
            by_channel.setdefault(name, []).append(mean)
    if any(min(means) < 0 for means in by_channel.values()):
        return None
    medians = {name: statistics.median(means) for name, means in by_channel.items()}
    return {image_id: [(mean, medians[name]) for name, mean in means.items()] for image_id, means in own.items()}


def skipped_images(bad: Sequence[BadImage]) -> tuple[SkippedImage, ...]:
    """What is remembered of images that are left out, by their ids."""
    found = (SkippedImage(image.record.image_id, str(image.record.path), image.reason) for image in bad)
    return tuple(sorted(found, key=lambda image: image.image_id))


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
        return tuple(SkippedImage(**image) for image in json.loads(read_text(path)))
