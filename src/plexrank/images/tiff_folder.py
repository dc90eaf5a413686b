"""A folder with one TIFF a channel, as MIBI pipelines write it: ``fov8/TIFs/CD3.tif`` or ``fov8/CD3.tif``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError
from plexrank.images.lazy import Key, LazyImage, Pixels, PixelsInPieces
from plexrank.images.tiff import open_tiff, why_no_tiff

_SUFFIXES = (".tif", ".tiff")
_INNER = "tifs"


@dataclass(frozen=True)
class _StackedPixels:
    """The channels of images of one size and type, one after the other."""

    parts: Sequence[PixelsInPieces]

    @property
    def shape(self) -> tuple[int, int, int]:
        return sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def chunks(self) -> tuple[int, int, int]:
        return self.parts[0].chunks

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        channels = range(*key[0].indices(self.shape[0]))
        return np.concatenate([part[own, *key[1:]] for part, own, _ in self._within(channels)])

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        for part, own, first in self._within(range(key[0].start, key[0].stop)):
            for (channels, ys, xs), piece in part.pieces((own, *key[1:])):
                yield (slice(channels.start + first, channels.stop + first), ys, xs), piece

    def _within(self, channels: range) -> Iterator[tuple[PixelsInPieces, slice, int]]:
        """Those of the parts that hold some of the channels, which of their own these are, and their first's number."""
        first = 0
        for part in self.parts:
            low, high = max(channels.start - first, 0), min(channels.stop - first, part.shape[0])
            if low < high:
                yield part, slice(low, high), first
            first += part.shape[0]


def why_no_tiff_folder(path: Path) -> str | None:
    """Why this is no folder of single-channel TIFFs, or None."""
    if not path.is_dir():
        return "a file, not a folder"
    files = _channel_files(path)
    if not files:
        return "holds no .tif or .tiff, nor does a folder TIFs in it"
    for file in files:
        if why_no_tiff(file) is None:
            try:
                num_channels = open_tiff(file).data.shape[0]
            except ImageDataError:
                continue
            if num_channels > 1:
                return f"{file.name} holds {num_channels} channels by itself; name the files in it one by one"
    return None


def open_tiff_folder(path: Path) -> LazyImage:
    """Open a folder; channels are the files in the order of their names, and are called as they without suffix.

    Raises:
        ImageDataError: a file is damaged, lies outside the folder, or differs from the first in size or type.
    """
    files = _channel_files(path)
    images = []
    for file in files:
        if not file.resolve().is_relative_to(path.resolve()):
            raise ImageDataError(f"{file}: a link that leads out of {path}; copy the file there")
        images.append(open_tiff(file))
        first, pixels = images[0].pixels, images[-1].pixels
        if pixels.shape != first.shape or pixels.dtype != first.dtype:
            raise ImageDataError(
                f"{path}: {file.name} is {_describe(pixels)}, but {files[0].name} is {_describe(first)};"
                " the channels of an image must agree in size and type"
            )
    pixels = _StackedPixels([image.pixels for image in images])
    return LazyImage(pixels, tuple(_stem(file) for file in files), images[0].pixel_size_um)


def _channel_files(path: Path) -> list[Path]:
    """TIFFs of the folder, or of TIFs in it; hidden files (such as macOS's ``._CD3.tif``) do not count."""
    inner = [part for part in sorted(path.iterdir()) if part.is_dir() and part.name.lower() == _INNER]
    files = [
        file
        for file in (inner[0] if inner else path).iterdir()
        if file.name.lower().endswith(_SUFFIXES) and not file.name.startswith(".") and file.is_file()
    ]
    return sorted(files, key=lambda file: (file.name.casefold(), file.name))


def _stem(file: Path) -> str:
    stem = file.name[: file.name.rindex(".")]
    return stem.removesuffix(".ome").strip() or stem


def _describe(pixels: Pixels) -> str:
    num_channels, height, width = pixels.shape
    return f"{num_channels} × {height} × {width} px {pixels.dtype}"
