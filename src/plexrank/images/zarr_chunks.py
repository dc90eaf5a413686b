"""Which chunks of a zarr array are there: those that are not, zarr gives as fill values, with no word."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import ImageDataError
from plexrank.images.zarr_metadata import read_json, refuse_link_out


@dataclass(frozen=True)
class Chunks:
    """How many chunks (or shards) an array has, how many of them are there, and the channels that have none."""

    expected: int
    found: int
    empty_channels: tuple[int, ...]


def count_chunks(
    store: Path, folder: Path, shape: Sequence[int], stored: Sequence[int], channel_axis: int | None
) -> Chunks:
    """Count the files of an array's chunks.

    Args:
        store: out of which no link leads.
        folder: of the array.
        shape: of the array.
        stored: shape of what a file holds, a chunk or a shard.
        channel_axis: None where the array is one channel.

    Raises:
        ValueError, OSError: the array does not say how its files are called, or they cannot be listed.
        ImageDataError: something in it is no file, or a link out of the store.
    """
    grid = [-(-side // part) for side, part in zip(shape, stored, strict=True)]
    of_channel: Counter[int] = Counter()
    for place in _places(store, folder, len(grid)):
        if all(index < count for index, count in zip(place, grid, strict=True)):
            of_channel[0 if channel_axis is None else place[channel_axis]] += 1
    num_channels, per_chunk = (1, 1) if channel_axis is None else (shape[channel_axis], stored[channel_axis])
    empty = tuple(channel for channel in range(num_channels) if not of_channel[channel // per_chunk])
    return Chunks(math.prod(grid), of_channel.total(), empty)


def _places(store: Path, folder: Path, ndim: int) -> Iterator[tuple[int, ...]]:
    """Where the chunks that are there stand in the grid."""
    prefix, separator = _encoding(folder)
    for name in _files(store, folder, "", ndim + 1):
        key = name.replace(separator, "/").split("/")
        if prefix and key[0] == prefix:
            key = key[1:]
        elif prefix:
            continue
        if len(key) == ndim and all(part.isdecimal() for part in key):
            yield tuple(map(int, key))


def _files(store: Path, folder: Path, below: str, levels: int) -> Iterator[str]:
    """Names of the files in a folder and in so many below, which begin with ``below``."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                refuse_link_out(store, Path(entry.path))
            if entry.is_dir():
                if levels:
                    yield from _files(store, Path(entry.path), f"{below}{entry.name}/", levels - 1)
            elif entry.is_file():
                yield below + entry.name
            else:
                raise ImageDataError(f"{entry.path}: neither a file nor a folder; copy the store as a whole")


def _encoding(folder: Path) -> tuple[str, str]:
    """What stands before the numbers in a chunk's name, and between them."""
    if (folder / ".zarray").is_file():
        return "", str(read_json(folder / ".zarray").get("dimension_separator") or ".")
    encoding = read_json(folder / "zarr.json")["chunk_key_encoding"]
    is_v2 = encoding["name"] == "v2"
    separator = (encoding.get("configuration") or {}).get("separator") or ("." if is_v2 else "/")
    return ("" if is_v2 else "c"), str(separator)
