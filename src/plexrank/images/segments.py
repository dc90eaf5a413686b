"""Pixels of a TIFF read by their segments: only the tiles or strips that are asked for.

The file is opened and closed for every read, so that any number of images can be held open.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

from plexrank.images.lazy import CHUNK_PX, Key

_PLAIN_STRIP_BYTES = 2**20  # uncompressed pixels can be read in strips of any height


@dataclass(frozen=True)
class Plane:
    """Where a plane's segments lie, row by row, and how to decode (bytes, index) into (sample, y, x) pixels."""

    path: Path
    offsets: Sequence[int]
    bytecounts: Sequence[int]
    decode: Callable[[bytes, int], npt.NDArray[Any]]

    def check_extent(self, what: str) -> None:
        """Refuse a plane that reaches over the end of its file, without reading it.

        Raises:
            ValueError: it does.
        """
        size = self.path.stat().st_size
        end = max((start + count for start, count in zip(self.offsets, self.bytecounts, strict=True)), default=0)
        if end > size:
            raise ValueError(f"the file ends at {size} bytes, {what} reaches to {end}")


@dataclass(frozen=True)
class SegmentedPixels:
    """Planes of ``samples`` channels each, all cut into segments of the same ``segment_shape`` (y, x)."""

    planes: Sequence[Plane]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    segment_shape: tuple[int, int]
    samples: int = 1

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(c, y, x) whole segments to read at once."""
        height, width = (segment * max(1, CHUNK_PX // segment) for segment in self.segment_shape)
        return self.samples, min(height, self.shape[1]), min(width, self.shape[2])

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        spans = [part.indices(side)[:2] for part, side in zip(key, self.shape, strict=True)]
        whole = slice(*spans[0]), slice(*spans[1]), slice(*spans[2])
        pixels = np.empty([part.stop - part.start for part in whole], self.dtype)
        for place, piece in self.pieces(whole):
            channels, ys, xs = (
                slice(part.start - origin.start, part.stop - origin.start)
                for part, origin in zip(place, whole, strict=True)
            )
            pixels[channels, ys, xs] = piece
        return pixels

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        """The parts of segments that lie in a part of the image, as they are decoded.

        Raises:
            ValueError: a segment is smaller than it should be.
        """
        channels, ys, xs = key
        height, width = self.segment_shape
        num_across = -(-self.shape[2] // width)
        for number, c, own_c in _cut(channels, self.samples):
            plane = self.planes[number]
            with plane.path.open("rb") as file:
                for (row, y, own_y), (col, x, own_x) in itertools.product(_cut(ys, height), _cut(xs, width)):
                    segment = self._decode(plane, file, row * num_across + col)
                    piece = segment[own_c, own_y, own_x]
                    if piece.shape[1:] != (y.stop - y.start, x.stop - x.start):
                        raise ValueError(f"a segment holds {segment.shape[1:]}, expected {self.segment_shape}")
                    yield (c, y, x), piece

    def _decode(self, plane: Plane, file: BinaryIO, index: int) -> npt.NDArray[Any]:
        """(sample, y, x); a segment left out holds zeros."""
        if plane.bytecounts[index] == 0:
            return np.zeros((self.samples, *self.segment_shape), self.dtype)
        file.seek(plane.offsets[index])
        return plane.decode(file.read(plane.bytecounts[index]), index)


@dataclass(frozen=True)
class WholePixels:
    """Channels that are interleaved with y or x over pages: read as a whole and its axes put in order."""

    path: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    order: tuple[int, ...]

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(c, y, x) of the image."""
        return self.shape

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        with tifffile.TiffFile(self.path) as file:
            stored: npt.NDArray[Any] = file.series[0].asarray()
        return stored.transpose(self.order)[key].astype(self.dtype)


def contiguous_pixels(
    path: Path, offset: int, shape: tuple[int, int, int], stored: np.dtype[Any], samples: int
) -> SegmentedPixels:
    """Uncompressed planes one after the other, cut into strips of our own choice.

    Args:
        path: the file.
        offset: where the first plane starts, bytes.
        shape: (c, y, x).
        stored: type of a value with its byte order.
        samples: channels that lie interleaved within a plane.

    Raises:
        ValueError: the planes reach over the end of the file.
    """
    num_channels, height, width = shape
    row_bytes = width * samples * stored.itemsize
    strip_rows = min(height, max(1, _PLAIN_STRIP_BYTES // row_bytes))
    starts = range(0, height, strip_rows)
    bytecounts = [row_bytes * min(strip_rows, height - start) for start in starts]

    def decode(content: bytes, index: int) -> npt.NDArray[Any]:
        if len(content) < bytecounts[index]:
            raise ValueError("the file ends within its pixels")
        return np.frombuffer(content, stored).reshape(-1, width, samples).transpose(2, 0, 1)

    planes = [
        Plane(path, [offset + (plane * height + start) * row_bytes for start in starts], bytecounts, decode)
        for plane in range(num_channels // samples)
    ]
    planes[-1].check_extent(f"plane {len(planes)} of {len(planes)}")
    return SegmentedPixels(planes, shape, stored.newbyteorder("="), (strip_rows, width), samples)


def page_planes(page: tifffile.TiffPage | tifffile.TiffFrame) -> list[Plane]:
    """The planes of a page: one, or one a sample where these lie apart.

    Raises:
        ValueError: the page does not say how it is stored.
    """
    keyframe = page.keyframe
    if keyframe is None:
        raise ValueError("a page does not say how it is stored")
    apart = keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE and keyframe.samplesperpixel > 1
    num_planes = keyframe.samplesperpixel if apart else 1
    tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
    num_segments, rest = divmod(len(page.dataoffsets), num_planes)
    if rest:
        raise ValueError(f"{len(page.dataoffsets)} segments are no {num_planes} planes")

    def decoder(first: int) -> Callable[[bytes, int], npt.NDArray[Any]]:
        def decode(content: bytes, index: int) -> npt.NDArray[Any]:
            segment, _, _ = keyframe.decode(content, first + index, **tables)
            if segment is None:
                raise ValueError("a segment is empty")
            pixels: npt.NDArray[Any] = segment[0].transpose(2, 0, 1)
            return pixels

        return decode

    path = Path(page.parent.filehandle.path)
    return [
        Plane(path, page.dataoffsets[first:end], page.databytecounts[first:end], decoder(first))
        for first, end in ((plane * num_segments, (plane + 1) * num_segments) for plane in range(num_planes))
    ]


def _cut(part: slice, side: int) -> Iterator[tuple[int, slice, slice]]:
    """Along one axis, what segments of a side hold of a part: number of the segment, place in the image and in it."""
    for number in range(part.start // side, -(-part.stop // side)):
        start, stop = max(part.start, number * side), min(part.stop, (number + 1) * side)
        yield number, slice(start, stop), slice(start - number * side, stop - number * side)
