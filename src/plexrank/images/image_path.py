"""How a samplesheet spells an image: a file, a folder, or ``file.mcd#3`` for one acquisition of a file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ACQUISITION = re.compile(r"(?P<file>.+)#(?P<acquisition>[0-9]{1,9})")
_DRIVE = re.compile(r"(^|/)([A-Za-z]:\\|\\\\)")


def split_image_path(path: Path) -> tuple[Path, int | None]:
    """The file (or folder) of an image, and the acquisition that is meant, if the path names one.

    ``slide.mcd#3`` is acquisition 3 of ``slide.mcd``; where a file is really called ``slide.mcd#3``, it is that file.
    """
    match = _ACQUISITION.fullmatch(path.name)
    if match is None:
        return path, None
    with suppress(OSError):  # a name that is too long for a file
        if path.exists():
            return path, None
    return path.with_name(match["file"]), int(match["acquisition"])


def join_image_path(file: Path, acquisition: int | None) -> Path:
    """The inverse of :func:`split_image_path`."""
    return file if acquisition is None else file.with_name(f"{file.name}#{acquisition}")


def backslash_hint(spelling: str) -> str:
    """What to say of a path that is not there and is written as Windows writes paths; empty for others."""
    if "\\" not in spelling:
        return ""
    if _DRIVE.search(spelling):
        return "; it is a path of a Windows machine: give where the file lies on this one, with / between folders"
    return "; it is written with backslashes: put / between folders"


def size_and_mtime(file: Path) -> tuple[int, int]:
    """Bytes and time of the last change (ns) of an image's file.

    Of a folder: summed and newest over itself and two levels below, which holds a folder of TIFFs whole and of an
    OME-Zarr at least the metadata and the folders that chunks are written to.

    Raises:
        OSError: there is no such file.
    """
    return size_and_times(file)[:2]


def size_and_times(file: Path) -> tuple[int, int, int]:
    """As :func:`size_and_mtime`, and the time (ns) at which anything of the file, its name or permissions changed.

    Raises:
        OSError: there is no such file.
    """
    states = list(_states(file, levels=2))
    changed = [(state.st_mtime_ns, state.st_ctime_ns) for state in states]
    return sum(state.st_size for state in states), *map(max, zip(*changed, strict=True))


def _states(file: Path, levels: int) -> Iterator[os.stat_result]:
    """Of a file, or of a folder and so many levels below; what cannot be looked at there is passed over."""
    state = file.stat()
    yield state
    if not levels or not stat.S_ISDIR(state.st_mode):
        return
    entries: list[Path] = []
    with suppress(OSError):
        entries = list(file.iterdir())
    for entry in entries:
        with suppress(OSError):  # a link that leads nowhere or to itself, a folder that may not be read
            yield from _states(entry, levels - 1)
