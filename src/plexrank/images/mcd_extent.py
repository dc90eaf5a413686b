"""Whether the description in an ``.mcd`` is one that readimc gets through: it combines its parts with one another."""

from __future__ import annotations

import mmap
from collections import Counter
from pathlib import Path

from plexrank.errors import ImageDataError
from plexrank.images.metadata_xml import parse_xml
from plexrank.limits import MCD_ACQUISITIONS, METADATA_BYTES

_START, _END = (mark.encode("utf-16-le") for mark in ("<MCDSchema", "</MCDSchema>"))
_PARENTS = ("Slide", "Panorama", "AcquisitionROI")
_MOST_LOOKS = 10**9
"""Elements that are looked at for all parts together, each some nanoseconds."""


def check_description(path: Path) -> None:
    """Look at the description that readimc will take, the last of the file.

    Raises:
        ValueError: there is none, it is no XML, or its parts have one number.
        ImageDataError: it is more than a limit allows.
        OSError: the file cannot be read.
    """
    root = parse_xml(_last_description(path), "its description")
    parts: dict[str, list[str]] = {kind: [] for kind in (*_PARENTS, "Acquisition")}
    for element in root:
        kind = element.tag.rpartition("}")[2]
        if kind in parts:
            parts[kind].append(next((part.text or "" for part in element if part.tag.rpartition("}")[2] == "ID"), ""))
    MCD_ACQUISITIONS.require(len(parts["Acquisition"]), str(path), ImageDataError)
    for kind in _PARENTS:
        number, count = Counter(parts[kind]).most_common(1)[0] if parts[kind] else ("", 0)
        if count > 1:
            raise ValueError(f"{count} parts of kind {kind} are all number {number!r}")
    looks = len(root) * sum(map(len, parts.values()))
    if looks > _MOST_LOOKS:
        raise ValueError(f"its description has {len(root)} parts, more than can be put together")


def _last_description(path: Path) -> str:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(_START)
        if start < 0:
            raise ValueError("start of XML document not found")
        end = content.rfind(_END, start)
        if end < 0:
            raise ValueError("end of XML document not found")
        METADATA_BYTES.require(end - start, str(path), ImageDataError)
        return content[start : end + len(_END)].decode("utf-16-le")
