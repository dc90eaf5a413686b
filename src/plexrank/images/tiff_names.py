"""Channel names and pixel size of a TIFF: from OME-XML, QPTIFF descriptions, or page names (MIBItiff)."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import tifffile

from plexrank.images.lazy import named
from plexrank.images.ome_xml import parse_ome_xml

_PAGE_NAME = 285
_NAME_AND_MASS = re.compile(r"(?P<name>.*\S)\s*\((?P<mass>[0-9]+(?:\.[0-9]+)?)\)")  # CD3 (159)
_UM_PER_CM = 1e4


@dataclass(frozen=True)
class TiffNames:
    """What a TIFF says of its channels, each None where it does not; ``ids`` are masses, ``pixel_size_um`` (y, x)."""

    names: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    pixel_size_um: tuple[float, float] | None = None


def choose_series(file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that may be the image.

    Of a QPTIFF the full resolution, without thumbnail, macro and label; of a MIBItiff the masses, without the optical
    and label pictures; otherwise all.
    """
    series = list(file.series)
    if file.is_qpi:
        return series[:1]
    masses = [part for part in series if _mibi_kind(part.keyframe) == "SIMS"]
    return masses or series


def read_names(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> TiffNames:
    """Names of the channels of a series.

    Raises:
        ValueError: the OME-XML or a description is damaged.
    """
    if file.is_ome and file.ome_metadata:
        ome = parse_ome_xml(file.ome_metadata)
        return TiffNames(ome.channel_names, None, ome.pixel_size_um)
    pages = _own_pages(file, series)
    if not pages:
        return TiffNames()
    if file.is_qpi:
        return TiffNames(named([_qptiff_name(page.description) for page in pages]), None, _centimetre_pixel(pages[0]))
    page_names = [str(page.tags.valueof(_PAGE_NAME, "")).strip() for page in pages]
    if not all(page_names):
        return TiffNames()
    names, masses = _split_masses(page_names)
    is_mibi = masses is not None and _mibi_kind(pages[0]) is not None
    return TiffNames(names, masses, _centimetre_pixel(pages[0]) if is_mibi else None)


def _own_pages(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> list[tifffile.TiffPage]:
    """The pages of a series with all their tags; none where a plane has no page of its own to carry a name."""
    if any(page is None for page in series.pages):
        return []
    pages = (file.pages.get(page.index, aspage=True, cache=False) for page in series.pages if page is not None)
    return [page for page in pages if isinstance(page, tifffile.TiffPage)]


def _split_masses(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """``CD3 (159)`` → CD3 and 159, where all names are of that form."""
    matches = [_NAME_AND_MASS.fullmatch(name) for name in names]
    if any(match is None for match in matches):
        return tuple(names), None
    found = [match for match in matches if match is not None]
    return tuple(match["name"] for match in found), tuple(match["mass"] for match in found)


def _qptiff_name(description: str) -> str:
    """Biomarker before Name: the name is that of the dye."""
    try:
        root = ET.fromstring(description)
    except ET.ParseError as error:
        raise ValueError(f"a QPTIFF description is damaged ({error})") from error
    return (root.findtext("Biomarker") or "").strip() or (root.findtext("Name") or "").strip()


def _mibi_kind(page: tifffile.TiffPage) -> str | None:
    """``SIMS``, ``Optical``, … where the page is one of a MIBItiff."""
    if not page.description.startswith("{"):
        return None
    try:
        kind = json.loads(page.description).get("image.type")
    except ValueError:
        return None
    return kind if isinstance(kind, str) else None


def _centimetre_pixel(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """(y, x) size in micrometres from the resolution, where that is in pixels per centimetre."""
    if page.resolutionunit != tifffile.RESUNIT.CENTIMETER:
        return None
    per_x, per_y = page.resolution
    return (_UM_PER_CM / per_y, _UM_PER_CM / per_x) if per_x > 0 and per_y > 0 else None
