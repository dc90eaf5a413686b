"""What every image reader returns, and how its pixels become an array that reads when it is computed."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import dask.array as da
import numpy as np
import numpy.typing as npt

from plexrank.arrays import Key
from plexrank.errors import ImageDataError, naming_damage
from plexrank.limits import CHUNK_BYTES, IMAGE_CHANNELS, IMAGE_PIXELS, IMAGE_SIDE

REMEDY = "copy or export the file again"
CHUNK_PX = 1024  # wanted side of what is read at once

BAND_BYTES = 2**24
"""Rows that are read at once hold about so much: little beside any memory."""


class Pixels(Protocol):
    """A (c, y, x) array that reads when it is sliced with step 1, and how much it had best read at once."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunks(self) -> tuple[int, int, int]: ...

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]: ...


@runtime_checkable
class PixelsInPieces(Pixels, Protocol):
    """Pixels that are stored in pieces: to have them one by one saves putting them together."""

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        """What a part of the image consists of, each piece with its place in the image."""
        ...


class ImagePixels:
    """Pixels whose damage is reported as an ImageDataError that names the image.

    In another process they are opened again: what libraries keep of an open file does not travel.

    Args:
        path: what messages call the image, and the argument of ``reopen``.
        reopen: a function of a module that gives the same pixels in another process.
        pixels: what ``reopen(path)`` has given.

    Raises:
        ImageDataError: they are none, or more than a limit allows.
    """

    ndim = 3

    def __init__(self, path: Path, reopen: Callable[[Path], Pixels], pixels: Pixels) -> None:
        self._path = path
        self._reopen = reopen
        self._pixels = pixels
        with naming_damage(f"{path}: not readable", REMEDY, ImageDataError):
            self.shape = pixels.shape
            self.dtype = pixels.dtype
            require_size(path, self.shape)
            self.chunks = pixels.chunks
            require_chunk(path, self.chunks, self.dtype)

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        with self._naming():
            return self._pixels[key]

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        """As :class:`PixelsInPieces`; a single piece where the file does not store them so."""
        with self._naming():
            if isinstance(self._pixels, PixelsInPieces):
                yield from self._pixels.pieces(key)
            else:
                yield key, self._pixels[key]

    def _naming(self) -> contextlib.AbstractContextManager[None]:
        return naming_damage(f"{self._path}: pixels cannot be decoded", REMEDY, ImageDataError)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._path, self._reopen)


@dataclass(frozen=True)
class LazyImage:
    """An image whose pixels are read when they are asked for; no file stays open in between.

    Attributes:
        pixels: (c, y, x), native byte order. Reading raises ImageDataError where that cannot be.
        channel_names: one a channel, trimmed; None where the file names none.
        pixel_size_um: (y, x) in micrometres; None where the file does not say.
        channel_ids: what else the file calls each channel: the isotope in IMC (``Yb172``), the mass in MIBItiff
            (``159``); None where there is nothing else.
        warnings: what makes its pixels doubtful.
    """

    pixels: PixelsInPieces
    channel_names: tuple[str, ...] | None
    pixel_size_um: tuple[float, float] | None
    channel_ids: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()

    @functools.cached_property
    def data(self) -> da.Array:
        """The pixels as a dask array, a chunk for what they had best be read in."""
        return lazy_array(self.pixels)


def lazy_array(pixels: Pixels) -> da.Array:
    """Pixels as a dask array, a chunk for what they had best be read in."""
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        pixels, chunks=pixels.chunks, name=False, fancy=False, meta=np.empty((0, 0, 0), pixels.dtype)
    )
    return array


def named(names: list[str]) -> tuple[str, ...] | None:
    """Channel names as files give them: trimmed, an absent one among others numbered, None where all are absent.

    Fields of a fixed width are filled up with NULs.
    """
    trimmed = [name.strip().strip("\0").strip() for name in names]
    if not any(trimmed):
        return None
    return tuple(name or f"unnamed_{number}" for number, name in enumerate(trimmed, start=1))


def require_size(path: Path, shape: tuple[int, int, int]) -> None:
    """Refuse what is announced to have more channels or pixels than any image.

    Args:
        path: what messages call the image.
        shape: (c, y, x).

    Raises:
        ImageDataError: it has.
        ValueError: it has none.
    """
    if min(shape) < 1:
        raise ValueError(f"an image of shape {shape}")
    IMAGE_CHANNELS.require(shape[0], str(path), ImageDataError)
    IMAGE_SIDE.require(max(shape[1:]), str(path), ImageDataError)
    IMAGE_PIXELS.require(shape[1] * shape[2], str(path), ImageDataError)


def require_chunk(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Refuse a chunk, tile or strip that takes too much memory once it is decoded.

    Raises:
        ImageDataError: it does.
        ValueError: it holds nothing.
    """
    if min(shape) < 1:
        raise ValueError(f"chunks of shape {tuple(shape)}")
    CHUNK_BYTES.require(math.prod(shape) * dtype.itemsize, str(path), ImageDataError)


def _open_again(path: Path, reopen: Callable[[Path], Pixels]) -> ImagePixels:
    return ImagePixels(path, reopen, reopen(path))
