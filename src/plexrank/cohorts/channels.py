"""The channels of a cohort: the union of what its images hold, joined by name, and which image lacks which."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plexrank.arrays import IntArray
from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.panel import Panel
from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.errors import ImageDataError, PlexrankError, StudyError, raise_problems
from plexrank.images.channel_names import fold_name
from plexrank.wording import did_you_mean

NEAR = 0.75
"""Similarity (of difflib, 0–1) from which another name is told as a near miss: CD3 and CD3e, CD8 and CD8a."""


@dataclass(frozen=True)
class CohortChannels:
    """The channels that a cohort is ranked by; what they are called and where each image's tile store holds them.

    Every one of them is held by training patients of two classes or more in every fold.

    Attributes:
        names: N names in the order of the cohort's panel, those that it lacks behind in the order in which they first
            appear over the samplesheet.
        planes: (image, channel) index on axis c of the image's tile store, -1 where the image lacks the channel.
        stored: of every image the names in its tile store, which may hold channels that are not among ``names``
            (left out) and call the others by another spelling (``cd3`` for CD3).
        left_out: names of the channels that images hold beside ``names``.
        warnings: which images lack what, and which channels are left out and why.
    """

    names: tuple[str, ...]
    planes: IntArray
    stored: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(image, channel) whether the image holds the channel."""
        present: npt.NDArray[np.bool_] = self.planes >= 0
        return present


def settle_channels(cohort: Cohort, held: Sequence[Sequence[str]], training: Sequence[Sequence[int]]) -> CohortChannels:
    """Join the channels of all images by name.

    Args:
        cohort: the images.
        held: of each of them the names that it holds, no name twice.
        training: of every fold the training images, as indices into ``cohort.images``.

    Raises:
        StudyError: a panel keeps a channel that none of its images holds, or no channel can be ranked, or none that
            an image holds.
    """
    names, planes = _join(cohort.panel, held)
    raise_problems(rows_without_image(cohort.images, held))
    excluded = {
        index: reason
        for index in range(len(names))
        if (reason := _why_not_rankable(cohort.images, planes[:, index] >= 0, training)) is not None
    }
    if len(excluded) == len(names):
        raise StudyError(
            f"no channel can be ranked: for each, some fold has no training patients of two classes who have it; "
            f"{names[0]}: {excluded[0]}. Rank images of one panel, or use fewer folds"
        )
    ranked = [index for index in range(len(names)) if index not in excluded]
    raise_problems(
        [
            StudyError(
                f"{image.path}: each of its channels ({_some(own)}) is left out, since not every fold has "
                "training patients of two classes who have it; name another file or panel, or leave the row out"
            )
            for image, own, held_planes in zip(cohort.images, held, planes[:, ranked], strict=True)
            if (held_planes < 0).all()
        ]
    )
    return CohortChannels(
        tuple(names[index] for index in ranked),
        planes[:, ranked],
        tuple(tuple(own) for own in held),
        tuple(names[index] for index in excluded),
        tuple(_missing_channels(names, planes >= 0, excluded, held)),
    )


def _missing_channels(
    names: Sequence[str], present: npt.NDArray[np.bool_], excluded: Mapping[int, str], held: Sequence[Sequence[str]]
) -> list[str]:
    """Warnings of channels that not every image has, and of those that are left out for that."""
    lacking = [
        f"{name} (missing from {count} of {len(held)}{_near_miss(name, present[:, index], held)})"
        for index, name in enumerate(names)
        if index not in excluded and (count := int((~present[:, index]).sum()))
    ]
    left_out = [
        f"{names[index]} (in {int(present[:, index].sum())} of {len(held)} images; {reason})"
        for index, reason in excluded.items()
    ]
    warnings = []
    if lacking:
        warnings.append(
            f"channels missing from some images, which count only where they are present: {', '.join(lacking)}"
        )
    if left_out:
        warnings.append(
            "channels left out, since not every fold has training patients of two classes who have them: "
            + ", ".join(left_out)
        )
    return warnings


def find_misfits(images: Sequence[ImageRecord], held: Mapping[str, Sequence[str]]) -> list[BadImage]:
    """Images that hold fewer than half of the channels that most images hold: another file, or another panel, is meant.

    Args:
        images: those to judge together.
        held: image_id → names that the image holds.

    Raises:
        StudyError: no channel is held by most images, so that there is nothing to judge by.
    """
    if not images:
        return []
    names, planes = _join(None, [held[image.image_id] for image in images])
    is_common = 2 * (planes >= 0).sum(axis=0) > len(images)
    if not is_common.any():
        examples = "; ".join(f"{image.path}: {_some(held[image.image_id])}" for image in (images[0], images[-1]))
        raise StudyError(f"no channel is in more than half of the images ({examples}); make a study of each panel")
    shares = (planes[:, is_common] >= 0).sum(axis=1)
    common = [name for name, is_one in zip(names, is_common, strict=True) if is_one]
    return [
        BadImage(
            image,
            ImageDataError(
                f"{image.path}: has {share} of the {len(common)} channels that most images have, fewer than half; "
                f"it has {_some(held[image.image_id])}, most have {_some(common)}. Name the right file or panel, or "
                "leave the row out"
            ),
        )
        for image, share in zip(images, shares, strict=True)
        if 2 * share < len(common)
    ]


def rows_without_image(images: Sequence[ImageRecord], held: Sequence[Sequence[str]]) -> list[PlexrankError]:
    """Rows that a panel keeps, but none of the images that it is for holds."""
    by_panel: dict[Panel, list[Sequence[str]]] = {}
    for image, own in zip(images, held, strict=True):
        if image.panel is not None:
            by_panel.setdefault(image.panel, []).append(own)
    problems: list[PlexrankError] = []
    for panel, owns in by_panel.items():
        found = {fold_name(name): name for own in owns for name in own}
        problems += [
            StudyError(
                f"{panel.path}: none of its {len(owns)} images has the channel {name!r}{_by_id(panel, name)}"
                f"{did_you_mean(name, list(found.values()))} Correct the name, or set keep to 0"
            )
            for name in panel.kept_names
            if fold_name(name) not in found
        ]
    return problems


def _join(panel: Panel | None, held: Sequence[Sequence[str]]) -> tuple[list[str], IntArray]:
    """All names that an image holds, and (image, channel) where; -1 where it does not."""
    holds = [{fold_name(name): index for index, name in enumerate(own)} for own in held]
    somewhere = {key for own in holds for key in own}
    spelled: dict[str, str] = {}
    for name in (*(panel.kept_names if panel else ()), *(name for own in held for name in own)):
        if fold_name(name) in somewhere:
            spelled.setdefault(fold_name(name), name)
    planes = np.array([[own.get(key, -1) for key in spelled] for own in holds], dtype=np.int64)
    return list(spelled.values()), planes.reshape(len(held), len(spelled))


def _by_id(panel: Panel, name: str) -> str:
    """What a panel takes for a channel's name in the images, where that is not its own."""
    own = next(channel.channel_id for channel in panel.channels if channel.keep and channel.name == name)
    return "" if own == name else f", {own!r} in the column channel"


def _why_not_rankable(
    images: Sequence[ImageRecord], holds: npt.NDArray[np.bool_], training: Sequence[Sequence[int]]
) -> str | None:
    if holds.all():
        return None
    for fold, indices in enumerate(training):
        labels = {images[index].label for index in indices if holds[index]}
        if len(labels) < 2:
            who = f"only training patients of class {labels.pop()!r}" if labels else "no training patient"
            return f"in fold {fold} {who}"
    return None


def _near_miss(name: str, holds: npt.NDArray[np.bool_], held: Sequence[Sequence[str]]) -> str:
    """What images that lack a channel, and none that holds it, call a channel that is written nearly the same."""
    elsewhere = {fold_name(other) for own, has in zip(held, holds, strict=True) if has for other in own}
    others = {fold_name(other): other for own, has in zip(held, holds, strict=True) if not has for other in own}
    candidates = [key for key in others if key not in elsewhere]
    near = difflib.get_close_matches(fold_name(name), candidates, n=1, cutoff=NEAR)
    if not near:
        return ""
    count = sum(near[0] in {fold_name(other) for other in own} for own in held)
    return f", {count} of which have {others[near[0]]!r}"


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
