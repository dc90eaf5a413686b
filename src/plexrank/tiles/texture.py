"""What can be said of every channel of an image without training: how bright, how sparse, how uneven, how clustered.

Sums over tiles, from which the statistics follow; those of several tiles add up, in any order. Blocks and their
neighbours lie within one tile, so that no tile needs another.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.arrays import FloatArray
from plexrank.tiles.resampling import sum_runs
from plexrank.wording import counted

LENGTHS_UM = (10, 20, 40)
STATISTICS = (
    "mean",
    "positive_share",
    "tail_ratio",
    "variation",
    *(f"granularity_{length}um" for length in LENGTHS_UM),
    *(f"morans_i_{length}um" for length in LENGTHS_UM),
)
"""Names in the order of the columns of the table."""


_AT_ONCE_BYTES = 2**20  # of channels worked on together, as float64: what stays in a core's cache
_SAMPLED_ABOVE_PX, _SAMPLED_ROW = 128, 8
_CONSTANT = 1e-10  # variance over mean square; what is below is rounding, of float32 pixels or of sums
_STEPS = 8  # bins an octave: a float64's exponent and its next three bits are the number of its bin
_SHIFT = 52 - 3
_BELOW = (1023 - 126) * _STEPS - 1  # bin 1 begins at 2**-126, the least of float32; bin 0 is all below, and not > 0
_NUM_LEVELS = (126 + 128) * _STEPS + 1


def texture_memory_bytes(tile_px: int) -> int:
    """Most memory that :func:`sum_texture` takes beside what it returns."""
    return 5 * max(_AT_ONCE_BYTES, 8 * tile_px**2)


def block_sides(pixel_size_um: tuple[float, float] | None, factors: tuple[float, float]) -> tuple[int, int]:
    """(y, x) stored pixels of a block of 10 µm, at least one; those of 20 and 40 µm have twice and four times as many.

    Args:
        pixel_size_um: (y, x) of the image as it came; None if unknown, which is taken as 1 µm.
        factors: (y, x) numbers of its pixels that became one.
    """
    sizes = [size * factor for size, factor in zip(pixel_size_um or (1.0, 1.0), factors, strict=True)]
    side_y, side_x = (max(1, round(LENGTHS_UM[0] / size)) for size in sizes)
    return side_y, side_x


def unknown_pixel_sizes(sizes: Iterable[object]) -> str:
    """What follows where sizes of pixels are missing (None); empty where none is."""
    given = [size is not None for size in sizes]
    if all(given):
        return ""
    missing = counted(given.count(False), "image", "does", of=len(given))
    return f"{missing} not say how large their pixels are, which are taken for 1 µm; set tile.image_um_per_px"


@dataclass(frozen=True)
class Levels:
    """A histogram of counts, in eighths of an octave.

    Attributes:
        num_pixels: all that were looked at, those not above zero included.
        first: bin of the first column.
        counts: (channel, bin) numbers of pixels above zero; trimmed to bins that some channel needs.
    """

    num_pixels: int
    first: int
    counts: npt.NDArray[np.integer[Any]]

    def __add__(self, other: Levels) -> Levels:
        first = min(self.first, other.first)
        end = max(part.first + part.counts.shape[1] for part in (self, other))
        counts = np.zeros((len(self.counts), end - first), np.int64)
        for part in (self, other):
            counts[:, part.first - first :][:, : part.counts.shape[1]] += part.counts
        return Levels(self.num_pixels + other.num_pixels, first, counts)

    @property
    def edges(self) -> FloatArray:
        """(bin + 1,) borders between bins."""
        bins = np.arange(self.first, self.first + self.counts.shape[1] + 1, dtype=np.int64)
        borders: FloatArray = ((bins + _BELOW) << _SHIFT).view(np.float64)
        return borders

    @property
    def at_most(self) -> npt.NDArray[np.int64]:
        """(channel, bin + 1) pixels below each border."""
        above_zero = np.cumsum(self.counts, axis=1, dtype=np.int64)
        not_above = self.num_pixels - above_zero[:, -1:]
        return np.concatenate([not_above, not_above + above_zero], axis=1)

    def percentile(self, percent: int) -> FloatArray:
        """(channel,) levels that so many percent of the pixels do not exceed; 0 where that many are not above zero."""
        target, at_most, edges = self.num_pixels * percent / 100, self.at_most, self.edges
        end = np.argmax(at_most >= target, axis=1)
        channel, place = np.arange(len(end)), np.maximum(end, 1)
        below = at_most[channel, place - 1]
        part = (target - below) / np.maximum(at_most[channel, place] - below, 1)
        found: FloatArray = np.where(end == 0, 0.0, edges[place - 1] * (edges[place] / edges[place - 1]) ** part)
        return found

    def share_above(self, level: FloatArray) -> FloatArray:
        """Share of the pixels above each channel's level, (channel,) as that is."""
        edges = self.edges
        place = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, len(edges) - 2)
        within = np.clip(level, edges[place], edges[place + 1]) / edges[place]
        part = np.log(within) / np.log(edges[place + 1] / edges[place])
        channel = np.arange(len(place))
        below = self.at_most[channel, place] + part * self.counts[channel, place]
        share: FloatArray = 1 - below / self.num_pixels
        return share


@dataclass(frozen=True)
class TextureSums:
    """Sums over pixels, and over blocks of each of :data:`LENGTHS_UM`, whole ones only.

    Attributes:
        num_pixels: pixels.
        low, high, total, squares: (channel,) least and greatest count, sum of counts and of their squares.
        levels: their histogram.
        num_blocks: (length, 1) blocks in tiles that hold two neighbours or more.
        num_pairs: (length, 1) pairs of blocks that share a side.
        num_fours: (length, 1) squares of 2 × 2 blocks, which are the blocks of twice the side.
        block_total, block_squares: (length, channel) sums of blocks' means and of their squares.
        pair_total, pair_products: (length, channel) sums over pairs of the sum and of the product of their means.
        within_fours: (length, channel) sum over squares of 2 × 2 blocks of the variance of the four means.
    """

    num_pixels: int
    low: FloatArray
    high: FloatArray
    total: FloatArray
    squares: FloatArray
    levels: Levels
    num_blocks: npt.NDArray[np.int64]
    num_pairs: npt.NDArray[np.int64]
    num_fours: npt.NDArray[np.int64]
    block_total: FloatArray
    block_squares: FloatArray
    pair_total: FloatArray
    pair_products: FloatArray
    within_fours: FloatArray

    def __add__(self, other: TextureSums) -> TextureSums:
        added = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return TextureSums(**(added | {"low": low, "high": high}))

    @property
    def mean(self) -> FloatArray:
        """(channel,) mean count."""
        return self.total / self.num_pixels

    def statistics(self) -> Mapping[str, FloatArray]:
        """:data:`STATISTICS` by name, (channel,) each, NaN where there is none.

        - ``mean``: of the counts.
        - ``positive_share``: share of pixels above the geometric middle between the image's own low and high level of
          the channel, its 1st and 99th percentile, the low one taken as a hundredth of the high one at least. In
          sparse counts, whose low level is 0 and high level up to 10, these are the pixels with any count, as one
          would expect of "positive"; over the offset of a camera, those nearer (in ratio) to the bright pixels than
          to the dark ones. It moves neither with the unit of the counts nor in a jump where a few pixels more are 0.
          1 for a constant channel above zero.
        - ``tail_ratio``: 99th percentile over mean, where the mean is above zero.
        - ``variation``: coefficient of variation over pixels, where the mean is above zero.
        - ``granularity_L``: share of the variance over pixels that lies between blocks of side L within blocks of side
          2 L: (variance of means of the former − of the latter) / variance over pixels; both over the whole blocks of
          side 2 L. Shares of the lengths add up to at most 1; the rest is finer or coarser.
        - ``morans_i_L``: Moran's I of means of blocks of side L, those that share a side being neighbours (rook), of
          weight 1: mean product of neighbours over mean square, both of deviations from the mean of all blocks of the
          image (Moran, Biometrika 37:17, 1950).

        Percentiles and the share are read off the histogram by interpolation of the logarithm, in steps of an eighth
        of an octave; of tiles with sides above 128 pixels it holds every eighth row. Levels nearer to each other than
        a step are not told apart. A channel that varies by no more than a hundred-thousandth of its level counts as
        constant: its shares and correlations are 0/0, NaN.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            variance = _variance(self.num_pixels, self.total, self.squares)
            positive_mean = np.where(self.mean > 0, self.mean, np.nan)
            top = np.clip(self.levels.percentile(99), self.low, self.high)
            granularity = self.within_fours / self.num_fours / variance
            rows = [
                self.mean,
                self._positive_share(np.clip(self.levels.percentile(1), self.low, self.high), top),
                top / positive_mean,
                np.sqrt(variance) / positive_mean,
                *granularity,
                *self._morans_i(),
            ]
        return {
            name: np.where(np.isfinite(values), values, np.nan) for name, values in zip(STATISTICS, rows, strict=True)
        }

    def _positive_share(self, low: FloatArray, high: FloatArray) -> FloatArray:
        high = np.maximum(high, 0)
        low = np.maximum(low, high / 100)
        share = self.levels.share_above(np.sqrt(low * high))
        return np.where((low == high) & (high > 0), 1.0, share)

    def _morans_i(self) -> FloatArray:
        """(length, channel)."""
        center = self.block_total / self.num_blocks
        products = self.pair_products - center * self.pair_total + center**2 * self.num_pairs
        variance = _variance(self.num_blocks, self.block_total, self.block_squares)
        found: FloatArray = products / self.num_pairs / variance
        return found


def _variance(count: int | npt.NDArray[np.int64], total: FloatArray, squares: FloatArray) -> FloatArray:
    """0 where it is no more than rounding."""
    mean_square = squares / count
    variance = mean_square - (total / count) ** 2
    return np.where(variance < _CONSTANT * mean_square, 0.0, variance)


def sum_texture(pixels: npt.NDArray[Any], tile_px: int, block_px: tuple[int, int]) -> TextureSums:
    """Sum up the part of a tile that lies in the image, in one pass over its pixels.

    Args:
        pixels: (channel, y, x), of any real number type.
        tile_px: side of the whole tile.
        block_px: :func:`block_sides`.
    """
    # A copy, made when the large arrays behind it are freed: what stays of every tile must not lie between them.
    with np.errstate(over="ignore", invalid="ignore"):
        return copy.deepcopy(_sum_channels(pixels, _SAMPLED_ROW if tile_px > _SAMPLED_ABOVE_PX else 1, block_px))


def _sum_channels(pixels: npt.NDArray[Any], step: int, block_px: tuple[int, int]) -> TextureSums:
    num_channels, height_px, width_px = pixels.shape
    rows, cols = height_px // block_px[0], width_px // block_px[1]
    sums, blocks = [], []
    for channels in _groups(num_channels, rows * cols):
        *of_pixels, means = _sum_pixels(pixels[channels], step, block_px)
        sums.append(of_pixels)
        blocks.append(_sum_blocks(means))
    total, squares, counts = (np.concatenate(part) for part in zip(*sums, strict=True))
    return TextureSums(
        height_px * width_px,
        pixels.min(axis=(1, 2)).astype(np.float64),
        pixels.max(axis=(1, 2)).astype(np.float64),
        total,
        squares,
        _trimmed(counts, len(range(0, height_px, step)) * width_px),
        *_num_blocks(rows, cols),
        *np.concatenate(blocks, axis=-1),
    )


def _groups(num_channels: int, num_values: int) -> list[slice]:
    """Channels to work on together, where each takes so many float64."""
    at_once = max(1, _AT_ONCE_BYTES // (8 * max(1, num_values)))
    return [slice(start, min(start + at_once, num_channels)) for start in range(0, num_channels, at_once)]


def _sum_pixels(pixels: npt.NDArray[Any], step: int, block_px: tuple[int, int]) -> list[npt.NDArray[Any]]:
    """(channel,) sums and sums of squares, histogram of every ``step``-th row, (channel, y, x) means of blocks."""
    found = []
    groups = _groups(len(pixels), math.prod(pixels.shape[1:]))
    memory = np.empty(pixels[groups[0]].shape)
    for channels in groups:
        part = memory[: channels.stop - channels.start]
        np.copyto(part, pixels[channels])
        runs = sum_runs(part, block_px[0])
        squares = np.einsum("cyx,cyx->cy", part, part).sum(axis=1)
        means = _block_means(runs[:, : part.shape[1] // block_px[0]], block_px)
        found.append((runs.sum(axis=(1, 2)), squares, _count_levels(part[:, ::step]), means))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _block_means(runs: FloatArray, block_px: tuple[int, int]) -> FloatArray:
    """Means of whole blocks (channel, y, x), of sums over runs of their height along y."""
    num_channels, rows, width_px = runs.shape
    cols = width_px // block_px[1]
    whole = runs[:, :, : cols * block_px[1]].reshape(num_channels, rows, cols, block_px[1])
    means: FloatArray = np.einsum("cyxk->cyx", whole) / math.prod(block_px)  # sum would take thrice as long
    return means


def _count_levels(pixels: FloatArray) -> npt.NDArray[np.integer[Any]]:
    """(channel, bin) pixels in every bin, in few bytes, since every tile has its histogram."""
    bins = pixels.view(np.int64) >> _SHIFT
    bins -= _BELOW
    np.maximum(bins, 0, out=bins)  # np.clip would take longer
    np.minimum(bins, _NUM_LEVELS - 1, out=bins)
    bins += _NUM_LEVELS * np.arange(len(bins))[:, np.newaxis, np.newaxis]
    counts = np.bincount(bins.ravel(), minlength=_NUM_LEVELS * len(bins)).reshape(len(bins), _NUM_LEVELS)
    return counts.astype(np.min_scalar_type(math.prod(pixels.shape[1:])))


def _trimmed(counts: npt.NDArray[np.integer[Any]], num_pixels: int) -> Levels:
    """Without bin 0, and without bins at the ends that no channel needs."""
    held = np.flatnonzero(counts[:, 1:].any(axis=0)) + 1
    first, last = (int(held[0]), int(held[-1])) if held.size else (1, 1)
    return Levels(num_pixels, first, counts[:, first : last + 1])


def _num_blocks(rows: int, cols: int) -> npt.NDArray[np.int64]:
    """(3, length, 1) numbers of blocks, pairs and squares of four, of ``rows`` × ``cols`` of the smallest blocks."""
    sides = [(rows >> level, cols >> level) for level in range(len(LENGTHS_UM))]
    blocks = [y * x if y * x > 1 else 0 for y, x in sides]
    pairs = [max(0, y - 1) * x + y * max(0, x - 1) for y, x in sides]
    fours = [(y // 2) * (x // 2) for y, x in sides]
    return np.array([blocks, pairs, fours], np.int64)[:, :, np.newaxis]


def _sum_blocks(means: FloatArray) -> FloatArray:
    """(5, length, channel) sums as in :class:`TextureSums`, of (channel, y, x) means of the smallest blocks."""
    sums = np.zeros((5, len(LENGTHS_UM), len(means)))
    for length in range(len(LENGTHS_UM)):
        _, rows, cols = means.shape
        if rows * cols < 2:
            break
        whole = means[:, : rows // 2 * 2, : cols // 2 * 2]
        fours = (whole[:, ::2, ::2] + whole[:, ::2, 1::2] + whole[:, 1::2, ::2] + whole[:, 1::2, 1::2]) / 4
        sums[:, length] = (
            means.sum(axis=(1, 2)),
            _sum_products(means, means),
            np.einsum("cyx,yx->c", means, _num_neighbours(rows, cols)),
            _sum_products(means[:, 1:], means[:, :-1]) + _sum_products(means[:, :, 1:], means[:, :, :-1]),
            np.maximum(_sum_products(whole, whole) / 4 - _sum_products(fours, fours), 0),
        )
        means = fours
    return sums


def _sum_products(one: FloatArray, other: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("cyx,cyx->c", one, other)
    return products


def _num_neighbours(rows: int, cols: int) -> FloatArray:
    """(rows, cols) blocks that share a side with each."""
    number = np.full((rows, cols), 4.0)
    for edge in (number[0], number[-1], number[:, 0], number[:, -1]):
        edge -= 1
    return number
