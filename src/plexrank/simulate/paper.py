"""``paper``: the synthetic data of Abdel Magid et al. (MICCAI 2020), section 4.1; ``gains`` and ``redundant`` after it.

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

_RADIUS_PX = 5
_NUM_DISCS = (20, 150)
_LOW_MODE, _HIGH_MODE = (0.1, 0.3), (0.7, 0.9)
_SPREAD = 0.3
_NOISE = 10 / 255
_GAIN_SIGMA = 0.3
_SAME_DISC = 0.8  # share of discs that a correlated partner takes over
_NULL_BLOCK = 3


def paper_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Three classes, two channels each; pixels uint8."""
    return _cohort(num_images, num_channels, size_px, seed)


def gains_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """``paper`` with log-normal brightness of every channel in every image (σ of the logarithm 0.3)."""
    return _cohort(num_images, num_channels, size_px, seed, gain_sigma=_GAIN_SIGMA)


def redundant_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """``paper`` with twelve informative channels, six of which repeat the others, and correlated ones without meaning.

    For each class the first channel has a copy (the same discs and levels, other noise), the second a partner that
    shares 80 % of its discs' levels. Three channels without a plant share as much with each other.
    """
    return _cohort(num_images, num_channels, size_px, seed, is_redundant=True)


def _cohort(
    num_images: int, num_channels: int, size_px: int, seed: int, *, gain_sigma: float = 0.0, is_redundant: bool = False
) -> SimulatedCohort:
    generator = design_generator(seed)
    labels = shuffled_labels(generator, THREE_CLASSES, num_images)
    plants = plant_at_random(
        generator, [Plant("mixture", name) for name in THREE_CLASSES for _ in range(2)], num_channels
    )
    fixed_modes = _draw_modes(generator, num_channels)
    share_high = generator.choice([0.2, 0.8], num_channels)
    source, same = np.arange(num_channels), np.ones(num_channels)
    if is_redundant:
        plants, source, same = _repeat(generator, plants)

    def draw(image: int) -> npt.NDArray[np.uint8]:
        own = image_generator(seed, image)
        marked = np.array([plant is not None and plant.class_name == labels[image] for plant in plants])[source]
        modes = np.where(marked[:, np.newaxis], fixed_modes[source], _draw_modes(own, num_channels)[source])
        shares = np.where(marked, share_high[source], 0.5)
        levels, index_map = _draw_levels(own, modes, shares, size_px)
        if is_redundant:
            taken = own.random(levels.shape) < same[:, np.newaxis]
            levels = np.where(taken, levels[source], levels)
        gains = np.exp(own.normal(0, gain_sigma, num_channels)) if gain_sigma else None
        return _with_noise(own, levels, index_map, gains)

    return cohort_of_classes(
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


def _repeat(
    generator: Generator, plants: tuple[Plant | None, ...]
) -> tuple[tuple[Plant | None, ...], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Make channels without a plant repeat others.

    Returns:
        The plants, for each channel the one that it takes its discs from, and the share of discs that it takes.
    """
    placed, source, same = list(plants), np.arange(len(plants)), np.ones(len(plants))
    planted = [channel for channel, plant in enumerate(plants) if plant is not None]
    free = generator.permutation([channel for channel, plant in enumerate(plants) if plant is None])
    seen: set[str] = set()
    for channel, partner in zip(planted, free, strict=False):
        plant = plants[channel]
        if plant is not None:
            is_copy = plant.class_name not in seen
            seen.add(plant.class_name)
            placed[partner] = Plant("copy" if is_copy else "correlated", plant.class_name)
            source[partner], same[partner] = channel, 1.0 if is_copy else _SAME_DISC
    block = free[len(planted) : len(planted) + _NULL_BLOCK]
    source[block[1:]], same[block[1:]] = block[:1], _SAME_DISC
    return tuple(placed), source, same


def _draw_levels(
    generator: Generator, modes: npt.NDArray[np.float64], share_high: npt.NDArray[np.float64], size_px: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Level of every disc (c, disc), 0 for background, from each channel's two modes; and the map of discs (y, x)."""
    num_channels, num_discs = len(modes), int(generator.integers(*_NUM_DISCS))
    index_map = _place_discs(generator, num_discs, size_px)
    is_high = generator.random((num_channels, num_discs)) < share_high[:, np.newaxis]
    mean = np.where(is_high, modes[:, 1:], modes[:, :1])
    levels = np.zeros((num_channels, num_discs + 1), np.float32)
    levels[:, 1:] = np.clip(generator.normal(mean, _SPREAD), 0, 1)
    return levels, index_map


def _with_noise(
    generator: Generator,
    levels: npt.NDArray[np.float32],
    index_map: npt.NDArray[np.intp],
    gains: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.uint8]:
    pixels = levels[:, index_map]
    if gains is not None:
        pixels *= gains[:, np.newaxis, np.newaxis].astype(np.float32)
    pixels += np.float32(_NOISE) * generator.standard_normal(pixels.shape, np.float32)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _place_discs(generator: Generator, num_discs: int, size_px: int) -> npt.NDArray[np.intp]:
    """(y, x) number of the disc on top, counted from 1; 0 is background."""
    padded = np.zeros((size_px + 2 * _RADIUS_PX, size_px + 2 * _RADIUS_PX), np.intp)
    y, x = disc_offsets(_RADIUS_PX).T + _RADIUS_PX
    for number, (center_y, center_x) in enumerate(generator.integers(0, size_px, (num_discs, 2)), start=1):
        padded[center_y + y, center_x + x] = number
    return padded[_RADIUS_PX:-_RADIUS_PX, _RADIUS_PX:-_RADIUS_PX]
