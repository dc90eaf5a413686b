"""What the OME-XML of a TIFF says about channels and pixel size."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

_UM_PER_UNIT = {
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


@dataclass(frozen=True)
class OmePixels:
    """The first image of an OME-XML: channel names, if any, and (y, x) pixel size, if known."""

    channel_names: tuple[str, ...] | None
    pixel_size_um: tuple[float, float] | None


def parse_ome_xml(text: str) -> OmePixels:
    """Read channel names and pixel size.

    A channel without a name among named ones is called ``unnamed_<number>``, counted from 1. A physical size
    without unit is in micrometres, as OME has it; one in another unit than a length is taken as unknown.

    Raises:
        ValueError: the text is no XML or has no Pixels element.
    """
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"its OME-XML is damaged ({error})") from error
    pixels = root.find(".//{*}Image/{*}Pixels")
    if pixels is None:
        raise ValueError("its OME-XML describes no image")
    names = [(channel.get("Name") or "").strip() for channel in pixels.findall("{*}Channel")]
    named = tuple(name or f"unnamed_{number}" for number, name in enumerate(names, start=1))
    size_y, size_x = (_physical_size_um(pixels, axis) for axis in "YX")
    return OmePixels(
        channel_names=named if any(names) else None,
        pixel_size_um=None if size_y is None or size_x is None else (size_y, size_x),
    )


def _physical_size_um(pixels: ET.Element, axis: str) -> float | None:
    value = pixels.get(f"PhysicalSize{axis}")
    um = _UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    if value is None or um is None:
        return None
    try:
        size = float(value) * um
    except ValueError:
        return None
    return size if math.isfinite(size) and size > 0 else None
