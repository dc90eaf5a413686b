"""What every image reader returns, and how its pixels become an array that reads when it is computed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError

REMEDY = "copy or export the file again"
CHUNK_PX = 1024  # wanted side of what is read at once
# What the libraries that decode images raise for damaged files; imagecodecs' own errors are RuntimeErrors.
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    SyntaxError,  # xml.etree's ParseError
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class LazyImage:
    """An image whose pixels are read when dask computes them; no file stays open in between.

    Attributes:
        data: (c, y, x), native byte order. Computing it raises ImageDataError where pixels cannot be read.
        channel_names: one a channel, trimmed; None where the file names none.
        pixel_size_um: (y, x) in micrometres; None where the file does not say.
        channel_ids: what else the file calls each channel: the metal in IMC (``Yb172``), the mass in MIBItiff
            (``159``); None where there is nothing else.
    """

    data: da.Array
    channel_names: tuple[str, ...] | None
    pixel_size_um: tuple[float, float] | None
    channel_ids: tuple[str, ...] | None = None


class Pixels(Protocol):
    """A (c, y, x) array that reads when it is sliced with step 1, and how much it had best read at once."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def chunks(self) -> tuple[int, int, int]: ...

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]: ...


class _Named:
    """Pixels whose damage is told as an ImageDataError that names the image; what dask slices.

    In another process they are opened anew: what libraries keep of an open file does not travel.
    """

    ndim = 3

    def __init__(self, path: Path, reopen: Callable[[Path], Pixels], pixels: Pixels) -> None:
        self._path = path
        self._reopen = reopen
        self._pixels = pixels
        self.shape = pixels.shape
        self.dtype = pixels.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        try:
            return self._pixels[key]
        except DAMAGE as error:
            raise ImageDataError(f"{self._path}: pixels cannot be decoded ({one_line(error)}); {REMEDY}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self._path, self._reopen)


def lazy_array(path: Path, reopen: Callable[[Path], Pixels], pixels: Pixels) -> da.Array:
    """Pixels as a dask array.

    Args:
        path: what messages call the image, and the argument of ``reopen``.
        reopen: a function of a module that gives the same pixels in another process.
        pixels: what ``reopen(path)`` has given.
    """
    array: da.Array = da.from_array(  # type: ignore[no-untyped-call]
        _Named(path, reopen, pixels),
        chunks=pixels.chunks,
        name=False,
        fancy=False,
        meta=np.empty((0, 0, 0), pixels.dtype),
    )
    return array


def named(names: list[str]) -> tuple[str, ...] | None:
    """Channel names as files give them: trimmed, an absent one among others numbered, None where all are absent."""
    trimmed = [name.strip() for name in names]
    if not any(trimmed):
        return None
    return tuple(name or f"unnamed_{number}" for number, name in enumerate(trimmed, start=1))


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, or the name of its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def _open_again(path: Path, reopen: Callable[[Path], Pixels]) -> _Named:
    return _Named(path, reopen, reopen(path))
