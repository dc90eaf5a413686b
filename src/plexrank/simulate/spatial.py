"""``spatial``: the arrangement of bright cells differs, and nothing else.

Every channel of every image has exactly the same histogram, hence the same mean, variance and percentiles:
pixels are ranked and take the values of one sorted reference (exact histogram specification, Coltuc et al.,
IEEE Trans. Image Process. 15, 2006).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plexrank.simulate.cells import Tissue, clustered, grow_tissue, scattered
from plexrank.simulate.cohort import (
    FOLDS,
    THREE_CLASSES,
    Generator,
    Plant,
    SimulatedCohort,
    cohort_of_classes,
    design_generator,
    image_generator,
    plant_at_random,
    shuffled_labels,
)

_DIM, _BRIGHT, _NOISE = 60.0, 180.0, 12.0


def spatial_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Three classes, two channels each whose bright cells cluster in their class; pixels uint8."""
    generator = design_generator(seed)
    labels = shuffled_labels(generator, THREE_CLASSES, num_images)
    plants = plant_at_random(
        generator, [Plant("arrangement", name) for name in THREE_CLASSES for _ in range(2)], num_channels
    )
    tissue = grow_tissue(generator, size_px)
    model = _raw_channel(generator, tissue, scattered(generator, tissue))
    reference = np.sort(np.clip(np.rint(model), 0, 255).astype(np.uint8), axis=None)

    def draw(image: int) -> npt.NDArray[np.uint8]:
        own = image_generator(seed, image)
        tissue = grow_tissue(own, size_px)
        pixels = np.empty((num_channels, size_px, size_px), np.uint8)
        for channel, plant in enumerate(plants):
            is_clustered = plant is not None and plant.class_name == labels[image]
            bright = (clustered if is_clustered else scattered)(own, tissue)
            order = np.argsort(_raw_channel(own, tissue, bright), axis=None, kind="stable")
            pixels[channel].reshape(-1)[order] = reference
        return pixels

    return cohort_of_classes(
        labels,
        plants,
        draw,
        {
            "tile": {"tile_px": size_px, "min_tissue": 0},
            "intensity": {"transform": "linear", "clip_percentile": 100},
            "model": {"backbone": "shallow", "weights": "none"},
            "train": {
                "epochs": 25,
                "batch_tiles": 16,
                "crop_px": size_px,
                "learning_rate": 3e-3,
                "folds": FOLDS,
                "seeds": 2,
            },
        },
    )


def _raw_channel(generator: Generator, tissue: Tissue, bright: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """(y, x) levels with noise, before the histogram is set."""
    levels = np.zeros(len(tissue.centers) + 1)
    levels[1:] = _DIM
    levels[1 + bright] = _BRIGHT
    return levels[tissue.index_map] + generator.normal(0, _NOISE, tissue.index_map.shape)
