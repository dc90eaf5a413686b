"""``demo``: two channels that mean intensity can see, two that it cannot, and nothing in the others.

Counts with a brightness of each image and of each channel in it, as stains have; one image a patient. In the
channels that differ in arrangement the expected count of an image is the same in both classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plexrank.simulate.cells import clustered, grow_tissue, scattered
from plexrank.simulate.cohort import (
    FOLDS,
    Plant,
    SimulatedCohort,
    design_generator,
    image_generator,
    plant_at_random,
    shuffled_labels,
)

CLASS_NAMES = ("A", "B")
NUM_PLANTED = 4
_BACKGROUND, _DIM, _BRIGHT = 1.0, 6.0, 40.0
_GAIN = 1.6  # of an intensity channel in its class
_IMAGE_SIGMA, _CHANNEL_SIGMA = 0.1, 0.2  # of the logarithm of brightness


def demo_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Two classes; for each one channel brighter and one channel clustered; pixels uint16 counts."""
    generator = design_generator(seed)
    labels = shuffled_labels(generator, CLASS_NAMES, num_images)
    plants = plant_at_random(
        generator, [Plant(kind, name) for kind in ("intensity", "arrangement") for name in CLASS_NAMES], num_channels
    )

    def draw(image: int) -> npt.NDArray[np.uint16]:
        own = image_generator(seed, image)
        tissue = grow_tissue(own, size_px)
        brightness = np.exp(own.normal(0, _IMAGE_SIGMA) + own.normal(0, _CHANNEL_SIGMA, num_channels))
        levels = np.full((num_channels, len(tissue.centers) + 1), _DIM)
        levels[:, 0] = _BACKGROUND
        for channel, plant in enumerate(plants):
            marks = plant.kind if plant is not None and plant.class_name == labels[image] else None
            bright = (clustered if marks == "arrangement" else scattered)(own, tissue)
            levels[channel, 1 + bright] = _BRIGHT
            brightness[channel] *= _GAIN if marks == "intensity" else 1
        return own.poisson((levels * brightness[:, np.newaxis])[:, tissue.index_map]).astype(np.uint16)

    return SimulatedCohort(
        labels,
        plants,
        draw,
        {
            "tile": {"tile_px": size_px, "min_tissue": 0},
            "model": {"backbone": "shallow", "weights": "none"},
            "train": {
                "epochs": 15,
                "batch_tiles": 16,
                "crop_px": size_px,
                "learning_rate": 3e-3,
                "folds": FOLDS,
                "seeds": 2,
            },
        },
    )
