"""TIFF of every kind that holds channels: OME-TIFF, QPTIFF, MIBItiff, ImageJ and plain stacks.

tifffile reads the structure, once. Pixels are read later from the file itself, segment by segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from plexrank.errors import ImageDataError, naming_damage
from plexrank.images.axes import check_grey, refuse_other_axes
from plexrank.images.lazy import REMEDY, ImagePixels, LazyImage, Pixels
from plexrank.images.segments import SegmentedPixels, WholePixels, contiguous_planes, own_page, page_planes, stack_pages
from plexrank.images.tiff_extent import check_extent
from plexrank.images.tiff_names import TiffNames, read_names
from plexrank.images.tiff_ome import read_ome
from plexrank.images.tiff_series import choose_series

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
    with naming_damage(f"{path}: not readable as TIFF", REMEDY, ImageDataError):
        check_extent(path)
        with tifffile.TiffFile(path) as file:
            if 0 in own_page(file, 0).shape:
                raise ValueError("its first page has no pixel")
            if file.is_ome and file.ome_metadata:
                return read_ome(path, file)
            series = choose_series(path, file)
            if series.kind == "imagej":
                _refuse_further_pages(path, file, series)
            pages = _own_pages(file, series)
            return _find_pixels(path, series, pages), read_names(file, series, pages)


def _own_pages(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """The pages of a series with their own tags; a single one may stand for all planes."""
    return [own_page(file, page.index) for page in series.pages if page is not None and page.offset is not None]


def _find_pixels(path: Path, series: tifffile.TiffPageSeries, pages: Sequence[tifffile.TiffPage]) -> Pixels:
    for page in pages:
        check_grey(path, page)
    page = pages[0]
    axis = _channel_axis(path, series)
    if page.dtype is None:
        raise ValueError("unknown pixel type")
    dtype: np.dtype[Any] = np.dtype(page.dtype).newbyteorder("=")
    sides = dict(zip(series.axes, series.shape, strict=True))
    shape = (sides.get(axis, 1), sides["Y"], sides["X"])
    if math.prod(shape) != math.prod(series.shape) or 0 in shape:
        raise ValueError(f"axes {series.axes} of {series.shape} are not channels, y and x")
    num_planes = math.prod(series.shape) // math.prod(page.shape)
    if len(pages) == 1 and num_planes > 1 and series.dataoffset is not None:  # one page for all, as ImageJ may write it
        if not series.axes.endswith("YX"):
            raise ValueError(f"axes {series.axes} of {series.shape} behind a single page")
        stored = np.dtype(f"{page.parent.byteorder}{dtype.char}")
        planes = contiguous_planes(path, series.dataoffset, shape[0], shape[1:], stored, 1)
        return SegmentedPixels(planes, shape, dtype)
    if len(pages) != num_planes:
        raise ValueError(f"{len(pages)} of {num_planes} planes are there")
    is_of_samples = len(pages) == 1 and page.samplesperpixel == shape[0]
    if not series.axes.endswith("YX") and not is_of_samples:
        order = tuple(series.axes.index(name) for name in (axis, "Y", "X"))
        for number, plane in enumerate((plane for page in pages for plane in page_planes(page)), start=1):
            plane.check_extent(f"plane {number}")
        return WholePixels(path, [page.index for page in pages], series.shape, dtype, order)
    pixels = stack_pages(pages)
    if pixels.shape != shape:
        raise ValueError(f"its pages hold {pixels.shape}, but are described as {shape}")
    return pixels


def _channel_axis(path: Path, series: tifffile.TiffPageSeries) -> str:
    """The letter of the axis that holds channels, ``C`` for a single plane."""
    others = {name: side for name, side in zip(series.axes, series.shape, strict=True) if name not in "YX" and side > 1}
    channels = math.prod(side for name, side in others.items() if name not in "TZ")
    refuse_other_axes(path, {**others, "C": channels})
    if len(others) > 1:
        raise ImageDataError(f"{path}: axes {series.axes} of {series.shape}; expected channels, y and x")
    return next(iter(others), "C")


def _refuse_further_pages(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """ImageJ's description counts planes; pages beyond them, or fewer, are of another image."""
    num_planes = math.prod(series.shape) // math.prod(series.keyframe.shape)
    if len(file.pages) not in (1, num_planes):
        raise ImageDataError(
            f"{path}: ImageJ's description is of {num_planes} planes, the file holds {len(file.pages)}; save it again"
        )
