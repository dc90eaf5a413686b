"""Attributions of one unit on disk: Zarr v3, float32, written whole and read by slices.

Layout of ``fold-<k>-seed-<s>.zarr``: a group with the arrays

====================  =======================  =======
tile_id               (tile,)                  int64
embedding             (tile, channel)          float32
logits                (tile, class)            float32
mean_intensity        (tile, channel)          float32
weight                (tile,)                  float32
<method>              (tile, channel, class)   float32
====================  =======================  =======

chunked by up to 4096 tiles and sharded along tile, and the attributes ``plexrank_attribution`` (version of this
layout), ``methods``, ``fold``, ``seed``, ``channel_names``, ``class_names`` and ``checkpoint_sha256``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from plexrank.errors import RunDirError
from plexrank.rundir import replacing

LAYOUT_VERSION = 2
CHUNK_TILES = 4096
SHARD_CHUNKS = 16
BLOCK_TILES = 8 * CHUNK_TILES
PLAIN_ARRAYS = ("tile_id", "embedding", "logits", "mean_intensity", "weight")
ATTRIBUTES = ("methods", "fold", "seed", "channel_names", "class_names", "checkpoint_sha256")


@dataclass(frozen=True)
class UnitAttribution:
    """What one unit says of the tiles it held out.

    Attributes:
        fold, seed: which unit.
        channel_names, class_names: in the order of the axes.
        checkpoint_sha256: digest of the checkpoint that explained.
        tile_id: (tile,) int.
        embedding: (tile, channel), r; here and in all that has a channel axis NaN where the tile's image lacks it.
        logits: (tile, class).
        mean_intensity: (tile, channel).
        weight: (tile,) how much the tile counts in its image, 1 on average over the image.
        values: per method (tile, channel, class), signed.
    """

    fold: int
    seed: int
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    checkpoint_sha256: str
    tile_id: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    mean_intensity: np.ndarray
    weight: np.ndarray
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class AttributionBlock:
    """A slice of tiles; arrays as in :class:`UnitAttribution`."""

    tile_id: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    mean_intensity: np.ndarray
    weight: np.ndarray
    values: Mapping[str, np.ndarray]


def write_attribution(path: Path, attribution: UnitAttribution) -> None:
    """Write a store beside ``path`` and move it into place; what stood there is replaced.

    Raises:
        ValueError: the arrays do not fit together.
    """
    _require_shapes(attribution)
    with replacing(path) as temporary:
        _write(temporary, attribution)


def _write(path: Path, attribution: UnitAttribution) -> None:
    group = zarr.create_group(path, zarr_format=3, attributes=_attributes(attribution))
    arrays = {name: getattr(attribution, name) for name in PLAIN_ARRAYS} | dict(attribution.values)
    tiles = len(attribution.tile_id)
    chunk = min(tiles, CHUNK_TILES)
    shard = chunk * min(SHARD_CHUNKS, -(-tiles // chunk))
    for name, values in arrays.items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="int64" if name == "tile_id" else "float32",
            chunks=(chunk, *values.shape[1:]),
            shards=(shard, *values.shape[1:]),
            compressors=BloscCodec(cname="zstd", shuffle="bitshuffle"),
            dimension_names=_dimensions(name, values.ndim),
            config={"write_empty_chunks": True},
        )
        for start in range(0, tiles, shard):
            array[start : start + shard] = values[start : start + shard]


def _dimensions(name: str, number: int) -> tuple[str, ...]:
    return ("tile", "class") if name == "logits" else ("tile", "channel", "class")[:number]


def _attributes(attribution: UnitAttribution) -> dict[str, Any]:
    return {
        "plexrank_attribution": LAYOUT_VERSION,
        "methods": list(attribution.values),
        "fold": attribution.fold,
        "seed": attribution.seed,
        "channel_names": list(attribution.channel_names),
        "class_names": list(attribution.class_names),
        "checkpoint_sha256": attribution.checkpoint_sha256,
    }


def _shapes(
    tiles: int, channel_names: Sequence[str], class_names: Sequence[str], methods: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    channels, classes = len(channel_names), len(class_names)
    shapes: dict[str, tuple[int, ...]] = {
        "tile_id": (tiles,),
        "embedding": (tiles, channels),
        "logits": (tiles, classes),
        "mean_intensity": (tiles, channels),
        "weight": (tiles,),
    }
    return shapes | dict.fromkeys(methods, (tiles, channels, classes))


def _require_shapes(attribution: UnitAttribution) -> None:
    methods = list(attribution.values)
    taken = sorted(set(methods) & set(PLAIN_ARRAYS))
    if taken:
        raise ValueError(f"a method cannot be called {taken[0]}, which is another array of the store")
    tiles = len(attribution.tile_id)
    if tiles == 0:
        raise ValueError("an attribution needs one tile or more")
    wanted = _shapes(tiles, attribution.channel_names, attribution.class_names, methods)
    arrays = {name: getattr(attribution, name) for name in PLAIN_ARRAYS} | dict(attribution.values)
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {arrays[name].shape}")


class AttributionStore:
    """A written store, read by slices."""

    def __init__(self, path: Path) -> None:
        """Open a store and read its attributes.

        Raises:
            RunDirError: it is missing, torn, or not a store of attributions.
        """
        self.path = path
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3)
            found = dict(group.attrs)
            if found.get("plexrank_attribution") != LAYOUT_VERSION or not set(ATTRIBUTES) <= set(found):
                raise self._error("is not a store of attributions of this version")
            self.methods: tuple[str, ...] = tuple(found["methods"])  # type: ignore[arg-type]
            self.fold = int(found["fold"])  # type: ignore[arg-type]
            self.seed = int(found["seed"])  # type: ignore[arg-type]
            self.channel_names: tuple[str, ...] = tuple(found["channel_names"])  # type: ignore[arg-type]
            self.class_names: tuple[str, ...] = tuple(found["class_names"])  # type: ignore[arg-type]
            self.checkpoint_sha256 = str(found["checkpoint_sha256"])
            self._arrays = {name: _array(group, name) for name in (*PLAIN_ARRAYS, *self.methods)}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._error(f"cannot be opened ({type(error).__name__}: {error})") from error
        self._refuse_torn()

    def __len__(self) -> int:
        """How many tiles there are."""
        return int(self._arrays["tile_id"].shape[0])

    def read(self, start: int = 0, stop: int | None = None, methods: Sequence[str] | None = None) -> AttributionBlock:
        """Tiles ``start`` to ``stop`` (all by default), in the order in which they were written.

        Args:
            methods: the importances to read, all of the store if absent.

        Raises:
            RunDirError: a chunk does not decode.
        """
        tiles = slice(start, stop)
        try:
            wanted = self.methods if methods is None else tuple(methods)
            arrays = {name: np.asarray(self._arrays[name][tiles]) for name in (*PLAIN_ARRAYS, *wanted)}
        except (OSError, RuntimeError, ValueError) as error:
            raise self._error(f"holds data that cannot be read ({type(error).__name__}: {error})") from error
        plain = {name: arrays[name] for name in PLAIN_ARRAYS}
        return AttributionBlock(**plain, values={method: arrays[method] for method in wanted})

    def blocks(
        self, tiles_at_once: int = BLOCK_TILES, methods: Sequence[str] | None = None
    ) -> Iterator[AttributionBlock]:
        """All tiles, ``tiles_at_once`` at a time; the next ones are read meanwhile, so that two are in memory.

        Args:
            methods: as for :meth:`read`.
        """
        starts = range(0, len(self), tiles_at_once)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, 0, tiles_at_once, methods)
            for start in starts:
                block = coming.result()
                if start != starts[-1]:
                    coming = reader.submit(self.read, start + tiles_at_once, start + 2 * tiles_at_once, methods)
                yield block

    def _refuse_torn(self) -> None:
        shapes = _shapes(len(self), self.channel_names, self.class_names, self.methods)
        for name, shape in shapes.items():
            array = self._arrays[name]
            if array.shape != shape or array.shards is None:
                raise self._error(f"has {name} of shape {array.shape}, shards {array.shards}; expected {shape}")
            for number in range(-(-shape[0] // array.shards[0])):
                shard = self.path.joinpath(name, "c", str(number), *["0"] * (len(shape) - 1))
                if not shard.is_file():
                    raise self._error(f"lacks {shard.relative_to(self.path)}")

    def _error(self, what: str) -> RunDirError:
        return RunDirError(f"{self.path}: {what}; delete it and run the attribute stage again")


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array
