"""Counts in cells with a brightness of each image and of each channel in it, as stains have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from plexrank.simulate.cells import Tissue, clustered, grow_tissue, scattered
from plexrank.simulate.cohort import FOLDS, Generator, Plant, StudySections, image_generator

BACKGROUND, DIM, BRIGHT = 1.0, 6.0, 40.0
GAIN = 1.6
"""Of an intensity channel in its class, where the plant names no other strength."""
IMAGE_SIGMA, CHANNEL_SIGMA = 0.1, 0.2
"""Of the logarithm of brightness."""

LogBrightness = Callable[[int], npt.NDArray[np.float64]]


def counts_draw(
    seed: int,
    size_px: int,
    labels: Sequence[str],
    plants: Sequence[Plant | None],
    log_brightness: LogBrightness | None = None,
    image_sigma: float = IMAGE_SIGMA,
    channel_sigma: float = CHANNEL_SIGMA,
) -> Callable[[int], npt.NDArray[np.uint16]]:
    """What draws an image: uint16 counts (c, y, x).

    One cell in six is bright. A plant of kind ``intensity`` makes its channel brighter in its class, ``arrangement``
    clusters its bright cells there, and the channels of kind ``colocation`` have the same bright cells in their class
    and none in common elsewhere.

    Args:
        log_brightness: image index → (channel,) what else the image brings.
        image_sigma, channel_sigma: spread of log brightness over images and over channels within images.
    """

    def draw(image: int) -> npt.NDArray[np.uint16]:
        own = image_generator(seed, image)
        tissue = grow_tissue(own, size_px)
        brightness = np.exp(own.normal(0, image_sigma) + own.normal(0, channel_sigma, len(plants)))
        if log_brightness is not None:
            brightness *= np.exp(log_brightness(image))
        bright_cells = []
        shared: npt.NDArray[np.intp] | None = None
        for channel, plant in enumerate(plants):
            is_own = plant is not None and plant.class_name == labels[image]
            if plant is not None and plant.kind == "colocation":
                bright = shared = _beside(own, tissue, shared, is_own)
            else:
                bright = (clustered if is_own and plant and plant.kind == "arrangement" else scattered)(own, tissue)
            bright_cells.append(bright)
            if is_own and plant is not None and plant.kind == "intensity":
                brightness[channel] *= GAIN if plant.strength is None else plant.strength
        return count_pixels(own, tissue, bright_cells, brightness)

    return draw


def count_pixels(
    generator: Generator,
    tissue: Tissue,
    bright_cells: Sequence[npt.NDArray[np.intp]],
    brightness: npt.NDArray[np.float64],
) -> npt.NDArray[np.uint16]:
    """Poisson counts (c, y, x) of cells.

    Args:
        bright_cells: for each channel the indices of its bright cells; the others are dim.
        brightness: (channel,) factor of all levels.
    """
    levels = np.full((len(bright_cells), len(tissue.centers) + 1), DIM)
    levels[:, 0] = BACKGROUND
    for channel, bright in enumerate(bright_cells):
        levels[channel, 1 + bright] = BRIGHT
    return generator.poisson((levels * brightness[:, np.newaxis])[:, tissue.index_map]).astype(np.uint16)


def _beside(
    generator: Generator, tissue: Tissue, first: npt.NDArray[np.intp] | None, is_same: bool
) -> npt.NDArray[np.intp]:
    """Bright cells: any for the first channel of a pair, then the same ones or as many of the others."""
    if first is None:
        return scattered(generator, tissue)
    if is_same:
        return first
    others = np.setdiff1d(np.arange(len(tissue.centers)), first)
    return generator.choice(others, tissue.num_bright, replace=False)


def counts_study(size_px: int, tile_px: int | None = None) -> StudySections:
    """Sections of the study that suit such a cohort."""
    side_px = size_px if tile_px is None else tile_px
    return {
        "tile": {"tile_px": side_px, "min_tissue": 0},
        "model": {"backbone": "shallow", "weights": "none"},
        "train": {
            "epochs": 15,
            "batch_tiles": 16,
            "crop_px": side_px,
            "learning_rate": 3e-3,
            "folds": FOLDS,
            "seeds": 2,
        },
    }
