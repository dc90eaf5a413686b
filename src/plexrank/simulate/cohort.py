"""What a scenario describes: the outcome of each image, planted channels, and how to draw one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Generator = np.random.Generator
StudySections = dict[str, dict[str, Any]]
FOLDS = 4  # of every simulated study
TWO_CLASSES = ("A", "B")
THREE_CLASSES = ("A", "B", "C")
SITES = ("S1", "S2")


@dataclass(frozen=True)
class Plant:
    """What is planted in a channel.

    Attributes:
        kind: of difference.
        class_name: the class that it marks, or ``high`` or ``low`` for a channel that rises or falls with the severity
            of a disease; '' for none.
        strength: a factor, where the scenario has several.
        informative: whether the channel depends on the outcome.
    """

    kind: str
    class_name: str
    strength: float | None = None
    informative: bool = True


@dataclass(frozen=True)
class Outcome:
    """What is known of each image and to be predicted, as a user would write it down.

    Attributes:
        columns: of the samplesheet, by name: the text of each image.
        keys: of the study's ``cohort`` that name these columns and say what they hold.
    """

    columns: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, Any]


@dataclass(frozen=True)
class SimulatedCohort:
    """A cohort before it is written.

    Attributes:
        outcome: of each image.
        plants: for each channel what is planted, None for nothing.
        draw: image index → (c, y, x) pixels, the same for the same index.
        study: sections of the study that suit the cohort, without ``cohort``.
        sites: site of each image.
        patients: number of each image's patient from 0; a patient an image if absent.
    """

    outcome: Outcome
    plants: tuple[Plant | None, ...]
    draw: Callable[[int], npt.NDArray[np.generic]]
    study: StudySections
    sites: tuple[str, ...]
    patients: tuple[int, ...] | None = None


def cohort_of_classes(
    labels: tuple[str, ...],
    plants: tuple[Plant | None, ...],
    draw: Callable[[int], npt.NDArray[np.generic]],
    study: StudySections,
    sites: tuple[str, ...] | None = None,
    patients: tuple[int, ...] | None = None,
) -> SimulatedCohort:
    """A cohort whose images have one of several classes, in the column ``label``.

    Args:
        labels: class name of each image.
        plants, draw, study, patients: see :class:`SimulatedCohort`.
        sites: site of each image; in turn within each class if absent.
    """
    outcome = Outcome({"label": labels}, {"label": "label"})
    return SimulatedCohort(outcome, plants, draw, study, sites or _sites_in_turn(labels, patients), patients)


def _sites_in_turn(labels: Sequence[str], patients: Sequence[int] | None) -> tuple[str, ...]:
    """Sites in turn for the patients of each class, so that site and label are unrelated."""
    seen: dict[str, int] = {}
    site_of: dict[int, str] = {}
    for patient, label in zip(range(len(labels)) if patients is None else patients, labels, strict=True):
        if patient not in site_of:
            seen[label] = seen.get(label, 0) + 1
            site_of[patient] = SITES[seen[label] % len(SITES)]
    return tuple(site_of[patient] for patient in (range(len(labels)) if patients is None else patients))


def design_generator(seed: int) -> Generator:
    """Random numbers for what concerns the whole cohort."""
    return np.random.default_rng([seed, 0])


def image_generator(seed: int, image: int) -> Generator:
    """Random numbers for one image, whatever the other images use."""
    return np.random.default_rng([seed, 1, image])


def shuffled_labels(generator: Generator, class_names: tuple[str, ...], num_images: int) -> tuple[str, ...]:
    """Classes as equal as can be, in random order."""
    order = generator.permutation(num_images)
    return tuple(class_names[index % len(class_names)] for index in order)


def plant_at_random(generator: Generator, plants: list[Plant], num_channels: int) -> tuple[Plant | None, ...]:
    """Give each plant a channel of its own, drawn at random."""
    channels = generator.permutation(num_channels)[: len(plants)]
    placed: list[Plant | None] = [None] * num_channels
    for channel, plant in zip(channels, plants, strict=True):
        placed[channel] = plant
    return tuple(placed)
