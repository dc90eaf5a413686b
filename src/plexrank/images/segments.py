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

from plexrank.arrays import Key
from plexrank.images.codestreams import require_announced, size_reader
from plexrank.images.lazy import CHUNK_PX, require_chunk, require_size
from plexrank.images.lzw import check_lzw

_PLAIN_STRIP_BYTES = 2**20  # uncompressed pixels can be read in strips of any height


@dataclass(frozen=True)
class Plane:
    """Where a plane's segments lie, row by row, and how to decode (bytes, index) into (sample, y, x) pixels.

    Segments are of one ``segment_shape`` (y, x), but for the last rows and columns.
    """

    path: Path
    offsets: Sequence[int]
    bytecounts: Sequence[int]
    segment_shape: tuple[int, int]
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
    """Planes of ``samples`` channels each, every one cut into segments as its page says."""

    planes: Sequence[Plane]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    samples: int = 1

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(c, y, x) whole segments of the first plane to read at once."""
        height, width = (segment * max(1, CHUNK_PX // segment) for segment in self.planes[0].segment_shape)
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
        for number, c, own_c in _cut(channels, self.samples):
            plane = self.planes[number]
            height, width = plane.segment_shape
            num_across = -(-self.shape[2] // width)
            with plane.path.open("rb") as file:
                for (row, y, own_y), (col, x, own_x) in itertools.product(_cut(ys, height), _cut(xs, width)):
                    segment = self._decode(plane, file, row * num_across + col)
                    piece = segment[own_c, own_y, own_x]
                    if piece.shape[1:] != (y.stop - y.start, x.stop - x.start):
                        raise ValueError(f"a segment holds {segment.shape[1:]}, expected {plane.segment_shape}")
                    yield (c, y, x), piece

    def _decode(self, plane: Plane, file: BinaryIO, index: int) -> npt.NDArray[Any]:
        """(sample, y, x); a segment left out holds zeros."""
        if plane.bytecounts[index] == 0:
            return np.zeros((self.samples, *plane.segment_shape), self.dtype)
        file.seek(plane.offsets[index])
        return plane.decode(file.read(plane.bytecounts[index]), index)


@dataclass(frozen=True)
class WholePixels:
    """Channels that are interleaved with y or x over pages: read as a whole and its axes put in order.

    Attributes:
        pages: numbers of the pages in the file.
        stored_shape: of the pages' pixels one after the other.
        order: the axes of that in the order c, y, x.
    """

    path: Path
    pages: Sequence[int]
    stored_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        c, y, x = (self.stored_shape[axis] for axis in self.order)
        return c, y, x

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(c, y, x) of the image."""
        return self.shape

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        with tifffile.TiffFile(self.path) as file:
            stored = np.stack([own_page(file, number).asarray() for number in self.pages]).reshape(self.stored_shape)
        others = [axis for axis in range(stored.ndim) if axis not in self.order]
        pixels: npt.NDArray[Any] = stored.transpose(*others, *self.order).reshape(self.shape)
        return pixels[key].astype(self.dtype)


def own_page(file: tifffile.TiffFile, number: int) -> tifffile.TiffPage:
    """A page with its own tags: as part of a series tifffile would take those of the first.

    Raises:
        ValueError: it cannot be read.
    """
    page = file.pages.get(number, aspage=True, cache=False)
    if not isinstance(page, tifffile.TiffPage):
        raise ValueError(f"page {number + 1} cannot be read")
    return page


def stack_pages(pages: Sequence[tifffile.TiffPage]) -> SegmentedPixels:
    """Pages of one size and type one after the other, each decoded by its own tags.

    Raises:
        ValueError: they differ, or one does not say how it is stored or reaches over the end of its file.
    """
    first = pages[0]
    if first.dtype is None:
        raise ValueError("unknown pixel type")
    described = _describe(first)
    for number, page in enumerate(pages, start=1):
        if _describe(page) != described:
            raise ValueError(f"plane {number} is {_describe(page)}, but plane 1 {described}")
    planes = [plane for page in pages for plane in page_planes(page)]
    for number, plane in enumerate(planes, start=1):
        plane.check_extent(f"plane {number} of {len(planes)}")
    samples = first.samplesperpixel * len(pages) // len(planes)
    dtype: np.dtype[Any] = np.dtype(first.dtype).newbyteorder("=")
    return SegmentedPixels(planes, (len(planes) * samples, first.imagelength, first.imagewidth), dtype, samples)


def contiguous_planes(
    path: Path, offset: int, count: int, size: tuple[int, int], stored: np.dtype[Any], samples: int
) -> list[Plane]:
    """Uncompressed planes one after the other, cut into strips of our own choice.

    Args:
        path: the file.
        offset: where the first plane starts, bytes.
        count: number of planes.
        size: (y, x).
        stored: type of a value with its byte order.
        samples: channels that lie interleaved within a plane.

    Raises:
        ValueError: they reach over the end of the file.
        ImageDataError: they have more pixels than a limit allows.
    """
    height, width = size
    require_size(path, (count * samples, height, width))
    end, held = offset + count * height * width * samples * stored.itemsize, path.stat().st_size
    if end > held:
        raise ValueError(f"the file ends at {held} bytes, its pixels reach to {end}")
    row_bytes = width * samples * stored.itemsize
    strip_rows = min(height, max(1, _PLAIN_STRIP_BYTES // row_bytes))
    starts = range(0, height, strip_rows)
    bytecounts = [row_bytes * min(strip_rows, height - start) for start in starts]

    def decode(content: bytes, index: int) -> npt.NDArray[Any]:
        if len(content) < bytecounts[index]:
            raise ValueError("the file ends within its pixels")
        return np.frombuffer(content, stored).reshape(-1, width, samples).transpose(2, 0, 1)

    return [
        Plane(
            path,
            [offset + (plane * height + start) * row_bytes for start in starts],
            bytecounts,
            (strip_rows, width),
            decode,
        )
        for plane in range(count)
    ]


def page_planes(page: tifffile.TiffPage) -> list[Plane]:
    """The planes of a page: one, or one a sample where these lie apart.

    Raises:
        ValueError: the page does not say how it is stored.
    """
    apart = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
    num_planes = page.samplesperpixel if apart else 1
    path = Path(page.parent.filehandle.path)
    if page.imagedepth != 1:
        raise ValueError(f"a page of {page.imagedepth} focal planes")
    if page.is_final and page.dtype is not None:
        stored = np.dtype(f"{page.parent.byteorder}{page.dtype.char}")
        size = page.imagelength, page.imagewidth
        return contiguous_planes(
            path, page.dataoffsets[0], num_planes, size, stored, page.samplesperpixel // num_planes
        )
    tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
    num_segments, rest = divmod(len(page.dataoffsets), num_planes)
    if rest:
        raise ValueError(f"{len(page.dataoffsets)} segments are no {num_planes} planes")
    segment_shape = _segment_shape(page, num_planes, num_segments)
    read_size = size_reader(page.compression)
    decode_segment = page.decode  # which looks into the file where that is JPEG, and so is made while it is open

    def decoder(first: int) -> Callable[[bytes, int], npt.NDArray[Any]]:
        def decode(content: bytes, index: int) -> npt.NDArray[Any]:
            if page.compression == tifffile.COMPRESSION.LZW:
                check_lzw(content, is_reversed=page.fillorder == tifffile.FILLORDER.LSB2MSB)
            if read_size is not None:
                require_announced(read_size(content), segment_shape, page.samplesperpixel)
            segment, _, _ = decode_segment(content, first + index, **tables)
            if segment is None:
                raise ValueError("a segment is empty")
            pixels: npt.NDArray[Any] = segment[0].transpose(2, 0, 1)
            return pixels

        return decode

    return [
        Plane(path, page.dataoffsets[first:end], page.databytecounts[first:end], segment_shape, decoder(first))
        for first, end in ((plane * num_segments, (plane + 1) * num_segments) for plane in range(num_planes))
    ]


def _segment_shape(page: tifffile.TiffPage, num_planes: int, num_segments: int) -> tuple[int, int]:
    """(y, x) of a page's tiles or strips, once there are as many as its size takes, none larger than a limit allows."""
    path = Path(page.parent.filehandle.path)
    size = page.imagelength, page.imagewidth
    strip = min(page.rowsperstrip, page.imagelength), page.imagewidth
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else strip
    require_size(path, (page.samplesperpixel, *size))
    require_chunk(path, (page.samplesperpixel // num_planes, height, width), np.dtype(page.dtype))
    expected = -(-size[0] // height) * -(-size[1] // width)
    if num_segments < expected:
        raise ValueError(f"a plane has {num_segments} of {expected} segments")
    return height, width


def _describe(page: tifffile.TiffPage) -> str:
    apart = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
    samples = f" of {page.samplesperpixel} samples{' apart' if apart else ''}" if page.samplesperpixel > 1 else ""
    white = ", 0 is white" if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else ""
    return f"{page.imagelength} × {page.imagewidth} px {page.dtype}{samples}{white}"


def _cut(part: slice, side: int) -> Iterator[tuple[int, slice, slice]]:
    """Along one axis, what segments of a side hold of a part: number of the segment, place in the image and in it."""
    for number in range(part.start // side, -(-part.stop // side)):
        start, stop = max(part.start, number * side), min(part.stop, (number + 1) * side)
        yield number, slice(start, stop), slice(start - number * side, stop - number * side)
