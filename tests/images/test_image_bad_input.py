"""Damaged and unusable images: one clear message each, which names the image."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_zarr.format import FormatV04, FormatV05

from image_files import IMC, noise, write_mcd, write_ome, write_ome_zarr, write_tiff_folder, write_txt
from plexrank.cohorts.panel_match import locate_channels
from plexrank.errors import ImageDataError, StudyError
from plexrank.images.open import READERS, open_image


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_text(path: Path, old: str, new: str, encoding: str = "utf-8") -> Path:
    content = path.read_bytes()
    assert old.encode(encoding) in content
    path.write_bytes(content.replace(old.encode(encoding), new.encode(encoding), 1))
    return path


def drop_lines(path: Path, count: int) -> Path:
    path.write_text("\n".join([*path.read_text().splitlines()[:-count], ""]))
    return path


def three_acquisitions(folder: Path) -> Path:
    return write_mcd(folder / "a.mcd", {1: noise(), 2: noise((3, 0, 0)), 3: noise((3, 9, 8))})


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated TIFF": (lambda f: cut(write_ome(f / "a.tiff", noise()), 0.5), "not readable as TIFF .*copy or export"),
    "zero-byte file": (lambda f: cut(write_ome(f / "a.tiff", noise()), 0), "empty file"),
    "zero-byte mcd": (lambda f: cut(three_acquisitions(f), 0), "empty file"),
    "mcd without its end": (lambda f: cut(three_acquisitions(f), 0.9), "not readable as .mcd .*end of XML"),
    "mcd without its description": (lambda f: cut(three_acquisitions(f), 0.1), "not readable as .mcd .*start of XML"),
    "something called mcd": (lambda f: cut(write_txt(f / "a.mcd", noise()), 1), "does not hold|not readable as"),
    "mcd without its middle": (
        lambda f: replace_text(three_acquisitions(f), "<DataEndOffset>", "<DataEndOffset>9", "utf-16-le"),
        r"a\.mcd#1 .*reach to byte 9[0-9]+, the file ends at",
    ),
    "mcd with a foreign channel": (
        lambda f: replace_text(three_acquisitions(f), "Er(170)", "Er 170", "utf-16-le"),
        "not readable as .mcd .*Er 170",
    ),
    "mcd with damaged numbers": (
        lambda f: replace_text(three_acquisitions(f), "<MaxX>50", "<MaxX>5x", "utf-16-le"),
        "not readable as .mcd .*5x",
    ),
    "mcd with damaged XML": (
        lambda f: replace_text(three_acquisitions(f), "</Slide>", "<Slide/>", "utf-16-le"),
        "not readable as .mcd",
    ),
    "stopped acquisition": (
        lambda f: replace_text(three_acquisitions(f), "<MaxY>40", "<MaxY>80", "utf-16-le"),
        "holds 2000 of 80 × 50 pixels, as after a stopped acquisition",
    ),
    "txt cut within a line": (
        lambda f: cut(write_txt(f / "a.txt", noise()), 0.505),
        "not readable as IMC table .*line",
    ),
    "stopped table": (
        lambda f: drop_lines(write_txt(f / "a.txt", noise()), 10),
        r"a\.txt: ends at pixel 40 of line 40 of the image, as after a stopped acquisition; take that line out",
    ),
    "table stopped in its first line": (
        lambda f: drop_lines(write_txt(f / "a.txt", noise()), 39 * 50 + 7),
        "holds one line, of 43 pixels, of the image, as after a stopped acquisition",
    ),
    "txt without pixels": (lambda f: cut(write_txt(f / "a.txt", noise()), 0.0015), "not readable as IMC table"),
    "txt with another column": (
        lambda f: replace_text(write_txt(f / "a.txt", noise()), "(Nd148Di)", "Nd"),
        "no channel; expected a label and a metal",
    ),
    "16-bit RGB slide": (lambda f: rgb_slide(f / "a.tiff"), "a RGB picture, .*export the channels as grey planes"),
    "acquisition of a TIFF": (
        lambda f: write_ome(f / "a.tiff", noise()).with_name("a.tiff#2"),
        "only .mcd files have acquisitions",
    ),
    "channels of two sizes": (
        lambda f: two_sizes(f / "fov"),
        "CD8.tif is 1 × 20 × 30 px uint16, but CD3.tif is 1 × 40",
    ),
    "channels of two types": (lambda f: two_sizes(f / "fov", (40, 50), "uint8"), "CD8.tif is 1 × 40 × 50 px uint8"),
    "a damaged channel": (
        lambda f: cut(write_tiff_folder(f / "fov", noise()) / "CD8.tif", 0.5).parent,
        "CD8.tif: not rea",
    ),
    "folder without an image": (
        lambda f: f,
        r"no reader can open it.*OME-Zarr \(holds neither .*folder of TIFFs \(holds no",
    ),
    "folder of stacks": (lambda f: write_ome(f / "a.tif", noise()).parent, "a.tif holds 3 channels by itself"),
}


def rgb_slide(path: Path) -> Path:
    tifffile.imwrite(path, noise((64, 64, 3)), photometric="rgb", tile=(32, 32), compression="lzw")
    return path


def two_sizes(folder: Path, shape: tuple[int, int] = (20, 30), dtype: str = "uint16") -> Path:
    write_tiff_folder(folder, noise())
    tifffile.imwrite(folder / "CD8.tif", noise(shape, dtype))
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    path = make(tmp_path)
    if path.suffix == ".mcd":
        path = path.with_name(f"{path.name}#1")
    with pytest.raises(ImageDataError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("a.mcd", r"holds 3 acquisitions; name one of a\.mcd#1 \(ROI_001, 40 × 50 px\), a\.mcd#2"),
        ("a.mcd#7", r"holds no acquisition 7; name another of a\.mcd#1 \(ROI_001"),
        ("a.mcd#2", r"a\.mcd#2 \(ROI_002\): an empty acquisition"),
    ],
)
def test_acquisitions_are_named(tmp_path: Path, spelling: str, message: str) -> None:
    three_acquisitions(tmp_path)
    with pytest.raises(ImageDataError, match=message):
        open_image(tmp_path / spelling)
    np.testing.assert_array_equal(open_image(tmp_path / "a.mcd#3").data.compute(), noise((3, 9, 8)))


def test_without_readimc_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readimc", None)
    with pytest.raises(ImageDataError, match=r"pip install 'plexrank\[imc\]'"):
        open_image(three_acquisitions(tmp_path))


@pytest.mark.parametrize("damage", ["shorten", "shuffle"])
@pytest.mark.parametrize("suffix", ["mcd", "txt"])
def test_imc_damage_within_the_pixels_is_found_when_they_are_read(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = open_image(write_mcd(path, {1: noise()}) if suffix == "mcd" else write_txt(path, noise()))
    if damage == "shorten":
        cut(path, 0.3)
    elif suffix == "mcd":
        write_mcd(path, {1: noise((3, 50, 40))})  # as large, but lines of another length
    else:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:5], lines[6], lines[5], *lines[7:], ""]))
    with pytest.raises(ImageDataError, match="pixels cannot be decoded") as caught:
        image.data.compute()
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("end", ["\n", "\n\n", "", "\r\n \t\r\n"])
def test_blank_lines_at_the_end_of_a_table_do_not_count(tmp_path: Path, end: str) -> None:
    path = write_txt(tmp_path / "a.txt", noise())
    with path.open("w", newline="") as file:
        file.write(write_txt(tmp_path / "b.txt", noise()).read_text().rstrip("\n") + end)
    np.testing.assert_array_equal(open_image(path).data.compute(), noise())


def test_a_table_in_the_code_page_of_windows(tmp_path: Path) -> None:
    path = write_txt(tmp_path / "a.txt", noise(), ("µCD3", "CD8", "DNA"))
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))
    assert open_image(path).channel_names == ("µCD3", "CD8", "DNA")


def test_an_acquisition_beside_unfinished_ones_is_read(tmp_path: Path) -> None:
    path = write_mcd(tmp_path / "a.mcd", {1: noise(), 2: noise((3, 0, 0))}, ("CD3", "", "DNA ®"))
    path.write_bytes(path.read_bytes() + b"\0\0")
    image = open_image(tmp_path / "a.mcd#1")
    assert image.channel_names == ("CD3", "Nd148", "DNA ®")
    np.testing.assert_array_equal(image.data.compute(), noise())


def test_a_link_out_of_a_folder_of_tiffs_is_refused(tmp_path: Path) -> None:
    write_tiff_folder(tmp_path / "fov", noise())
    tifffile.imwrite(tmp_path / "secret.tif", noise((40, 50)))
    (tmp_path / "fov" / "CD9.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(ImageDataError, match=r"CD9\.tif: a link that leads out of"):
        open_image(tmp_path / "fov")


def test_hidden_files_and_other_files_in_a_folder_do_not_count(tmp_path: Path) -> None:
    folder = write_tiff_folder(tmp_path / "fov", noise())
    (folder / "._CD3.tif").write_bytes(b"Mac OS X")
    (folder / "readme.txt").write_text("")
    assert open_image(folder).channel_names == ("CD3", "CD8", "Ki-67")


def test_channels_of_one_name_are_refused_where_names_decide(tmp_path: Path) -> None:
    image = open_image(write_ome(tmp_path / "a.ome.tiff", noise(), ("CD3", "DNA", "DNA")))
    assert image.channel_names == ("CD3", "DNA", "DNA")
    with pytest.raises(StudyError, match="'DNA': it occurs 2 times"):
        locate_channels(None, image.channel_names, 3, "a.ome.tiff")


# --- OME-Zarr


def zarr_file(path: Path, version: Any) -> tuple[Path, Path]:
    """The files with the image's and with the array's metadata."""
    return (
        (path / ".zattrs", path / "s0" / ".zarray")
        if version.version == "0.4"
        else (
            path / "zarr.json",
            path / "s0" / "zarr.json",
        )
    )


def use_codec(metadata: dict[str, Any], name: str) -> None:
    if "codecs" in metadata:
        metadata["codecs"].append({"name": f"numcodecs.{name}", "configuration": {}})
    else:
        metadata["filters"] = [{"id": name}]


@pytest.mark.parametrize("codec", ["pickle", "json2", "vlen-utf8", "unheard-of"])
@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=lambda version: version.version)
def test_codecs_that_are_not_on_the_list_are_refused(tmp_path: Path, version: Any, codec: str) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", noise(), version)
    edit(zarr_file(path, version)[1], lambda metadata: use_codec(metadata, codec))
    with pytest.raises(ImageDataError, match=f"codec '{codec}' is not on the list"):
        open_image(path)


def test_codecs_within_a_shard_are_judged_too(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", noise(), FormatV05())

    def shard(metadata: dict[str, Any]) -> None:
        inner = [*metadata["codecs"], {"name": "numcodecs.pickle"}]
        metadata["codecs"] = [
            {"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 8, 8], "codecs": inner}}
        ]

    edit(path / "s0" / "zarr.json", shard)
    with pytest.raises(ImageDataError, match="codec 'pickle' is not on the list"):
        open_image(path)


def array_metadata(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Any], None]:
    return lambda path, version: edit(zarr_file(path, version)[1], change)


def ome_metadata(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Any], None]:
    def apply(content: dict[str, Any]) -> None:
        change(content["attributes"]["ome"] if "attributes" in content else content)

    return lambda path, version: edit(zarr_file(path, version)[0], apply)


def lose_chunks(path: Path, version: Any) -> None:
    for part in [
        part for part in (path / "s0").rglob("*") if part.is_file() and not part.name.startswith((".z", "zarr"))
    ]:
        part.unlink()


def move_out(path: Path, version: Any) -> None:
    shutil.move(path / "s0", path.parent / "elsewhere")
    (path / "s0").symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            array_metadata(lambda m: m.update({"dtype" if "dtype" in m else "data_type": "|O"})),
            r"type '\|O'; expected num",
        ),
        (ome_metadata(lambda m: m.pop("multiscales")), "without an image"),
        (ome_metadata(lambda m: m["multiscales"][0].pop("axes")), "not readable as OME-Zarr .*axes"),
        (ome_metadata(lambda m: m["multiscales"][0]["axes"].pop()), "of an array of shape"),
        (ome_metadata(lambda m: m["multiscales"][0]["datasets"][0].update(path="../elsewhere")), "lies outside of it"),
        (ome_metadata(lambda m: m["omero"]["channels"].pop()), "describes 2 channels, its array holds 3"),
        (ome_metadata(lambda m: m["multiscales"][0].update(version="0.9")), "of version 0.9|^$"),
        (ome_metadata(lambda m: m.update({"plate": {}})), "a plate of several images"),
        (lose_chunks, "holds no chunk"),
        (move_out, "lies outside of it"),
        (lambda path, version: zarr_file(path, version)[1].write_text("{"), "not readable as OME-Zarr"),
        (lambda path, version: zarr_file(path, version)[1].unlink(), "no array in s0"),
    ],
)
@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=lambda version: version.version)
def test_a_bad_ome_zarr_is_told(
    tmp_path: Path, version: Any, damage: Callable[[Path, Any], None], message: str
) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", noise(), version)
    damage(path, version)
    if "0.9" in message and version.version == "0.5":
        edit(path / "zarr.json", lambda content: content["attributes"]["ome"].update(version="0.9"))
    with pytest.raises(ImageDataError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("version", [FormatV04(), FormatV05()], ids=lambda version: version.version)
def test_a_damaged_chunk_is_found_when_it_is_read(tmp_path: Path, version: Any) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", noise(), version)
    image = open_image(path)
    chunk = next(part for part in (path / "s0").rglob("0") if part.is_file())
    chunk.write_bytes(b"\xff" * 20)
    with pytest.raises(ImageDataError, match=r"a\.ome\.zarr: pixels cannot be decoded"):
        image.data.compute()


@pytest.mark.parametrize("images", [1, 2])
def test_an_image_within_a_bioformats2raw_store(tmp_path: Path, images: int) -> None:
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    for number in range(images):
        write_ome_zarr(path / str(number), noise(), FormatV04())
    np.testing.assert_array_equal(open_image(path / "0").data.compute(), noise())
    if images == 1:
        np.testing.assert_array_equal(open_image(path).data.compute(), noise())
    else:
        with pytest.raises(ImageDataError, match=r"holds 2 images; name one of them, such as .*a\.zarr/0"):
            open_image(path)


def test_time_points_of_an_ome_zarr_are_refused(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.ome.zarr", noise(), FormatV05())
    edit(path / "zarr.json", ome_axes_named(["t", "y", "x"]))
    with pytest.raises(ImageDataError, match="3 time points"):
        open_image(path)


def ome_axes_named(names: list[str]) -> Callable[[dict[str, Any]], None]:
    def apply(content: dict[str, Any]) -> None:
        content["attributes"]["ome"]["multiscales"][0]["axes"] = [{"name": name, "type": "other"} for name in names]

    return apply


# --- real images


@pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")
def test_the_acquisition_without_signal_holds_noise_alone_and_opens() -> None:
    """ROI_001 of mockData1 is empty of tissue, not of pixels: .mcd and .ome.tiff hold the same few counts."""
    mcd = open_image(IMC / "raw" / "20210305_NE_mockData1.mcd#1").data.compute()
    ome = open_image(IMC / "ometiff" / "20210305_NE_mockData1_s0_a1_ac.ome.tiff").data.compute()
    np.testing.assert_array_equal(mcd, ome)
    assert mcd.shape == (5, 60, 60)
    assert 0 < mcd.mean() < 0.1


@pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")
def test_a_real_mcd_cut_short_is_told(tmp_path: Path) -> None:
    shutil.copyfile(IMC / "raw" / "20210305_NE_mockData1.mcd", tmp_path / "a.mcd")
    cut(tmp_path / "a.mcd", 0.6)
    with pytest.raises(ImageDataError, match=r"a\.mcd: not readable as \.mcd"):
        open_image(tmp_path / "a.mcd#1")


def test_every_reader_says_why_it_declines(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("just text")
    with pytest.raises(ImageDataError) as caught:
        open_image(tmp_path / "notes.txt")
    assert all(f"{reader.name} (" in str(caught.value) for reader in READERS)
