"""What a zarr array's own JSON says of its storage, judged before a library acts on it.

A store may come from anywhere: only codecs that turn bytes into numbers are let through, no pickles, no objects.
Zarr v2: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html, v3: https://zarr-specs.readthedocs.io/en/latest/v3/core/.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from plexrank.errors import ImageDataError
from plexrank.limits import METADATA_BYTES, METADATA_PARTS

_V3_CODECS = frozenset({"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"})
_NUMCODECS = frozenset(
    {"blosc", "bz2", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd", "bitround"}
    | {"crc32", "crc32c", "adler32", "fletcher32"}
)
_V2_NUMBER = re.compile(r"[<>|][biuf][0-9]+")
_V3_NUMBER = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ValueError: it is no JSON object, or larger than a limit allows.
        OSError: it cannot be read.
    """
    METADATA_BYTES.require(path.stat().st_size, path.name, ValueError)
    text = path.read_bytes()
    METADATA_PARTS.require(sum(map(text.count, (b"[", b"{", b","))), path.name, ValueError)
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return content


def refuse_link_out(store: Path, file: Path) -> None:
    """Refuse a file that is a link out of its store.

    Raises:
        ImageDataError: it is one.
    """
    if file.is_symlink() and not file.resolve().is_relative_to(store.resolve()):
        raise ImageDataError(f"{file}: a link that leads out of {store}; copy the store as a whole")


def check_array(folder: Path, store: Path) -> Literal[2, 3]:
    """Refuse an array whose storage is not on the list.

    Args:
        folder: of the array.
        store: out of which no link leads.

    Returns:
        Its zarr format, 2 or 3.

    Raises:
        ValueError: a codec, the type or the chunks are not let through, or there is no array.
        ImageDataError: its metadata lie outside of the store.
        OSError: they cannot be read.
    """
    for name in (".zarray", "zarr.json"):
        refuse_link_out(store, folder / name)
    if (folder / ".zarray").is_file():
        metadata = read_json(folder / ".zarray")
        _check_type(metadata["dtype"], _V2_NUMBER)
        _check_chunks(metadata["chunks"])
        for codec in (metadata.get("compressor"), *(metadata.get("filters") or ())):
            if codec is not None:
                _check_codec(str(codec["id"]), _NUMCODECS)
        return 2
    if not (folder / "zarr.json").is_file():
        raise ValueError(f"no array in {folder.name}, neither .zarray nor zarr.json")
    metadata = read_json(folder / "zarr.json")
    if metadata.get("node_type") != "array":
        raise ValueError(f"{folder.name} is no array")
    if metadata.get("storage_transformers"):
        raise ValueError(f"{folder.name} has storage transformers, which are not read")
    _check_type(metadata["data_type"], _V3_NUMBER)
    _check_chunks(metadata["chunk_grid"]["configuration"].get("chunk_shape", []))
    _check_v3_codecs(metadata["codecs"])
    return 3


def _check_v3_codecs(codecs: list[Any]) -> None:
    for codec in codecs:
        name = str(codec if isinstance(codec, str) else codec["name"])
        _check_codec(name.removeprefix("numcodecs."), _NUMCODECS if name.startswith("numcodecs.") else _V3_CODECS)
        if name == "sharding_indexed":
            _check_v3_codecs(codec["configuration"]["codecs"])
            _check_v3_codecs(codec["configuration"].get("index_codecs", []))


def _check_chunks(shape: list[Any]) -> None:
    """Refuse chunks of no length, which some versions of zarr read as others."""
    if not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"chunks of shape {shape}")


def _check_codec(name: str, allowed: frozenset[str]) -> None:
    if name not in allowed:
        raise ValueError(f"codec {name!r} is not on the list of codecs that are read: {', '.join(sorted(allowed))}")


def _check_type(found: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise ValueError(f"values of type {found!r}; expected numbers")
