"""Reading OME-TIFF and plain TIFF stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from image_files import DCIS, IMC
from plexrank.errors import ImageDataError, MissingInputError
from plexrank.images import segments
from plexrank.images.ome_xml import parse_ome_xml
from plexrank.images.open import READERS, open_image
from plexrank.settings import TileSettings
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image


def noise(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_ome(path: Path, pixels: np.ndarray, axes: str = "CYX", **options: Any) -> Path:
    metadata = {"axes": axes, **options.pop("metadata", {})}
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=metadata, **options)
    return path


# --- pixels


@pytest.mark.parametrize("compression", [None, "zstd", "zlib", "lzw"])
@pytest.mark.parametrize("layout", [{"tile": (32, 48)}, {"rowsperstrip": 7}, {}])
def test_pixels_of_any_layout_come_back(tmp_path: Path, compression: str | None, layout: dict[str, Any]) -> None:
    pixels = noise((3, 71, 90))
    image = open_image(write_ome(tmp_path / "a.ome.tiff", pixels, compression=compression, **layout))
    assert image.data.dtype == pixels.dtype
    np.testing.assert_array_equal(image.data.compute(), pixels)
    np.testing.assert_array_equal(image.data[1, 33:70, 5:50].compute(), pixels[1, 33:70, 5:50])
    np.testing.assert_array_equal(image.data[[2, 0], ::3, 4].compute(), pixels[[2, 0], ::3, 4])


@pytest.mark.parametrize("layout", [{"tile": (16, 32)}, {"rowsperstrip": 8}, {}])
def test_pixels_are_read_in_pieces_that_join(
    tmp_path: Path, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "CHUNK_PX", 32)
    monkeypatch.setattr(segments, "_PLAIN_STRIP_BYTES", 5 * 90 * 2)
    pixels = noise((2, 71, 90))
    image = open_image(write_ome(tmp_path / "a.ome.tiff", pixels, **layout))
    assert image.data.numblocks[0] == 2
    assert image.data.numblocks[1] > 2
    np.testing.assert_array_equal(image.data.compute(), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_type_and_byte_order_comes_back(
    tmp_path: Path, dtype: str, byteorder: Any, compression: str | None
) -> None:
    pixels = noise((2, 20, 30), dtype)
    path = write_ome(tmp_path / "a.ome.tiff", pixels, byteorder=byteorder, compression=compression)
    image = open_image(path)
    assert image.data.dtype == np.dtype(dtype)
    assert image.data.compute().dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.data.compute(), pixels)


@pytest.mark.parametrize("axes", ["CYX", "TCYX", "CZYX", "TCZYX", "TZCYX"])
def test_single_time_points_and_focal_planes_are_dropped(tmp_path: Path, axes: str) -> None:
    pixels = noise((4, 20, 30))
    shape = tuple({"C": 4, "Y": 20, "X": 30}.get(axis, 1) for axis in axes)
    image = open_image(write_ome(tmp_path / "a.ome.tiff", pixels.reshape(shape), axes))
    np.testing.assert_array_equal(image.data.compute(), pixels)


def test_a_single_channel_is_an_image_too(tmp_path: Path) -> None:
    pixels = noise((20, 30))
    image = open_image(write_ome(tmp_path / "a.ome.tiff", pixels, "YX", metadata={"Channel": {"Name": ["CD3"]}}))
    assert image.channel_names == ("CD3",)
    np.testing.assert_array_equal(image.data.compute(), pixels[np.newaxis])


@pytest.mark.parametrize("order", ["CYX", "YXC", "YCX"])
def test_plain_stacks_are_read_whatever_their_order(tmp_path: Path, order: str) -> None:
    pixels = noise((5, 20, 30))
    stored = pixels.transpose(["CYX".index(axis) for axis in order])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", metadata={"axes": order})
    image = open_image(path)
    assert (image.channel_names, image.pixel_size_um) == (None, None)
    np.testing.assert_array_equal(image.data.compute(), pixels)


@pytest.mark.parametrize(
    "options", [{"metadata": None}, {"imagej": True, "metadata": {"axes": "CYX"}}, {"compression": "zstd"}]
)
def test_pages_without_ome_are_channels(tmp_path: Path, options: dict[str, Any]) -> None:
    pixels = noise((5, 20, 30))
    tifffile.imwrite(tmp_path / "a.tiff", pixels, photometric="minisblack", **options)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tiff").data.compute(), pixels)


def test_samples_of_a_grey_page_are_channels(tmp_path: Path) -> None:
    pixels = noise((20, 30, 5))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig", metadata=None)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels.transpose(2, 0, 1))


def test_the_full_resolution_of_a_pyramid_is_read(tmp_path: Path) -> None:
    pixels = noise((2, 64, 64))
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, tile=(16, 16), photometric="minisblack", metadata={"axes": "CYX"})
        file.write(pixels[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    np.testing.assert_array_equal(open_image(path).data.compute(), pixels)


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tiff", noise((2, 20, 30)), compression="zlib")
    image = open_image(path)
    image.data.compute()
    held = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
    assert path.resolve() not in held


# --- names and sizes


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.5, "µm", 0.5),
        (0.5, "\u03bcm", 0.5),
        (500, "nm", 0.5),
        (0.0005, "mm", 0.5),
        (0.5, None, 0.5),
        (1, "pixel", None),
        (0, "µm", None),
        ("nan", "µm", None),
        ("wide", "µm", None),
    ],
)
def test_pixel_sizes_are_told_in_micrometres(size: object, unit: str | None, expected: float | None) -> None:
    units = f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels '
        f'PhysicalSizeX="{size}" PhysicalSizeY="{size}" {units}/></Image></OME>'
    )
    found = parse_ome_xml(xml).images[0].pixel_size_um
    assert found == (None if expected is None else pytest.approx((expected, expected)))


def test_height_and_width_of_a_pixel_keep_their_order(tmp_path: Path) -> None:
    metadata = {
        "Channel": {"Name": [" CD3 ", "pan-Keratin <ε>"]},
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 500,
        "PhysicalSizeYUnit": "nm",
    }
    image = open_image(write_ome(tmp_path / "a.ome.tiff", noise((2, 20, 30)), metadata=metadata))
    assert image.channel_names == ("CD3", "pan-Keratin <ε>")
    assert image.pixel_size_um == pytest.approx((0.5, 0.25))


def test_channels_without_any_name_have_none(tmp_path: Path) -> None:
    assert open_image(write_ome(tmp_path / "a.ome.tiff", noise((2, 20, 30)))).channel_names is None


def test_an_unnamed_channel_among_named_ones_is_numbered() -> None:
    xml = '<OME><Image><Pixels><Channel Name="A"/><Channel/><Channel Name=" "/></Pixels></Image></OME>'
    assert parse_ome_xml(xml).images[0].channel_names == ("A", "unnamed_2", "unnamed_3")


@pytest.mark.parametrize(("xml", "message"), [("<OME><Image>", "damaged"), ("<OME/>", "no image")])
def test_damaged_ome_xml_is_refused(xml: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_ome_xml(xml)


# --- refusals


def rgb(path: Path) -> None:
    tifffile.imwrite(path, noise((20, 30, 3), "uint8"), photometric="rgb")


def focal_planes(path: Path) -> None:
    write_ome(path, noise((2, 3, 20, 30)), "CZYX")


def time_points(path: Path) -> None:
    write_ome(path, noise((4, 2, 20, 30)), "TCYX")


def two_images(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(noise((2, 20, 30)), photometric="minisblack", metadata={"axes": "CYX"})
        file.write(noise((2, 10, 10)), photometric="minisblack", metadata={"axes": "CYX"})


def other_names(path: Path) -> None:
    write_ome(path, noise((2, 20, 30)), metadata={"Channel": {"Name": ["A", "B"]}})
    xml = tifffile.tiffcomment(path)
    tifffile.tiffcomment(path, xml.replace("<Channel ", "<Channel Name='C'/><Channel ", 1).encode())


def cut_after(share: float, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_ome(path, noise((3, 64, 64)), **options)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.touch(), "empty file"),
        (lambda path: path.write_bytes(b"II*\0"), "not readable as TIFF"),
        (lambda path: path.write_bytes(b"II*\0\xff\xff\xff\x7f"), "not readable as TIFF"),
        (lambda path: path.write_text("<html>not found</html>"), r"no reader can open it: TIFF \(starts with b'<htm'"),
        (cut_after(0.5), "not readable as TIFF"),
        (cut_after(0.98), "not readable as TIFF"),
        (cut_after(0.98, compression="zstd"), "not readable as TIFF"),
        (cut_after(0.2, compression="zstd"), "not readable as TIFF"),
        (cut_after(0.2, bigtiff=True), "not readable as TIFF"),
        (cut_after(0.995, bigtiff=True, byteorder=">", compression="lzw"), "not readable as TIFF"),
        (rgb, "a RGB picture, .*grey planes"),
        (focal_planes, "3 focal planes"),
        (time_points, "4 time points"),
        (two_images, "2 images"),
        (other_names, "describes 3 channels, the file holds 2"),
    ],
)
def test_what_is_no_stack_of_channels_is_refused(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.ome.tiff"
    write(path)
    with pytest.raises(ImageDataError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_image_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"a\.tiff: no such image"):
        open_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("name", ["a.png", "tiff", "a.dat"])
def test_what_a_file_holds_decides_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    pixels = noise((2, 20, 30))
    write_ome(tmp_path / name, pixels)
    np.testing.assert_array_equal(open_image(tmp_path / name).data.compute(), pixels)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"x"])
def test_another_format_is_refused_with_the_reason_of_every_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tiff").write_bytes(content)
    with pytest.raises(ImageDataError, match="Convert it to OME-TIFF") as caught:
        open_image(tmp_path / "a.tiff")
    assert all(reader.name in str(caught.value) for reader in READERS)


def scramble(path: Path) -> None:
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[1].dataoffsets[0], file.pages[1].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(bytes(content))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("compression", "damage"),
    [
        ("zstd", scramble),
        ("zlib", scramble),
        ("lzw", scramble),
        ("zstd", shorten),
        (None, shorten),
        (None, Path.unlink),
    ],
)
def test_damage_found_while_tiling_names_the_image(
    tmp_path: Path, compression: str | None, damage: Callable[[Path], None]
) -> None:
    path = write_ome(tmp_path / "a.ome.tiff", noise((3, 64, 64)), compression=compression)
    image = open_image(path)
    damage(path)
    with pytest.raises(ImageDataError, match="pixels cannot be decoded") as caught:
        tile_image(image, [0, 1], ["A", "B"], TileSettings(tile_px=32), tmp_path / "out" / "a.ome.zarr")
    assert str(caught.value).startswith(f"{path}: ")
    assert not list((tmp_path / "out").iterdir())


# --- real images


@pytest.mark.skipif(not DCIS.is_dir(), reason=f"{DCIS} is absent")
def test_a_real_mibi_image_is_tiled(tmp_path: Path) -> None:
    path = sorted(DCIS.glob("*.ome.tiff"))[0]
    image = open_image(path)
    names = image.channel_names
    assert names is not None
    tiled = tile_image(image, range(41), names, TileSettings(tile_px=64, downsample=16), tmp_path / "a.ome.zarr")
    store = TileStore(tmp_path / "a.ome.zarr")
    expected = tifffile.imread(path).reshape(41, 64, 16, 64, 16).mean((2, 4))
    assert store.channel_names[:2] == ("AR", "CD11c")
    assert len(tiled.tiles) == 1
    np.testing.assert_allclose(store.read_tile(0, 0), expected, rtol=1e-6)


@pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")
@pytest.mark.parametrize("pattern", ["ometiff/*.ome.tiff", "steinbock/img/*.tiff"])
def test_real_imc_images_are_read(pattern: str) -> None:
    paths = sorted(IMC.glob(pattern))
    assert paths
    for path in paths:
        image = open_image(path)
        np.testing.assert_array_equal(image.data.compute(), tifffile.imread(path))
