"""Images of fewer pixels, each the mean over the area that it covers: by a whole number, or to a size in micrometres.

Output pixel i covers the input from i · factor to (i + 1) · factor, in pixels, along y as along x; the last one
what is left. An input pixel counts by the part of it that is covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError
from plexrank.limits import IMAGE_TILES
from plexrank.settings import TileSettings
from plexrank.tiles.grid import TileGrid

_SLACK = 1e-6  # so near to a whole pixel, a border lies on it; computed in floating point, 0.3 / 0.1 is not 3
ChunkSides = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Sides of a dask array's chunks along c, y and x."""


@dataclass(frozen=True)
class Resampling:
    """``factors`` (y, x) are the numbers of pixels that become one, ≥ 1."""

    factors: tuple[float, float]

    @property
    def keeps_pixels(self) -> bool:
        """Whether nothing is to be done."""
        return self.factors == (1, 1)

    @property
    def working_bytes(self) -> int:
        """Memory for each pixel of a chunk that is being resampled, beside the pixels themselves."""
        if self.keeps_pixels:
            return 0
        return 16 if all(factor.is_integer() for factor in self.factors) else 48

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Of the result, for a (c, y, x) image."""
        height_px, width_px = (_resampled(side, factor) for side, factor in zip(shape[1:], self.factors, strict=True))
        return shape[0], height_px, width_px

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Of the result: float32 (rounding sparse counts would lose them), or what it was."""
        return dtype if self.keeps_pixels else np.dtype(np.float32)

    def chunks(self, chunks: ChunkSides) -> ChunkSides:
        """Of the result of the whole image."""
        ys, xs = (
            tuple(np.diff(_borders(axis, factor, 0, _resampled(sum(axis), factor))).tolist())
            for axis, factor in zip(chunks[1:], self.factors, strict=True)
        )
        return chunks[0], ys, xs

    def part(self, pixels: da.Array, ys: slice, xs: slice) -> da.Array:
        """A part of the result.

        Args:
            pixels: (c, y, x) image as it came.
            ys, xs: of the result.
        """
        if self.keeps_pixels:
            unchanged: da.Array = pixels[:, ys, xs]
            return unchanged
        axes = [
            _Axis(factor, pixels.shape[axis], _borders(pixels.chunks[axis], factor, part.start, part.stop))
            for axis, factor, part in zip((1, 2), self.factors, (ys, xs), strict=True)
        ]
        covered: da.Array = pixels[:, slice(*axes[0].covered), slice(*axes[1].covered)]
        covered = covered.rechunk({1: axes[0].covered_chunks, 2: axes[1].covered_chunks})  # type: ignore[no-untyped-call]
        if not all(axis.factor.is_integer() for axis in axes):  # a pixel on a border is covered from both sides
            shared = {0: 0, 1: (0, 1), 2: (0, 1)}
            covered = da.overlap.overlap(covered, shared, boundary="none", allow_rechunk=False)  # type: ignore[no-untyped-call]
        means: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
            _block_mean,
            covered,
            axes=axes,
            chunks=(covered.chunks[0], *(tuple(np.diff(axis.borders).tolist()) for axis in axes)),
            dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
        )
        return means


def find_resampling(
    settings: TileSettings, shape: tuple[int, int, int], pixel_size_um: tuple[float, float] | None, where: str
) -> Resampling:
    """What the settings ask for.

    Args:
        settings: with ``downsample`` or ``um_per_px``.
        shape: (c, y, x) of the image.
        pixel_size_um: (y, x) of it, None if unknown.
        where: what messages call it.

    Raises:
        ImageDataError: its pixels are larger than asked for, or of unknown size; or it is smaller than one pixel of
            the result, or of more tiles than a limit allows.
    """
    if settings.um_per_px is None:
        wanted, factors = f"tile.downsample {settings.downsample}", (float(settings.downsample),) * 2
    else:
        wanted, factors = f"tile.um_per_px {settings.um_per_px:g}", _factors(settings.um_per_px, pixel_size_um, where)
    height_px, width_px = shape[1:]
    if height_px < factors[0] or width_px < factors[1]:
        raise ImageDataError(
            f"{where}: {height_px} × {width_px} pixels are less than one pixel at {wanted}, which reduces"
            f" {factors[0]:g} × {factors[1]:g} pixels to one; lower it or leave the image out"
        )
    resampling = Resampling((factors[0], factors[1]))
    IMAGE_TILES.require(TileGrid(*resampling.shape(shape)[1:], settings.tile_px).count, where, ImageDataError)
    return resampling


def _factors(um_per_px: float, pixel_size_um: tuple[float, float] | None, where: str) -> tuple[float, float]:
    if pixel_size_um is None:
        raise ImageDataError(
            f"{where}: has no pixel size, which tile.um_per_px needs; write it into the file,"
            " give it as tile.image_um_per_px, or set tile.downsample instead of tile.um_per_px"
        )
    factor_y, factor_x = (_snapped(um_per_px / size) for size in pixel_size_um)
    if min(factor_y, factor_x) < 1:
        raise ImageDataError(
            f"{where}: its pixels of {pixel_size_um[0]:g} × {pixel_size_um[1]:g} µm (y × x) are larger than"
            f" tile.um_per_px {um_per_px:g}, and images are only ever reduced; set tile.um_per_px to"
            f" {max(pixel_size_um):g} or more, or leave the image out"
        )
    return factor_y, factor_x


@dataclass(frozen=True)
class _Axis:
    """Blocks along one axis: ``borders`` between them, in pixels of the result, of an image of ``total`` pixels."""

    factor: float
    total: int
    borders: Sequence[int]

    def edges(self, first: int, last: int) -> npt.NDArray[np.float64]:
        """(last - first + 1,) borders of the pixels ``first`` to ``last`` of the result, in pixels of the image."""
        edges = np.arange(first, last + 1) * self.factor
        nearest = np.rint(edges)
        bounded: npt.NDArray[np.float64] = np.minimum(
            np.where(np.abs(edges - nearest) < _SLACK, nearest, edges), self.total
        )
        return bounded

    @property
    def covered(self) -> tuple[int, int]:
        """First pixel of the image that the blocks cover, and the one after the last."""
        first, last = self.edges(self.borders[0], self.borders[0])[0], self.edges(self.borders[-1], self.borders[-1])[0]
        return math.floor(first), math.ceil(last)

    @property
    def covered_chunks(self) -> tuple[int, ...]:
        """Pixels of the image that begin in each of the blocks."""
        first, end = self.covered
        starts = [math.floor(self.edges(border, border)[0]) for border in self.borders[1:-1]]
        return tuple(np.diff([first, *starts, end]).tolist())

    def block_edges(self, block: int) -> npt.NDArray[np.float64]:
        """:meth:`edges` of a block, counted from the first pixel of the image in it."""
        edges = self.edges(self.borders[block], self.borders[block + 1])
        counted: npt.NDArray[np.float64] = edges - math.floor(edges[0])
        return counted


def _block_mean(block: npt.NDArray[Any], axes: Sequence[_Axis], block_info: Any = None) -> npt.NDArray[np.float32]:
    _, row, col = block_info[0]["chunk-location"]
    return area_mean(block, axes[0].block_edges(row), axes[1].block_edges(col))


def area_mean(
    pixels: npt.NDArray[Any], edges_y: npt.NDArray[np.float64], edges_x: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """(c, y, x) → (c, m, n) float32 means over the rectangles between m + 1 and n + 1 borders, in pixels."""
    runs_y, runs_x = _whole_runs(edges_y), _whole_runs(edges_x)
    if runs_y and runs_x:
        held = pixels[:, : int(edges_y[-1]), : int(edges_x[-1])]
        return square_means(sum_runs(held, runs_y), held.shape[1], (runs_y, runs_x)).astype(np.float32)
    means = _means(_means(pixels, edges_y).transpose(0, 2, 1), edges_x).transpose(0, 2, 1)
    return np.ascontiguousarray(means, np.float32)


def _whole_runs(edges: npt.NDArray[np.float64]) -> int:
    """Pixels between two borders where these lie on whole pixels at the same distance, the last excepted, else 0."""
    sides = np.diff(edges)
    is_even = bool(np.all(edges == np.rint(edges)) and np.all(sides[:-1] == sides[0]) and sides[-1] <= sides[0])
    return int(sides[0]) if is_even else 0


def _means(pixels: npt.NDArray[Any], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means along axis 1 between borders, each pixel weighted by the part of it that lies there."""
    begins, ends = edges[:-1], edges[1:]
    first = np.floor(begins).astype(np.int64)
    means = np.zeros((pixels.shape[0], first.size, pixels.shape[2]))
    with np.errstate(invalid="ignore"):  # 0 · inf; such an image is refused
        for pixel in range(int((np.ceil(ends) - first).max())):
            place = first + pixel
            weight = np.clip(np.minimum(ends, place + 1) - np.maximum(begins, place), 0, None) / (ends - begins)
            means += pixels[:, np.minimum(place, pixels.shape[1] - 1)] * weight[:, np.newaxis]
    return means


def square_means(sums: npt.NDArray[Any], height_px: int, sides: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Means over rectangles of ``sides`` (y, x), partial ones at the far edges, of sums over runs along y."""
    across = sum_runs(sums.transpose(0, 2, 1), sides[1]).transpose(0, 2, 1)
    held_y, held_x = (
        np.minimum(side, total - np.arange(0, total, side))
        for side, total in zip(sides, (height_px, sums.shape[2]), strict=True)
    )
    means: npt.NDArray[np.float64] = across / np.outer(held_y, held_x)
    return means


def sum_runs(pixels: npt.NDArray[Any], length: int, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """Sums over runs of ``length`` along axis 1, the last run may be shorter."""
    num_channels, total, width = pixels.shape
    whole = total // length * length
    in_runs = pixels[:, :whole].reshape(num_channels, total // length, length, width)
    runs: npt.NDArray[Any] = in_runs.sum(axis=2, dtype=dtype)
    if whole == total:
        return runs
    rest = pixels[:, whole:].sum(axis=1, keepdims=True, dtype=dtype)
    return np.concatenate([runs, rest], axis=1)


def _snapped(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < _SLACK else factor


def _resampled(side: int, factor: float) -> int:
    """Pixels that a side becomes, a partial last one included."""
    return max(1, math.ceil(side / factor - _SLACK))


def _borders(chunks: Sequence[int], factor: float, start: int, stop: int) -> list[int]:
    """Borders between blocks of the result from start to stop, near those of the image's chunks; both ends included."""
    ends = (math.ceil(end / factor - _SLACK) for end in np.cumsum(chunks).tolist())
    return sorted({start, *(end for end in ends if start < end < stop), stop})
