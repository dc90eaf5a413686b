"""A tile of one channel as a small PNG: grey values, the outline of the tissue, a scale bar."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from plexrank.arrays import BoolArray
from plexrank.report.figures import INTENSITY

SIDE_PX = 128
"""Tiles are shown at about this side: larger ones reduced, smaller ones enlarged by a whole number."""
GREYS = 64
_OUTLINE = GREYS  # place of its colour in the palette, after the greys
_BAR_PX, _MARGIN_PX = 3, 5


def tile_png(
    pixels: npt.NDArray[np.floating],
    window: tuple[float, float],
    tissue: BoolArray | None = None,
    bar_px: float = 0.0,
    times: int = 1,
) -> bytes:
    """A PNG with a palette of 64 greys and one colour.

    Args:
        pixels: (y, x) of a channel.
        window: values that are black and white; what lies beyond is too.
        tissue: (y, x) bool, outlined in orange; edges of the picture are no outline.
        bar_px: length of the scale bar in pixels of ``pixels``; none is drawn at 0.
        times: by how much the picture is enlarged.
    """
    low, high = window
    grey = np.clip((pixels - low) / (high - low if high > low else 1.0), 0.0, 1.0)
    index = _enlarged(np.rint(np.nan_to_num(grey) * (GREYS - 1)).astype(np.uint8), times)
    if tissue is not None:
        index[outline(_enlarged(tissue, times))] = _OUTLINE
    length = min(round(bar_px * times), index.shape[1] - 2 * _MARGIN_PX)
    if bar_px and length > 0:
        bottom, left = index.shape[0] - _MARGIN_PX, _MARGIN_PX
        index[bottom - _BAR_PX - 1 : bottom + 1, left - 1 : left + length + 1] = 0
        index[bottom - _BAR_PX : bottom, left : left + length] = GREYS - 1
    return palette_png(index, _palette())


def outline(mask: BoolArray) -> BoolArray:
    """(y, x) the pixels of a mask that have a neighbour above, below, left or right outside it."""
    beyond = np.pad(mask, 1, mode="edge")
    inside = beyond[:-2, 1:-1] & beyond[2:, 1:-1] & beyond[1:-1, :-2] & beyond[1:-1, 2:]
    result: BoolArray = mask & ~inside
    return result


def palette_png(index: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of (y, x) places in a (colour, 3) palette: https://www.w3.org/TR/png-3/."""
    height, width = index.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), index], axis=1)  # each begins with its filter, 0 for none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    written = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def _palette() -> npt.NDArray[np.uint8]:
    greys = np.rint(np.linspace(0, 255, GREYS)).astype(np.uint8)
    colour = np.frombuffer(bytes.fromhex(INTENSITY.removeprefix("#")), np.uint8)
    return np.concatenate([np.repeat(greys[:, np.newaxis], 3, axis=1), colour[np.newaxis]])


def _enlarged(values: np.ndarray, times: int) -> np.ndarray:
    return values.repeat(times, axis=0).repeat(times, axis=1)
