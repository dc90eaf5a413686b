"""Pages of a TIFF by their own tags, axes that are no channels, and labels of slices."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from image_files import noise, qptiff_description
from plexrank.errors import ImageDataError
from plexrank.images.open import open_image

ENCODINGS: tuple[dict[str, Any], ...] = (
    {},
    {"rowsperstrip": 7},
    {"tile": (16, 32)},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True},
    {"compression": "lzw", "predictor": True, "tile": (32, 16)},
    {"compression": "zstd", "rowsperstrip": 11},
    {"compression": "packbits"},
)


@settings(max_examples=40, deadline=None)
@given(
    encodings=st.lists(st.sampled_from(ENCODINGS), min_size=1, max_size=5),
    byteorder=st.sampled_from("<>"),
    dtype=st.sampled_from(["uint8", "uint16", "int32"]),
    kind=st.sampled_from(["plain", "ome", "imagej"]),
    seed=st.integers(0, 99),
)
def test_pixels_are_those_of_every_page(
    tmp_path_factory: pytest.TempPathFactory, encodings: list[Any], byteorder: Any, dtype: str, kind: str, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 120, (len(encodings), 33, 41)).astype(dtype)
    path = tmp_path_factory.mktemp("pages") / "a.tiff"
    channels = "".join(f'<Channel Name="M{number}"/>' for number in range(len(pixels)))
    descriptions = {
        "ome": f'<OME><Image><Pixels SizeX="41" SizeY="33" SizeC="{len(pixels)}" SizeZ="1" SizeT="1">{channels}'
        "<TiffData/></Pixels></Image></OME>",
        "imagej": f"ImageJ=1.54f\nimages={len(pixels)}\nchannels={len(pixels)}\nhyperstack=true\n",
    }
    with tifffile.TiffWriter(path, byteorder=byteorder) as file:
        for number, (plane, encoding) in enumerate(zip(pixels, encodings, strict=True)):
            description = descriptions.get(kind) if number == 0 else None
            file.write(plane, photometric="minisblack", metadata=None, description=description, **encoding)
    if kind == "imagej" and len({str(encoding) for encoding in encodings}) > 1:
        with contextlib.suppress(ImageDataError):  # tifffile may refuse what ImageJ's description does not cover
            np.testing.assert_array_equal(open_image(path).data.compute(), pixels)
        return
    image = open_image(path)
    assert image.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.data.compute(), pixels)
    np.testing.assert_array_equal(image.data[-1:, 5:30, 3:40].compute(), pixels[-1:, 5:30, 3:40])
    with tifffile.TiffFile(path) as file:
        pagewise = [file.pages.get(number, aspage=True).asarray() for number in range(len(pixels))]
    np.testing.assert_array_equal(pagewise, pixels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, "holds 5 focal planes; if these are the channels, .*axes"),
        ({"imagej": True, "metadata": {"axes": "TYX"}}, "holds 5 time points; if these are the channels"),
        ({"ome": True, "metadata": {"axes": "ZYX"}}, "holds 5 focal planes; if these are the channels"),
        ({"ome": True, "metadata": {"axes": "TYX"}}, "holds 5 time points; if these are the channels"),
        ({"metadata": {"axes": "ZYX"}}, "holds 5 focal planes; if these are the channels"),
    ],
)
def test_channels_written_as_slices_are_told_with_the_remedy(tmp_path: Path, options: Any, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((5, 20, 30)), photometric="minisblack", **options)
    with pytest.raises(ImageDataError, match=words):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
def test_cycles_written_as_time_points_are_told_with_the_remedy(tmp_path: Path, options: Any) -> None:
    pixels = noise((3, 1, 4, 20, 30))
    metadata = {"axes": "TZCYX"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", metadata=metadata, **options)
    with pytest.raises(ImageDataError, match=r"3 time points of 4 channels; .*cycles.*reshape\(12, height, width\)"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"metadata": None}, {"compression": "zlib"}])
def test_channels_last_are_told_by_shape(tmp_path: Path, options: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((48, 48, 7)), photometric="minisblack", **options)
    with pytest.raises(ImageDataError, match="48 planes of 48 × 7 pixels, as if the channels were last"):
        open_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", noise((7, 48, 48)), photometric="minisblack", **options)
    assert open_image(tmp_path / "b.tif").pixels.shape == (7, 48, 48)


def test_labels_of_imagej_slices_are_names(tmp_path: Path) -> None:
    def names(labels: list[str]) -> tuple[str, ...] | None:
        metadata = {"axes": "CYX", "Labels": labels}
        tifffile.imwrite(tmp_path / "a.tif", noise((3, 20, 30)), imagej=True, metadata=metadata)
        return open_image(tmp_path / "a.tif").channel_names

    assert names(["CD3", "CD8", "DNA"]) == ("CD3", "CD8", "DNA")
    assert names(["c:1/3 - CD3", "c:2/3 - CD8\nfile", "c:3/3 - DNA"]) == ("CD3", "CD8", "DNA")
    assert names(["c:1/3 - a.tif", "c:2/3 - a.tif", "c:3/3 - a.tif"]) is None


def test_names_in_descriptions(tmp_path: Path) -> None:
    names = ["CD3", "CD8", "DNA"]
    for metadata in ({"Channel": {"Name": names}}, {"channel_names": names}):
        tifffile.imwrite(tmp_path / "a.tif", noise((3, 20, 30)), photometric="minisblack", metadata=metadata)
        assert open_image(tmp_path / "a.tif").channel_names == tuple(names)
    for words, found in ((names, tuple(names)), (["a.tif"] * 3, None), (["x=1", "x=2", "x=3"], None)):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for plane, word in zip(noise((3, 20, 30)), words, strict=True):
                file.write(plane, photometric="minisblack", metadata=None, description=word)
        assert open_image(tmp_path / "a.tif").channel_names == found


def test_pages_beyond_those_that_imagej_counts_are_told(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, plane in enumerate(noise((5, 20, 30))):
            description = "ImageJ=1.54f\nimages=3\nchannels=3\nhyperstack=true\n" if number == 0 else None
            file.write(plane, photometric="minisblack", metadata=None, description=description, compression="zlib")
    with pytest.raises(ImageDataError, match="description is of 3 planes, the file holds 5"):
        open_image(tmp_path / "a.tif")


def test_a_colour_table_of_rising_brightness_is_grey(tmp_path: Path) -> None:
    pixels = noise((20, 30), "uint8")
    green = np.zeros((3, 256), "uint16")
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="palette", colormap=green)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels[np.newaxis])
    green[1, 128:] = 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="palette", colormap=green)
    with pytest.raises(ImageDataError, match="a PALETTE picture"):
        open_image(tmp_path / "a.tif")


def write_qptiff_in_order(path: Path, pixels: np.ndarray, order: str, marks: Any, **options: Any) -> None:
    """``order`` names the pages: F full resolution, T thumbnail, R reduced."""
    planes = iter(zip(pixels, marks, strict=True))
    with tifffile.TiffWriter(path) as file:
        for letter in order:
            kind = {"F": "FullResolution", "T": "Thumbnail", "R": "ReducedResolution"}[letter]
            plane, mark = next(planes) if letter == "F" else (noise((12, 12), str(pixels.dtype)), (None, None))
            description = qptiff_description(*mark).replace(
                "<PerkinElmer-QPI-ImageDescription>",
                f"<PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>",
            )
            common = {"metadata": None, "software": "PerkinElmer-QPI", "photometric": "minisblack"}
            file.write(plane, description=description.encode(), **common, **options)


@pytest.mark.parametrize("order", ["FFFTRRR", "TFFFRRR", "FTFRFRR", "FFF"])
@pytest.mark.parametrize(
    ("marks", "names"),
    [
        ([("CD3", "Opal 520"), ("N/A", "Opal 570"), ("--", "Opal 690")], ("CD3", "Opal 570", "Opal 690")),
        ([("CD3", "Opal 520"), ("CD3", "Opal 570"), ("DNA", "DAPI")], ("Opal 520", "Opal 570", "DNA")),
        ([(None, "Opal 520"), ("None", "Opal 570"), ("", "DAPI")], ("Opal 520", "Opal 570", "DAPI")),
    ],
)
def test_the_full_resolution_of_a_qptiff_wherever_it_stands(tmp_path: Path, order: str, marks: Any, names: Any) -> None:
    pixels = noise((3, 40, 50), "float32")
    size = {"resolution": (50800, 25400), "resolutionunit": "INCH"}
    write_qptiff_in_order(tmp_path / "a.qptiff", pixels, order, marks, **size)
    image = open_image(tmp_path / "a.qptiff")
    assert image.channel_names == names
    assert image.pixel_size_um == pytest.approx((1, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)
