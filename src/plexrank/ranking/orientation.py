"""The sign of r: free in every unit, made to agree without looking at labels."""

from __future__ import annotations

import numpy as np

from plexrank.ranking.samples import Array

MIN_SHARED_IMAGES = 4


def align_signs(tables: Array) -> Array:
    """Signs per unit and channel that make the units' embeddings agree.

    For every channel: the correlations between units over the images that both know, 0 where they share
    fewer than ``MIN_SHARED_IMAGES``; the signs are those of the leading eigenvector. The first unit in which
    the channel varies keeps its sign.

    Args:
        tables: (unit, image, channel), NaN where a unit has no value for an image.

    Returns:
        (unit, channel) of −1.0 or 1.0.
    """
    units, _, channels = tables.shape
    known = np.isfinite(tables)
    correlation = np.zeros((channels, units, units))
    for a in range(units):
        correlation[:, a, a] = 1.0
        for b in range(a + 1, units):
            shared = known[a] & known[b]
            pair = _correlation(tables[a], tables[b], shared)
            correlation[:, a, b] = correlation[:, b, a] = pair
    leading = np.linalg.eigh(correlation)[1][:, :, -1]
    first = np.argmax(np.abs(leading) > 1e-9, axis=1)
    leading = leading * np.where(leading[np.arange(channels), first] < 0, -1.0, 1.0)[:, None]
    return np.where(leading.T < -1e-9, -1.0, 1.0)


def _correlation(a: Array, b: Array, shared: Array) -> Array:
    count = shared.sum(axis=0)
    divisor = np.maximum(count, 1)
    a, b = np.where(shared, a, 0.0), np.where(shared, b, 0.0)
    a = np.where(shared, a - a.sum(axis=0) / divisor, 0.0)
    b = np.where(shared, b - b.sum(axis=0) / divisor, 0.0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    usable = (scale > 0) & (count >= MIN_SHARED_IMAGES)
    correlation: Array = np.divide((a * b).sum(axis=0), scale, out=np.zeros(len(scale)), where=usable)
    return correlation
