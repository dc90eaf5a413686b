"""OME-Zarr as other tools write it: where metadata stand, versions, stores of several groups, missing chunks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from image_files import noise
from plexrank.errors import ImageDataError
from plexrank.images.find import find_images
from plexrank.images.open import open_image
from plexrank.images.zarr_chunks import count_chunks
from plexrank.planning.check import check_study
from plexrank.study import load_study

LABELS = ("CD3", "CD8", "DNA")


def write(
    path: Path,
    pixels: np.ndarray,
    labels: Sequence[object] | None = LABELS,
    zarr_format: Any = 2,
    where: str = "top",
    axes: Sequence[Any] | None = None,
    version: object = "0.4",
    **options: Any,
) -> Path:
    """``where`` the channels stand: top, multiscales, or (with all else) under ome."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    array = group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **{"chunks": (1, 16, 16), **options})
    array[:] = pixels
    default = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    scale = {"type": "scale", "scale": [*[1.0] * (pixels.ndim - 2), 0.5, 0.5]}
    multiscale: dict[str, Any] = {"datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    if axes != []:
        multiscale["axes"] = axes or default
    if version is not None:
        multiscale["version"] = version
    attributes: dict[str, Any] = {"multiscales": [multiscale]}
    if labels is not None:
        omero = {"channels": [{"label": label} for label in labels]}
        (multiscale if where == "multiscales" else attributes)["omero"] = omero
    group.attrs.update({"ome": {"version": version, **attributes}} if where == "ome" else attributes)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"where": "multiscales"},
        {"zarr_format": 3},
        {"zarr_format": 3, "where": "ome", "version": "0.5"},
        {"zarr_format": 3, "where": "ome", "version": "0.5-dev-spatialdata"},
        {"version": "0.4-dev-spatialdata"},
        {"version": 0.4},
        {"axes": ["c", "y", "x"], "version": None},
        {"axes": ["c", "y", "x"], "version": "0.3"},
    ],
)
def test_names_and_pixels_wherever_the_metadata_stand(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = noise((3, 40, 50)) + np.uint16(1)
    image = open_image(write(tmp_path / "a.zarr", pixels, **options))
    assert image.channel_names == LABELS
    assert image.warnings == ()
    assert image.pixel_size_um == (None if isinstance((options.get("axes") or [{}])[0], str) else (0.5, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)


def test_labels_that_are_numbers_are_names(tmp_path: Path) -> None:
    assert open_image(write(tmp_path / "a.zarr", noise(), [0, 1, 2])).channel_names == ("0", "1", "2")
    assert open_image(write(tmp_path / "b.zarr", noise(), [None, "", 0])).channel_names == (
        "unnamed_1",
        "unnamed_2",
        "0",
    )


def test_the_axes_before_they_were_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", noise((1, 3, 1, 40, 50)), axes=[], version="0.1", chunks=(1, 1, 1, 16, 16))
    np.testing.assert_array_equal(open_image(path).data.compute(), noise())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "0.6"}, r"OME-Zarr of version 0\.6; versions up to 0\.5 are read: write it as 0\.5"),
        ({"version": "0.10"}, r"of version 0\.10"),
        ({"axes": ["t", "y", "x"]}, "3 time points; if these are the channels"),
        ({"axes": ["z", "y", "x"]}, "3 focal planes; if these are the channels"),
    ],
)
def test_what_is_not_read_is_explained(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ImageDataError, match=words):
        open_image(write(tmp_path / "a.zarr", noise(), **change))


def test_two_lists_of_channels_that_differ_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", noise(), where="multiscales")
    zarr.open_group(path, mode="r+").attrs.update({"omero": {"channels": [{"label": name} for name in "ABC"]}})
    with pytest.raises(ImageDataError, match="two lists of channels: A, B, C and CD3, CD8, DNA"):
        open_image(path)


def test_a_zipped_store_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", noise())
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "a.zarr")
    (tmp_path / "a.zip").rename(tmp_path / "a.ozx")
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(ImageDataError, match=r"a\.ozx: a zipped OME-Zarr; unpack it"):
        open_image(tmp_path / "a.ozx")
    assert "unpack it" in find_images(tmp_path).passed_over[0]


@pytest.mark.parametrize("names", [["s0"], ["s0", "s1"]])
def test_the_series_of_a_bioformats2raw_store(tmp_path: Path, names: list[str]) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    root.create_group("OME").attrs["series"] = names
    for name in names:
        write(tmp_path / "a.zarr" / name, noise())
    if len(names) == 1:
        assert open_image(tmp_path / "a.zarr").channel_names == LABELS
    else:
        with pytest.raises(ImageDataError, match=r"holds 2 images; name one of them, such as .*a\.zarr/s0"):
            open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_images_of_spatialdata(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.zarr"
    zarr.open_group(path, mode="w", zarr_format=zarr_format).attrs["spatialdata_attrs"] = {"version": "0.2"}
    options = {"zarr_format": zarr_format, "where": "ome" if zarr_format == 3 else "top"}
    write(path / "images" / "raw", noise(), version=f"0.{2 + zarr_format}-dev-spatialdata", **options)
    assert open_image(path).channel_names == LABELS
    write(path / "images" / "second", noise(), ["A", "B", "C"], **options)
    with pytest.raises(ImageDataError, match=r"holds 2 images; name one of them, such as .*a\.zarr/images/raw"):
        open_image(path)
    assert open_image(path / "images" / "second").channel_names == ("A", "B", "C")


# --- missing chunks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"zarr_format": 2}, 36),
        ({"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}, 36),
        ({"zarr_format": 3}, 36),
        ({"zarr_format": 3, "chunk_key_encoding": {"name": "default", "separator": "."}}, 36),
        ({"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}}, 36),
        ({"zarr_format": 3, "chunks": (1, 16, 16), "shards": (1, 48, 64)}, 3),
    ],
)
def test_chunks_are_counted(tmp_path: Path, options: dict[str, Any], expected: int) -> None:
    path = write(tmp_path / "a.zarr", noise((3, 40, 50)) + np.uint16(1), **options)
    array = zarr.open_array(path / "0", mode="r")
    stored = array.shards or array.chunks
    chunks = count_chunks(path, path / "0", array.shape, stored, 0)
    assert (chunks.expected, chunks.found, chunks.empty_channels) == (expected, expected, ())
    lost = [part for part in (path / "0").rglob("*") if part.is_file() and not part.name.startswith((".z", "zarr"))]
    for part in lost:
        key = part.relative_to(path / "0").as_posix().removeprefix("c").strip("./").replace(".", "/")
        if key.startswith("1/"):
            part.unlink()
    chunks = count_chunks(path, path / "0", array.shape, stored, 0)
    assert (chunks.expected, chunks.found, chunks.empty_channels) == (expected, expected * 2 // 3, (1,))


def test_missing_chunks_are_warned_of(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        path = write(tmp_path / f"a{number}.zarr", noise((3, 48, 48)) + np.uint16(1))
        for part in (path / "0").glob("1.*") if number % 2 else ():
            part.unlink()
        rows.append(f"a{number},{path.name},P{number},{('lo', 'hi')[number % 2]}\n")
    (tmp_path / "samplesheet.csv").write_text("image_id,path,patient_id,label\n" + "".join(rows))
    (tmp_path / "study.yaml").write_text(
        "name: s\ncohort: {samplesheet: samplesheet.csv, label: label}\ntile: {tile_px: 16, downsample: 1}\n"
        "model: {backbone: shallow, weights: none}\ntrain: {epochs: 1, crop_px: 16, folds: 2, seeds: 1}\n"
    )
    assert open_image(tmp_path / "a0.zarr").warnings == ()
    said = [text for text in check_study(load_study(tmp_path / "study.yaml")).warnings if "chunks" in text]
    assert len(said) == 1
    assert "4 images lack chunks, which are read as zeros" in said[0]
    assert "a1.zarr: 9 of 27 chunks are not there, all of channel CD8" in said[0]
