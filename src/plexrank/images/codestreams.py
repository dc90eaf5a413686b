"""What a segment that is a picture in itself (JPEG, JPEG 2000, …) says of its size, before memory is taken for it.

Other compressions are decoded into as many bytes as the page says, and need no such look.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import tifffile

_USUAL_SAMPLES = 4  # red, green, blue and opacity
_SLACK_PX = 2**16  # of padding to whole blocks, and of strips at the end of a page
_JPEG2000_START = b"\xff\x4f\xff\x51"
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def size_reader(compression: int) -> Callable[[bytes], tuple[int, int, int]] | None:
    """What reads the size (y, x, sample) from a segment of a page; None where its decoder needs none.

    Raises:
        ValueError: the compression's pictures are not looked into.
    """
    if compression not in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return None
    if compression not in _READERS:
        name = tifffile.COMPRESSION(compression).name
        raise ValueError(f"compression {name} is not read; export it with Deflate, LZW or Zstandard")
    return _READERS[compression]


def require_announced(announced: tuple[int, int, int], segment_shape: tuple[int, int], num_samples: int) -> None:
    """Refuse a picture that says it is much larger than its segment.

    Raises:
        ValueError: it does.
    """
    if announced[0] * announced[1] > 2 * segment_shape[0] * segment_shape[1] + _SLACK_PX:
        raise ValueError(f"a segment says it holds {announced[0]} × {announced[1]} px, expected {segment_shape}")
    if announced[2] > max(num_samples, _USUAL_SAMPLES):
        raise ValueError(f"a segment says it holds {announced[2]} samples a pixel, expected {num_samples}")


def _jpeg(content: bytes) -> tuple[int, int, int]:
    place = 2
    while place + 9 <= len(content):
        if content[place] != 0xFF:
            raise ValueError("a JPEG segment is damaged")
        mark = content[place + 1]
        if mark in _START_OF_FRAME:
            height, width, num_samples = struct.unpack_from(">HHB", content, place + 5)
            return height, width, num_samples
        if mark == 0xFF:
            place += 1
        elif mark in _WITHOUT_LENGTH:
            place += 2
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    raise ValueError("a JPEG segment does not say how large it is")


def _jpeg2000(content: bytes) -> tuple[int, int, int]:
    start = content.find(_JPEG2000_START)
    if start < 0:
        raise ValueError("a JPEG 2000 segment does not say how large it is")
    width, height = struct.unpack_from(">II", content, start + len(_JPEG2000_START) + 4)
    (num_samples,) = struct.unpack_from(">H", content, start + len(_JPEG2000_START) + 36)
    return height, width, num_samples


def _png(content: bytes) -> tuple[int, int, int]:
    width, height = struct.unpack_from(">II", content, 16)
    return height, width, 1  # its own kinds of pixels have up to 4


def _jpegxl(content: bytes) -> tuple[int, int, int]:
    if content[:2] != b"\xff\x0a":
        raise ValueError("a JPEG XL segment within a container, which is not read")
    bits = int.from_bytes(content[2:14], "little")
    if bits & 1:
        height, ratio, rest = ((bits >> 1 & 31) + 1) * 8, bits >> 6 & 7, bits >> 9
        width = ((rest & 31) + 1) * 8
    else:
        height, bits = _jpegxl_number(bits >> 1)
        ratio = bits & 7
        width, _ = _jpegxl_number(bits >> 3)
    return height, 2 * height if ratio else width, 1  # ratios go up to 2; samples are not said here


def _jpegxl_number(bits: int) -> tuple[int, int]:
    """The side that stands at the beginning of bits, and the bits after it."""
    length = (9, 13, 18, 30)[bits & 3]
    return (bits >> 2 & 2**length - 1) + 1, bits >> 2 + length


_READERS: dict[int, Callable[[bytes], tuple[int, int, int]]] = {
    **dict.fromkeys((6, 7, 33007, 34892), _jpeg),
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg2000),
    34933: _png,
    **dict.fromkeys((50002, 52546), _jpegxl),
}
