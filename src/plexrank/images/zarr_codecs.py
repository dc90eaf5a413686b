"""Chunks from files of others, looked at before they are decompressed: the libraries believe what stands in them.

A Blosc chunk whose header says more bytes than there are makes the library read beyond it, which can end the process;
a few bytes of the others may unfold to all of the memory. What comes out is bounded by the chunks of the array
(:func:`bound_chunks`), and by :data:`~plexrank.limits.CHUNK_BYTES` where they are not known.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np
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
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.registry import register_codec
from zarr.storage import LocalStore

from plexrank.limits import CHUNK_BYTES

_SLACK_BYTES = 2**20
"""That codecs of several stages may add to a chunk, beside as much again."""
_PIECE_BYTES = 2**20
_BLOSC_HEADER = struct.Struct("<4xI4xI")  # bytes before and after compression
_ZSTD_MAGIC, _ZSTD_SKIPPED = 0xFD2FB528, range(0x184D2A50, 0x184D2A60)
_ZSTD_BLOCK = 2**17
"""A block unfolds to so many bytes at most: RFC 8878, 3.1.1.2.4."""
_MOST_BLOCKS = 2**20  # of a chunk; a GiB has 8192 as writers make them


class WithinFilesStore(LocalStore):
    """A folder of files, beyond whose ends nothing is asked for: the index of a shard may say anything."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self._require_within(key, byte_range)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self._require_within(key, byte_range)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def _require_within(self, key: str, byte_range: ByteRequest | None) -> None:
        if isinstance(byte_range, RangeByteRequest) and (file := self.root / key).is_file():
            size = file.stat().st_size
            if not 0 <= byte_range.start <= byte_range.end <= size:
                raise ValueError(f"{key}: its index leads to byte {byte_range.end}, it has {size}")


def bound_chunks(array: zarr.Array[Any]) -> None:
    """Let the codecs of a zarr v2 array unfold no more than its chunks hold; those of v3 know it."""
    metadata = array.metadata
    codecs = (getattr(metadata, "compressor", None), *(getattr(metadata, "filters", None) or ()))
    dtypes = [getattr(codec, name, array.dtype) for codec in codecs for name in ("astype", "encode_dtype")]
    widest = max((np.dtype(dtype) for dtype in dtypes), key=lambda dtype: dtype.itemsize)
    for codec in codecs:
        if isinstance(codec, (_LooksFirst, _UnfoldsInPieces)):
            codec._most = _most_of(array.chunks, widest)


def _most_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """What a chunk of this shape may unfold to, bytes."""
    if dtype.kind not in "biufcV":  # text of any length
        return CHUNK_BYTES.most()
    return min(2 * math.prod(shape) * dtype.itemsize + _SLACK_BYTES, CHUNK_BYTES.most())


def _require(num_bytes: int, what: str, most: int | None) -> None:
    """Raise ValueError for more bytes than the limit, or than a chunk of the array has."""
    CHUNK_BYTES.require(num_bytes, what, ValueError)
    if most is not None and num_bytes > most:
        raise ValueError(f"{what} unfolds to {num_bytes} bytes, more than the array's chunks hold")


def check_blosc(chunk: bytes, most: int | None = None) -> None:
    """Hold the header of a Blosc chunk against its length.

    Raises:
        ValueError: it says that there are more bytes, or that it unfolds to more than ``most`` or the limit.
    """
    if len(chunk) < _BLOSC_HEADER.size:
        raise ValueError(f"a Blosc chunk of {len(chunk)} bytes")
    decoded, encoded = _BLOSC_HEADER.unpack_from(chunk)
    if not _BLOSC_HEADER.size <= encoded <= len(chunk):
        raise ValueError(f"a Blosc chunk says it has {encoded} bytes, and has {len(chunk)}")
    _require(decoded, "a Blosc chunk", most)


def check_lz4(chunk: bytes, most: int | None = None) -> None:
    """Hold what an LZ4 chunk says that it unfolds to against ``most`` and the limit; ValueError beyond."""
    _require(int.from_bytes(chunk[:4], "little"), "an LZ4 chunk", most)


def check_zstd(chunk: bytes, most: int | None = None) -> None:
    """Hold what the frames of a Zstandard chunk say, or their blocks can unfold to, against ``most`` and the limit.

    The format: RFC 8878.

    Raises:
        ValueError: it is more, or they are no such frames, or there are too many.
    """
    place = total = steps = 0
    while place < len(chunk):
        if steps > _MOST_BLOCKS:
            raise ValueError("a Zstandard chunk of too many frames")
        magic, place = int.from_bytes(chunk[place : place + 4], "little"), place + 4
        if magic in _ZSTD_SKIPPED:
            steps += 1
            place += 4 + int.from_bytes(chunk[place : place + 4], "little")
            continue
        if magic != _ZSTD_MAGIC or place >= len(chunk):
            raise ValueError("a Zstandard chunk is damaged")
        flags = chunk[place]
        is_single = bool(flags & 32)
        of_dictionary, of_size = (0, 1, 2, 4)[flags & 3], (int(is_single), 2, 4, 8)[flags >> 6]
        place += 1 + (not is_single) + of_dictionary
        size = int.from_bytes(chunk[place : place + of_size], "little")
        size += 256 * (of_size == 2)
        place, blocks, unfolded = _end_of_blocks(chunk, place + of_size)
        place += 4 * bool(flags & 4)
        steps += blocks
        total += size if of_size else unfolded
        _require(total, "a Zstandard chunk", most if of_size else None)  # small blocks may be many


def _end_of_blocks(chunk: bytes, place: int) -> tuple[int, int, int]:
    """Where the blocks of a frame end that begin at ``place``, how many, and how much they can unfold to."""
    unfolded, blocks, is_last = 0, 0, False
    while not is_last:
        if blocks > _MOST_BLOCKS:
            raise ValueError("a Zstandard chunk of too many blocks")
        header = int.from_bytes(chunk[place : place + 3], "little")
        if place + 3 > len(chunk):
            raise ValueError("a Zstandard chunk is cut short")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        place += 3 + (1 if kind == 1 else size)  # 1 is a byte that is repeated
        unfolded += size if kind < 2 else _ZSTD_BLOCK
        blocks += 1
    return place, blocks, unfolded


def unfold(stream: BinaryIO, most: int | None = None) -> bytes:
    """Read what a stream unfolds to, up to ``most`` bytes and the limit.

    Raises:
        ValueError: it is more.
        EOFError: it is cut short.
    """
    parts, total = [], 0
    while part := stream.read(_PIECE_BYTES):
        parts.append(part)
        total += len(part)
        _require(total, "a compressed chunk", most)
    return b"".join(parts)


class _LooksFirst:
    """A codec of numcodecs that looks at a chunk first; under the same name, zarr takes it in the other's place."""

    _look: Callable[[bytes, int | None], None]
    _most: int | None = None

    def decode(self, buf: Any, out: Any = None) -> Any:
        self._look(bytes(memoryview(buf)), self._most)
        return super().decode(buf, out)  # type: ignore[misc]


class _UnfoldsInPieces(ABC):
    """A codec of numcodecs that unfolds no more than the limit."""

    _most: int | None = None

    def decode(self, buf: Any, out: Any = None) -> Any:
        return ndarray_copy(unfold(self._opened(io.BytesIO(memoryview(buf))), self._most), out)

    @abstractmethod
    def _opened(self, chunk: BinaryIO) -> BinaryIO:
        """What a chunk unfolds to, as a stream."""


class CheckedBlosc(_LooksFirst, Blosc):  # type: ignore[misc]
    """For zarr v2."""

    _look = staticmethod(check_blosc)


class CheckedLZ4(_LooksFirst, LZ4):  # type: ignore[misc]
    """For zarr v2 and v3."""

    _look = staticmethod(check_lz4)


class CheckedZstd(_LooksFirst, Zstd):  # type: ignore[misc]
    """For zarr v2."""

    _look = staticmethod(check_zstd)


class BoundedBZ2(_UnfoldsInPieces, BZ2):  # type: ignore[misc]
    """For zarr v2 and v3."""

    def _opened(self, chunk: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, bz2.BZ2File(chunk))


class BoundedGZip(_UnfoldsInPieces, GZip):  # type: ignore[misc]
    """For zarr v2."""

    def _opened(self, chunk: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, gzip.GzipFile(fileobj=chunk))


class BoundedLZMA(_UnfoldsInPieces, LZMA):  # type: ignore[misc]
    """For zarr v2 and v3."""

    def _opened(self, chunk: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, lzma.LZMAFile(chunk, format=self.format, filters=self.filters))


class BoundedZlib(_UnfoldsInPieces, Zlib):  # type: ignore[misc]
    """For zarr v2 and v3."""

    def _opened(self, chunk: BinaryIO) -> BinaryIO:
        most = CHUNK_BYTES.most() if self._most is None else self._most
        stream = zlib.decompressobj()  # what follows on its end is left alone, as by zlib.decompress
        content = stream.decompress(chunk.read(), most + 1)
        if not stream.eof and len(content) <= most:
            raise EOFError("a zlib stream is cut short")
        return io.BytesIO(content)


NUMCODECS = (CheckedBlosc, CheckedLZ4, CheckedZstd, BoundedBZ2, BoundedGZip, BoundedLZMA, BoundedZlib)
"""For zarr v2, and the names that zarr v3 gives to numcodecs."""


class CheckedBloscCodec(BloscCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(chunk_bytes.to_bytes(), _most_by(chunk_spec))
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(chunk_bytes.to_bytes(), _most_by(chunk_spec))
        return await super()._decode_single(chunk_bytes, chunk_spec)


class CheckedZstdCodec(ZstdCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_zstd(chunk_bytes.to_bytes(), _most_by(chunk_spec))
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_zstd(chunk_bytes.to_bytes(), _most_by(chunk_spec))
        return await super()._decode_single(chunk_bytes, chunk_spec)


class BoundedGzipCodec(GzipCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=io.BytesIO(chunk_bytes.to_bytes())))
        return chunk_spec.prototype.buffer.from_bytes(unfold(stream, _most_by(chunk_spec)))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        return self._decode_sync(chunk_bytes, chunk_spec)


def _most_by(spec: ArraySpec) -> int:
    native = getattr(spec.dtype, "to_native_dtype", None)  # zarr before 3.1 has numpy's
    return _most_of(spec.shape, np.dtype(native() if native else cast(Any, spec.dtype)))


for codec in NUMCODECS:
    register_numcodec(codec)
for name, v3_codec in {"blosc": CheckedBloscCodec, "zstd": CheckedZstdCodec, "gzip": BoundedGzipCodec}.items():
    register_codec(name, v3_codec)
    zarr.config.set({f"codecs.{name}": f"{v3_codec.__module__}.{v3_codec.__qualname__}"})
