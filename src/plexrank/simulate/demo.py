"""``demo`` and its relatives: counts in cells, two classes, one image a patient unless said otherwise.

In the channels that differ in arrangement the expected count of an image is the same in both classes.
"""

from __future__ import annotations

import numpy as np

from plexrank.simulate.cohort import (
    SITES,
    TWO_CLASSES,
    Plant,
    SimulatedCohort,
    cohort_of_classes,
    design_generator,
    plant_at_random,
    shuffled_labels,
)
from plexrank.simulate.counts import counts_draw, counts_study

DEMO_PLANTS = [Plant(kind, name) for kind in ("intensity", "arrangement") for name in TWO_CLASSES]
FAINT_GAINS = (1.6, 1.4, 1.25, 1.15, 1.08, 1.04)
FAINT_PLANTS = [Plant("intensity", "A", strength=gain) for gain in FAINT_GAINS]
COLOCAL_PLANTS = [Plant("colocation", "A")] * 2
SITE_SHARE = 0.8
"""Of the images of class A at the first site, and of class B at the second."""
_SITE_LOG_GAIN = 0.5
IMAGES_A_PATIENT = 4
_ICC = (0.2, 0.8)
_HIERARCHY_SIGMA = 0.4  # of log brightness over all images


def demo_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """For each class one channel brighter and one channel clustered; pixels uint16 counts."""
    return _planted(DEMO_PLANTS, num_images, num_channels, size_px, seed)


def null_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """The labels mean nothing."""
    return _planted([], num_images, num_channels, size_px, seed)


def faint_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Channels brighter in class A by the factors ``FAINT_GAINS``, down to next to nothing."""
    return _planted(FAINT_PLANTS, num_images, num_channels, size_px, seed)


def colocal_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Two channels bright in the same cells in class A, in different ones in class B; each alone shows nothing."""
    return _planted(COLOCAL_PLANTS, num_images, num_channels, size_px, seed)


def _planted(plants: list[Plant], num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    generator = design_generator(seed)
    labels = shuffled_labels(generator, TWO_CLASSES, num_images)
    placed = plant_at_random(generator, plants, num_channels)
    return cohort_of_classes(labels, placed, counts_draw(seed, size_px, labels, placed), counts_study(size_px))


def site_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """``demo`` at two sites that go with the label in ``SITE_SHARE`` of the images.

    Half of the channels without a plant are brighter at the second site (kind ``batch``, not informative).
    """
    generator = design_generator(seed)
    labels = shuffled_labels(generator, TWO_CLASSES, num_images)
    placed = list(plant_at_random(generator, DEMO_PLANTS, num_channels))
    free = [channel for channel, plant in enumerate(placed) if plant is None]
    for channel in generator.permutation(free)[: (len(free) + 1) // 2]:
        placed[channel] = Plant("batch", "", informative=False)
    sites = [SITES[0]] * num_images
    for own, other in zip(TWO_CLASSES, SITES, strict=True):
        members = generator.permutation([image for image, label in enumerate(labels) if label == own])
        for place, image in enumerate(members):
            sites[image] = other if place < SITE_SHARE * len(members) else SITES[1 - SITES.index(other)]
    batch = np.array([plant is not None and plant.kind == "batch" for plant in placed])

    def log_brightness(image: int) -> np.ndarray:
        shift: np.ndarray = _SITE_LOG_GAIN * batch * (sites[image] == SITES[1])
        return shift

    draw = counts_draw(seed, size_px, labels, placed, log_brightness)
    return cohort_of_classes(labels, tuple(placed), draw, counts_study(size_px), sites=tuple(sites))


def hierarchy_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """``demo`` with four images a patient and four tiles an image.

    Log brightness has a part of the patient and a part of the image; the share of the patient's in the variance, the
    intraclass correlation, rises over the channels from 0.2 to 0.8.
    """
    generator = design_generator(seed)
    patient = np.arange(num_images) // IMAGES_A_PATIENT
    of_patient = shuffled_labels(generator, TWO_CLASSES, int(patient.max()) + 1)
    labels = tuple(of_patient[number] for number in patient)
    placed = plant_at_random(generator, DEMO_PLANTS, num_channels)
    share = np.linspace(*_ICC, num_channels)
    shared = generator.normal(0, np.sqrt(share) * _HIERARCHY_SIGMA, (len(of_patient), num_channels))
    own = generator.normal(0, np.sqrt(1 - share) * _HIERARCHY_SIGMA, (num_images, num_channels))

    def log_brightness(image: int) -> np.ndarray:
        total: np.ndarray = shared[patient[image]] + own[image]
        return total

    draw = counts_draw(seed, size_px, labels, placed, log_brightness, image_sigma=0.0, channel_sigma=0.0)
    study = counts_study(size_px, tile_px=size_px // 2)
    return cohort_of_classes(labels, placed, draw, study, patients=tuple(patient.tolist()))
