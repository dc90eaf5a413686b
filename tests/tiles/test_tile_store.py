"""The tile store read: what is refused as foreign, torn or forged, and what tells a store from others."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs.blosc import Blosc

from lazy_images import lazy, names, noise, settings
from plexrank.errors import RunDirError
from plexrank.tiles import layout
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image

# --- refusals


def edit_metadata(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        metadata = json.loads((path / "0/zarr.json").read_text())
        change(metadata)
        (path / "0/zarr.json").write_text(json.dumps(metadata))

    return edit


def foreign_codec(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["codecs"].append({"name": "pickle", "configuration": {}})


def one_channel_chunks(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["chunk_shape"][0] = 1


def index_at_start(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["index_location"] = "start"


def without_checksum(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["codecs"].pop()


def big_endian(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["codecs"][0]["configuration"] = {"endian": "big"}


def unsharded(metadata: dict[str, Any]) -> None:
    metadata["codecs"] = metadata["codecs"][0]["configuration"]["codecs"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "zarr.json").unlink(), "no tile store"),
        (lambda path: (path / "0/zarr.json").unlink(), "no tile store"),
        (lambda path: (path / "zarr.json").write_text("{"), "not readable"),
        (lambda path: (path / "zarr.json").write_text("[]"), "no JSON object"),
        (lambda path: (path / "zarr.json").write_text("{}"), "not a tile store"),
        (edit_metadata(foreign_codec), "codecs .*pickle"),
        (edit_metadata(one_channel_chunks), "not a tile store"),
        (edit_metadata(unsharded), "not a tile store"),
        (edit_metadata(index_at_start), "index of a shard is not at its end"),
        (edit_metadata(without_checksum), "codecs bytes, blosc, expected bytes, blosc, crc32c"),
        (edit_metadata(big_endian), "not little-endian"),
        (edit_metadata(lambda metadata: metadata.update(chunk_key_encoding={"name": "v2"})), "chunks are named by"),
        (edit_metadata(lambda metadata: metadata.update(zarr_format=2)), "no Zarr v3 array"),
        (edit_metadata(lambda metadata: metadata.update(shape=[2, 40])), "not a tile store"),
        (edit_metadata(lambda metadata: metadata.update(shape=[2, 0, 40])), "not a tile store"),
        (edit_metadata(lambda metadata: metadata.update(dimension_names=["x", "y", "c"])), "not a tile store"),
        (edit_metadata(lambda metadata: metadata.update(data_type="nonsense")), "data type nonsense"),
    ],
)
def test_a_foreign_store_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(noise((2, 40, 40), "uint8")), [0, 1], names(2), settings(), path)
    damage(path)
    with pytest.raises(RunDirError, match=message) as caught:
        TileStore(path)
    assert str(path) in str(caught.value)
    assert "tile stage again" in str(caught.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = bytes(255 - byte for byte in content[: len(content) // 2])
    path.write_bytes(bytes(content))


def leave_hole(path: Path) -> None:
    path.unlink()
    holes = zarr.open_array(path.parent, mode="r+", config={"write_empty_chunks": False})
    holes[0, 16, 16] = 1  # another tile of the same shard


def test_a_hole_within_a_shard_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(noise((2, 32, 32), "uint8")), [0, 1], names(2), settings(), path)
    leave_hole(path / "0/c.0.0.0")
    store = TileStore(path)
    assert store.read_tile(1, 1)[0, 0, 0] == 1
    with pytest.raises(RunDirError, match=r"tile \(0, 1\): .* \(the tile is not in it\)"):
        store.read_tile(0, 1)


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip, lambda path: path.write_bytes(b"")])
def test_a_torn_shard_is_refused_not_read_as_zeros(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(noise((2, 16, 16), "uint8")), [0, 1], names(2), settings(), path)
    damage(path / "0/c.0.0.0")
    with pytest.raises(RunDirError, match=r"a\.ome\.zarr: tile \(0, 0\)"):
        TileStore(path).read_tile(0, 0)


def test_one_flipped_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(noise((2, 16, 16), "uint8")), [0, 1], names(2), settings(), path)
    store, shard = TileStore(path), path / "0/c.0.0.0"
    whole = shard.read_bytes()
    for place in range(len(whole)):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(RunDirError, match=r"tile \(0, 0\): .* is damaged .*tile stage again"):
            store.read_tile(0, 0)
    shard.write_bytes(whole)
    assert store.read_tile(0, 0).any()


def write_index(shard: Path, offset: int, length: int) -> None:
    """Say where the only tile lies, with a good checksum."""
    index = struct.pack("<QQ", offset, length)
    shard.write_bytes(shard.read_bytes()[:-20] + index + struct.pack("<I", google_crc32c.value(index)))


def write_chunk(shard: Path, chunk: bytes) -> None:
    """Replace the only tile, with good checksums."""
    chunk += struct.pack("<I", google_crc32c.value(chunk))
    index = struct.pack("<QQ", 0, len(chunk))
    shard.write_bytes(chunk + index + struct.pack("<I", google_crc32c.value(index)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda shard: write_index(shard, 2**64 - 1, 2**64 - 1), "the tile is not in it"),
        (lambda shard: write_index(shard, 10**6, 100), "points beyond its end"),
        (lambda shard: write_index(shard, 0, 10**6), "points beyond its end"),
        (lambda shard: write_index(shard, 2**63, 2**63), "points beyond its end"),
        (lambda shard: write_index(shard, 1, 100), "checksum of the tile is wrong"),
        (lambda shard: write_index(shard, 0, 0), "its index gives the tile 0 bytes"),
        (lambda shard: write_chunk(shard, b""), "not 512 bytes compressed"),
        (lambda shard: write_chunk(shard, Blosc("zstd").encode(bytes(511))), "not 512 bytes compressed"),
        (lambda shard: write_chunk(shard, Blosc("zstd").encode(bytes(512))[:-1]), "not 512 bytes compressed"),
        (lambda shard: write_chunk(shard, b"x" * 4 + struct.pack("<I", 512) + b"x" * 500), "not 512 bytes compressed"),
        (lambda shard: write_chunk(shard, struct.pack("<4xI4xI", 512, 500) + b"x" * 484), "is damaged"),
        (lambda shard: write_chunk(shard, shard.read_bytes()), "not 512 bytes compressed"),
    ],
)
def test_a_forged_shard_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(noise((2, 16, 16), "uint8")), [0, 1], names(2), settings(), path)
    damage(path / "0/c.0.0.0")
    with pytest.raises(RunDirError, match=message) as caught:
        TileStore(path).read_tile(0, 0)
    assert "tile (0, 0)" in str(caught.value)


# --- what tells a store from others


def two_stores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Of one shape, with shards of 2 × 2 tiles that are of one size."""
    monkeypatch.setattr(layout, "_SHARD_BYTES", 2 * 32 * 32)
    pixels = noise((2, 40, 40), "uint8")
    paths = folder / "a.ome.zarr", folder / "b.ome.zarr"
    for path, image in zip(paths, (pixels, pixels[::-1]), strict=True):
        tile_image(lazy(np.ascontiguousarray(image)), [0, 1], names(2), settings(), path)
    return paths


def take_from_other(name: str) -> Callable[[Path], None]:
    def take(path: Path) -> None:
        other = path.with_name("b.ome.zarr") / name
        (path / name).write_bytes(other.read_bytes())

    return take


def rename_channel(path: Path) -> None:
    content = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(content.replace('"C1"', '"C2"'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (take_from_other("0/c.0.0.0"), r"0/c.0.0.0 with tiles \(0, 0\) to \(1, 1\) is not what the tile stage wrote"),
        (take_from_other("0/c.0.1.1"), r"0/c.0.1.1 with tile \(2, 2\) is not what the tile stage wrote"),
        (rename_channel, r"a\.ome\.zarr: zarr\.json is not what the tile stage wrote"),
        (edit_metadata(lambda metadata: metadata.update(fill_value=1)), "0/zarr.json is not what the tile stage wrote"),
        (lambda path: cut(path / "0/c.0.0.1"), r"tiles \(0, 2\) to \(1, 2\): .*0/c.0.0.1 is damaged"),
        (lambda path: (path / "0/c.0.1.0").unlink(), r"tiles \(2, 0\) to \(2, 1\): .*0/c.0.1.0 is missing"),
    ],
)
def test_a_store_is_told_from_others_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], message: str
) -> None:
    path, _ = two_stores(tmp_path, monkeypatch)
    digests = TileStore(path).digests()
    assert len(digests) == 2 + 4
    TileStore(path).require(digests)
    damage(path)
    with pytest.raises(RunDirError, match=f"{message}.*; remove it and run the tile stage again"):
        TileStore(path).require(digests)
