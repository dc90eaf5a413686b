"""OME-TIFF: which of the images that its XML describes is that of the file, sets of files, companions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from image_files import noise, write_ome
from plexrank.errors import ImageDataError
from plexrank.images.open import open_image

HEAD = '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def uid(number: int) -> str:
    return f"urn:uuid:00000000-0000-0000-0000-{number:012d}"


def image_xml(names: Sequence[str], data: str, size_um: float = 0.5, size: str = 'SizeX="30" SizeY="20"') -> str:
    channels = "".join(f'<Channel Name="{name}"/>' for name in names)
    return (
        f'<Image Name="i"><Pixels DimensionOrder="XYCZT" {size} SizeC="{len(names)}" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{size_um}" PhysicalSizeY="{size_um}">{channels}{data}</Pixels></Image>'
    )


def place(channel: int, page: int, file: str | None = None, number: int | None = None, count: int = 1) -> str:
    name = "" if file is None else f' FileName="{file}"'
    uuid = "" if number is None else uid(number)
    inner = f"<UUID{name}>{uuid}</UUID>" if name or uuid else ""
    return f'<TiffData IFD="{page}" PlaneCount="{count}" FirstC="{channel}">{inner}</TiffData>'


def write(path: Path, pixels: np.ndarray, body: str, own: int | None = None) -> Path:
    root = HEAD + ("" if own is None else f' UUID="{uid(own)}"') + f">{body}</OME>"
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, pixels, description=root.encode(), metadata=None, photometric="minisblack")
    return path


def write_set(folder: Path, pixels: np.ndarray, names: Sequence[str]) -> list[Path]:
    """One file a channel, each with the XML of all."""
    files = [f"ch{number}.ome.tif" for number in range(len(names))]
    data = "".join(place(number, 0, file, number) for number, file in enumerate(files))
    body = image_xml(names, data)
    return [write(folder / file, pixels[number], body, number) for number, file in enumerate(files)]


def test_a_set_of_files_is_one_image_that_its_first_file_names(tmp_path: Path) -> None:
    pixels = noise((3, 20, 30))
    files = write_set(tmp_path, pixels, ("DAPI", "CD3", "CD8"))
    image = open_image(files[0])
    assert (image.channel_names, image.pixel_size_um) == (("DAPI", "CD3", "CD8"), (0.5, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)
    for file in files[1:]:
        with pytest.raises(ImageDataError, match=r"part of a set .*name the first of them instead, ch0\.ome\.tif"):
            open_image(file)
    with pytest.raises(ImageDataError, match=r"ch0\.ome\.tif holds 3 channels by itself; name it, or"):
        open_image(tmp_path)


def test_a_set_that_lacks_a_file_is_told(tmp_path: Path) -> None:
    files = write_set(tmp_path, noise((3, 20, 30)), ("DAPI", "CD3", "CD8"))
    files[2].unlink()
    with pytest.raises(ImageDataError, match=r"ch2\.ome\.tif, which its OME-XML names .* is not beside it"):
        open_image(files[0])


def test_a_file_of_another_set_is_no_part(tmp_path: Path) -> None:
    files = write_set(tmp_path, noise((3, 20, 30)), ("DAPI", "CD3", "CD8"))
    write(files[2], noise((20, 30)), image_xml(["SMA"], place(0, 0)), 99)
    with pytest.raises(ImageDataError, match=r"ch2\.ome\.tif beside it is of another set"):
        open_image(files[0])


POSITIONS = (("pos0.ome.tif", ("DAPI", "CD3", "CD8"), 0.25), ("pos1.ome.tif", ("DAPI", "CD8", "SMA"), 0.5))


@pytest.mark.parametrize("other_is_there", [True, False])
@pytest.mark.parametrize("file_name", ["pos1.ome.tif", "renamed.ome.tif"])
def test_the_image_of_the_file_of_several_positions(tmp_path: Path, other_is_there: bool, file_name: str) -> None:
    body = "".join(
        image_xml(names, "".join(place(c, c, file, number) for c in range(3)), size_um)
        for number, (file, names, size_um) in enumerate(POSITIONS)
    )
    pixels = noise((3, 20, 30))
    if other_is_there:
        write(tmp_path / "pos0.ome.tif", pixels + 1, body, 0)
        assert open_image(tmp_path / "pos0.ome.tif").channel_names == ("DAPI", "CD3", "CD8")
    image = open_image(write(tmp_path / file_name, pixels, body, 1))
    assert (image.channel_names, image.pixel_size_um) == (("DAPI", "CD8", "SMA"), (0.5, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)


def test_a_renamed_file_without_uuid(tmp_path: Path) -> None:
    body = image_xml(["CD3", "CD8"], place(0, 0, "old.ome.tif") + place(1, 1, "old.ome.tif"))
    image = open_image(write(tmp_path / "new.ome.tif", noise((2, 20, 30)), body))
    assert image.channel_names == ("CD3", "CD8")
    both = image_xml(["CD3"], place(0, 0, "a.tif")) + image_xml(["CD8"], place(0, 0, "b.tif"))
    with pytest.raises(ImageDataError, match=r"describes a\.tif, b\.tif, and this file is none of them"):
        open_image(write(tmp_path / "new.ome.tif", noise((20, 30)), both))


@pytest.mark.parametrize("is_there", [True, False])
def test_metadata_in_a_companion_file(tmp_path: Path, is_there: bool) -> None:
    pixels = noise((3, 20, 30))
    body = f'<BinaryOnly MetadataFile="s.companion.ome" UUID="{uid(9)}"/>'
    path = write(tmp_path / "a.ome.tif", pixels, body, 1)
    if not is_there:
        with pytest.raises(ImageDataError, match=r"lie in s\.companion\.ome, which is not beside it"):
            open_image(path)
        return
    data = "".join(place(c, 2 - c, "a.ome.tif", 1) for c in range(3))
    (tmp_path / "s.companion.ome").write_text(f"{HEAD}>{image_xml(('DAPI', 'CD3', 'CD8'), data)}</OME>")
    image = open_image(path)
    assert image.channel_names == ("DAPI", "CD3", "CD8")
    np.testing.assert_array_equal(image.data.compute(), pixels[::-1])


def test_the_metadata_of_a_set_in_one_of_its_files(tmp_path: Path) -> None:
    pixels = noise((2, 20, 30))
    body = image_xml(["A", "B"], place(0, 0, "a.ome.tif", 0) + place(1, 0, "b.ome.tif", 1))
    write(tmp_path / "a.ome.tif", pixels[0], body, 0)
    path = write(tmp_path / "b.ome.tif", pixels[1], f'<BinaryOnly MetadataFile="a.ome.tif" UUID="{uid(0)}"/>', 1)
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif").data.compute(), pixels)
    with pytest.raises(ImageDataError, match=r"part of a set .*; name the file with its metadata instead, a\.ome\.tif"):
        open_image(path)


def test_a_companion_may_not_lie_elsewhere(tmp_path: Path) -> None:
    body = '<BinaryOnly MetadataFile="../s.companion.ome"/>'
    with pytest.raises(ImageDataError, match="outside its folder"):
        open_image(write(tmp_path / "data" / "a.ome.tif", noise((20, 30)), body))


@pytest.mark.parametrize(
    ("data", "order"),
    [
        ("", (0, 1, 2)),
        ("<TiffData/>", (0, 1, 2)),
        ('<TiffData PlaneCount="3"/>', (0, 1, 2)),
        ('<TiffData IFD="0" PlaneCount="3"/>', (0, 1, 2)),
        ('<TiffData FirstC="0"/><TiffData FirstC="1"/><TiffData FirstC="2"/>', (0, 1, 2)),
        (place(2, 0) + place(0, 1) + place(1, 2), (1, 2, 0)),
        (place(1, 0, count=2) + place(0, 2), (2, 0, 1)),
    ],
)
def test_the_page_of_every_channel(tmp_path: Path, data: str, order: tuple[int, ...]) -> None:
    pixels = noise((3, 20, 30))
    image = open_image(write(tmp_path / "a.ome.tif", pixels, image_xml(("A", "B", "C"), data)))
    np.testing.assert_array_equal(image.data.compute(), pixels[list(order)])


@pytest.mark.parametrize(
    ("names", "data", "words"),
    [
        ("ABCD", "<TiffData/>", "places channel 4 in page 4, the file holds 3"),
        ("AB", "<TiffData/>", "describes 2 planes, but the file holds 3 pages of that size"),
        ("ABC", '<TiffData IFD="0"/>', "gives channel 2, 3 no page"),
        ("ABC", place(0, 0) + place(1, 0) + place(2, 1), "two channels in page 1"),
        ("ABC", place(0, 0) + place(0, 1) + place(2, 2), "places channel 1 twice"),
        ("ABC", '<TiffData FirstC="2"/><TiffData FirstC="0"/><TiffData FirstC="1"/>', "does not say which pages"),
        ("ABC", place(2, 0, count=3), "beyond its sizes"),
    ],
)
def test_planes_are_counted_against_pages(tmp_path: Path, names: str, data: str, words: str) -> None:
    path = write(tmp_path / "a.ome.tif", noise((3, 20, 30)), image_xml(names, data))
    with pytest.raises(ImageDataError, match=words):
        open_image(path)


def test_a_size_that_is_not_that_of_the_pages_is_told(tmp_path: Path) -> None:
    body = image_xml("ABC", "", size='SizeX="20" SizeY="30"')
    with pytest.raises(ImageDataError, match=r"describes \(30, 20\) px, its pages hold \(20, 30\)"):
        open_image(write(tmp_path / "a.ome.tif", noise((3, 20, 30)), body))


def several(*parts: tuple[np.ndarray, dict[str, Any]]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tifffile.TiffWriter(path, ome=True) as file:
            for pixels, metadata in parts:
                kind = "rgb" if metadata.get("axes") == "YXS" else "minisblack"
                file.write(np.ascontiguousarray(pixels), photometric=kind, metadata=metadata)

    return make


def named(*names: str) -> dict[str, Any]:
    return {"axes": "CYX" if len(names) > 1 else "YX", "Channel": {"Name": list(names)}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            several(*((noise((20, 30)), named(name)) for name in ("CD3", "CD8", "DNA"))),
            r"holds 3 images: 'Image0', 1 channel \(CD3\) of 20 × 30 px; .*the channels of one image, export",
        ),
        (
            several(
                (noise((2, 20, 30)), named("CD3", "CD8")),
                (noise((10, 12, 3), "uint8"), {"axes": "YXS", "Name": "label"}),
            ),
            r"holds 2 images: 'Image0', 2 channels \(CD3, CD8\) of 20 × 30 px; 'label', .* of 10 × 12 px\. Export",
        ),
        (
            several(*((noise((2, 20, 30))[:, ::step, ::step], named("CD3", "CD8")) for step in (1, 2, 4))),
            "holds 3 images: .*look like reduced resolutions of the first",
        ),
    ],
)
def test_several_images_are_described(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    make(tmp_path / "a.ome.tif")
    with pytest.raises(ImageDataError, match=words):
        open_image(tmp_path / "a.ome.tif")


def test_names_and_planes_of_a_set_with_both_byte_orders(tmp_path: Path) -> None:
    pixels = noise((2, 20, 30))
    files = write_set(tmp_path, pixels, ("DAPI", "CD3"))
    text = tifffile.tiffcomment(files[1])
    tifffile.imwrite(
        files[1], pixels[1], byteorder=">", description=text.encode(), metadata=None, photometric="minisblack"
    )
    np.testing.assert_array_equal(open_image(files[0]).data.compute(), pixels)


def test_channels_that_differ_in_type_or_meaning_are_told(tmp_path: Path) -> None:
    pixels = noise((2, 20, 30))
    files = write_set(tmp_path, pixels, ("DAPI", "CD3"))
    text = tifffile.tiffcomment(files[1]).encode()
    for plane, photometric, words in (
        (pixels[1].astype("float32"), "minisblack", "plane 2 is 20 × 30 px float32, but plane 1 20 × 30 px uint16"),
        (pixels[1], "miniswhite", "plane 2 is 20 × 30 px uint16, 0 is white"),
        (pixels[1, 1:], "minisblack", "plane 2 is 19 × 30 px"),
    ):
        tifffile.imwrite(files[1], plane, description=text, metadata=None, photometric=photometric)
        with pytest.raises(ImageDataError, match=words):
            open_image(files[0])


def test_what_tifffile_writes_is_read_as_it_reads_it(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tif", noise((3, 20, 30)))
    np.testing.assert_array_equal(open_image(path).data.compute(), tifffile.imread(path))
