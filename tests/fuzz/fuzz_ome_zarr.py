"""OME-Zarr of both zarr formats, with and without shards, alone and within a store of several groups."""

from __future__ import annotations

from pathlib import Path

import zarr
from fuzzing import Seed, Target
from ome_zarr.format import FormatV04, FormatV05
from reading_images import read_image
from seed_files import files_of

from image_files import noise, write_ome_zarr

TOKENS = (
    *(b"multiscales", b"datasets", b"path", b"axes", b"omero", b"channels", b"label", b"shape", b"chunks", b"dtype"),
    *(b"chunk_grid", b"codecs", b"sharding_indexed", b"blosc", b"zstd", b"gzip", b"fill_value", b"|O", b"<U9", b"crc32c"),
    *(b"[0,0,0]", b"1000000000", b"compressor", b"filters", b"dimension_separator", b"transpose", b'"order"', b"numcodecs"),
    *(b"bioformats2raw.layout", b"plate", b"coordinateTransformations", b"scale", b"float32", b"bool"),
)
LEVEL = {"datasets": [{"path": "0"}], "axes": [{"name": name} for name in "cyx"]}


def write_sharded(folder: Path) -> None:
    """With the codecs that zarr v3 has."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
    array = group.create_array(
        "0", shape=(2, 12, 10), chunks=(1, 4, 5), shards=(2, 8, 10), dtype="uint16", compressors=zarr.codecs.GzipCodec()
    )
    array[:] = noise((2, 12, 10))
    group.attrs["ome"] = {"version": "0.5", "multiscales": [LEVEL]}


def write_plain(folder: Path) -> None:
    """Without compression, from zarr v2, big-endian."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2)
    array = group.create_array("0", shape=(2, 12, 10), chunks=(1, 6, 10), dtype=">i4", compressors=None)
    array[:] = noise((2, 12, 10), "int32")
    group.attrs.update({"multiscales": [{**LEVEL, "version": "0.4"}]})


def seeds() -> list[Seed]:
    return files_of(
        write_sharded,
        write_plain,
        lambda folder: write_ome_zarr(folder / "a.zarr", noise(), FormatV04()),
        lambda folder: write_ome_zarr(folder / "a.zarr", noise(), FormatV05()),
    )


TARGETS = [Target("OME-Zarr", seeds, lambda folder: read_image(folder / "a.zarr"), TOKENS)]
