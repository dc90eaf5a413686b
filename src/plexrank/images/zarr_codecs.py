"""Blosc chunks from files of others, looked at before the library does: it believes the lengths in their header.

A chunk whose header says more bytes than there are makes Blosc read beyond it, which can end the process.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numcodecs.registry import register_codec as register_numcodec  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer
from zarr.registry import register_codec

from plexrank.limits import CHUNK_BYTES

_HEADER = struct.Struct("<4xI4xI")  # bytes before and after compression


class CheckedBlosc(Blosc):  # type: ignore[misc]
    """For zarr v2, and the names that zarr v3 gives to numcodecs."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """As Blosc's, once the header is right; ValueError if it is not."""
        check_blosc(np.frombuffer(buf, np.uint8))
        return super().decode(buf, out)


class CheckedBloscCodec(BloscCodec):
    """For zarr v3."""

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(np.asarray(chunk_bytes.as_numpy_array()).view(np.uint8))
        return super()._decode_sync(chunk_bytes, chunk_spec)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        check_blosc(np.asarray(chunk_bytes.as_numpy_array()).view(np.uint8))
        return await super()._decode_single(chunk_bytes, chunk_spec)


def check_blosc(chunk: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Hold the header of a chunk against its length.

    Raises:
        ValueError: it says other lengths, or more than a limit allows.
    """
    if chunk.size < _HEADER.size:
        raise ValueError(f"a Blosc chunk of {chunk.size} bytes")
    decoded, encoded = _HEADER.unpack_from(chunk[: _HEADER.size].tobytes())
    if encoded != chunk.size:
        raise ValueError(f"a Blosc chunk says it has {encoded} bytes, and has {chunk.size}")
    CHUNK_BYTES.require(decoded, "a Blosc chunk", ValueError)


@contextlib.contextmanager
def checked_codecs() -> Iterator[None]:
    """Arrays that are opened in the ``with`` block decode Blosc so, for as long as they are used."""
    name = f"{CheckedBloscCodec.__module__}.{CheckedBloscCodec.__qualname__}"
    with zarr.config.set({"codecs.blosc": name}):
        yield


register_codec("blosc", CheckedBloscCodec)
register_numcodec(CheckedBlosc, "blosc")
