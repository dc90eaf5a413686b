"""The tile store: one sharded OME-Zarr an image, whose chunk grid is the tile grid.

OME-NGFF 0.5 on Zarr v3, level 0 only: chunks (channel, tile, tile), several of them in a shard file. This is
the only place that writes or reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, BloscShuffle

from plexrank.errors import RunDirError
from plexrank.tiles.grid import Tile, TileGrid

_SHARD_BYTES = 64 * 2**20  # uncompressed; few files, and a few shards fit the memory of any task
_LEVEL = "0"
_CHECKSUM_BYTES = 4  # after the index, which stands at the end of a shard
_ALLOWED_CODECS = frozenset({"sharding_indexed", "bytes", "blosc", "crc32c"})
_COLORS = ("0000FF", "00FF00", "FF0000", "00FFFF", "FF00FF", "FFFF00", "FFFFFF", "FF8000")


class TileStoreWriter:
    """Writes a store, which is whole after :meth:`finish`. Several threads may write at once, each another shard.

    Args:
        path: an absent folder, such as :func:`plexrank.rundir.replacing` gives.
        name: of the image.
        shape: (c, y, x) of the stored image.
        dtype: what is stored.
        tile_px: side of a tile, pixels.
        channel_names: one a channel.
        pixel_size_um: (y, x) of the stored image; None if unknown.
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
    ) -> None:
        if len(channel_names) != shape[0]:
            raise ValueError(f"{len(channel_names)} names for {shape[0]} channels")
        self._name = name
        self._channel_names = tuple(channel_names)
        self._pixel_size_um = pixel_size_um
        num_channels, height_px, width_px = shape
        grid = TileGrid(height_px, width_px, tile_px)
        tiles_a_side = math.isqrt(_SHARD_BYTES // (num_channels * tile_px**2 * dtype.itemsize))
        self.shard_px = tile_px * max(1, min(tiles_a_side, max(grid.rows, grid.cols)))
        self._group = zarr.create_group(store=path, zarr_format=3)
        self._array = self._group.create_array(
            _LEVEL,
            shape=shape,
            dtype=dtype,
            chunks=(num_channels, tile_px, tile_px),
            shards=(num_channels, self.shard_px, self.shard_px),
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle=BloscShuffle.bitshuffle),
            filters=None,
            fill_value=0,
            dimension_names=("c", "y", "x"),
            config={"write_empty_chunks": True},
        )

    def write_shard(self, row: int, col: int, pixels: npt.NDArray[np.generic]) -> None:
        """Write the whole shard at ``row``, ``col`` of the shard grid: (c, ≤ shard_px, ≤ shard_px)."""
        y_px, x_px = row * self.shard_px, col * self.shard_px
        self._array[:, y_px : y_px + pixels.shape[1], x_px : x_px + pixels.shape[2]] = pixels

    def finish(self, windows: Sequence[tuple[float, float]]) -> None:
        """Write the metadata.

        Args:
            windows: least and greatest value of each channel.
        """
        self._group.attrs["ome"] = self._ome(windows)

    def _ome(self, windows: Sequence[tuple[float, float]]) -> dict[str, Any]:
        space: dict[str, str] = {"type": "space"}
        if self._pixel_size_um is not None:
            space["unit"] = "micrometer"
        y_um, x_um = self._pixel_size_um or (1.0, 1.0)
        return {
            "version": "0.5",
            "multiscales": [
                {
                    "name": self._name,
                    "axes": [
                        {"name": "c", "type": "channel"},
                        {"name": "y", **space},
                        {"name": "x", **space},
                    ],
                    "datasets": [
                        {
                            "path": _LEVEL,
                            "coordinateTransformations": [{"type": "scale", "scale": [1.0, y_um, x_um]}],
                        }
                    ],
                }
            ],
            "omero": {
                "channels": [
                    {
                        "label": name,
                        "color": _COLORS[index % len(_COLORS)],
                        "active": index < 3,
                        "window": {"min": low, "max": high, "start": low, "end": high},
                    }
                    for index, (name, (low, high)) in enumerate(zip(self._channel_names, windows, strict=True))
                ]
            },
        }


class TileStore:
    """Reads tiles of a finished store; opening reads metadata only.

    Attributes:
        channel_names: the panel, in the order of axis c.
        shape: (c, y, x), pixels.
        tile_px: side of a tile.

    Raises:
        RunDirError: the store is missing, torn, or was not written by plexrank.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = _read_json(path, path / _LEVEL / "zarr.json")
        attributes = _read_json(path, path / "zarr.json").get("attributes", {})
        try:
            self.shape, self.tile_px, self._shard_px = _geometry(metadata)
            self.grid = TileGrid(self.shape[1], self.shape[2], self.tile_px)
            self.channel_names = tuple(str(c["label"]) for c in attributes["ome"]["omero"]["channels"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RunDirError(
                f"{path}: not a tile store of plexrank ({type(error).__name__}: {error}); {_REMEDY}"
            ) from error
        if len(self.channel_names) != self.shape[0]:
            raise RunDirError(
                f"{path}: {len(self.channel_names)} channel names for {self.shape[0]} channels; {_REMEDY}"
            )
        try:
            self._array = zarr.open_array(store=path / _LEVEL, mode="r")
        except _READ_ERRORS as error:
            raise RunDirError(f"{path}: cannot be opened ({error}); {_REMEDY}") from error

    def read_tile(self, row: int, col: int) -> npt.NDArray[Any]:
        """(c, tile_px, tile_px) in the stored type, zeros where the tile reaches over the image's edge.

        Raises:
            RunDirError: the tile's shard file is missing or damaged.
            IndexError: the grid has no such tile.
        """
        tile = self.grid.tile(row, col)
        shard = self.path / _LEVEL / "c" / "0" / str(tile.y_px // self._shard_px) / str(tile.x_px // self._shard_px)
        self._check_shard(tile, shard)
        try:
            pixels = np.asarray(
                self._array[:, tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px]
            )
        except _READ_ERRORS as error:
            raise RunDirError(f"{self.path}: tile ({row}, {col}): {shard} is damaged ({error}); {_REMEDY}") from error
        if (tile.height_px, tile.width_px) == (self.tile_px, self.tile_px):
            return pixels
        padded = np.zeros((self.shape[0], self.tile_px, self.tile_px), dtype=pixels.dtype)
        padded[:, : tile.height_px, : tile.width_px] = pixels
        return padded

    def _check_shard(self, tile: Tile, shard: Path) -> None:
        """Refuse a shard that lacks the tile: Zarr itself would read a hole as zeros."""
        tiles_a_side = self._shard_px // self.tile_px
        index_bytes = 16 * tiles_a_side**2 + _CHECKSUM_BYTES
        at = f"{self.path}: tile ({tile.row}, {tile.col})"
        try:
            size = shard.stat().st_size
            with shard.open("rb") as file:
                file.seek(max(0, size - index_bytes))
                index = file.read(index_bytes)
        except OSError as error:
            raise RunDirError(f"{at}: {shard} is missing or not readable ({error}); {_REMEDY}") from error
        if len(index) < index_bytes:
            raise RunDirError(f"{at}: {shard} is cut short at {size} bytes; {_REMEDY}")
        place = tile.row % tiles_a_side * tiles_a_side + tile.col % tiles_a_side
        offset, length = np.frombuffer(index, "<u8", count=2, offset=16 * place).tolist()
        if offset + length > size:  # a tile that is absent has 2^64 − 1 in both
            raise RunDirError(f"{at}: {shard} does not hold it; {_REMEDY}")


_REMEDY = "remove it and run the tile stage again"
_READ_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError)


def _geometry(metadata: dict[str, Any]) -> tuple[tuple[int, int, int], int, int]:
    """Shape, tile side and shard side of an array's metadata, refused if they are not as we write them."""
    if metadata["zarr_format"] != 3 or metadata["node_type"] != "array":
        raise ValueError("level 0 is no Zarr v3 array")
    if tuple(metadata["dimension_names"]) != ("c", "y", "x"):
        raise ValueError(f"dimensions {metadata['dimension_names']}, expected c, y, x")
    num_channels, height_px, width_px = (int(side) for side in metadata["shape"])
    outer = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    (sharding,) = metadata["codecs"]
    configuration = sharding["configuration"]
    inner = tuple(configuration["chunk_shape"])
    names = [sharding["name"]] + [c["name"] for c in configuration["codecs"] + configuration["index_codecs"]]
    if not _ALLOWED_CODECS.issuperset(names):
        raise ValueError(f"codecs {', '.join(names)}, expected only {', '.join(sorted(_ALLOWED_CODECS))}")
    tile_px, shard_px = int(inner[1]), int(outer[1])
    if inner != (num_channels, tile_px, tile_px) or outer != (num_channels, shard_px, shard_px):
        raise ValueError(f"chunk {inner} and shard {outer} are not (channels, side, side)")
    if configuration["index_location"] != "end":
        raise ValueError("the index of a shard is not at its end")
    if tile_px < 1 or shard_px % tile_px:
        raise ValueError(f"a shard of {shard_px} pixels holds no whole number of tiles of {tile_px}")
    return (num_channels, height_px, width_px), tile_px, shard_px


def _read_json(store: Path, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunDirError(f"{store}: no tile store ({path} is missing); run the tile stage again") from error
    except (OSError, ValueError) as error:
        raise RunDirError(f"{store}: {path} is not readable ({error}); {_REMEDY}") from error
    if not isinstance(content, dict):
        raise RunDirError(f"{store}: {path} holds no JSON object; {_REMEDY}")
    return content
