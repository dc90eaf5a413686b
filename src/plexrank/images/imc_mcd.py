"""IMC ``.mcd``: several acquisitions in one file, each an image of its own.

readimc (extra ``imc``) reads the file's description. Pixels are read from the file itself: each is a row of 32-bit
floats x, y, z and one value a channel, and rows follow the image line by line, so that a band of lines is one piece
of the file.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError, naming_damage
from plexrank.images.image_path import join_image_path, split_image_path
from plexrank.images.lazy import BAND_BYTES, REMEDY, ImagePixels, LazyImage, named
from plexrank.images.mcd_extent import check_description

_MARK = "</MCDSchema>".encode("utf-16-le")
_TAIL_BYTES = 2**20
_NUM_COORDINATES = 3  # x, y, z stand before the channels
_VALUE = np.dtype("<f4")


@dataclass(frozen=True)
class McdAcquisition:
    """One acquisition as the file describes it.

    Attributes:
        number: its id in the file.
        description: what the operator called it, such as ``ROI_001``.
        labels, metals: one a channel; a label may be empty.
        height_px, width_px: planned size.
        start, end: where its pixels lie in the file, bytes.
        pixel_size_um: (y, x), None where the file does not say.
    """

    number: int
    description: str
    labels: tuple[str, ...]
    metals: tuple[str, ...]
    height_px: int
    width_px: int
    start: int
    end: int
    pixel_size_um: tuple[float, float] | None

    @property
    def row_bytes(self) -> int:
        """Size of a pixel with all of its channels."""
        return (_NUM_COORDINATES + len(self.metals)) * _VALUE.itemsize


@dataclass(frozen=True)
class _McdPixels:
    path: Path
    acquisition: McdAcquisition
    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.acquisition.metals), self.acquisition.height_px, self.acquisition.width_px

    @property
    def chunks(self) -> tuple[int, int, int]:
        num_channels, height, width = self.shape
        return num_channels, min(height, max(1, BAND_BYTES // (width * self.acquisition.row_bytes))), width

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        num_channels, height, width = self.shape
        first, end, _ = key[1].indices(height)
        rows = self._read(first * width, end * width)
        raster = np.arange(first * width, end * width)
        if np.array_equal(self._places(rows), raster):
            band = rows[:, _NUM_COORDINATES:].T.reshape(num_channels, end - first, width)
        else:
            band = self._gather(first, end)
        return band[key[0], :, key[2]].astype(self.dtype)

    def _gather(self, first: int, end: int) -> npt.NDArray[Any]:
        """Lines first to end of an image whose pixels lie in another order: all of them are looked at."""
        num_channels, height, width = self.shape
        band = np.zeros((num_channels, (end - first) * width), self.dtype)
        found = np.zeros(band.shape[1], bool)
        step = max(1, BAND_BYTES // self.acquisition.row_bytes)
        for start in range(0, height * width, step):
            rows = self._read(start, min(start + step, height * width))
            places = self._places(rows) - first * width
            inside = (places >= 0) & (places < band.shape[1])
            band[:, places[inside]] = rows[inside, _NUM_COORDINATES:].T
            found[places[inside]] = True
        if not found.all():
            raise ValueError(f"{np.count_nonzero(~found)} pixels of lines {first} to {end} are missing")
        return band.reshape(num_channels, end - first, width)

    def _read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Pixels start to stop in the order of the file: (pixel, coordinate or channel)."""
        num_values = _NUM_COORDINATES + self.shape[0]
        offset = self.acquisition.start + start * self.acquisition.row_bytes
        return np.fromfile(self.path, _VALUE, (stop - start) * num_values, offset=offset).reshape(-1, num_values)

    def _places(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Index of each pixel in the image, line by line."""
        _, height, width = self.shape
        x, y = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        if ((x < 0) | (x >= width) | (y < 0) | (y >= height)).any():
            raise ValueError(f"a pixel lies outside {height} × {width}")
        return y * width + x


def why_no_mcd(path: Path) -> str | None:
    """Why this is no ``.mcd``, or None: it is one by its content, or, if damaged, by its name."""
    if path.is_dir():
        return "a folder"
    if path.suffix.lower() == ".mcd":
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return None if _MARK in file.read() else "is not called .mcd and does not end with an MCDSchema"


def list_acquisitions(path: Path) -> list[McdAcquisition]:
    """The acquisitions of a file in the order of their ids.

    Raises:
        ImageDataError: the file is damaged, or readimc is not installed.
    """
    try:
        from readimc import MCDFile
    except ImportError as error:
        raise ImageDataError(
            f"{path}: reading .mcd needs readimc; install it with: pip install 'plexrank[imc]'"
        ) from error
    with naming_damage(f"{path}: not readable as .mcd", REMEDY, ImageDataError):
        check_description(path)
        try:
            with warnings.catch_warnings(action="ignore"), MCDFile(path) as file:
                found = [_describe(part) for slide in file.slides for part in slide.acquisitions]
        except OSError as error:  # of which readimc says only that it is corrupted
            raise error.__cause__ or error from error
    return sorted(found, key=lambda acquisition: acquisition.number)


def open_mcd(path: Path, number: int | None) -> LazyImage:
    """Open an acquisition; without a number, the only one of the file.

    Raises:
        ImageDataError: the file is damaged; holds several acquisitions and none is named; the acquisition does not
            exist, is empty or was not finished.
    """
    acquisition = _choose(path, number)
    _check_extent(path, acquisition)
    labels = [label.strip() or metal for label, metal in zip(acquisition.labels, acquisition.metals, strict=True)]
    where = join_image_path(path, acquisition.number)
    pixels = ImagePixels(where, _open_pixels, _McdPixels(path, acquisition))
    return LazyImage(pixels, named(labels), acquisition.pixel_size_um, acquisition.metals)


def _open_pixels(where: Path) -> _McdPixels:
    path, number = split_image_path(where)
    return _McdPixels(path, _choose(path, number))


def _choose(path: Path, number: int | None) -> McdAcquisition:
    acquisitions = list_acquisitions(path)
    known = ", ".join(
        f"{path.name}#{a.number} ({a.description}, {a.height_px} × {a.width_px} px)" for a in acquisitions
    )
    if not acquisitions:
        raise ImageDataError(f"{path}: holds no acquisition; leave it out")
    if number is None:
        if len(acquisitions) == 1:
            return acquisitions[0]
        raise ImageDataError(f"{path}: holds {len(acquisitions)} acquisitions; name one of {known} instead of the file")
    chosen = [acquisition for acquisition in acquisitions if acquisition.number == number]
    if len(chosen) != 1:
        count = len(chosen) or "no"
        raise ImageDataError(f"{path}: holds {count} acquisition {number}; name another of {known}")
    return chosen[0]


def _check_extent(path: Path, acquisition: McdAcquisition) -> None:
    where = f"{path}#{acquisition.number} ({acquisition.description})"
    wanted = acquisition.height_px * acquisition.width_px * acquisition.row_bytes
    found = acquisition.end - acquisition.start
    size = path.stat().st_size
    if wanted <= 0 or found <= 0 or not acquisition.metals:
        raise ImageDataError(f"{where}: an empty acquisition, it holds no pixel; leave it out")
    if acquisition.start < 0 or acquisition.end > size:
        raise ImageDataError(f"{where}: its pixels reach to byte {acquisition.end}, the file ends at {size}; {REMEDY}")
    if found != wanted:
        raise ImageDataError(
            f"{where}: holds {found // acquisition.row_bytes} of {acquisition.height_px} × {acquisition.width_px}"
            " pixels, as after a stopped acquisition; export what is there, for example with steinbock, or leave it out"
        )


def _describe(acquisition: Any) -> McdAcquisition:
    content = acquisition.metadata
    if int(content["ValueBytes"]) != _VALUE.itemsize:
        raise ValueError(f"values of {content['ValueBytes']} bytes; expected {_VALUE.itemsize}")
    sizes = (acquisition.pixel_size_y_um, acquisition.pixel_size_x_um)
    return McdAcquisition(
        number=acquisition.id,
        description=(acquisition.description or "").strip(),
        labels=tuple(acquisition.channel_labels),
        metals=tuple(acquisition.channel_names),
        height_px=int(content["MaxY"]),
        width_px=int(content["MaxX"]),
        start=int(content["DataStartOffset"]),
        end=int(content["DataEndOffset"]),
        pixel_size_um=sizes if all(sizes) else None,
    )
