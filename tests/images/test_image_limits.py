"""What files announce is held against limits, and what is no file is never opened: one message each, at once."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from ome_zarr.format import FormatV04, FormatV05

from image_files import noise, write_mcd, write_ome, write_ome_zarr, write_tiff_folder, write_txt
from plexrank.errors import ImageDataError, MissingInputError, StudyError
from plexrank.images.mask import open_mask
from plexrank.images.open import open_image

WIDTH, TILE_WIDTH, TILE_HEIGHT = 256, 322, 323
NAMED = r"more than the limit of [0-9,]+; if that is right, set PLEXRANK_MAX_"


def tiff(path: Path, tags: dict[int, int] | None = None, **options: Any) -> Path:
    """A BigTIFF of one channel, with numbers in its tags replaced."""
    tifffile.imwrite(path, noise((40, 50)), bigtiff=True, photometric="minisblack", metadata=None, **options)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for code, number in (tags or {}).items():
            struct.pack_into("<HHQQ", content, file.pages.first.tags[code].offset, code, 16, 1, number)
    path.write_bytes(content)
    return path


def chain(path: Path, pages: int) -> Path:
    """A TIFF of that many pages without tags."""
    starts = range(8, 8 + 6 * pages, 6)
    body = b"".join(struct.pack("<HI", 0, start + 6 if start != starts[-1] else 0) for start in starts)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body)
    return path


def table(path: Path, x: str, y: str) -> Path:
    """A table whose last line is of another place."""
    lines = write_txt(path, noise((3, 4, 5))).read_text().splitlines()
    cells = lines[-1].split("\t")
    lines[-1] = "\t".join([*cells[:3], x, y, *cells[5:]])
    path.write_text("\n".join([*lines, ""]))
    return path


def changed(path: Path, old: str, new: str, encoding: str = "utf-8", count: int = -1) -> Path:
    content = path.read_bytes()
    assert old.encode(encoding) in content
    path.write_bytes(content.replace(old.encode(encoding), new.encode(encoding), count))
    return path


def ome(path: Path, xml: str) -> Path:
    tifffile.imwrite(path, noise(), photometric="minisblack", description=xml, metadata=None)
    return path


def pixels_xml(more: str = "", **sizes: int) -> str:
    numbers = {"SizeC": 3, "SizeZ": 1, "SizeT": 1, "SizeY": 40, "SizeX": 50, **sizes}
    attributes = " ".join(f'{name}="{number}"' for name, number in numbers.items())
    return f'<OME><Image><Pixels DimensionOrder="XYCZT" {attributes}>{more}</Pixels></Image></OME>'


def parts_of_mcd(path: Path, kind: str, count: int) -> Path:
    part = f"<{kind}><ID>1</ID></{kind}>"
    return changed(write_mcd(path, {1: noise()}), "</MCDSchema>", part * count + "</MCDSchema>", "utf-16-le")


def jpeg(path: Path) -> Path:
    """Each channel a JPEG that says it is 60000 × 60000 pixels."""
    tifffile.imwrite(path, noise(dtype="uint8"), photometric="minisblack", compression="jpeg", metadata=None)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 60000, 60000)
    path.write_bytes(content)
    return path


def many_components(path: Path) -> Path:
    """A TIFF of one JPEG 2000 segment that says it holds 400 components."""
    tifffile.imwrite(path, noise((40, 50)), compression="jpeg2000", photometric="minisblack", metadata=None)
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")
    assert content[start + 40 : start + 42] == b"\0\1"
    content[start + 40 : start + 42] = (400).to_bytes(2, "big")
    path.write_bytes(content)
    return path


def many_tags(path: Path) -> Path:
    """A sparse BigTIFF whose page says it has 2²⁰ tags."""
    tiff(path)
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<Q", 2**20))
        file.truncate(2**28)
    return path


def shared_tables(path: Path) -> Path:
    """A TIFF of 40 pages that all say their 10⁵ strips lie where the file ends."""
    pages, strips = 40, 10**5
    size = 8 + pages * 30
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 8))
        for page in range(1, pages + 1):
            offsets, counts = ((tag, 4, strips, size) for tag in (273, 279))
            following = 8 + page * 30 if page < pages else 0
            file.write(struct.pack("<HHHIIHHIII", 2, *offsets, *counts, following))
        file.write(bytes(4 * strips))
    return path


ANNOUNCED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a width of 2³⁵": (
        lambda f: tiff(f / "a.tif", {WIDTH: 2**35}),
        f"34,359,738,368 pixels along one side, {NAMED}IMAGE_SIDE",
    ),
    "a compressed width of 2³⁵": (
        lambda f: tiff(f / "a.tif", {WIDTH: 2**35}, compression="zlib", tile=(16, 16)),
        f"34,359,738,368 pixels along one side, {NAMED}IMAGE_SIDE",
    ),
    "a width within the limit": (lambda f: tiff(f / "a.tif", {WIDTH: 2**20}), "its pixels reach to"),
    "more tiles than there are": (
        lambda f: tiff(f / "a.tif", {WIDTH: 2**20}, compression="zlib", tile=(16, 16)),
        "a plane has 12 of 196608 segments",
    ),
    "a tile of 2⁴⁰ pixels": (
        lambda f: tiff(f / "a.tif", {TILE_WIDTH: 2**20, TILE_HEIGHT: 2**20}, compression="zlib", tile=(16, 16)),
        f"bytes that are decoded at once, {NAMED}CHUNK_BYTES",
    ),
    "100,000 pages": (lambda f: chain(f / "a.tif", 10**5), f"16,385 pages in one TIFF, {NAMED}TIFF_PAGES"),
    "pixels at line 999999999": (lambda f: table(f / "a.txt", "4", "999999999"), "of line 1000000000, and it holds"),
    "pixels at line -1": (lambda f: table(f / "a.txt", "4", "-1"), "not readable as IMC table .*of line 0,"),
    "pixels at line 1e30": (lambda f: table(f / "a.txt", "4", "1e30"), "not readable as IMC table"),
    "pixels at line nan": (lambda f: table(f / "a.txt", "nan", "nan"), "not readable as IMC table .*NaN"),
    "10⁹ channels": (
        lambda f: ome(f / "a.ome.tif", pixels_xml(SizeC=10**9)),
        f"1,000,000,000 channels, {NAMED}IMAGE_CHANNELS",
    ),
    "10⁹ planes at a page": (
        lambda f: ome(f / "a.ome.tif", pixels_xml('<TiffData PlaneCount="1000000000"/>')),
        "places 1000000000 pages",
    ),
    "entities": (
        lambda f: ome(f / "a.ome.tif", '<!DOCTYPE a [<!ENTITY b "c">]>' + pixels_xml("&b;")),
        "defines entities, which are not read",
    ),
    "XML of 1000 levels": (
        lambda f: ome(f / "a.ome.tif", pixels_xml("<a>" * 1000 + "</a>" * 1000)),
        f"101 levels of nesting, {NAMED}NESTING",
    ),
    "5 million elements": (
        lambda f: ome(f / "a.ome.tif", pixels_xml("<a/>" * 5 * 10**6)),
        f"elements of metadata, {NAMED}METADATA_PARTS",
    ),
    "slides of one number": (lambda f: parts_of_mcd(f / "a.mcd", "Slide", 5), "parts of kind Slide are all number '1'"),
    "3000 acquisitions": (
        lambda f: parts_of_mcd(f / "a.mcd", "Acquisition", 3000),
        f"3,001 acquisitions in one .mcd, {NAMED}MCD_ACQUISITIONS",
    ),
    "an acquisition of 10¹⁸ pixels": (
        lambda f: changed(
            changed(write_mcd(f / "a.mcd", {1: noise()}), "<MaxX>50", "<MaxX>999999999", "utf-16-le"),
            "<MaxY>40",
            "<MaxY>999999999",
            "utf-16-le",
        ),
        "holds 2000 of 999999999 × 999999999 pixels",
    ),
    "JPEG 2000 of 400 components": (lambda f: many_components(f / "a.tif"), "holds 400 samples a pixel, expected 1"),
    "pages of one table": (lambda f: shared_tables(f / "a.tif"), "its pages announce 2400000 bytes of tags"),
    "a million tags": (lambda f: many_tags(f / "a.tif"), "page 1 has 1048576 tags"),
    "JPEGs of 60000 × 60000": (lambda f: jpeg(f / "a.tif"), "a segment says it holds 60000 × 60000 px"),
}


@pytest.mark.parametrize("name", ANNOUNCED)
def test_announced_sizes_are_refused_before_memory_is_taken(tmp_path: Path, name: str) -> None:
    make, message = ANNOUNCED[name]
    path = make(tmp_path)
    with pytest.raises(ImageDataError, match=message) as caught:
        open_image(path).data.compute()
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_limit_is_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ome(tmp_path / "a.tif", noise())
    monkeypatch.setenv("PLEXRANK_MAX_IMAGE_PIXELS", "1999")
    with pytest.raises(ImageDataError, match=f"2,000 pixels in one plane, {NAMED}IMAGE_PIXELS"):
        open_image(path)
    monkeypatch.setenv("PLEXRANK_MAX_IMAGE_PIXELS", "2e3")
    assert open_image(path).data.shape == (3, 40, 50)
    monkeypatch.setenv("PLEXRANK_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(StudyError, match="PLEXRANK_MAX_IMAGE_PIXELS: expected a number above 0, found 'many'"):
        open_image(path)


def test_the_places_of_segments_are_no_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise((3, 640, 640))
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16), bigtiff=True, photometric="minisblack", metadata=None)
    monkeypatch.setenv("PLEXRANK_MAX_METADATA_BYTES", "2000")  # a page has 1,600 tiles, an offset and a count of each
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels)
    monkeypatch.setenv("PLEXRANK_MAX_TIFF_SEGMENTS", "1599")
    with pytest.raises(ImageDataError, match=f"1,600 segments in one page, {NAMED}TIFF_SEGMENTS"):
        open_image(tmp_path / "a.tif")


# --- OME-Zarr


def announce(path: Path, **numbers: Any) -> Path:
    """Replace keys of an array's metadata, in either zarr format."""
    file = next(path / "s0" / name for name in (".zarray", "zarr.json") if (path / "s0" / name).is_file())
    metadata = json.loads(file.read_text())
    if "chunks" in numbers and "chunks" not in metadata:
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = numbers.pop("chunks")
    file.write_text(json.dumps({**metadata, **numbers}))
    return path


@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=lambda version: version.version)
@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"shape": [3, 10**9, 10**9]}, f"1,000,000,000 pixels along one side, {NAMED}IMAGE_SIDE"),
        ({"shape": [3, 10**6, 10**6]}, f"1,000,000,000,000 pixels in one plane, {NAMED}IMAGE_PIXELS"),
        ({"shape": [10**9, 40, 50]}, f"1,000,000,000 channels, {NAMED}IMAGE_CHANNELS"),
        ({"chunks": [1, 10**6, 10**6]}, f"bytes that are decoded at once, {NAMED}CHUNK_BYTES"),
        ({"chunks": [1, 0, 16]}, "not readable as OME-Zarr"),
        ({"shape": [3, -40, 50]}, "not readable as OME-Zarr"),
    ],
)
def test_announced_sizes_of_an_ome_zarr_are_refused(
    tmp_path: Path, version: Any, numbers: dict[str, Any], message: str
) -> None:
    path = announce(write_ome_zarr(tmp_path / "a.zarr", noise(), version), **numbers)
    with pytest.raises(ImageDataError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blosc_chunk_with_a_false_length_is_not_decoded(tmp_path: Path, zarr_format: Any) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    codec = (
        zarr.codecs.BloscCodec() if zarr_format == 3 else {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1}
    )
    group.create_array("0", shape=(1, 8, 8), chunks=(1, 8, 8), dtype="uint16", compressors=codec)[:] = noise((1, 8, 8))
    levels = [{"version": "0.4", "datasets": [{"path": "0"}], "axes": [{"name": name} for name in "cyx"]}]
    described = {"multiscales": levels}
    group.attrs.update(described if zarr_format == 2 else {"ome": {**described, "version": "0.5"}})
    path = tmp_path / "a.zarr"
    np.testing.assert_array_equal(open_image(path).data.compute(), noise((1, 8, 8)))
    (chunk,) = (file for file in (path / "0").rglob("*0") if file.is_file())
    content = bytearray(chunk.read_bytes())
    content[12:16] = struct.pack("<I", 2**31)
    chunk.write_bytes(content)
    with pytest.raises(ImageDataError, match=f"a Blosc chunk says it has {2**31} bytes"):
        open_image(path).data.compute()


@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=lambda version: version.version)
@pytest.mark.parametrize("what", ["chunk", "folder", "metadata", "pipe", "lost"])
def test_what_is_no_file_of_an_ome_zarr_is_refused(tmp_path: Path, version: Any, what: str) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", noise(), version)
    files = sorted(part for part in (path / "s0").rglob("*") if part.is_file() and part.name.isdecimal())
    victim = {"folder": files[0].parent, "metadata": path / (".zattrs" if version.zarr_format == 2 else "zarr.json")}
    file = victim.get(what, files[0])
    file.rename(tmp_path / "elsewhere")
    if what == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(tmp_path / ("elsewhere" if what != "lost" else "s0"))
    expected = "neither a file nor a folder" if what == "pipe" else f"a link that leads out of {path}"
    with pytest.raises(ImageDataError, match=expected) as caught:
        open_image(path)
    assert str(caught.value).startswith(str(file))


def test_a_link_within_an_ome_zarr_is_followed(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", noise(), FormatV05())
    chunk = next(part for part in (path / "s0").rglob("0") if part.is_file())
    chunk.rename(path / "held")
    chunk.symlink_to(path / "held")
    np.testing.assert_array_equal(open_image(path).data.compute(), noise())


# --- what is no file


def test_a_pipe_is_no_image_and_no_mask(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(ImageDataError, match=r"a\.tif: neither a file nor a folder \(a pipe"):
        open_image(tmp_path / "a.tif")
    with pytest.raises(MissingInputError, match=r"a\.tif: no such mask"):
        open_mask(tmp_path / "a.tif", 4, 5)


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_a_channel_that_is_no_file_is_not_left_out(tmp_path: Path, what: str) -> None:
    folder = write_tiff_folder(tmp_path / "fov", noise())
    if what == "pipe":
        os.mkfifo(folder / "CD9.tif")
    else:
        (folder / "CD9.tif").symlink_to(tmp_path / "lost.tif")
    with pytest.raises(ImageDataError, match=r"CD9\.tif: a (pipe|link to .*lost\.tif, where nothing lies)"):
        open_image(folder)


# --- masks


def npz(path: Path, member: bytes, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("mask.npy", member)
    return path


def header(text: str, version: int = 1, length: int | None = None) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode()


WHOLE = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }\n"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header(WHOLE % "40000, 50000") + bytes(10), "2000000000 bytes of .* cannot be in"),
        (header(WHOLE % "40, 50"), "2000 bytes of .* cannot be in"),
        (header("{'descr': '|u1', 'shape': (40"), "not readable as mask"),
        (header(WHOLE % "40, -50") + bytes(2000), r"an array of shape \(40, -50\)"),
        (header(WHOLE % "40, 1e3") + bytes(2000), "not readable as mask"),
        (header("", 2, 2**31) + bytes(10**6), "a header of 2147483648 bytes"),
        (header("(" * 5000) + bytes(2000), "not readable as mask"),
    ],
)
def test_headers_of_npz_are_not_believed(tmp_path: Path, member: bytes, message: str) -> None:
    path = npz(tmp_path / "m.npz", member)
    with pytest.raises(ImageDataError, match=message) as caught:
        open_mask(path, 40, 50)
    assert str(caught.value).startswith(str(path))


def test_a_mask_takes_no_more_memory_than_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "m.npz", mask=np.ones((40, 50), bool))
    monkeypatch.setenv("PLEXRANK_MAX_CHUNK_BYTES", "279")
    with pytest.raises(ImageDataError, match=f"280 bytes that are decoded at once, {NAMED}CHUNK_BYTES"):
        open_mask(tmp_path / "m.npz", 40, 50)


# --- valid, and read


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_64_bit_integers_are_read(tmp_path: Path, dtype: str, compression: str | None) -> None:
    pixels = noise().astype(dtype) + 2**40
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", compression=compression)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "png"])
@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 7}, {}], ids=["tiles", "strips", "whole"])
def test_channels_as_pictures_are_read(tmp_path: Path, compression: str, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    pixels = noise(dtype="uint8")
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression, metadata=None, **options)
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(open_image(path).data.compute(), expected)
