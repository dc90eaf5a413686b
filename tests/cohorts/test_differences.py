"""Images of one cohort that differ in what is not biology."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from plexrank.planning.check import check_study_file

SETTINGS = (
    "tile: {tile_px: 16}\nmodel: {backbone: shallow, weights: none}\n"
    "train: {epochs: 1, crop_px: 16, folds: 2, seeds: 1}\n"
)


def tissue(seed: int, top: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, top, (3, 40, 40)).astype("uint16")


def write_study(folder: Path, images: Sequence[str]) -> Path:
    rows = "".join(f"i{n},{name},{'hi' if n % 2 else 'lo'}\n" for n, name in enumerate(images))
    (folder / "sheet.csv").write_text(f"image_id,path,label\n{rows}")
    (folder / "panel.csv").write_text("channel,name\n1,CD3\n2,CD8\n3,DNA\n")
    cohort = "cohort: {samplesheet: sheet.csv, label: label, panel: panel.csv}\n"
    (folder / "study.yaml").write_text(f"name: case\n{cohort}{SETTINGS}")
    return folder / "study.yaml"


def warnings(folder: Path, pixels: Sequence[np.ndarray], *overrides: str) -> list[str]:
    """What check warns of beside what every such small cohort is warned of."""
    names = [f"i{n}.tiff" for n in range(len(pixels))]
    for name, own in zip(names, pixels, strict=True):
        tifffile.imwrite(folder / name, own, photometric="minisblack")
    result = check_study_file(write_study(folder, names), overrides)
    assert not result.problems
    return [one for one in result.warnings if "patient" not in one and "how large their pixels are" not in one]


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uint8": lambda pixels: (pixels >> 8).astype("uint8"),
    "uint16": lambda pixels: pixels,
    "float32": lambda pixels: (pixels / 65535).astype("float32"),
}


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["uint8"] * 9 + ["uint16"] * 3, "uint8 (9 images: i0, i1, i2, …), uint16 (3 images: i9, i10, i11)."),
        (["uint8"] * 9 + ["float32"] * 3, "uint8 (9 images: i0, i1, i2, …), float32 (3 images: i9, i10, i11)."),
        (["float32"] * 9 + ["uint16"] * 3, "float32 (9 images: i0, i1, i2, …), uint16 (3 images: i9, i10, i11)."),
        (["uint8", "uint16"] * 6, "this difference separates the classes: 'lo' (uint8), 'hi' (uint16)."),
    ],
)
def test_number_types_that_differ_are_warned_of(tmp_path: Path, kinds: list[str], told: str) -> None:
    first = warnings(tmp_path, [KINDS[kind](tissue(n, 60000)) for n, kind in enumerate(kinds)])[0]
    assert first.startswith("images differ in number type: ")
    assert told in first


def test_images_of_one_kind_are_not_warned_of(tmp_path: Path) -> None:
    assert warnings(tmp_path, [tissue(n) * (1 + n % 4) for n in range(12)]) == []


def test_images_many_times_as_bright_as_most_are_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, [tissue(n, 200) * (257 if n > 9 else 1) for n in range(12)])
    assert warning.startswith("2 of 12 images are 10 times as bright as the median image, or more")


def test_an_image_that_looks_empty_is_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, [tissue(n) // (100 if n == 7 else 1) for n in range(12)])
    assert warning.startswith("1 image has next to no signal in the middle, compared with the others: i7. A run")


def test_an_image_whose_pixels_cannot_be_read_is_warned_of(tmp_path: Path) -> None:
    names = [f"i{n}.tiff" for n in range(12)]
    for n, name in enumerate(names):
        tifffile.imwrite(tmp_path / name, tissue(n), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(tmp_path / "i7.tiff") as file:
        start, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    content = bytearray((tmp_path / "i7.tiff").read_bytes())
    content[start : start + size] = bytes(size)
    (tmp_path / "i7.tiff").write_bytes(content)
    said = check_study_file(write_study(tmp_path, names), []).warnings
    (warning,) = [one for one in said if "the middle of" in one]
    assert warning.startswith(f"the middle of 1 image cannot be read: {tmp_path / 'i7.tiff'}")


def test_bit_depths_that_differ_are_warned_of(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, [np.minimum(tissue(n, 6000), 1023 if n < 4 else 4095) for n in range(12)])
    assert "4095 (8 images: i4, i5, i6, …), 1023 (4 images: i0, i1, i2, …)" in warning


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        (
            [0.5, 1.0],
            "0.5 µm (6 images: i0, i2, i4, …), 1 µm (6 images: i1, i3, i5, …); this difference separates the classes",
        ),
        ([0.5, 0.5, None, 1.0], "0.5 µm (6 images: i0, i1, i4, …), not given (3 images: i2, i6, i10), 1 µm (3 images"),
        ([0.5, 0.501], None),
        ([0.5, None], None),
        ([None], None),
    ],
)
def test_pixel_sizes_that_differ_are_warned_of(tmp_path: Path, sizes: list[float | None], told: str | None) -> None:
    for n in range(12):
        size = sizes[n % len(sizes)]
        metadata: dict[str, object] = {"axes": "CYX", "Channel": {"Name": ["CD3", "CD8", "DNA"]}}
        if size is not None:
            metadata |= {"PhysicalSizeX": size, "PhysicalSizeY": size}
        tifffile.imwrite(tmp_path / f"i{n}.ome.tiff", tissue(n), photometric="minisblack", metadata=metadata)
    study = write_study(tmp_path, [f"i{n}.ome.tiff" for n in range(12)])
    found = [warning for warning in check_study_file(study).warnings if "pixel size" in warning]
    assert len(found) == (told is not None)
    if told is not None:
        assert told in found[0]
        assert "set tile.um_per_px: 1 instead of tile.downsample" in found[0]
    if None not in sizes:
        assert not [one for one in check_study_file(study, ["tile.um_per_px=2"]).warnings if "pixel size" in one]
