"""TIFF of every kind: plain and compressed, tiled and in strips, OME, ImageJ, QPTIFF, MIBItiff, and folders of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from fuzzing import Seed, Target
from reading_images import read_image
from seed_files import files_of

from image_files import (
    noise,
    qptiff_description,
    write_mibitiff,
    write_ome,
    write_pyramid,
    write_qptiff,
    write_tiff_folder,
)

SMALL = (3, 20, 18)
TOKENS = (
    *(b"OME", b"SizeC", b"SizeZ", b"SizeX", b"IFD", b"PlaneCount", b"TiffData", b"Channel", b"FirstC", b"UUID"),
    *(b"images=", b"channels=", b"slices=", b"frames=", b"hyperstack=true", b"ImageJ=1.52", b"shape", b"axes"),
)


def plain(dtype: str = "uint16", **options: Any) -> Callable[[Path], object]:
    """A stack of channels that tifffile writes."""
    options = {"photometric": "minisblack", **options}
    return lambda folder: tifffile.imwrite(folder / "a.tiff", noise(SMALL).astype(dtype), **options)


def kinds() -> list[Seed]:
    """How pixels may be stored."""
    types = (
        "uint8",
        "int8",
        "int16",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bool",
        "complex64",
    )
    compressions = ("lzw", "zlib", "zstd", "packbits", "lzma", "jpeg2000", "lerc", "deflate")
    return files_of(
        *(plain(dtype, metadata=None) for dtype in types),
        *(plain(compression=name, metadata=None) for name in compressions),
        *(plain("uint8", compression=name, metadata=None, tile=(16, 16)) for name in ("jpeg", "jpegxl", "png")),
        plain(byteorder=">", compression="lzw", predictor=True),
        plain(bigtiff=True, tile=(16, 16), compression="zlib"),
        plain(rowsperstrip=7),
        plain(planarconfig="separate", metadata=None),
        plain(photometric="miniswhite", metadata={"axes": "CYX"}),
        lambda folder: tifffile.imwrite(folder / "a.tiff", noise((20, 18, 5)), metadata={"axes": "YXC"}),
        lambda folder: tifffile.imwrite(folder / "a.tiff", noise((20, 3, 18)), metadata={"axes": "YCX"}),
        lambda folder: tifffile.imwrite(
            folder / "a.tiff",
            noise((20, 18, 5), "uint8"),
            photometric="minisblack",
            planarconfig="contig",
            metadata=None,
        ),
    )


def described() -> list[Seed]:
    """What describes the channels."""
    pixels = noise(SMALL)
    stack = tifffile.imwrite
    return files_of(
        lambda folder: write_ome(folder / "a.tiff", pixels),
        lambda folder: write_ome(folder / "a.tiff", pixels.astype(np.float64), bigtiff=True, tile=(16, 16)),
        lambda folder: write_pyramid(folder / "a.tiff", pixels),
        lambda folder: write_qptiff(folder / "a.tiff", pixels, [qptiff_description(n, "dye") for n in ("A", "B", "C")]),
        lambda folder: write_mibitiff(folder / "a.tiff", pixels, ("CD3 (159)", "CD8 (160)", "Ki-67 (161)")),
        lambda folder: stack(
            folder / "a.tiff", pixels, imagej=True, metadata={"axes": "CYX", "Labels": ["a", "b", "c"]}
        ),
        lambda folder: stack(folder / "a.tiff", pixels, imagej=True, metadata={"axes": "CYX"}, compression="zlib"),
        lambda folder: stack(
            folder / "a.tiff", pixels, photometric="minisblack", metadata={"axes": "CYX", "names": ["a", "b", "c"]}
        ),
    )


def folders() -> list[Seed]:
    """A TIFF a channel, beside one another, in TIFs, and in rounds."""
    return files_of(
        lambda folder: write_tiff_folder(folder / "a", noise(SMALL)),
        lambda folder: write_tiff_folder(folder / "a" / "TIFs", noise(SMALL)),
        lambda folder: [write_tiff_folder(folder / "a" / f"{n}_Cycle{n}", noise(SMALL)) for n in (1, 2)],
    )


TARGETS = [
    Target("TIFF, kinds of storage", kinds, lambda folder: read_image(folder / "a.tiff")),
    Target("TIFF, descriptions", described, lambda folder: read_image(folder / "a.tiff"), TOKENS),
    Target("folder of TIFFs", folders, lambda folder: read_image(folder / "a")),
]
