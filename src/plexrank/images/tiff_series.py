"""Which pages of a TIFF are the image, where no OME-XML says it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile

from plexrank.errors import ImageDataError
from plexrank.images.segments import own_page
from plexrank.images.tiff_names import mibi_kind, qptiff_description

_SHOWN = 6

_UNSQUEEZED: dict[str, Any] = (
    {"squeeze": False} if "squeeze" in inspect.signature(tifffile.TiffPageSeries.__init__).parameters else {}
)
"""Dimensions of length 1 are kept; newer versions of tifffile do so anyway."""


def choose_series(path: Path, file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The series that is the image.

    Of a QPTIFF the full resolution, without thumbnail, macro and label; of a MIBItiff the masses, without the optical
    and label pictures; otherwise the only one. Pages of one size and type are one series however each is stored.

    Raises:
        ImageDataError: there are several.
        ValueError: a description is damaged.
    """
    if file.is_qpi:
        return _qptiff_series(file)
    series = list(file.series)
    masses = [part for part in series if mibi_kind(part.keyframe) == "SIMS"]
    series = _merge(masses or series)
    if len(series) == 1:
        return series[0]
    described = "; ".join(f"{len(part.pages)} × {_describe(part)}" for part in series[:_SHOWN])
    raise ImageDataError(
        f"{path}: holds {len(series)} images of differing kinds ({described}); export the one to use on its own"
    )


def _qptiff_series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The pages that call themselves FullResolution, wherever they stand; as tifffile has it where none does."""
    pages = [own_page(file, number) for number in range(len(file.pages))]
    kinds = [None if (root := qptiff_description(page)) is None else root.findtext("ImageType") for page in pages]
    full = [page for page, kind in zip(pages, kinds, strict=True) if kind == "FullResolution"]
    return _stack(full) if full else file.series[0]


def _merge(series: Sequence[tifffile.TiffPageSeries]) -> list[tifffile.TiffPageSeries]:
    """tifffile takes pages apart that are compressed, or otherwise stored, in several ways."""
    pages = [page for part in series for page in part.pages if isinstance(page, tifffile.TiffPage)]
    if len(series) < 2 or any(part.kind not in ("generic", "uniform") for part in series):
        return list(series)
    if len({(part.keyframe.shape, part.keyframe.dtype, part.keyframe.photometric) for part in series}) > 1:
        return list(series)
    return [_stack(sorted(pages, key=lambda page: page.index))]


def _stack(pages: Sequence[tifffile.TiffPage]) -> tifffile.TiffPageSeries:
    first = pages[0]
    shape, axes = (len(pages), *first.shape), "I" + first.axes
    return tifffile.TiffPageSeries(list(pages), shape, first.dtype, axes, kind="generic", **_UNSQUEEZED)


def _describe(series: tifffile.TiffPageSeries) -> str:
    page = series.keyframe
    kind = tifffile.PHOTOMETRIC(page.photometric).name
    return f"{page.imagelength} × {page.imagewidth} px {page.dtype} {kind}"
