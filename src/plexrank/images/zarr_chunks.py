"""Which chunks of a zarr array are there: those that are not, zarr gives as fill values, with no word."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.images.zarr_metadata import read_json


@dataclass(frozen=True)
class Chunks:
    """How many chunks (or shards) an array has, how many of them are there, and the channels that have none."""

    expected: int
    found: int
    empty_channels: tuple[int, ...]


def count_chunks(folder: Path, shape: Sequence[int], stored: Sequence[int], channel_axis: int | None) -> Chunks:
    """Count the files of an array's chunks.

    Args:
        folder: of the array.
        shape: of the array.
        stored: shape of what a file holds, a chunk or a shard.
        channel_axis: None where the array is one channel.

    Raises:
        ValueError, OSError: the array does not say how its files are called, or they cannot be listed.
    """
    grid = [-(-side // part) for side, part in zip(shape, stored, strict=True)]
    of_channel: Counter[int] = Counter()
    for place in _places(folder, len(grid)):
        if all(index < count for index, count in zip(place, grid, strict=True)):
            of_channel[0 if channel_axis is None else place[channel_axis]] += 1
    num_channels, per_chunk = (1, 1) if channel_axis is None else (shape[channel_axis], stored[channel_axis])
    empty = tuple(channel for channel in range(num_channels) if not of_channel[channel // per_chunk])
    return Chunks(math.prod(grid), of_channel.total(), empty)


def _places(folder: Path, ndim: int) -> Iterator[tuple[int, ...]]:
    """Where the chunks that are there stand in the grid."""
    prefix, separator = _encoding(folder)
    for where, _, names in os.walk(folder):
        parts = Path(where).relative_to(folder).parts
        for name in names:
            key = "/".join([*parts, name]).replace(separator, "/").split("/")
            if prefix and key[0] == prefix:
                key = key[1:]
            elif prefix:
                continue
            if len(key) == ndim and all(part.isdecimal() for part in key):
                yield tuple(map(int, key))


def _encoding(folder: Path) -> tuple[str, str]:
    """What stands before the numbers in a chunk's name, and between them."""
    if (folder / ".zarray").is_file():
        return "", str(read_json(folder / ".zarray").get("dimension_separator") or ".")
    encoding = read_json(folder / "zarr.json")["chunk_key_encoding"]
    is_v2 = encoding["name"] == "v2"
    separator = (encoding.get("configuration") or {}).get("separator") or ("." if is_v2 else "/")
    return ("" if is_v2 else "c"), str(separator)
