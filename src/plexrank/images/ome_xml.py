"""What OME-XML says: its images with their channels and pixel size, and which page of which file each plane is.

https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from plexrank.images.metadata_xml import parse_xml

_UM_PER_SYMBOL = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
}

PlaneIndex = tuple[int, int, int]
"""Channel, focal plane and time point, each from 0."""


@dataclass(frozen=True)
class OmePages:
    """Where planes lie: from page ``ifd`` on (None where it does not say), ``count`` of them (None: all or one).

    ``file_name`` and ``uuid`` name the file, both None for the one that holds the XML.
    """

    first: PlaneIndex
    ifd: int | None
    count: int | None
    file_name: str | None
    uuid: str | None


@dataclass(frozen=True)
class OmeImage:
    """One Image.

    Attributes:
        name: what it is called, may be empty.
        channel_names: None where none is named; an unnamed one among others is ``unnamed_<number>``, from 1.
        pixel_size_um: (y, x) where known.
        sizes: number of channels, focal planes and time points.
        size_yx: pixels.
        samples: channels that a page holds, where it says so.
        order: the letters of ``sizes``, that which changes fastest over pages first.
        pages: where its planes lie.
    """

    name: str
    channel_names: tuple[str, ...] | None
    pixel_size_um: tuple[float, float] | None
    sizes: PlaneIndex
    size_yx: tuple[int, int]
    samples: int
    order: str
    pages: tuple[OmePages, ...]

    def planes(self, pages: OmePages, count: int) -> list[PlaneIndex]:
        """The planes that so many pages hold, in their order.

        Raises:
            ValueError: they are more than the image has.
        """
        sizes = dict(zip("CZT", self.sizes, strict=True)) | {"C": self.sizes[0] // self.samples}
        first = dict(zip("CZT", pages.first, strict=True))
        steps = {letter: math.prod(sizes[before] for before in self.order[:at]) for at, letter in enumerate(self.order)}
        start = sum(first[letter] * steps[letter] for letter in "CZT")
        if start + count > math.prod(sizes.values()) or any(first[letter] >= sizes[letter] for letter in "CZT"):
            raise ValueError(f"its OME-XML places {count} pages from plane {first} on, beyond its sizes {sizes}")
        found = []
        for number in range(start, start + count):
            c, z, t = (number // steps[letter] % sizes[letter] for letter in "CZT")
            found.append((c, z, t))
        return found


@dataclass(frozen=True)
class OmeDocument:
    """``uuid`` is that of the file with the XML, ``metadata_file`` that which holds the images instead of it."""

    uuid: str | None
    metadata_file: str | None
    images: tuple[OmeImage, ...]


def parse_ome_xml(text: str) -> OmeDocument:
    """Read OME-XML.

    A physical size without unit is in micrometres, as OME has it; one in another unit than a length is taken as
    unknown.

    Raises:
        ValueError: the text is no XML or beyond a limit, describes no image, or a number in it is none.
    """
    root = parse_xml(text, "its OME-XML")
    binary_only = root.find("{*}BinaryOnly")
    metadata_file = None if binary_only is None else binary_only.get("MetadataFile") or ""
    images = []
    for image in root.iterfind("{*}Image"):
        pixels = image.find("{*}Pixels")
        if pixels is not None:
            images.append(_read_image(image.get("Name") or "", pixels))
    if not images and metadata_file is None:
        raise ValueError("its OME-XML describes no image")
    return OmeDocument(root.get("UUID"), metadata_file, tuple(images))


def _read_image(name: str, pixels: ET.Element) -> OmeImage:
    channels = pixels.findall("{*}Channel")
    names = [(channel.get("Name") or "").strip() for channel in channels]
    named = tuple(name or f"unnamed_{number}" for number, name in enumerate(names, start=1))
    size_y, size_x = (_physical_size_um(pixels, axis) for axis in "YX")
    c, z, t, y, x = (int(pixels.get(f"Size{letter}") or 1) for letter in "CZTYX")
    order = [letter for letter in pixels.get("DimensionOrder", "XYCZT") if letter in "CZT"]
    samples = {int(channel.get("SamplesPerPixel") or 1) for channel in channels} or {1}
    samples_per_page = max(samples) if len(samples) == 1 and c == len(channels) * max(samples) else 1
    return OmeImage(
        name=name,
        channel_names=named if any(names) else None,
        pixel_size_um=None if size_y is None or size_x is None else (size_y, size_x),
        sizes=(c, z, t),
        size_yx=(y, x),
        samples=samples_per_page,
        order="".join(order) if sorted(order) == ["C", "T", "Z"] else "CZT",
        pages=tuple(map(_read_pages, pixels.findall("{*}TiffData"))) or (OmePages((0, 0, 0), None, None, None, None),),
    )


def _read_pages(element: ET.Element) -> OmePages:
    numbers = [element.get(key) for key in ("IFD", "PlaneCount")]
    ifd, count = (None if number is None else int(number) for number in numbers)
    c, z, t = (int(element.get(f"First{letter}") or 0) for letter in "CZT")
    uuid = element.find("{*}UUID")
    if uuid is None:
        return OmePages((c, z, t), ifd, count, None, None)
    return OmePages((c, z, t), ifd, count, uuid.get("FileName"), (uuid.text or "").strip() or None)


def _physical_size_um(pixels: ET.Element, axis: str) -> float | None:
    value = pixels.get(f"PhysicalSize{axis}")
    um = _UM_PER_SYMBOL.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    if value is None or um is None:
        return None
    try:
        size = float(value) * um
    except ValueError:
        return None
    return size if math.isfinite(size) and size > 0 else None
