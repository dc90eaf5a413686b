"""The tile store: one sharded OME-Zarr an image, whose chunk grid is the tile grid.

OME-NGFF 0.5 on Zarr v3, level 0 only: chunks (channel, tile, tile), several of them in a shard file. This is
the only place that writes or reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec, Crc32cCodec

from plexrank.errors import RunDirError, naming_damage
from plexrank.limits import IMAGE_CHANNELS, IMAGE_TILES
from plexrank.rundir import require_plain_files
from plexrank.tiles.display import COLORS, make_room, metadata_digest
from plexrank.tiles.grid import Tile, TileGrid
from plexrank.tiles.layout import shard_side

_LEVEL = "0"
_METADATA = ("zarr.json", f"{_LEVEL}/zarr.json")
_CHECKSUM = struct.Struct("<I")  # CRC32C, after the index of a shard, which stands at its end, and after each chunk
_PLACE = struct.Struct("<QQ")  # where a chunk begins in its shard, and its length
_ABSENT = 2**64 - 1  # in place of both
_ZSTD_LEVEL, _BLOSC_BLOCK = 1, 512 * 2**10  # half the time of level 3 in Blosc's own blocks, and as small
_BLOSC_HEADER = struct.Struct("<4xI4xI")  # bytes before and after compression
_CODECS = ["bytes", "blosc", "crc32c"]
_INDEX_CODECS = ["bytes", "crc32c"]
_TYPES = frozenset(
    ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
    + [f"float{bits}" for bits in (16, 32, 64)]
)


class TileStoreWriter:
    """Writes a store, which is whole after :meth:`finish`. Several may write at once, each another shard.

    The folder and its metadata are Zarr's own; shards are put together here, since Zarr takes a shard as a whole
    and copies it several times on the way to the file.

    Args:
        path: an absent folder, such as :func:`plexrank.rundir.replacing` gives.
        name: of the image.
        shape: (c, y, x) of the stored image.
        dtype: what is stored.
        tile_px: side of a tile, pixels.
        channel_names: one a channel.
        pixel_size_um: (y, x) of the image as it came; None if unknown.
        factors: (y, x) numbers of its pixels that became one.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        tile_px: int,
        channel_names: Sequence[str],
        pixel_size_um: tuple[float, float] | None,
        factors: tuple[float, float],
    ) -> None:
        if len(channel_names) != shape[0]:
            raise ValueError(f"{len(channel_names)} names for {shape[0]} channels")
        self._name = name
        self._channel_names = tuple(channel_names)
        self._unit = "micrometer" if pixel_size_um else None
        y_size, x_size = pixel_size_um or (1.0, 1.0)  # without a unit, in pixels of the image as it came
        self._scale = [1.0, y_size * factors[0], x_size * factors[1]]
        self._level = path / _LEVEL
        self._dtype = dtype.newbyteorder("<")
        self.shape = shape
        self.dtype = dtype
        self.grid = TileGrid(shape[1], shape[2], tile_px)
        self.shard_px = shard_side(shape, dtype, tile_px)
        group = zarr.create_group(store=path, zarr_format=3)
        group.create_array(
            _LEVEL,
            shape=shape,
            dtype=dtype,
            chunks=(shape[0], tile_px, tile_px),
            shards=(shape[0], self.shard_px, self.shard_px),
            compressors=(
                BloscCodec(
                    cname="zstd",
                    clevel=_ZSTD_LEVEL,
                    shuffle="bitshuffle",
                    typesize=dtype.itemsize,
                    blocksize=_BLOSC_BLOCK,
                ),
                Crc32cCodec(),
            ),
            filters=None,
            fill_value=0,
            chunk_key_encoding={"name": "default", "separator": "."},  # no folders of a file each
            dimension_names=("c", "y", "x"),
        )

    def encode_tile(self, chunk: npt.NDArray[np.generic]) -> bytes:
        """Compress a (c, tile_px, tile_px) chunk, zeros where it reaches over the image's edge."""
        codec = Blosc("zstd", _ZSTD_LEVEL, Blosc.BITSHUFFLE, _BLOSC_BLOCK)
        encoded: bytes = codec.encode(np.ascontiguousarray(chunk, self._dtype))
        return encoded

    def shard_tiles(self, row: int, col: int) -> list[Tile]:
        """The tiles of the shard at ``row``, ``col`` of the shard grid, in the order in which they are written."""
        return _shard_tiles(self.grid, self.shard_px // self.grid.tile_px, row, col)

    def write_shard(self, row: int, col: int, encoded: Iterable[bytes]) -> None:
        """Write the shard at ``row``, ``col`` of the shard grid as a whole, and to the disk.

        Args:
            row, col: which shard.
            encoded: of each of :meth:`shard_tiles` what :meth:`encode_tile` gave, in that order.
        """
        a_side = self.shard_px // self.grid.tile_px
        index = bytearray(_PLACE.pack(_ABSENT, _ABSENT) * a_side**2)
        with _shard_path(self._level, row, col).open("wb") as file:
            for tile, chunk in zip(self.shard_tiles(row, col), encoded, strict=True):
                place = _PLACE.size * _index_place(tile, a_side)
                _PLACE.pack_into(index, place, file.tell(), len(chunk) + _CHECKSUM.size)
                _write_with_checksum(file, chunk)
            _write_with_checksum(file, bytes(index))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, windows: Sequence[tuple[float, float]], **more: Any) -> None:
        """Write the metadata.

        Args:
            windows: least and greatest value of each channel.
            more: further attributes of the group, beside ``ome``.
        """
        with zarr.config.set({"json_indent": None}):
            zarr.open_group(store=self._level.parent, mode="r+").attrs.update({"ome": self._ome(windows), **more})
        make_room(self._level.parent / "zarr.json")

    def _ome(self, windows: Sequence[tuple[float, float]]) -> dict[str, Any]:
        from yaozarrs import v05  # takes 0.2 s to load, which readers of a store need not wait for

        unit = {} if self._unit is None else {"unit": self._unit}
        levels = v05.Multiscale(
            name=self._name,
            axes=[v05.ChannelAxis(name="c"), v05.SpaceAxis(name="y", **unit), v05.SpaceAxis(name="x", **unit)],
            datasets=[v05.Dataset(path=_LEVEL, coordinateTransformations=[v05.ScaleTransformation(scale=self._scale)])],
        )
        channels = [
            v05.OmeroChannel(
                label=name,
                color=COLORS[index % len(COLORS)],
                active=index < 3,
                window=v05.OmeroWindow(min=low, max=high, start=low, end=high),
            )
            for index, (name, (low, high)) in enumerate(zip(self._channel_names, windows, strict=True))
        ]
        image = v05.Image(multiscales=[levels], omero=v05.Omero(channels=channels))
        described: dict[str, Any] = image.model_dump(mode="json", exclude_none=True)
        return described


class TileStore:
    """Reads tiles of a finished store; opening reads metadata only.

    Attributes:
        channel_names: the panel, in the order of axis c.
        shape: (c, y, x), pixels.
        tile_px: side of a tile.
        dtype: of its pixels.

    Raises:
        RunDirError: the store is missing, torn, or was not written by plexrank.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with naming_damage(f"{path}: not a tile store of plexrank", _REMEDY, RunDirError):
            require_plain_files(path)
        root, level = (_read_json(path, path / name) for name in _METADATA)
        with naming_damage(f"{path}: not a tile store of plexrank", _REMEDY, RunDirError):
            self.shape, self.tile_px, self._shard_px = _geometry(level)
            self.dtype = np.dtype(level["data_type"])
            self._a_side = self._shard_px // self.tile_px
            self._index_bytes = _PLACE.size * self._a_side**2 + _CHECKSUM.size
            self.grid = TileGrid(self.shape[1], self.shape[2], self.tile_px)
            IMAGE_CHANNELS.require_own(self.shape[0], str(path), RunDirError)
            IMAGE_TILES.require_own(self.grid.count, str(path), RunDirError)
            self.channel_names = tuple(str(c["label"]) for c in root["attributes"]["ome"]["omero"]["channels"])
        if len(self.channel_names) != self.shape[0]:
            raise RunDirError(
                f"{path}: {len(self.channel_names)} channel names for {self.shape[0]} channels; {_REMEDY}"
            )

    def read_tile(self, row: int, col: int) -> npt.NDArray[Any]:
        """(c, tile_px, tile_px) in the stored type, zeros where the tile reaches over the image's edge.

        Raises:
            RunDirError: the tile's shard file is missing or damaged.
            IndexError: the grid has no such tile.
        """
        tile = self.grid.tile(row, col)
        shard = _shard_path(self.path / _LEVEL, row // self._a_side, col // self._a_side)
        with self._naming(f"tile ({row}, {col})", shard), shard.open("rb", buffering=0) as file:
            offset, length = _find_chunk(_read_index(file, self._index_bytes), _index_place(tile, self._a_side), file)
            chunk = _read_verified(file, offset, length, "the tile")
            pixels = _decode(chunk, (self.shape[0], self.tile_px, self.tile_px), self.dtype)
        pixels[:, tile.height_px :] = 0
        pixels[:, :, tile.width_px :] = 0
        return pixels

    def digests(self) -> dict[str, str]:
        """SHA-256 by file: of the metadata but for how viewers show them; of a shard's index and its tiles' checksums.

        The latter say what a shard holds, since every tile is read against its checksum, and take next to no time.

        Raises:
            RunDirError: a file is missing or damaged.
        """
        found = {}
        for name in _METADATA:
            with self._naming("its metadata", self.path / name):
                found[name] = metadata_digest(self.path / name)
        for shard, tiles in self._shards():
            with self._naming(_range(tiles), shard), shard.open("rb", buffering=0) as file:
                index = _read_index(file, self._index_bytes)
                digest = hashlib.sha256(index)
                for tile in tiles:
                    offset, length = _find_chunk(index, _index_place(tile, self._a_side), file)
                    digest.update(os.pread(file.fileno(), _CHECKSUM.size, offset + length - _CHECKSUM.size))
                found[str(shard.relative_to(self.path))] = digest.hexdigest()
        return found

    def require(self, digests: Mapping[str, str]) -> None:
        """Refuse a store that is not the one that these are the :meth:`digests` of.

        Raises:
            RunDirError: it is another, or damaged.
        """
        found = self.digests()
        tiles_of = {str(shard.relative_to(self.path)): f" with {_range(tiles)}" for shard, tiles in self._shards()}
        for name in sorted(digests.keys() | found.keys()):
            recorded = digests.get(name)
            if recorded is None or recorded not in (found.get(name), self._as_it_is(name)):
                raise RunDirError(
                    f"{self.path}: {name}{tiles_of.get(name, '')} is not what the tile stage wrote; {_REMEDY}"
                )

    def _as_it_is(self, name: str) -> str | None:
        """SHA-256 of a metadata file with its display, which older versions recorded."""
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest() if name in _METADATA else None

    def _shards(self) -> Iterator[tuple[Path, list[Tile]]]:
        """Every shard file with its tiles."""
        for row in range(-(-self.grid.rows // self._a_side)):
            for col in range(-(-self.grid.cols // self._a_side)):
                yield _shard_path(self.path / _LEVEL, row, col), _shard_tiles(self.grid, self._a_side, row, col)

    @contextlib.contextmanager
    def _naming(self, what: str, file: Path) -> Iterator[None]:
        """Turn what reading a file raises into a RunDirError that says what is lost."""
        with naming_damage(f"{self.path}: {what}: {file} is damaged", _REMEDY, RunDirError):
            try:
                yield
            except FileNotFoundError as error:
                raise RunDirError(f"{self.path}: {what}: {file} is missing; {_REMEDY}") from error


_REMEDY = "remove it and run the tile stage again"


def _shard_path(level: Path, row: int, col: int) -> Path:
    return level / f"c.0.{row}.{col}"


def _shard_tiles(grid: TileGrid, a_side: int, row: int, col: int) -> list[Tile]:
    """The tiles of the shard at ``row``, ``col`` of the shard grid, of ``a_side`` × ``a_side`` at most."""
    rows = range(row * a_side, min((row + 1) * a_side, grid.rows))
    cols = range(col * a_side, min((col + 1) * a_side, grid.cols))
    return [grid.tile(tile_row, tile_col) for tile_row in rows for tile_col in cols]


def _index_place(tile: Tile, tiles_a_side: int) -> int:
    """Which entry of its shard's index is the tile's."""
    return tile.row % tiles_a_side * tiles_a_side + tile.col % tiles_a_side


def _range(tiles: Sequence[Tile]) -> str:
    first, last = ((tile.row, tile.col) for tile in (tiles[0], tiles[-1]))
    return f"tile {first}" if first == last else f"tiles {first} to {last}"


def _read_index(file: FileIO, index_bytes: int) -> bytes:
    """The index of a shard without its checksum; ValueError if that is wrong."""
    size = os.fstat(file.fileno()).st_size
    if size < index_bytes:
        raise ValueError(f"cut short at {size} bytes")
    return _read_verified(file, size - index_bytes, index_bytes, "its index")


def _find_chunk(index: bytes, place: int, file: FileIO) -> tuple[int, int]:
    """Where a chunk begins, and its length; ValueError if the shard lacks it, which Zarr would read as zeros."""
    offset, length = _PLACE.unpack_from(index, _PLACE.size * place)
    if offset == length == _ABSENT:
        raise ValueError("the tile is not in it")
    if length < _CHECKSUM.size:
        raise ValueError(f"its index gives the tile {length} bytes")
    if offset + length > os.fstat(file.fileno()).st_size - len(index) - _CHECKSUM.size:
        raise ValueError("its index points beyond its end")
    return offset, length


def _write_with_checksum(file: BufferedWriter, content: bytes) -> None:
    file.write(content)
    file.write(_CHECKSUM.pack(google_crc32c.value(content)))


def _read_verified(file: FileIO, offset: int, length: int, what: str) -> bytes:
    """The ``length`` bytes from ``offset`` without the checksum that they end with."""
    body = os.pread(file.fileno(), max(0, length - _CHECKSUM.size), offset)
    checksum = os.pread(file.fileno(), _CHECKSUM.size, offset + len(body))
    if checksum != _CHECKSUM.pack(google_crc32c.value(body)):
        raise ValueError(f"the checksum of {what} is wrong")
    return body


def _decode(chunk: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decompress, where the header agrees: Blosc itself believes the lengths that stand there."""
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(chunk) < _BLOSC_HEADER.size or _BLOSC_HEADER.unpack_from(chunk) != (num_bytes, len(chunk)):
        raise ValueError(f"the tile is not {num_bytes} bytes compressed to {len(chunk)}")
    pixels = np.empty(shape, dtype)
    Blosc().decode(chunk, out=pixels)
    return pixels


def _geometry(metadata: dict[str, Any]) -> tuple[tuple[int, int, int], int, int]:
    """Shape, tile side and shard side of an array's metadata, refused if they are not as we write them."""
    if metadata["zarr_format"] != 3 or metadata["node_type"] != "array":
        raise ValueError("level 0 is no Zarr v3 array")
    if tuple(metadata["dimension_names"]) != ("c", "y", "x"):
        raise ValueError(f"dimensions {metadata['dimension_names']}, expected c, y, x")
    if metadata["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "."}}:
        raise ValueError(f"chunks are named by {metadata['chunk_key_encoding']}, perhaps by another version")
    num_channels, height_px, width_px = (int(side) for side in metadata["shape"])
    outer = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    if metadata["data_type"] not in _TYPES:
        raise ValueError(f"data type {metadata['data_type']}, expected a real number")
    (sharding,) = metadata["codecs"]
    if sharding["name"] != "sharding_indexed":
        raise ValueError(f"codec {sharding['name']}, expected sharding_indexed")
    configuration = sharding["configuration"]
    inner = tuple(configuration["chunk_shape"])
    for key, expected in (("codecs", _CODECS), ("index_codecs", _INDEX_CODECS)):
        found = [codec["name"] for codec in configuration[key]]
        if found != expected:
            raise ValueError(f"{key} {', '.join(found)}, expected {', '.join(expected)}")
        if configuration[key][0].get("configuration", {}).get("endian", "little") != "little":
            raise ValueError(f"{key}: bytes are not little-endian")
    tile_px, shard_px = int(inner[1]), int(outer[1])
    if inner != (num_channels, tile_px, tile_px) or outer != (num_channels, shard_px, shard_px):
        raise ValueError(f"chunk {inner} and shard {outer} are not (channels, side, side)")
    if configuration["index_location"] != "end":
        raise ValueError("the index of a shard is not at its end")
    if tile_px < 1 or shard_px % tile_px:
        raise ValueError(f"a shard of {shard_px} pixels holds no whole number of tiles of {tile_px}")
    return (num_channels, height_px, width_px), tile_px, shard_px


def _read_json(store: Path, path: Path) -> dict[str, Any]:
    with naming_damage(f"{store}: {path} is not readable", _REMEDY, RunDirError):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunDirError(f"{store}: no tile store ({path} is missing); run the tile stage again") from error
    if not isinstance(content, dict):
        raise RunDirError(f"{store}: {path} holds no JSON object; {_REMEDY}")
    return content
