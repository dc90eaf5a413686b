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

chunked by up to 4096 tiles, with a CRC32C each, and sharded along tile, and the attributes ``plexrank_attribution``
(version of this layout), ``methods``, ``fold``, ``seed``, ``channel_names``, ``class_names`` and ``checkpoint_sha256``.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from plexrank.errors import RunDirError, naming_damage
from plexrank.rundir import digest, file_digest, replacing, require_plain_files

LAYOUT_VERSION = 2
CHUNK_TILES = 4096
SHARD_CHUNKS = 16
BLOCK_TILES = 8 * CHUNK_TILES
BLOCK_BYTES = 2**27
"""Of what is explained at once, so that memory does not grow with the number of tiles."""
PLAIN_ARRAYS = ("tile_id", "embedding", "logits", "mean_intensity", "weight")
_METADATA = "zarr.json"
_PLACE = struct.Struct("<QQ")  # where a chunk begins in its shard, and its length
_CHECKSUM_BYTES = 4  # CRC32C, after the index of a shard, which stands at its end, and after each chunk
_ABSENT = 2**64 - 1
ATTRIBUTES = ("methods", "fold", "seed", "channel_names", "class_names", "checkpoint_sha256")


@dataclass(frozen=True)
class ExplainedUnit:
    """Which unit explained tiles, and the axes of what it says of them.

    Attributes:
        fold, seed: which unit.
        channel_names, class_names: in the order of the axes.
        checkpoint_sha256: digest of the checkpoint that explained.
        methods: importances that were computed.
    """

    fold: int
    seed: int
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    checkpoint_sha256: str
    methods: tuple[str, ...]

    def shapes(self, tiles: int) -> dict[str, tuple[int, ...]]:
        """Of every array of so many tiles."""
        channels, classes = len(self.channel_names), len(self.class_names)
        shapes: dict[str, tuple[int, ...]] = {
            "tile_id": (tiles,),
            "embedding": (tiles, channels),
            "logits": (tiles, classes),
            "mean_intensity": (tiles, channels),
            "weight": (tiles,),
        }
        return shapes | dict.fromkeys(self.methods, (tiles, channels, classes))

    def tiles_at_once(self) -> int:
        """How many tiles are worked on and written together: whole chunks that take :data:`BLOCK_BYTES` at most."""
        bytes_of_tile = 4 * sum(math.prod(shape) for shape in self.shapes(1).values())
        return CHUNK_TILES * min(SHARD_CHUNKS, max(1, BLOCK_BYTES // (CHUNK_TILES * bytes_of_tile)))


@dataclass(frozen=True)
class AttributionBlock:
    """What a unit says of some of the tiles that it held out.

    Attributes:
        tile_id: (tile,) int.
        embedding: (tile, channel), r; here and in all that has a channel axis NaN where the tile's image lacks it.
        logits: (tile, class).
        mean_intensity: (tile, channel).
        weight: (tile,) how much the tile counts in its image, 1 on average over the image.
        values: per method (tile, channel, class), signed.
    """

    tile_id: np.ndarray
    embedding: np.ndarray
    logits: np.ndarray
    mean_intensity: np.ndarray
    weight: np.ndarray
    values: Mapping[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of them by name."""
        return {name: getattr(self, name) for name in PLAIN_ARRAYS} | dict(self.values)


@contextlib.contextmanager
def writing_attribution(
    path: Path, unit: ExplainedUnit, num_tiles: int
) -> Iterator[Callable[[AttributionBlock], None]]:
    """Yield what writes the blocks of a store, one after the other, beside ``path``.

    The store is moved into place when the ``with`` block ends well; what stood there is replaced.

    Args:
        unit: what explains the tiles.
        num_tiles: of all blocks together.

    Raises:
        ValueError: the blocks do not fit, or are not so many tiles.
    """
    taken = sorted(set(unit.methods) & set(PLAIN_ARRAYS))
    if taken:
        raise ValueError(f"a method cannot be called {taken[0]}, which is another array of the store")
    if num_tiles == 0:
        raise ValueError("an attribution needs one tile or more")
    with replacing(path) as temporary:
        writer = _Writer(temporary, unit, num_tiles)
        yield writer.write
        writer.finish()


class _Writer:
    """Writes whole shards; what does not fill one waits for the next block."""

    def __init__(self, path: Path, unit: ExplainedUnit, num_tiles: int) -> None:
        self._unit, self._num_tiles = unit, num_tiles
        chunk = min(num_tiles, CHUNK_TILES)
        self._shard = min(unit.tiles_at_once(), chunk * -(-num_tiles // chunk))
        attributes = {"plexrank_attribution": LAYOUT_VERSION, **{name: getattr(unit, name) for name in ATTRIBUTES}}
        group = zarr.create_group(path, zarr_format=3, attributes=attributes)
        self._arrays = {
            name: group.create_array(
                name,
                shape=shape,
                dtype="int64" if name == "tile_id" else "float32",
                chunks=(chunk, *shape[1:]),
                shards=(self._shard, *shape[1:]),
                compressors=[BloscCodec(cname="zstd", shuffle="bitshuffle"), Crc32cCodec()],
                dimension_names=("tile", "class") if name == "logits" else ("tile", "channel", "class")[: len(shape)],
                config={"write_empty_chunks": True},
            )
            for name, shape in unit.shapes(num_tiles).items()
        }
        self._waiting: list[dict[str, np.ndarray]] = []
        self._written = 0

    def write(self, block: AttributionBlock) -> None:
        arrays = block.arrays()
        for name, shape in self._unit.shapes(len(block.tile_id)).items():
            if name not in arrays or arrays[name].shape != shape:
                found = arrays[name].shape if name in arrays else "nothing"
                raise ValueError(f"{name}: expected shape {shape}, got {found}")
        self._waiting.append(arrays)
        if sum(len(part["tile_id"]) for part in self._waiting) >= self._shard:
            self._flush(self._shard)

    def finish(self) -> None:
        self._flush(1)
        if self._written != self._num_tiles:
            raise ValueError(f"{self._written} tiles were written of {self._num_tiles}")

    def _flush(self, multiple: int) -> None:
        """Write all that waits, up to a multiple of so many tiles."""
        ready = sum(len(part["tile_id"]) for part in self._waiting) // multiple * multiple
        rest: dict[str, np.ndarray] = {}
        for name, array in self._arrays.items():
            values = np.concatenate([part[name] for part in self._waiting]) if self._waiting else np.empty(0)
            for start in range(0, ready, self._shard):
                stop = min(start + self._shard, ready)
                array[self._written + start : self._written + stop] = values[start:stop]
            rest[name] = values[ready:].copy()  # a view would keep all that was written
        self._waiting = [rest]
        self._written += ready


class AttributionStore:
    """A written store, read by slices."""

    def __init__(self, path: Path) -> None:
        """Open a store and read its attributes.

        Raises:
            RunDirError: it is missing, torn, or not a store of attributions.
        """
        self.path = path
        with self._naming("cannot be opened"):
            require_plain_files(path)
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
        with self._naming("holds data that cannot be read"):
            wanted = self.methods if methods is None else tuple(methods)
            arrays = {name: np.asarray(self._arrays[name][tiles]) for name in (*PLAIN_ARRAYS, *wanted)}
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

    def digests(self) -> dict[str, str]:
        """SHA-256 by file: of metadata; of a shard's index and its chunks' checksums, which say what the shard holds.

        Raises:
            RunDirError: a file is missing or damaged.
        """
        found = {}
        with self._naming("cannot be read"):
            for folder in (self.path, *(self.path / name for name in self._arrays)):
                metadata = folder / _METADATA
                found[metadata.relative_to(self.path).as_posix()] = file_digest(metadata)
            for name, array in self._arrays.items():
                for shard in self._shards(name):
                    chunks = (array.shards or array.chunks)[0] // array.chunks[0]
                    found[shard.relative_to(self.path).as_posix()] = _shard_digest(shard, chunks)
        return found

    def require(self, digests: Mapping[str, str]) -> None:
        """Refuse a store that is not the one that these are the :meth:`digests` of.

        Raises:
            RunDirError: it is another, or damaged.
        """
        found = self.digests()
        differ = [name for name in sorted(digests.keys() | found.keys()) if digests.get(name) != found.get(name)]
        if differ:
            raise self._error(f"{differ[0]} is not what the attribute stage wrote")

    def _shards(self, name: str) -> Iterator[Path]:
        array = self._arrays[name]
        shards = (array.shards or array.chunks)[0]
        for number in range(-(-array.shape[0] // shards)):
            yield self.path.joinpath(name, "c", str(number), *["0"] * (len(array.shape) - 1))

    def _refuse_torn(self) -> None:
        unit = ExplainedUnit(**{name: getattr(self, name) for name in ATTRIBUTES})
        shapes = unit.shapes(len(self))
        for name, shape in shapes.items():
            array = self._arrays[name]
            if array.shape != shape or array.shards is None:
                raise self._error(f"has {name} of shape {array.shape}, shards {array.shards}; expected {shape}")
            for shard in self._shards(name):
                if not shard.is_file():
                    raise self._error(f"lacks {shard.relative_to(self.path)}")

    def _naming(self, what: str) -> contextlib.AbstractContextManager[None]:
        return naming_damage(f"{self.path}: {what}", _REMEDY, RunDirError)

    def _error(self, what: str) -> RunDirError:
        return RunDirError(f"{self.path}: {what}; {_REMEDY}")


_REMEDY = "delete it and run the attribute stage again"


def _shard_digest(shard: Path, chunks: int) -> str:
    """SHA-256 of the index of so many chunks and of their checksums; ValueError where the index points nowhere."""
    with shard.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = size - chunks * _PLACE.size - _CHECKSUM_BYTES
        if begin < 0:
            raise ValueError(f"{shard} is cut short at {size} bytes")
        index = os.pread(file.fileno(), size - begin, begin)
        checksums = []
        for offset, length in _PLACE.iter_unpack(index[:-_CHECKSUM_BYTES]):
            if offset == length == _ABSENT:
                continue
            if length < _CHECKSUM_BYTES or offset + length > begin:
                raise ValueError(f"{shard}: its index points beyond its end")
            checksums.append(os.pread(file.fileno(), _CHECKSUM_BYTES, offset + length - _CHECKSUM_BYTES).hex())
    return digest([index.hex(), *checksums])


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array
