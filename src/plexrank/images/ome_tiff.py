"""OME-TIFF and plain TIFF stacks, read by their segments: only the tiles or strips that are asked for.

tifffile reads the structure, once. Pixels are read later from the file itself, which is opened and closed
for every read, so that any number of images can be held open.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt
import tifffile

from plexrank.errors import ImageDataError
from plexrank.images.lazy import LazyImage
from plexrank.images.ome_xml import OmePixels, parse_ome_xml
from plexrank.images.tiff_extent import check_extent

_CHUNK_PX = 1024  # wanted side of what is read at once
_PLAIN_STRIP_BYTES = 2**20  # uncompressed pixels can be read in strips of any height
_GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_REMEDY = "copy or export the file again"
# What tifffile and imagecodecs raise for damaged files; imagecodecs' own errors are RuntimeErrors.
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class _Plane:
    """Where one channel's segments lie, row by row, and how to decode (bytes, index) into (y, x) pixels."""

    path: Path
    offsets: Sequence[int]
    bytecounts: Sequence[int]
    decode: Callable[[bytes, int], npt.NDArray[Any]]


class _Pixels(Protocol):
    """A (c, y, x) array that reads when it is sliced with step 1, and how much it had best read at once."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunks(self) -> tuple[int, int, int]: ...

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class _SegmentedPixels:
    """One page a channel, all cut into segments of the same ``segment_shape`` (y, x)."""

    planes: Sequence[_Plane]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    segment_shape: tuple[int, int]

    @property
    def chunks(self) -> tuple[int, int, int]:
        height, width = (segment * max(1, _CHUNK_PX // segment) for segment in self.segment_shape)
        return 1, min(height, self.shape[1]), min(width, self.shape[2])

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        channels, ys, xs = (range(*part.indices(side)) for part, side in zip(key, self.shape, strict=True))
        pixels = np.zeros((len(channels), len(ys), len(xs)), self.dtype)
        for out, channel in zip(pixels, channels, strict=True):
            self._read(self.planes[channel], ys, xs, out)
        return pixels

    def _read(self, plane: _Plane, ys: range, xs: range, out: npt.NDArray[Any]) -> None:
        height, width = self.segment_shape
        num_across = -(-self.shape[2] // width)
        with plane.path.open("rb") as file:
            for row in range(ys.start // height, -(-ys.stop // height)):
                for col in range(xs.start // width, -(-xs.stop // width)):
                    index = row * num_across + col
                    if plane.bytecounts[index] == 0:  # a segment left out holds zeros
                        continue
                    file.seek(plane.offsets[index])
                    segment = plane.decode(file.read(plane.bytecounts[index]), index)
                    _paste(segment, row * height - ys.start, col * width - xs.start, out)


@dataclass(frozen=True)
class _WholePixels:
    """Channels that are interleaved with y or x: the image is read as a whole and its axes put in order."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: tuple[int, ...]

    @property
    def chunks(self) -> tuple[int, int, int]:
        return self.shape

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        with tifffile.TiffFile(self.path) as file:
            stored: npt.NDArray[Any] = file.series[0].asarray()
        return stored.transpose(self.order)[key].astype(self.dtype)


class _Named:
    """Pixels whose damage is told as an ImageDataError that names the image; what dask slices."""

    ndim = 3

    def __init__(self, path: Path, pixels: _Pixels) -> None:
        self._path = path
        self._pixels = pixels
        self.shape = pixels.shape
        self.dtype = pixels.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        try:
            return self._pixels[key]
        except _DAMAGE as error:
            raise ImageDataError(f"{self._path}: pixels cannot be decoded ({_one_line(error)}); {_REMEDY}") from error


def open_tiff(path: Path) -> LazyImage:
    """Open an OME-TIFF, or a plain or ImageJ TIFF whose pages are channels, at full resolution.

    Raises:
        ImageDataError: the file is empty, cut short or damaged; is an RGB picture; holds several images,
            time points or focal planes.
    """
    if path.stat().st_size == 0:
        raise ImageDataError(f"{path}: empty file (0 bytes); {_REMEDY}")
    try:
        check_extent(path)
        with tifffile.TiffFile(path) as file:
            ome = parse_ome_xml(file.ome_metadata) if file.is_ome and file.ome_metadata else OmePixels(None, None)
            pixels = _find_pixels(path, file)
    except _DAMAGE as error:
        raise ImageDataError(f"{path}: not readable as TIFF ({_one_line(error)}); {_REMEDY}") from error
    if ome.channel_names is not None and len(ome.channel_names) != pixels.shape[0]:
        raise ImageDataError(
            f"{path}: its OME-XML describes {len(ome.channel_names)} channels, the file holds {pixels.shape[0]};"
            f" {_REMEDY}"
        )
    data: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        _Named(path, pixels), chunks=pixels.chunks, name=False, fancy=False, meta=np.empty((0, 0, 0), pixels.dtype)
    )
    return LazyImage(data, ome.channel_names, ome.pixel_size_um)


def _find_pixels(path: Path, file: tifffile.TiffFile) -> _Pixels:
    if len(file.series) != 1:
        raise ImageDataError(
            f"{path}: holds {len(file.series)} images of differing kinds; export the one to use on its own"
        )
    series = file.series[0]
    page = series.keyframe
    axis = _channel_axis(path, series, page)
    if page.dtype is None:
        raise ValueError("unknown pixel type")
    dtype = np.dtype(page.dtype).newbyteorder("=")
    sides = dict(zip(series.axes, series.shape, strict=True))
    shape = (sides.get(axis, 1), sides["Y"], sides["X"])
    if math.prod(shape) != math.prod(series.shape) or 0 in shape:
        raise ValueError(f"axes {series.axes} of {series.shape} are not channels, y and x")
    if not series.axes.endswith("YX"):
        axes = [name for name in series.axes if name in (axis, "Y", "X")]
        return _WholePixels(path, shape, dtype, tuple(axes.index(name) for name in (axis, "Y", "X")))
    if series.dataoffset is not None:
        return _contiguous(path, series.dataoffset, shape, np.dtype(f"{file.byteorder}{dtype.char}"))
    planes = [_plane(page) for page in series.pages if page is not None]
    if len(planes) != shape[0]:
        raise ValueError(f"{len(planes)} of {shape[0]} planes are there")
    for number, plane in enumerate(planes, start=1):
        _check_extent(plane, f"plane {number} of {len(planes)}")
    height, width = page.chunks
    return _SegmentedPixels(planes, shape, dtype, (height, width))


def _channel_axis(path: Path, series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    """The letter of the axis that holds channels, ``C`` for a single plane."""
    if page.photometric not in _GREY:
        kind = tifffile.PHOTOMETRIC(page.photometric).name
        raise ImageDataError(f"{path}: a {kind} picture, not a stack of channels; export the channels as grey planes")
    others = {name: side for name, side in zip(series.axes, series.shape, strict=True) if name not in "YX" and side > 1}
    for name, meaning in (("T", "time points"), ("Z", "focal planes")):
        if name in others:
            raise ImageDataError(f"{path}: holds {others[name]} {meaning}; export one of them, or a projection")
    if len(others) > 1:
        raise ImageDataError(f"{path}: axes {series.axes} of {series.shape}; expected channels, y and x")
    return next(iter(others), "C")


def _contiguous(path: Path, offset: int, shape: tuple[int, int, int], stored: np.dtype[Any]) -> _SegmentedPixels:
    """Uncompressed planes one after the other, cut into strips of our own choice."""
    num_channels, height, width = shape
    row_bytes = width * stored.itemsize
    strip_rows = min(height, max(1, _PLAIN_STRIP_BYTES // row_bytes))
    starts = range(0, height, strip_rows)
    bytecounts = [row_bytes * min(strip_rows, height - start) for start in starts]
    dtype = stored.newbyteorder("=")

    def decode(content: bytes, index: int) -> npt.NDArray[Any]:
        if len(content) < bytecounts[index]:
            raise ValueError("the file ends within its pixels")
        return np.frombuffer(content, stored).reshape(-1, width)

    planes = [
        _Plane(path, [offset + (channel * height + start) * row_bytes for start in starts], bytecounts, decode)
        for channel in range(num_channels)
    ]
    _check_extent(planes[-1], f"plane {num_channels} of {num_channels}")
    return _SegmentedPixels(planes, shape, dtype, (strip_rows, width))


def _plane(page: tifffile.TiffPage | tifffile.TiffFrame) -> _Plane:
    keyframe = page.keyframe
    if keyframe is None:
        raise ValueError("a page does not say how it is stored")
    tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}

    def decode(content: bytes, index: int) -> npt.NDArray[Any]:
        segment, _, _ = keyframe.decode(content, index, **tables)
        if segment is None:
            raise ValueError("a segment is empty")
        pixels: npt.NDArray[Any] = segment[0, :, :, 0]
        return pixels

    return _Plane(Path(page.parent.filehandle.path), page.dataoffsets, page.databytecounts, decode)


def _check_extent(plane: _Plane, what: str) -> None:
    """Refuse a plane that reaches over the end of its file, without reading it."""
    size = plane.path.stat().st_size
    end = max((start + count for start, count in zip(plane.offsets, plane.bytecounts, strict=True)), default=0)
    if end > size:
        raise ValueError(f"the file ends at {size} bytes, {what} reaches to {end}")


def _paste(segment: npt.NDArray[Any], y: int, x: int, out: npt.NDArray[Any]) -> None:
    """Copy ``segment`` with its corner at (y, x) of ``out``, cutting off what lies outside."""
    part = segment[max(0, -y) : max(0, out.shape[0] - y), max(0, -x) : max(0, out.shape[1] - x)]
    top, left = max(0, y), max(0, x)
    out[top : top + part.shape[0], left : left + part.shape[1]] = part


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
