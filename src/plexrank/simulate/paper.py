"""``paper``: the synthetic data of Yang et al. (MICCAI 2020), section 4.1.

Discs of radius 5 at places that all channels share. Their intensities are bimodal; in the class that a
channel marks the modes are fixed and mixed 0.2 to 0.8, otherwise they are redrawn for every image and mixed
evenly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from plexrank.simulate.cells import disc_offsets
from plexrank.simulate.cohort import (
    FOLDS,
    Generator,
    Plant,
    SimulatedCohort,
    design_generator,
    image_generator,
    plant_at_random,
    shuffled_labels,
)

CLASS_NAMES = ("A", "B", "C")
NUM_PLANTED = 2 * len(CLASS_NAMES)
_RADIUS_PX = 5
_NUM_DISCS = (20, 150)
_LOW_MODE, _HIGH_MODE = (0.1, 0.3), (0.7, 0.9)
_SPREAD = 0.3
_NOISE = 10 / 255


def paper_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Three classes, two channels each; pixels uint8."""
    generator = design_generator(seed)
    labels = shuffled_labels(generator, CLASS_NAMES, num_images)
    plants = plant_at_random(
        generator, [Plant("mixture", name) for name in CLASS_NAMES for _ in range(2)], num_channels
    )
    fixed_modes = _draw_modes(generator, num_channels)
    share_high = generator.choice([0.2, 0.8], num_channels)

    def draw(image: int) -> npt.NDArray[np.uint8]:
        own = image_generator(seed, image)
        marked = np.array([plant is not None and plant.class_name == labels[image] for plant in plants])
        modes = np.where(marked[:, np.newaxis], fixed_modes, _draw_modes(own, num_channels))
        return _draw_image(own, modes, np.where(marked, share_high, 0.5), size_px)

    return SimulatedCohort(
        labels,
        plants,
        draw,
        {
            "tile": {"tile_px": size_px, "min_tissue": 0},
            "intensity": {"transform": "linear", "clip_percentile": 100},
            "model": {"backbone": "shallow", "weights": "none"},
            "train": {"epochs": 20, "crop_px": size_px, "learning_rate": 3e-3, "folds": FOLDS, "seeds": 1},
        },
    )


def _draw_modes(generator: Generator, num_channels: int) -> npt.NDArray[np.float64]:
    """(channel, 2): a low and a high mode."""
    return np.stack([generator.uniform(*_LOW_MODE, num_channels), generator.uniform(*_HIGH_MODE, num_channels)], axis=1)


def _draw_image(
    generator: Generator, modes: npt.NDArray[np.float64], share_high: npt.NDArray[np.float64], size_px: int
) -> npt.NDArray[np.uint8]:
    """(c, y, x) from each channel's two modes and its share of discs near the high one."""
    num_channels, num_discs = len(modes), int(generator.integers(*_NUM_DISCS))
    index_map = _place_discs(generator, num_discs, size_px)
    is_high = generator.random((num_channels, num_discs)) < share_high[:, np.newaxis]
    mean = np.where(is_high, modes[:, 1:], modes[:, :1])
    levels = np.zeros((num_channels, num_discs + 1), np.float32)
    levels[:, 1:] = np.clip(generator.normal(mean, _SPREAD), 0, 1)
    pixels = levels[:, index_map]
    pixels += np.float32(_NOISE) * generator.standard_normal(pixels.shape, np.float32)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _place_discs(generator: Generator, num_discs: int, size_px: int) -> npt.NDArray[np.intp]:
    """(y, x) number of the disc on top, counted from 1; 0 is background."""
    padded = np.zeros((size_px + 2 * _RADIUS_PX, size_px + 2 * _RADIUS_PX), np.intp)
    y, x = disc_offsets(_RADIUS_PX).T + _RADIUS_PX
    for number, (center_y, center_x) in enumerate(generator.integers(0, size_px, (num_discs, 2)), start=1):
        padded[center_y + y, center_x + x] = number
    return padded[_RADIUS_PX:-_RADIUS_PX, _RADIUS_PX:-_RADIUS_PX]
