"""Masks that say where an image holds tissue: a TIFF, an NPZ with one array, or outlines in GeoJSON.

Outlines are as QuPath exports them: https://www.rfc-editor.org/rfc/rfc7946 with pixels of the full resolution in place
of degrees, and the origin at the upper left corner of the upper left pixel.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError, MissingInputError, naming_damage
from plexrank.images.lazy import BAND_BYTES, CHUNK_PX, REMEDY, ImagePixels, Pixels, lazy_array
from plexrank.images.outlines import Outlines, read_outlines
from plexrank.images.tiff import open_tiff_pixels, why_no_tiff
from plexrank.limits import CHUNK_BYTES, TEXT_BYTES

_LEAST_FACTOR = 1.5  # a mask reduced by less, and not by a whole number, rather belongs to another image
_SHOWN = 6
_HEADER_BYTES = 10_000  # of an array in an NPZ, as numpy has it
_MOST_DEFLATED = 1032  # bytes that one of deflate can stand for


@dataclass(frozen=True)
class LazyMask:
    """A mask of an image's size: ``data`` (1, y, x) is true in tissue, and read when dask computes it."""

    path: Path
    data: da.Array


def open_mask(path: Path, height_px: int, width_px: int) -> LazyMask:
    """Open the mask of an image of that size.

    A TIFF or NPZ is tissue where it is neither 0 nor NaN. It has the image's size, or that of the image reduced by one
    factor along both sides, and is then enlarged without smoothing.

    Raises:
        MissingInputError: there is no such file.
        ImageDataError: it is of no known kind, damaged, of another size, or holds several planes.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such mask; fix the path in the samplesheet or empty the cell")
    reopen = functools.partial(_open_pixels, shape=(1, height_px, width_px))
    return LazyMask(path, lazy_array(ImagePixels(path, reopen, reopen(path))))


def _open_pixels(path: Path, shape: tuple[int, int, int]) -> Pixels:
    expected = f"expected a TIFF, an NPZ with one 2-D array, or GeoJSON with polygons; {REMEDY}"
    with naming_damage(f"{path}: not readable as mask", expected, ImageDataError):
        if why_no_tiff(path) is None:
            source = open_tiff_pixels(path)
            if source.shape[0] != 1:
                raise ImageDataError(f"{path}: a mask of {source.shape[0]} planes; export the one with the tissue")
            if source.shape == shape:
                return _TiffMask(source)
            scale = _find_scale(path, source.shape[1:], shape)
            _require_memory(path, source.shape[1:])
            return _HeldMask(_pack(_tiff_bands(source)), shape, scale)
        if zipfile.is_zipfile(path):
            return _open_npz(path, shape)
        TEXT_BYTES.require(path.stat().st_size, str(path), ImageDataError)
        return Outlines(read_outlines(json.loads(path.read_bytes())), shape)


@dataclass(frozen=True)
class _TiffMask:
    """A TIFF of the image's size, read in pieces."""

    source: Pixels
    dtype = np.dtype(bool)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape

    @property
    def chunks(self) -> tuple[int, int, int]:
        return self.source.chunks

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
        return _is_tissue(self.source[key])


@dataclass(frozen=True)
class _HeldMask:
    """A mask in memory, a bit a pixel: ``bits`` (y, ⌈x / 8⌉); ``scale`` says which is that of a pixel of the image."""

    bits: npt.NDArray[np.uint8]
    shape: tuple[int, int, int]
    scale: Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.int64]]
    dtype = np.dtype(bool)

    @property
    def chunks(self) -> tuple[int, int, int]:
        return 1, min(CHUNK_PX, self.shape[1]), min(CHUNK_PX, self.shape[2])

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
        ys, xs = (
            self.scale(np.arange(*part.indices(side)), axis)
            for axis, part, side in zip((0, 1), key[1:], self.shape[1:], strict=True)
        )
        first = xs[0] // 8
        near = np.unpackbits(self.bits[ys[0] : ys[-1] + 1, first : xs[-1] // 8 + 1], axis=1)
        picked: npt.NDArray[np.bool_] = near[np.ix_(ys - ys[0], xs - first * 8)].astype(bool)
        return picked[np.newaxis]


def _is_tissue(pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    tissue: npt.NDArray[np.bool_] = (pixels != 0) & (pixels == pixels)
    return tissue


def _find_scale(
    path: Path, found: tuple[int, ...], shape: tuple[int, int, int]
) -> Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.int64]]:
    """From pixels of the image along axis y (0) or x (1) to those of a mask of that size (y, x).

    Raises:
        ImageDataError: the mask is not the image reduced by one factor.
    """
    sides = list(zip(found, shape[1:], strict=True))
    whole = {factor for own, side in sides for factor in (side // own, -(-side // own)) if own <= side}
    for factor in sorted(whole):
        if all(own in (side // factor, -(-side // factor)) for own, side in sides):
            return functools.partial(_by_whole_factor, factor=factor, found=found)
    least = max(side / (own + 1) for own, side in sides)
    most = min(side / (own - 1) if own > 1 else float("inf") for own, side in sides)
    if _LEAST_FACTOR <= least < most:
        return functools.partial(_by_share, found=found, shape=shape[1:])
    raise ImageDataError(
        f"{path}: a mask of {found[0]} × {found[1]} pixels for an image of {shape[1]} × {shape[2]}; export it at the"
        " image's size, or reduced by one factor"
    )


def _by_whole_factor(
    place: npt.NDArray[np.int64], axis: int, factor: int, found: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    return np.minimum(place // factor, found[axis] - 1)


def _by_share(
    place: npt.NDArray[np.int64], axis: int, found: tuple[int, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    return place * found[axis] // shape[axis]


def _tiff_bands(source: Pixels) -> Iterator[npt.NDArray[Any]]:
    _, height, width = source.shape
    step = source.chunks[1]
    for top in range(0, height, step):
        yield source[slice(0, 1), slice(top, min(top + step, height)), slice(0, width)][0]


def _open_npz(path: Path, shape: tuple[int, int, int]) -> _HeldMask:
    """The only array of an NPZ, read in bands so that it is never in memory as numbers.

    Raises:
        ValueError: there are several arrays, or it is not of two dimensions, or not of numbers; or the file cannot
            hold what it announces.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} arrays: {', '.join(names[:_SHOWN])}")
        held = archive.infolist()[0]
        with archive.open(held) as file:
            found, by_columns, dtype = _read_header(file)
            announced = found[0] * found[1] * dtype.itemsize
            if announced > min(held.file_size, _MOST_DEFLATED * held.compress_size):
                raise ValueError(f"{announced} bytes of {found} cannot be in {held.compress_size}")
            _require_memory(path, found)
            scale = _find_scale(path, found, shape)
            stored = found[::-1] if by_columns else found
            bits = _pack(_npz_bands(file, stored, dtype))
    if by_columns:
        bits = np.packbits(np.unpackbits(bits, axis=1, count=stored[1]).T, axis=1)
    return _HeldMask(bits, shape, scale)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, int], bool, np.dtype[Any]]:
    """Shape and type of an array in an NPZ, and whether it lies column by column; its header is read within a limit."""
    version = np.lib.format.read_magic(file)
    size_bytes = {(1, 0): 2, (2, 0): 4}.get(version)
    if size_bytes is None:
        raise ValueError(f"an array of version {version}")
    size = file.read(size_bytes)
    length = int.from_bytes(size, "little")
    if length > _HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = io.BytesIO(size + file.read(length))
    read = np.lib.format.read_array_header_1_0 if size_bytes == 2 else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(header)
    if len(shape) != 2 or min(shape) < 1 or dtype.kind not in "biuf":
        raise ValueError(f"an array of shape {shape} and type {dtype}")
    return (shape[0], shape[1]), by_columns, dtype


def _require_memory(path: Path, sides: tuple[int, ...]) -> None:
    """Refuse a mask that takes too much memory, at a bit a pixel."""
    CHUNK_BYTES.require(sides[0] * -(-sides[1] // 8), str(path), ImageDataError)


def _npz_bands(file: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    row_bytes = shape[1] * dtype.itemsize
    step = max(1, BAND_BYTES // row_bytes)
    for top in range(0, shape[0], step):
        rows = min(step, shape[0] - top)
        yield np.frombuffer(file.read(rows * row_bytes), dtype).reshape(rows, shape[1])


def _pack(bands: Iterator[npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    return np.concatenate([np.packbits(_is_tissue(band), axis=1) for band in bands])
