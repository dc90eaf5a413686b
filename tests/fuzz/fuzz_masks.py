"""Masks: TIFF and NPZ, of an image's size and reduced."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from fuzzing import Seed, Target
from reading_images import read_pixels
from seed_files import files_of

from image_files import noise
from plexrank.images.mask import open_mask

SIZE = (24, 20)


def write_stored(folder: Path, content: np.ndarray, **options: int) -> None:
    """An NPZ whose array is not compressed, so that a changed byte comes through to it; its checksum is left out."""
    held = io.BytesIO()
    np.lib.format.write_array(held, content, **options)
    with zipfile.ZipFile(folder / "m.npz", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("mask.npy", held.getvalue())


def seeds() -> list[Seed]:
    mask = noise(SIZE, "uint8") > 100
    return files_of(
        lambda folder: np.savez_compressed(folder / "m.npz", mask=mask),
        lambda folder: np.savez(folder / "m.npz", mask=np.asfortranarray(mask[::2, ::2].astype(np.int32))),
        lambda folder: np.savez(folder / "m.npz", mask=mask.astype(np.float64)),
        lambda folder: tifffile.imwrite(folder / "m.npz", mask.astype(np.uint8), compression="zlib"),
        lambda folder: tifffile.imwrite(folder / "m.npz", mask[::2, ::2].astype(np.float32), tile=(16, 16)),
    )


def headers() -> list[Seed]:
    """The array of an NPZ alone, put into an archive when it is read, so that the archive is whole."""
    found = []
    for content in (noise(SIZE, "uint8"), np.asfortranarray(noise((12, 10)).astype(np.float32))):
        for version in ((1, 0), (2, 0)):
            held = io.BytesIO()
            np.lib.format.write_array(held, content, version=version)
            found.append({"mask.npy": held.getvalue()})
    return found


def read_header(folder: Path) -> None:
    """As :func:`read`, of an archive that is made now."""
    with zipfile.ZipFile(folder / "m.npz", "w", zipfile.ZIP_STORED) as archive:
        archive.write(folder / "mask.npy", "mask.npy")
    read(folder)


def read(folder: Path) -> None:
    """All of a mask for an image of 24 × 20 pixels."""
    read_pixels(open_mask(folder / "m.npz", *SIZE).data)


TARGETS = [
    Target("masks", seeds, read, (b"PK\x01\x02", b"PK\x05\x06", b"descr", b"fortran_order", b"shape", b"'<f8'")),
    Target(
        "NPZ headers", headers, read_header, (b"descr", b"fortran_order", b"True", b"(24, 20)", b"'|O'", b"'<U9'", b")")
    ),
]
