"""How viewers show a tile store at first: which channels are on, their colours, and between which intensities."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from plexrank.rundir import reading_output, write_text

COLORS = ("00FFFF", "FF00FF", "FFFF00", "FFFFFF", "0000FF", "00FF00", "FF0000", "FF8000")
"""RRGGBB, those first that nearly all eyes can keep apart: cyan, magenta, yellow and white."""
MOST_SHOWN = 4
_DISPLAY = ("active", "color", "window")
_ROOM = 4096
"""Metadata are padded with blanks to a multiple of so many bytes, so that their size hardly ever changes."""


def metadata_digest(path: Path) -> str:
    """SHA-256 of a metadata file but for how viewers show its channels, as 64 hexadecimal digits.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    attributes = content.get("attributes", {}) if isinstance(content, dict) else {}
    for channel in attributes.get("ome", {}).get("omero", {}).get("channels", []):
        for key in _DISPLAY:
            channel.pop(key, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def metadata_digests(path: Path) -> tuple[str, str]:
    """What metadata are known by: :func:`metadata_digest`; SHA-256 with the display, which older versions recorded."""
    return metadata_digest(path), hashlib.sha256(path.read_bytes()).hexdigest()


def make_room(path: Path) -> None:
    """Pad a new metadata file with blanks."""
    text = path.read_text(encoding="utf-8")
    path.write_text(_padded(text), encoding="utf-8")


def _padded(text: str, num_bytes: int = 0) -> str:
    """The text with blanks after it, up to so many bytes, or the next multiple of :data:`_ROOM` that it fits into."""
    own = len(text.encode())
    return text + " " * (max(num_bytes, -(-own // _ROOM) * _ROOM) - own)


def set_display(store: Path, shown: Sequence[str], brightest: Mapping[str, float]) -> bool:
    """Write the omero block (OME-NGFF 0.5) of a store where it is to be another; pixels and their checksums stay.

    Args:
        store: a tile store.
        shown: names of the channels to be on, at most ``MOST_SHOWN``; those that the store lacks are skipped.
        brightest: intensity, in the units of the store, that is shown brightest, by channel; 0 is shown black, or the
            least value where that is below 0. Channels that are not named keep their window.

    Returns:
        Whether anything was written.

    Raises:
        RunDirError: the metadata are missing or damaged.
    """
    path = store / "zarr.json"
    with reading_output(path):
        before = path.read_text(encoding="utf-8")
        content = json.loads(before)
        for place, channel in enumerate(content["attributes"]["ome"]["omero"]["channels"]):
            name, window = channel["label"], channel["window"]
            channel["active"] = name in shown
            channel["color"] = COLORS[(list(shown).index(name) if name in shown else place) % len(COLORS)]
            if name in brightest:
                window["start"], window["end"] = min(0.0, window["min"]), brightest[name]
    after = _padded(json.dumps(content), len(before.encode()))
    if after == before:
        return False
    write_text(path, after)
    return True
