"""Tiles of a few images whose outcome, of any kind, follows the brightness of one channel."""

from __future__ import annotations

import numpy as np

from plexrank.outcome import Kind, Outcome, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.tiles.intensity import IntensityFit
from plexrank.training.data import TrainingTiles

PLANTED = 1
GRADES = ("low", "middle", "high")


def levels_of(kind: Kind, score: np.ndarray, generator: np.random.Generator) -> list[str]:
    """The outcome (image,) as text; survival has tied times and every third image censored."""
    if kind == "nominal":
        return ["b" if value > 0 else "a" for value in score]
    if kind == "ordinal":
        return [GRADES[int(np.digitize(value, [-0.5, 0.5]))] for value in score]
    if kind == "continuous":
        return [f"{40 + 10 * value:.3f}" for value in score]
    time = np.ceil(8 * np.exp(-1.5 * score) * generator.exponential(size=len(score)))
    return [survival_level(f"{value:g}", number % 3 > 0) for number, value in enumerate(time)]


def outcome_of(kind: Kind, levels: list[str]) -> Outcome:
    return make_outcome(kind, levels, GRADES)


def outcome_tiles(kind: Kind, images: int = 60, seed: int = 0) -> TrainingTiles:
    """Images of one to three tiles of 3 channels, 16 × 16, at two sites."""
    generator = np.random.default_rng(seed)
    score = generator.normal(size=images)
    image = np.repeat(np.arange(images), generator.integers(1, 4, images))
    raw = generator.poisson(4.0, size=(len(image), 3, 16, 16)).astype(np.float64)
    raw[:, PLANTED] *= np.exp(0.7 * score[image])[:, None, None]
    levels = levels_of(kind, score, generator)
    outcome = outcome_of(kind, levels)
    return TrainingTiles(
        lambda tile: raw[tile],
        IntensityFit("arcsinh", 5.0, np.full(3, 2.0, dtype=np.float32)),
        labels=outcome.labels(levels)[image],
        image_index=image,
        patient_ids=np.array([f"p{number}" for number in image]),
        channel_names=["C0", "C1", "C2"],
        outcome=outcome,
        channel_means=raw.mean(axis=(2, 3)),
        stratum=image % 2,
    )
