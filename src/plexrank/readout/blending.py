"""A channel's mean intensity blended into its number, so that the embedding knows what plain intensities know.

An encoder that is trained on some dozens of patients says less of held-out ones than the channel means do; half of each
says about as much as the better one. A channel stays one number, and all importances stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plexrank.arrays import FloatArray
from plexrank.statistics.means import known_moments

LOG_OFFSET = 0.01
"""Keeps the logarithm of silent channels finite: added to a mean, as a share of the channel's mean over images."""
SILENT = 1e-6
"""Standard deviation of r or of the logarithm up to which a channel is taken not to vary."""

RealArray = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class IntensityBlend:
    """r × slope + log(mean + offset) × weight + shift, each (channel,) float64."""

    slope: FloatArray
    weight: FloatArray
    offset: FloatArray
    shift: FloatArray

    def apply(self, r: RealArray, channel_means: RealArray) -> NDArray[np.float32]:
        """The blend of tiles, (tile, channel) float32.

        Args:
            r: (tile, channel), NaN where absent.
            channel_means: (tile, channel) mean counts, NaN where absent.
        """
        blended = r * self.slope + log_means(channel_means, self.offset) * self.weight + self.shift
        result: NDArray[np.float32] = blended.astype(np.float32)
        return result


def log_means(channel_means: RealArray, offset: RealArray) -> FloatArray:
    """log(mean + offset) (tile, channel), of means (tile, channel) below 0 as if they were 0."""
    result: FloatArray = np.log(np.maximum(channel_means.astype(np.float64), 0.0) + offset)
    return result


def mean_offset(channel_means: RealArray) -> FloatArray:
    """What to add before the logarithm, (channel,), from the means (image, channel) of the training images."""
    offset = LOG_OFFSET * np.nan_to_num(known_moments(np.maximum(channel_means, 0.0))[0])
    return np.where(offset > 0, offset, 1.0)


def fit_blend(r: RealArray, logs: RealArray, offset: RealArray, share: float, *, standardize: bool) -> IntensityBlend:
    """(1 − share) × r + share × log mean, both at unit variance over the training images; no label is looked at.

    The log mean takes the sign of its correlation with r. A channel of which one does not vary keeps the other alone.

    Args:
        r, logs: (image, channel) image means of r and of :func:`log_means`, NaN where an image lacks the channel.
        offset: (channel,) as for :func:`log_means`.
        share: 0 to 1.
        standardize: whether the blend has mean 0 and variance 1 over these images, or the spread of r.
    """
    (r_center, r_spread), (log_center, log_spread) = known_moments(r), known_moments(logs)
    slope = np.divide(1 - share, r_spread, out=np.zeros_like(r_spread), where=r_spread > SILENT)
    weight = np.divide(share, log_spread, out=np.zeros_like(log_spread), where=log_spread > SILENT)
    along = np.nansum((r - r_center) * (logs - log_center), axis=0)
    weight *= np.where(along < 0, -1.0, 1.0)
    spread = known_moments(r * slope + logs * weight)[1]
    wanted = np.ones_like(spread) if standardize else np.where(r_spread > SILENT, r_spread, 1.0)
    scale = np.divide(wanted, spread, out=np.ones_like(spread), where=spread > SILENT)
    slope, weight = slope * scale, weight * scale
    return IntensityBlend(slope, weight, np.asarray(offset, np.float64), -(r_center * slope + log_center * weight))
