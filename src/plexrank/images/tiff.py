"""TIFF of every kind that holds channels: OME-TIFF, QPTIFF, MIBItiff, ImageJ and plain stacks.

tifffile reads the structure, once. Pixels are read later from the file itself, segment by segment.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from plexrank.errors import ImageDataError
from plexrank.images.lazy import DAMAGE, REMEDY, ImagePixels, LazyImage, Pixels, one_line
from plexrank.images.segments import SegmentedPixels, WholePixels, contiguous_pixels, page_planes
from plexrank.images.tiff_extent import check_extent
from plexrank.images.tiff_names import TiffNames, choose_series, read_names

_GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, either byte order


def why_no_tiff(path: Path) -> str | None:
    """Why this is no TIFF, or None."""
    if path.is_dir():
        return "a folder"
    with path.open("rb") as file:
        mark = file.read(4)
    return None if mark in _MARKS else f"starts with {mark!r}, not with II or MM"


def open_tiff(path: Path) -> LazyImage:
    """Open a TIFF whose pages (or samples) are channels, at full resolution.

    Raises:
        ImageDataError: the file is cut short or damaged; is an RGB picture; holds several images, time points
            or focal planes.
    """
    pixels, names = _read_structure(path)
    if names.names is not None and len(names.names) != pixels.shape[0]:
        raise ImageDataError(
            f"{path}: it describes {len(names.names)} channels, the file holds {pixels.shape[0]}; {REMEDY}"
        )
    return LazyImage(ImagePixels(path, open_tiff_pixels, pixels), names.names, names.pixel_size_um, names.ids)


def open_tiff_pixels(path: Path) -> Pixels:
    """(c, y, x) pixels of what :func:`open_tiff` opens, whatever it says of its channels.

    Raises:
        ImageDataError: as :func:`open_tiff`.
    """
    return _read_structure(path)[0]


def _read_structure(path: Path) -> tuple[Pixels, TiffNames]:
    try:
        check_extent(path)
        with tifffile.TiffFile(path) as file:
            all_series = choose_series(file)
            if len(all_series) != 1:
                raise ImageDataError(
                    f"{path}: holds {len(all_series)} images of differing kinds; export the one to use on its own"
                )
            names = read_names(file, all_series[0])
            return _find_pixels(path, all_series[0], file.byteorder), names
    except DAMAGE as error:
        raise ImageDataError(f"{path}: not readable as TIFF ({one_line(error)}); {REMEDY}") from error


def _find_pixels(path: Path, series: tifffile.TiffPageSeries, byteorder: str) -> Pixels:
    page = series.keyframe
    axis = _channel_axis(path, series, page)
    if page.dtype is None:
        raise ValueError("unknown pixel type")
    dtype: np.dtype[Any] = np.dtype(page.dtype).newbyteorder("=")
    sides = dict(zip(series.axes, series.shape, strict=True))
    shape = (sides.get(axis, 1), sides["Y"], sides["X"])
    if math.prod(shape) != math.prod(series.shape) or 0 in shape:
        raise ValueError(f"axes {series.axes} of {series.shape} are not channels, y and x")
    samples = 1
    if not series.axes.endswith("YX"):
        if len(series.pages) > 1 or page.samplesperpixel != shape[0] or _planes_lie_apart(page):
            axes = [name for name in series.axes if name in (axis, "Y", "X")]
            return WholePixels(path, shape, dtype, tuple(axes.index(name) for name in (axis, "Y", "X")))
        samples = shape[0]
    if series.dataoffset is not None:
        stored = np.dtype(f"{byteorder}{dtype.char}")
        return contiguous_pixels(path, series.dataoffset, shape, stored, samples)
    planes = [plane for page in series.pages if page is not None for plane in page_planes(page)]
    if len(planes) * samples != shape[0]:
        raise ValueError(f"{len(planes)} of {shape[0] // samples} planes are there")
    for number, plane in enumerate(planes, start=1):
        _check_folder(path, plane.path)
        plane.check_extent(f"plane {number} of {len(planes)}")
    height, width = _segment_shape(page)
    return SegmentedPixels(planes, shape, dtype, (height, width), samples)


def _channel_axis(path: Path, series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> str:
    """The letter of the axis that holds channels, ``C`` for a single plane."""
    if page.photometric not in _GREY:
        kind = tifffile.PHOTOMETRIC(page.photometric).name
        raise ImageDataError(f"{path}: a {kind} picture, not a stack of channels; export the channels as grey planes")
    others = {name: side for name, side in zip(series.axes, series.shape, strict=True) if name not in "YX" and side > 1}
    for name, meaning in (("T", "time points"), ("Z", "focal planes")):
        if name in others:
            raise ImageDataError(f"{path}: holds {others[name]} {meaning}; export one of them, or a projection")
    if len(others) > 1:
        raise ImageDataError(f"{path}: axes {series.axes} of {series.shape}; expected channels, y and x")
    return next(iter(others), "C")


def _planes_lie_apart(page: tifffile.TiffPage) -> bool:
    return bool(page.planarconfig == tifffile.PLANARCONFIG.SEPARATE)


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _check_folder(path: Path, part: Path) -> None:
    """A set of OME-TIFFs names its files itself: they must lie beside or below the first."""
    if not part.resolve().is_relative_to(path.resolve().parent):
        raise ImageDataError(f"{path}: its OME-XML names {part}, outside its folder; move the set into one folder")
