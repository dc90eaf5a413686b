"""OME-Zarr of both zarr formats, with and without shards, alone and within a store of several groups."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import zarr
from fuzzing import Seed, Target
from reading_images import read_image
from seed_files import files_of

from image_files import noise

TOKENS = (
    *(b"multiscales", b"datasets", b"path", b"axes", b"omero", b"channels", b"label", b"shape", b"chunks", b"dtype"),
    *(
        b"chunk_grid",
        b"codecs",
        b"sharding_indexed",
        b"blosc",
        b"zstd",
        b"gzip",
        b"fill_value",
        b"|O",
        b"<U9",
        b"crc32c",
    ),
    *(
        b"[0,0,0]",
        b"1000000000",
        b"compressor",
        b"filters",
        b"dimension_separator",
        b"transpose",
        b'"order"',
        b"numcodecs",
    ),
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


def write_described(folder: Path, zarr_format: Literal[2, 3]) -> None:
    """Compressed with Blosc, with names and a pixel size, and a chunk that is not there."""
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=zarr_format)
    array = group.create_array("0", shape=(2, 9, 10), chunks=(2, 9, 5), dtype="float32", fill_value=0)
    array[:, :, :5] = noise((2, 9, 5), "float32")
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    described = {
        "multiscales": [
            {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
        "omero": {"channels": [{"label": "CD3", "color": "FFFFFF"}, {"label": "CD8", "active": True}]},
    }
    group.attrs.update(described if zarr_format == 2 else {"ome": {**described, "version": "0.5"}})


def seeds() -> list[Seed]:
    return files_of(
        write_sharded,
        write_plain,
        lambda folder: write_described(folder, 2),
        lambda folder: write_described(folder, 3),
    )


TARGETS = [Target("OME-Zarr", seeds, lambda folder: read_image(folder / "a.zarr"), TOKENS)]
