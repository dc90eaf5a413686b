"""Whether all of a TIFF's structure lies within the file.

tifffile drops tags and pages that lie beyond the end, with a line in the log: a file cut short in copying
would then open with fewer channels.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from plexrank.errors import ImageDataError
from plexrank.limits import METADATA_BYTES, TIFF_PAGES, TIFF_SEGMENTS

_SUB_IFDS = 330
_SEGMENT_TAGS = frozenset({273, 279, 324, 325})  # offsets and byte counts of strips and of tiles
_MOST_TAGS = 4096  # in one page; there are some hundreds in all
_BYTES_OF_TYPE = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # TIFF 6.0 and BigTIFF, by code
_SHARED_BYTES = 2**20


class _Layout(NamedTuple):
    """How numbers stand in classic TIFF or BigTIFF: struct codes and the size of a value kept in its tag."""

    order: str
    pointer: str
    num_tags: str
    inline_bytes: int


def check_extent(path: Path) -> None:
    """Follow the chain of pages and their tags.

    Raises:
        ValueError: the file is no TIFF, or a page or a tag's value lies beyond its end, or tags share what they hold.
        ImageDataError: there are more pages than a limit allows.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    held = of_segments = num_sub_pages = 0
    with path.open("rb") as file:
        layout, offset = _read_header(file)
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise ValueError("its pages run in a circle")
            seen.add(offset)
            TIFF_PAGES.require(len(seen) + num_sub_pages, str(path), ImageDataError)
            file.seek(offset)
            where = f"page {len(seen)}"
            (num_tags,) = _read(file, layout.order + layout.num_tags, where)
            if num_tags > _MOST_TAGS:
                raise ValueError(f"{where} has {num_tags} tags")
            for tag, code, num_values, value in _read_tags(file, layout, num_tags, where):
                num_bytes = num_values * (_BYTES_OF_TYPE[code] if code < len(_BYTES_OF_TYPE) else 0)
                if num_bytes > layout.inline_bytes and value + num_bytes > size:
                    raise ValueError(f"the file ends at {size} bytes, {where} needs {value + num_bytes}")
                if tag in _SEGMENT_TAGS:
                    TIFF_SEGMENTS.require(num_values, f"{path}: {where}", ImageDataError)
                    of_segments += num_bytes
                else:
                    held += num_bytes
                num_sub_pages += num_values if tag == _SUB_IFDS else 0
            TIFF_PAGES.require(len(seen) + num_sub_pages, str(path), ImageDataError)
            METADATA_BYTES.require(held, str(path), ImageDataError)
            announced = held + of_segments
            if announced > 2 * size + _SHARED_BYTES:  # a few writers keep a description once, for all pages
                raise ValueError(f"its pages announce {announced} bytes of tags, in a file of {size}")
            (offset,) = _read(file, layout.order + layout.pointer, where)


def _read_header(file: BinaryIO) -> tuple[_Layout, int]:
    mark = file.read(4)
    order = {b"II": "<", b"MM": ">"}.get(mark[:2])
    if order is None or len(mark) < 4:
        raise ValueError("it does not start like a TIFF")
    (version,) = struct.unpack(f"{order}H", mark[2:])
    if version == 43:
        _read(file, f"{order}HH", "the header")
        layout = _Layout(order, "Q", "Q", 8)
    elif version == 42:
        layout = _Layout(order, "I", "H", 4)
    else:
        raise ValueError("it does not start like a TIFF")
    return layout, _read(file, order + layout.pointer, "the header")[0]


def _read_tags(file: BinaryIO, layout: _Layout, num_tags: int, where: str) -> list[tuple[int, int, int, int]]:
    """(tag, type code, number of values, offset of the values) of each tag of a page."""
    entry = struct.Struct(f"{layout.order}HH{layout.pointer}{layout.pointer}")
    content = file.read(num_tags * entry.size)
    if len(content) < num_tags * entry.size:
        raise ValueError(f"the file ends within {where}")
    return [(tag, code, num_values, value) for tag, code, num_values, value in entry.iter_unpack(content)]


def _read(file: BinaryIO, layout: str, where: str) -> tuple[int, ...]:
    content = file.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise ValueError(f"the file ends before {where}")
    return struct.unpack(layout, content)
