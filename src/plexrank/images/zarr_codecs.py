"""Chunks from files of others, looked at before they are decompressed: the libraries believe what stands in them.

A Blosc chunk whose header says more bytes than there are makes the library read beyond it, which can end the process;
a few bytes of the others may unfold to all of the memory. :data:`~plexrank.limits.CHUNK_BYTES` bounds what comes out.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numcodecs.bz2 import BZ2  # type: ignore[import-untyped]
from numcodecs.compat import ndarray_copy  # type: ignore[import-untyped]
from numcodecs.gzip import GZip  # type: ignore[import-untyped]
from numcodecs.lz4 import LZ4  # type: ignore[import-untyped]
from numcodecs.lzma import LZMA  # type: ignore[import-untyped]
from numcodecs.registry import register_codec as register_numcodec  # type: ignore[import-untyped]
from numcodecs.zlib import Zlib  # type: ignore[import-untyped]
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec

from plexrank.limits import CHUNK_BYTES

_BLOSC_HEADER = struct.Struct("<4xI4xI")  # bytes before and after compression
_ZSTD_MAGIC, _ZSTD_SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
_ZSTD_BLOCK = 2**17
"""A block unfolds to so many bytes at most: RFC 8878, 3.1.1.2.4."""


class _Unfolds(Protocol):
    """A decompressor of the standard library."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def check_blosc(chunk: bytes) -> None:
    """Hold the header of a Blosc chunk against its length.

    Raises:
        ValueError: it says that there are more bytes, or that it unfolds to more than a limit allows.
    """
    if len(chunk) < _BLOSC_HEADER.size:
        raise ValueError(f"a Blosc chunk of {len(chunk)} bytes")
    decoded, encoded = _BLOSC_HEADER.unpack_from(chunk)
    if not _BLOSC_HEADER.size <= encoded <= len(chunk):
        raise ValueError(f"a Blosc chunk says it has {encoded} bytes, and has {len(chunk)}")
    CHUNK_BYTES.require(decoded, "a Blosc chunk", ValueError)


def check_lz4(chunk: bytes) -> None:
    """Hold what an LZ4 chunk says that it unfolds to against the limit; ValueError beyond it."""
    CHUNK_BYTES.require(int.from_bytes(chunk[:4], "little"), "an LZ4 chunk", ValueError)


def check_zstd(chunk: bytes) -> None:
    """Hold what the frames of a Zstandard chunk say, or their blocks can unfold to, against the limit.

    The format: RFC 8878.

    Raises:
        ValueError: it is more, or they are no such frames.
    """
    place = total = 0
    while place < len(chunk):
        magic, place = int.from_bytes(chunk[place : place + 4], "little"), place + 4
        if magic in _ZSTD_SKIPPED:
            place += 4 + int.from_bytes(chunk[place : place + 4], "little")
            continue
        if magic != _ZSTD_MAGIC or place >= len(chunk):
            raise ValueError("a Zstandard chunk is damaged")
        flags = chunk[place]
        is_single = bool(flags & 32)
        of_dictionary, of_size = (0, 1, 2, 4)[flags & 3], (int(is_single), 2, 4, 8)[flags >> 6]
        place += 1 + (not is_single) + of_dictionary
        total += int.from_bytes(chunk[place : place + of_size], "little")
        CHUNK_BYTES.require(total, "a Zstandard chunk", ValueError)
        place, unfolded = _end_of_blocks(chunk, place + of_size)
        place += 4 * bool(flags & 4)
        total += 0 if of_size else unfolded
        CHUNK_BYTES.require(total, "a Zstandard chunk", ValueError)


def _end_of_blocks(chunk: bytes, place: int) -> tuple[int, int]:
    """Where the blocks of a frame end that begin at ``place``, and how much they can unfold to."""
    unfolded, is_last = 0, False
    while not is_last:
        header = int.from_bytes(chunk[place : place + 3], "little")
        if place + 3 > len(chunk):
            raise ValueError("a Zstandard chunk is cut short")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        place += 3 + (1 if kind == 1 else size)  # 1 is a byte that is repeated
        unfolded += size if kind < 2 else _ZSTD_BLOCK
    return place, unfolded


def unfold(chunk: bytes, new: Callable[[], _Unfolds]) -> bytes:
    """Decompress streams that follow each other, with zeros between them, up to the limit.

    Raises:
        ValueError: they unfold to more, or are cut short.
    """
    most = CHUNK_BYTES.most()
    parts, left = [], most + 1
    while chunk and left:
        decompressor = new()
        parts.append(decompressor.decompress(chunk, left))
        left -= len(parts[-1])
        if left and not decompressor.eof:
            raise ValueError("a chunk is cut short")
        chunk = decompressor.unused_data.lstrip(b"\0")
    if not left:
        CHUNK_BYTES.require(most + 1, "a compressed chunk", ValueError)
    return b"".join(parts)


def _looked_at(codec: type[Any], check: Callable[[bytes], None]) -> type[Any]:
    """A codec of numcodecs that looks at a chunk first; under the same name, zarr takes it in its place."""

    def decode(self: Any, buf: Any, out: Any = None) -> Any:
        check(bytes(memoryview(buf)))
        return codec.decode(self, buf, out)

    return type(f"Checked{codec.__name__}", (codec,), {"decode": decode})


def _bounded(codec: type[Any], new: Callable[[Any], Any]) -> type[Any]:
    """A codec of numcodecs that unfolds no more than the limit."""

    def decode(self: Any, buf: Any, out: Any = None) -> Any:
        return ndarray_copy(unfold(bytes(memoryview(buf)), lambda: new(self)), out)

    return type(f"Bounded{codec.__name__}", (codec,), {"decode": decode})


def _gunzip(_: object = None) -> Any:
    return zlib.decompressobj(wbits=47)  # zlib or gzip, as the stream says


NUMCODECS = {
    "blosc": _looked_at(Blosc, check_blosc),
    "lz4": _looked_at(LZ4, check_lz4),
    "zstd": _looked_at(Zstd, check_zstd),
    "bz2": _bounded(BZ2, lambda _: bz2.BZ2Decompressor()),
    "gzip": _bounded(GZip, _gunzip),
    "zlib": _bounded(Zlib, _gunzip),
    "lzma": _bounded(LZMA, lambda own: lzma.LZMADecompressor(own.format, filters=own.filters)),
}
"""For zarr v2, and the names that zarr v3 gives to numcodecs."""


class CheckedBloscCodec(BloscCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(chunk_bytes.to_bytes())
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(chunk_bytes.to_bytes())
        return await super()._decode_single(chunk_bytes, chunk_spec)


class CheckedZstdCodec(ZstdCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_zstd(chunk_bytes.to_bytes())
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_zstd(chunk_bytes.to_bytes())
        return await super()._decode_single(chunk_bytes, chunk_spec)


class BoundedGzipCodec(GzipCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return chunk_spec.prototype.buffer.from_bytes(unfold(chunk_bytes.to_bytes(), _gunzip))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return self._decode_sync(chunk_bytes, chunk_spec)


for name, codec in NUMCODECS.items():
    register_numcodec(codec, name)
for name, v3_codec in {"blosc": CheckedBloscCodec, "zstd": CheckedZstdCodec, "gzip": BoundedGzipCodec}.items():
    register_codec(name, v3_codec)
    zarr.config.set({f"codecs.{name}": f"{v3_codec.__module__}.{v3_codec.__qualname__}"})
