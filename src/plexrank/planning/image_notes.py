"""What the stages after tiling are to know of every image beside its tiles: one file for the whole cohort."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from plexrank.rundir import read_text, reading_output, write_text


@dataclass(frozen=True)
class ImageNotes:
    """Of a tiled image.

    Attributes:
        channels: names that its store holds, in their order.
        pixel_size_um: (y, x) of the image as it came; ``None`` if unknown.
        n_background: tiles that were left out as background.
        warnings: what is to be reported of it.
    """

    channels: tuple[str, ...]
    pixel_size_um: tuple[float, float] | None
    n_background: int
    warnings: tuple[str, ...]


def write_image_notes(path: Path, notes: Mapping[str, ImageNotes]) -> None:
    """Write the notes by image_id."""
    write_text(path, json.dumps({image_id: asdict(of_image) for image_id, of_image in notes.items()}) + "\n")


def read_image_notes(path: Path) -> dict[str, ImageNotes]:
    """Read what :func:`write_image_notes` wrote.

    Raises:
        RunDirError: the tile stage is not done, or the file is damaged.
    """
    with reading_output(path):
        content = json.loads(read_text(path))
        return {image_id: _parse(of_image) for image_id, of_image in content.items()}


def _parse(found: Mapping[str, object]) -> ImageNotes:
    channels, size, warnings = found["channels"], found["pixel_size_um"], found["warnings"]
    if not isinstance(channels, list) or not isinstance(warnings, list) or not isinstance(found["n_background"], int):
        raise ValueError("not what the tile stage writes of an image")
    if size is not None and (not isinstance(size, list) or len(size) != 2):
        raise ValueError(f"a pixel size of {size}")
    pixel_size_um = None if size is None else (float(size[0]), float(size[1]))
    return ImageNotes(tuple(map(str, channels)), pixel_size_um, found["n_background"], tuple(map(str, warnings)))
