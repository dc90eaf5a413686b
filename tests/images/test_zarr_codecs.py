"""Compressed chunks of others: all that writers use is read, and nothing unfolds beyond the limit."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Delta, FixedScaleOffset, get_codec
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.codecs.numcodecs import BZ2, LZ4, LZMA, Zlib

from image_files import noise
from plexrank.errors import ImageDataError
from plexrank.images import zarr_codecs
from plexrank.images.open import open_image
from plexrank.images.zarr_codecs import check_zstd

MULTISCALE = {"datasets": [{"path": "0"}], "axes": [{"name": name} for name in "cyx"]}
NAMES = ("blosc", "zstd", "gzip", "zlib", "bz2", "lzma", "lz4")
OF_V3: dict[str, Callable[[], Any]] = {
    "blosc": zarr.codecs.BloscCodec,
    "zstd": zarr.codecs.ZstdCodec,
    "gzip": zarr.codecs.GzipCodec,
    "zlib": Zlib,
    "bz2": BZ2,
    "lzma": LZMA,
    "lz4": LZ4,
}
ZEROS = bytes(2**24)


def write(folder: Path, name: str, zarr_format: Any) -> tuple[Path, np.ndarray]:
    """An image of one chunk, and its pixels."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=zarr_format)
    codec = OF_V3[name]() if zarr_format == 3 else get_codec({"id": name})
    pixels = noise((2, 30, 40))
    group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype, compressors=codec)[:] = pixels
    found = {"multiscales": [MULTISCALE | {"version": "0.4"}]}
    group.attrs.update(found if zarr_format == 2 else {"ome": {"version": "0.5", **found}})
    return folder / "a.zarr", pixels


def chunk_of(path: Path, zarr_format: int) -> Path:
    return path / "0" / ("0.0.0" if zarr_format == 2 else "c/0/0/0")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_what_writers_use_is_read(tmp_path: Path, name: str, zarr_format: int) -> None:
    path, pixels = write(tmp_path, name, zarr_format)
    np.testing.assert_array_equal(open_image(path).data.compute(), pixels)


BOMBS = {
    "bz2": bz2.compress(ZEROS),
    "gzip": gzip.compress(ZEROS),
    "zlib": zlib.compress(ZEROS),
    "lzma": lzma.compress(ZEROS),
    "lz4": len(ZEROS).to_bytes(4, "little") + b"\0" * 20,
    "zstd": bytes(get_codec({"id": "zstd"}).encode(ZEROS)),
    "blosc": b"\2\1\0\1" + len(ZEROS).to_bytes(4, "little") + bytes(4) + (32).to_bytes(4, "little") + bytes(16),
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_nothing_unfolds_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, zarr_format: int
) -> None:
    path, _ = write(tmp_path, name, zarr_format)
    chunk_of(path, zarr_format).write_bytes(BOMBS[name])
    monkeypatch.setenv("PLEXRANK_MAX_CHUNK_BYTES", "1e6")
    with pytest.raises(ImageDataError, match="set PLEXRANK_MAX_CHUNK_BYTES to a larger number"):
        open_image(path).data.compute()


@pytest.mark.parametrize(
    ("name", "zarr_format"), [*((name, 2) for name in NAMES), *((name, 3) for name in ("blosc", "zstd", "gzip"))]
)
def test_nothing_unfolds_beyond_the_chunks_of_its_array(tmp_path: Path, name: str, zarr_format: int) -> None:
    path, _ = write(tmp_path, name, zarr_format)
    chunk_of(path, zarr_format).write_bytes(BOMBS[name])
    with pytest.raises(ImageDataError, match="more than the array's chunks hold"):
        open_image(path).data.compute()


def test_an_index_that_leads_beyond_its_shard_is_refused(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    pixels = noise((1, 32, 32))
    codec = ShardingCodec(chunk_shape=(1, 16, 16), index_codecs=[BytesCodec()])
    more = {"chunks": pixels.shape, "serializer": codec, "compressors": None, "filters": None}
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **more)[:] = pixels
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [MULTISCALE]}})
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").data.compute(), pixels)
    shard = chunk_of(tmp_path / "a.zarr", 3)
    content = bytearray(shard.read_bytes())
    content[-8:] = (2**50).to_bytes(8, "little")
    shard.write_bytes(content)
    with pytest.raises(ImageDataError, match=r"its index leads to byte \d+, it has \d+"):
        open_image(tmp_path / "a.zarr").pixels[:, 20:, 20:]


@pytest.mark.parametrize("widening", [Delta("u2", "i8"), FixedScaleOffset(0, 1, "u2", "f8")], ids=["delta", "scale"])
def test_filters_may_widen(tmp_path: Path, widening: Any) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    pixels = noise((1, 800, 900))
    more = {"filters": [widening], "compressors": get_codec({"id": "zstd"})}
    group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype, **more)[:] = pixels
    group.attrs.update({"multiscales": [MULTISCALE | {"version": "0.4"}]})
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").data.compute(), pixels)


def test_texts_of_others_stay_readable(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(500,), chunks=(500,), dtype=str, zarr_format=3)
    array[:] = np.array(["a" * 4000] * 500, dtype=object)
    assert zarr.open_array(tmp_path / "a.zarr")[3] == "a" * 4000


@pytest.mark.parametrize("name", NAMES)
def test_codecs_travel_to_other_processes(name: str) -> None:
    codec = get_codec({"id": name})
    assert type(pickle.loads(pickle.dumps(codec))) is type(codec)
    assert pickle.loads(pickle.dumps(codec)).decode(codec.encode(b"abc")) == b"abc"


def test_what_follows_each_other_is_read_as_the_libraries_do() -> None:
    members = b"".join(gzip.compress(b"ab") for _ in range(3000))
    assert get_codec({"id": "gzip"}).decode(members + bytes(9)) == b"ab" * 3000
    assert get_codec({"id": "bz2"}).decode(bz2.compress(b"ab") * 2) == b"abab"
    assert get_codec({"id": "zlib"}).decode(zlib.compress(b"ab") * 2) == b"ab"
    for name in ("gzip", "bz2", "zlib", "lzma"):
        with pytest.raises(EOFError):
            get_codec({"id": name}).decode(get_codec({"id": name}).encode(b"abc" * 100)[:-9])


SKIPPED = (0x184D2A50).to_bytes(4, "little") + bytes(4)


def frame(*blocks: bytes) -> bytes:
    """A Zstandard frame that does not say its size, of a window of 1 kB."""
    return b"\x28\xb5\x2f\xfd" + b"\0\0" + b"".join(blocks)


def block(kind: int, size: int, content: bytes, is_last: bool = False) -> bytes:
    return (is_last | kind << 1 | size << 3).to_bytes(3, "little") + content


def test_zstandard_of_unknown_size_is_bounded_by_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEXRANK_MAX_CHUNK_BYTES", "300")
    repeated, raw = block(1, 200, b"a"), block(0, 100, bytes(100), is_last=True)
    check_zstd(frame(repeated, raw))
    assert get_codec({"id": "zstd"}).decode(frame(repeated, raw)) == b"a" * 200 + bytes(100)
    with pytest.raises(ValueError, match="500 bytes that are decoded at once"):
        check_zstd(frame(repeated, repeated, raw))
    with pytest.raises(ValueError, match="cut short"):
        check_zstd(frame(repeated))


def test_zstandard_of_endless_frames_and_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_codecs, "_MOST_BLOCKS", 100)
    last = frame(block(0, 0, b"", is_last=True))
    for what, chunk in (("frames", last * 102), ("blocks", frame(block(0, 0, b"") * 102)), ("frames", SKIPPED * 102)):
        with pytest.raises(ValueError, match=f"a Zstandard chunk of too many {what}"):
            check_zstd(chunk + last)
    check_zstd(last * 100)
