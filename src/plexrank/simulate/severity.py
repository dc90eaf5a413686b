"""``survival``, ``ordinal``, ``continuous`` and their nulls: outcomes that follow how severe a disease is.

Every patient has one image and a severity that no file holds, the sum of one part for each planted channel, so that
every one says something that no other does. One channel grows brighter with its part and one fainter; in two more a
rising and a falling share of the bright cells is clustered, and the expected count of an image is the same in all.
The same sizes and seed draw the same severities and images for all three outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from plexrank.simulate.cells import grow_tissue, partly_clustered, scattered
from plexrank.simulate.cohort import (
    SITES,
    Generator,
    Outcome,
    Plant,
    SimulatedCohort,
    design_generator,
    image_generator,
    plant_at_random,
)
from plexrank.simulate.counts import CHANNEL_SIGMA, IMAGE_SIGMA, count_pixels, counts_study

SIGN = {"high": 1.0, "low": -1.0}
"""Of the slope along severity, by the class that a plant marks."""
SEVERITY_PLANTS = [Plant(kind, name) for kind in ("intensity", "arrangement") for name in SIGN]
LOG_GAIN = 0.4
"""Of an intensity channel for each unit of its part."""
CLUSTERING = 2.0
"""Of an arrangement channel: how steeply the share of clustered cells follows its part, in probits."""

GRADES = ("1", "2", "3", "4")
VALUE_MEAN, VALUE_SCALE = 50.0, 10.0
VALUE_NOISE = 0.5  # severity explains 1 / (1 + 0.5²) = 0.8 of the variance
LOG_HAZARD_RATIO = 2.0  # for each unit of severity, which then has a concordance of 0.85 with the times
WEIBULL_SHAPE, WEIBULL_SCALE_MONTHS = 1.2, 40.0
FOLLOW_UP_MONTHS = (12.0, 60.0)  # patients enter evenly over the years, and the study closes on one day

Severity = npt.NDArray[np.float64]


def survival_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Times to an event, nearly half of them censored."""
    return _cohort(survival_outcome, SEVERITY_PLANTS, num_images, num_channels, size_px, seed)


def ordinal_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Four grades."""
    return _cohort(ordinal_outcome, SEVERITY_PLANTS, num_images, num_channels, size_px, seed)


def continuous_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """A number."""
    return _cohort(continuous_outcome, SEVERITY_PLANTS, num_images, num_channels, size_px, seed)


def null_survival_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Times that no channel follows."""
    return _cohort(survival_outcome, [], num_images, num_channels, size_px, seed)


def null_ordinal_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """Grades that no channel follows."""
    return _cohort(ordinal_outcome, [], num_images, num_channels, size_px, seed)


def null_continuous_cohort(num_images: int, num_channels: int, size_px: int, seed: int) -> SimulatedCohort:
    """A number that no channel follows."""
    return _cohort(continuous_outcome, [], num_images, num_channels, size_px, seed)


def survival_outcome(generator: Generator, severity: Severity) -> Outcome:
    """Columns ``time``, months, and ``event``: 1, or 0 where the study closed before it.

    The hazard is that of a Weibull distribution times exp(``LOG_HAZARD_RATIO`` z); times by inversion (Bender et al.,
    Statistics in Medicine 24, 2005).

    Args:
        severity: (image,) z.
    """
    exponential = generator.standard_exponential(len(severity)) * np.exp(-LOG_HAZARD_RATIO * severity)
    event_time = WEIBULL_SCALE_MONTHS * exponential ** (1 / WEIBULL_SHAPE)
    follow_up = generator.uniform(*FOLLOW_UP_MONTHS, len(severity))
    time = np.maximum(np.minimum(event_time, follow_up), 0.1)
    columns = {
        "time": tuple(f"{months:.1f}" for months in time),
        "event": tuple(str(int(is_seen)) for is_seen in event_time <= follow_up),
    }
    return Outcome(columns, {"outcome": "survival", "time": "time", "event": "event"})


def ordinal_outcome(generator: Generator, severity: Severity) -> Outcome:
    """Column ``label``: grades of as many patients each, by the order of severity, (image,)."""
    label = tuple(GRADES[place * len(GRADES) // len(severity)] for place in _places(severity))
    return Outcome({"label": label}, {"label": "label", "outcome": "ordinal", "order": list(GRADES)})


def continuous_outcome(generator: Generator, severity: Severity) -> Outcome:
    """Column ``label``: a number that rises with severity, (image,), and has noise."""
    noisy = severity + generator.normal(0, VALUE_NOISE, len(severity))
    label = tuple(f"{value:.2f}" for value in VALUE_MEAN + VALUE_SCALE * noisy)
    return Outcome({"label": label}, {"label": "label", "outcome": "continuous"})


def severity_draw(
    seed: int, size_px: int, parts: Severity, plants: Sequence[Plant | None]
) -> Callable[[int], npt.NDArray[np.uint16]]:
    """What draws an image: uint16 counts (c, y, x); one cell in six is bright, whatever is planted.

    The brightness of an ``intensity`` channel is multiplied by exp(±``LOG_GAIN`` × part); of the bright cells of an
    ``arrangement`` channel the share Φ(±``CLUSTERING`` × part) is clustered. The sign is that of the plant's class in
    ``SIGN``.

    Args:
        parts: (image, channel) that of each channel in the severity, N(0, 1).
    """

    def draw(image: int) -> npt.NDArray[np.uint16]:
        own = image_generator(seed, image)
        tissue = grow_tissue(own, size_px)
        log_brightness = own.normal(0, IMAGE_SIGMA) + own.normal(0, CHANNEL_SIGMA, len(plants))
        bright_cells = []
        for channel, plant in enumerate(plants):
            z = SIGN[plant.class_name] * parts[image, channel] if plant else 0.0
            if plant and plant.kind == "intensity":
                log_brightness[channel] += LOG_GAIN * z
            is_arranged = plant is not None and plant.kind == "arrangement"
            share = ndtr(CLUSTERING * z)
            bright_cells.append(partly_clustered(own, tissue, share) if is_arranged else scattered(own, tissue))
        return count_pixels(own, tissue, bright_cells, np.exp(log_brightness))

    return draw


def _cohort(
    outcome_of: Callable[[Generator, Severity], Outcome],
    plants: list[Plant],
    num_images: int,
    num_channels: int,
    size_px: int,
    seed: int,
) -> SimulatedCohort:
    """Sites are in turn along severity, so that they are unrelated to the outcome."""
    generator = design_generator(seed)
    placed = plant_at_random(generator, plants, num_channels)
    parts = generator.standard_normal((num_images, num_channels))
    planted = [channel for channel, plant in enumerate(placed) if plant is not None] or [0]
    severity = parts[:, planted].sum(axis=1) / np.sqrt(len(planted))
    draw = severity_draw(seed, size_px, parts, placed)
    sites = tuple(SITES[place % len(SITES)] for place in _places(severity))
    return SimulatedCohort(outcome_of(generator, severity), placed, draw, counts_study(size_px), sites)


def _places(severity: Severity) -> npt.NDArray[np.intp]:
    """(image,) place by severity, from 0."""
    return np.argsort(np.argsort(severity))
