"""Channel names and pixel size of a TIFF: from QPTIFF descriptions, ImageJ labels or page names (MIBItiff)."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import tifffile

from plexrank.images.lazy import named
from plexrank.images.metadata_xml import parse_xml

_PAGE_NAME = 285
_NAME_AND_MASS = re.compile(r"(?P<name>.*\S)\s*\((?P<mass>[0-9]+(?:\.[0-9]+)?)\)")  # CD3 (159)
_UM_PER_RESOLUTION_UNIT: dict[int, float] = {tifffile.RESUNIT.CENTIMETER: 1e4, tifffile.RESUNIT.INCH: 25400.0}
_SAYS_NOTHING = re.compile(r"|n/?a|none|null|unknown|unnamed|[-–—_. ]+", re.IGNORECASE)
_NAME_KEYS = ("channel_names", "channels", "names", "Labels", "labels", "markers")
_WORDS = re.compile(r"[^{<=\r\n][^=\r\n]{0,59}")
_IMAGEJ_PLACE = re.compile(r"(?:[czt]:\d+/\d+\s*)+(?:-\s*)?")


@dataclass(frozen=True)
class TiffNames:
    """What a TIFF says of its channels, each None where it does not; ``ids`` are masses, ``pixel_size_um`` (y, x)."""

    names: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    pixel_size_um: tuple[float, float] | None = None


def read_names(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, pages: Sequence[tifffile.TiffPage]
) -> TiffNames:
    """Names of the channels of a series that is no OME-TIFF's.

    Raises:
        ValueError: a description is damaged.
    """
    if file.is_qpi:
        return TiffNames(_qptiff_names(pages), None, _pixel_size(pages[0]))
    if series.kind == "imagej":
        labels = _imagej_labels(file)
        return TiffNames(labels if len(labels or ()) == _num_channels(series) else None)
    described = _described_names(file, pages)
    if described is not None and len(described) == _num_channels(series):
        return TiffNames(described)
    if len(pages) != _num_channels(series):
        return TiffNames()  # planes without pages of their own
    page_names = [str(page.tags.valueof(_PAGE_NAME, "")).strip() for page in pages]
    if len(pages) > 1 and len(set(page_names)) == 1:
        return TiffNames()  # the name of the image
    if mibi_kind(pages[0]) is None:
        return TiffNames(named(page_names))
    names, masses = _split_masses(page_names)
    return TiffNames(named(list(names)), masses, _pixel_size(pages[0]))


def _described_names(file: tifffile.TiffFile, pages: Sequence[tifffile.TiffPage]) -> tuple[str, ...] | None:
    """The channels in tifffile's description of the file, else what every page alone is described as."""
    for described in file.shaped_metadata or ():
        channel = described.get("Channel")
        for names in (channel.get("Name") if isinstance(channel, dict) else None, *map(described.get, _NAME_KEYS)):
            if isinstance(names, list) and all(isinstance(name, str | int) for name in names):
                return named([str(name) for name in names])
    words = [page.description.strip() for page in pages]
    if len(words) > 1 and len(set(words)) == len(words) and all(map(_WORDS.fullmatch, words)):
        return named(words)
    return None


def _num_channels(series: tifffile.TiffPageSeries) -> int:
    return math.prod(side for axis, side in zip(series.axes, series.shape, strict=True) if axis not in "YX")


def _split_masses(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """``CD3 (159)`` → CD3 and 159, where all names are of that form."""
    matches = [_NAME_AND_MASS.fullmatch(name) for name in names]
    if any(match is None for match in matches):
        return tuple(names), None
    found = [match for match in matches if match is not None]
    return tuple(match["name"] for match in found), tuple(match["mass"] for match in found)


def _qptiff_names(pages: Sequence[tifffile.TiffPage]) -> tuple[str, ...] | None:
    """Biomarker before Name, which is that of the dye; Name where a biomarker says nothing or comes again."""
    roots = [qptiff_description(page) for page in pages]
    dyes, markers = (
        [(root.findtext(tag) or "").strip() for root in roots if root is not None] for tag in ("Name", "Biomarker")
    )
    names = [
        dye if _SAYS_NOTHING.fullmatch(marker) or (dye and markers.count(marker) > 1) else marker
        for dye, marker in zip(dyes, markers, strict=True)
    ]
    return named(names) if len(names) == len(pages) else None


def qptiff_description(page: tifffile.TiffPage) -> ET.Element | None:
    """What a page of a QPTIFF says of itself, None where it says nothing.

    Raises:
        ValueError: the description is damaged.
    """
    if not page.description.strip():
        return None
    return parse_xml(page.description, "a QPTIFF description")


def _imagej_labels(file: tifffile.TiffFile) -> tuple[str, ...] | None:
    """The labels of slices, without the place (``c:1/3 - ``) and what stands below it; None where they are no names."""
    labels = (file.imagej_metadata or {}).get("Labels")
    if not isinstance(labels, list):
        return None
    lines = [_IMAGEJ_PLACE.sub("", str(label).partition("\n")[0]).strip() for label in labels]
    return named(lines) if len(set(lines)) == len(lines) else None


def mibi_kind(page: tifffile.TiffPage) -> str | None:
    """``SIMS``, ``Optical``, … where the page is one of a MIBItiff."""
    if not page.description.startswith("{"):
        return None
    try:
        kind = json.loads(page.description).get("image.type")
    except (ValueError, AttributeError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None


def _pixel_size(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """(y, x) size in micrometres from the resolution, where that is per centimetre or inch."""
    um = _UM_PER_RESOLUTION_UNIT.get(page.resolutionunit)
    per_x, per_y = page.resolution
    return (um / per_y, um / per_x) if um is not None and per_x > 0 and per_y > 0 else None
