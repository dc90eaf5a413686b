"""From counts to model input: a variance-stabilising transform and one scale per channel, in numpy.

The scale is a percentile over the pixels of the training tiles. It comes from histograms that see every
pixel once, can be merged, take the same memory for any number of tiles and do not depend on their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plexrank.settings import IntensitySettings

# A bin is the sign-free float32 pattern cut to 8 exponent and 10 mantissa bits: 2^10 bins a doubling.
_MANTISSA_CUT = 13
_LOWEST_BIN = (127 - 40) << 10  # 2^-40: what lies below, zero and negative values included, is bin 0
_HIGHEST_BIN = (127 + 40) << 10  # 2^40
_NUM_BINS = _HIGHEST_BIN - _LOWEST_BIN + 1


@dataclass(frozen=True, eq=False)
class IntensityFit:
    """A transform and its scale, kept with the checkpoint that was trained on it.

    Attributes:
        transform: ``arcsinh`` or ``linear``.
        cofactor: what counts are divided by before arcsinh; unused by ``linear``.
        scale: (channel,) float32, transformed units, all above 0.
    """

    transform: str
    cofactor: float
    scale: npt.NDArray[np.float32]

    def apply(self, tiles: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """(..., channel, y, x) counts of any number type → float32 in 0–1: clip(transform(x) / scale, 0, 1).

        Raises:
            ValueError: the number of channels is not that of the fit.
        """
        if tiles.ndim < 3 or tiles.shape[-3] != self.scale.size:
            raise ValueError(f"expected (..., {self.scale.size}, y, x), got {tiles.shape}")
        values = _transform(tiles, self.transform, self.cofactor)
        values /= self.scale[:, np.newaxis, np.newaxis]
        return np.clip(values, 0, 1, out=values)


class IntensityHistogram:
    """Mergeable counts of pixel values per channel; values are told apart to one part in 1024.

    Whole numbers up to 2047 are exact. Takes 0.65 MB a channel.
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = np.zeros((num_channels, _NUM_BINS), dtype=np.int64)
        self._max = np.full(num_channels, -np.inf)

    @property
    def num_channels(self) -> int:
        """How many channels are counted."""
        return int(self._max.size)

    def update(self, tile: npt.NDArray[np.generic], present: npt.NDArray[np.bool_] | None = None) -> None:
        """Count the pixels of a finite (channel, y, x) tile; leave padding out before.

        Args:
            present: (channel,) which planes to count, all if absent.

        Raises:
            ValueError: the tile has another number of channels.
        """
        if tile.ndim != 3 or tile.shape[0] != self.num_channels:
            raise ValueError(f"expected ({self.num_channels}, y, x), got {tile.shape}")
        if tile.size == 0:
            return
        held = np.arange(self.num_channels) if present is None else np.flatnonzero(present)
        flat = tile[held].reshape(len(held), -1)
        self._max[held] = np.maximum(self._max[held], flat.max(axis=1).astype(np.float64))
        if flat.dtype in (np.uint8, np.uint16):
            bins = _bin_of(np.arange(256**flat.dtype.itemsize))
            for channel, values in zip(held, flat, strict=True):
                occurring = np.bincount(values)
                np.add.at(self._counts[channel], bins[: occurring.size], occurring)
        else:
            for channel, values in zip(held, flat, strict=True):
                np.add.at(self._counts[channel], _bin_of(values), 1)

    def merge(self, other: IntensityHistogram) -> None:
        """Add the counts of ``other``, as if its tiles had been counted here.

        Raises:
            ValueError: the other has another number of channels.
        """
        if other.num_channels != self.num_channels:
            raise ValueError(f"expected {self.num_channels} channels, got {other.num_channels}")
        self._counts += other._counts
        np.maximum(self._max, other._max, out=self._max)

    def fit(self, settings: IntensitySettings) -> IntensityFit:
        """The scale that these counts give.

        The percentile is the smallest value that ``clip_percentile`` per cent of the pixels do not exceed.
        It is taken on the counts and transformed after, which is the same since both transforms increase.
        Where it is 0 (sparse counts) the maximum takes its place, and 1 where that is 0 too.

        Raises:
            ValueError: nothing was counted of a channel.
        """
        total = self._counts.sum(axis=1)
        if not total.all():
            raise ValueError(f"no pixel to fit intensities on in channels {np.flatnonzero(total == 0).tolist()}")
        wanted = np.ceil(total * (settings.clip_percentile / 100)).astype(np.int64)
        reached = self._counts.cumsum(axis=1) >= wanted[:, np.newaxis]
        percentile = np.minimum(_lower_edge(reached.argmax(axis=1)), self._max)
        if settings.clip_percentile == 100:
            percentile = self._max
        counts = np.where(percentile > 0, percentile, self._max)
        scale = _transform(counts, settings.transform, settings.cofactor)
        return IntensityFit(settings.transform, settings.cofactor, np.where(scale > 0, scale, np.float32(1)))


def fit_intensity(
    tiles: Iterable[npt.NDArray[np.generic]],
    settings: IntensitySettings,
    present: Iterable[npt.NDArray[np.bool_]] | None = None,
) -> IntensityFit:
    """Fit the scale on (channel, y, x) tiles of training patients, one at a time; see :class:`IntensityHistogram`.

    Args:
        present: for each tile which planes count, (channel,); all if absent.

    Raises:
        ValueError: there is no tile or none of a channel, or the tiles differ in their number of channels.
    """
    histogram: IntensityHistogram | None = None
    for tile, held in zip(tiles, itertools.repeat(None) if present is None else present, strict=False):
        if histogram is None:
            histogram = IntensityHistogram(tile.shape[0])
        histogram.update(tile, held)
    if histogram is None:
        raise ValueError("no tile to fit intensities on")
    return histogram.fit(settings)


def _transform(values: npt.NDArray[np.generic], transform: str, cofactor: float) -> npt.NDArray[np.float32]:
    result = np.array(values, dtype=np.float32)
    if transform == "arcsinh":
        result /= np.float32(cofactor)
        np.arcsinh(result, out=result)
    elif transform != "linear":
        raise ValueError(f"unknown transform {transform!r}; expected arcsinh or linear")
    return result


def _bin_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int32]:
    pattern = np.ascontiguousarray(values, dtype=np.float32).view(np.int32) >> _MANTISSA_CUT
    bins: npt.NDArray[np.int32] = np.clip(pattern, _LOWEST_BIN, _HIGHEST_BIN) - np.int32(_LOWEST_BIN)
    return bins


def _lower_edge(bins: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    pattern = ((bins + _LOWEST_BIN) << _MANTISSA_CUT).astype(np.int32)
    return np.where(bins == 0, 0.0, pattern.view(np.float32).astype(np.float64))
