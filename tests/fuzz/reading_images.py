"""Reads whole images as the stages do, in one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plexrank.images.open import open_image

MOST_BYTES = 2**25
"""Of pixels that a small image may have by a change of its file; beyond that, parts are read."""


def read_image(path: Path) -> None:
    """Open an image and read its pixels by both ways that stages have: as they lie in the file, and through dask."""
    image = open_image(path)
    read_pixels(image.data)
    corner = tuple(slice(0, min(side, 64)) for side in image.pixels.shape)
    for _, piece in image.pixels.pieces(corner):
        np.asarray(piece).sum()


def read_pixels(data) -> None:  # type: ignore[no-untyped-def]
    """All of a dask array where it is small, else its first and its last chunk."""
    if data.nbytes <= MOST_BYTES:
        data.compute(scheduler="synchronous")
        return
    for place in (0, -1):
        key = tuple(slice(None, 64) if place == 0 else slice(-64, None) for _ in data.shape)
        data[key].compute(scheduler="synchronous")
