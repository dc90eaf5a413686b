"""TIFFs of instruments and pipelines: names, pixel sizes, interleaved samples, sets of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from image_files import noise, qptiff_description, write_mibitiff, write_qptiff
from plexrank.errors import ImageDataError
from plexrank.images import segments
from plexrank.images.open import open_image


def test_a_qptiff_is_its_full_resolution_named_by_biomarkers(tmp_path: Path) -> None:
    pixels = noise((4, 64, 80))
    marks = [("CD3", "Opal 570"), (None, "DAPI"), ("", "Opal 690"), (None, None)]
    write_qptiff(tmp_path / "a.qptiff", pixels, [qptiff_description(*mark) for mark in marks])
    image = open_image(tmp_path / "a.qptiff")
    assert image.channel_names == ("CD3", "DAPI", "Opal 690", "unnamed_4")
    assert image.pixel_size_um == pytest.approx((0.25, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)
    np.testing.assert_array_equal(image.data[1:3, 10:40, 33:70].compute(), pixels[1:3, 10:40, 33:70])


def test_a_damaged_qptiff_description_is_told(tmp_path: Path) -> None:
    write_qptiff(tmp_path / "a.qptiff", noise((1, 64, 80)), ["<PerkinElmer-QPI-ImageDescription>"])
    with pytest.raises(ImageDataError, match="QPTIFF description is damaged"):
        open_image(tmp_path / "a.qptiff")


def test_a_mibitiff_is_named_by_its_pages(tmp_path: Path) -> None:
    pixels = noise((3, 40, 50), "float32")
    write_mibitiff(tmp_path / "a.tiff", pixels, ["CD3 (159)", "HLA-DR/DP (150)", "dsDNA (89)"])
    image = open_image(tmp_path / "a.tiff")
    assert image.channel_names == ("CD3", "HLA-DR/DP", "dsDNA")
    assert image.channel_ids == ("159", "150", "89")
    assert image.pixel_size_um == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(image.data.compute(), pixels)


@pytest.mark.parametrize(
    ("page_names", "names", "ids"),
    [
        (["CD3", "Ki-67"], ("CD3", "Ki-67"), None),
        (["CD3 (159)", "Ki-67"], ("CD3 (159)", "Ki-67"), None),
        (["CD3 (1)", "CD8 (1)"], ("CD3 (1)", "CD8 (1)"), None),
        (["CD3", ""], ("CD3", "unnamed_2"), None),
        (["", ""], None, None),
        (["slide 7", "slide 7"], None, None),
    ],
)
def test_page_names_of_other_tiffs(tmp_path: Path, page_names: list[str], names: Any, ids: Any) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:
        for plane, name in zip(noise((2, 20, 30)), page_names, strict=True):
            file.write(plane, photometric="minisblack", metadata=None, extratags=[(285, "s", 0, name, True)])
    image = open_image(tmp_path / "a.tiff")
    assert (image.channel_names, image.channel_ids, image.pixel_size_um) == (names, ids, None)


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
@pytest.mark.parametrize("options", [{"compression": "zlib", "rowsperstrip": 7}, {"tile": (16, 32)}, {}])
def test_samples_of_a_page_are_read_in_pieces(
    tmp_path: Path, planarconfig: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "CHUNK_PX", 32)
    monkeypatch.setattr(segments, "_PLAIN_STRIP_BYTES", 5 * 90 * 10)
    pixels = noise((5, 71, 90))
    stored = pixels if planarconfig == "separate" else pixels.transpose(1, 2, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planarconfig, metadata=None, **options)
    image = open_image(path)
    assert image.data.numblocks[1] > 2
    np.testing.assert_array_equal(image.data.compute(), pixels)
    np.testing.assert_array_equal(image.data[[3, 1], 20:50, 4:77].compute(), pixels[[3, 1], 20:50, 4:77])


def test_segments_that_are_left_out_hold_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "CHUNK_PX", 32)
    pixels = noise((2, 64, 48)) + np.uint16(1)
    pixels[0, 32:48, 16:32] = pixels[1, 16:32, :32] = 0
    corners = [(y, x) for y in range(0, 64, 16) for x in range(0, 48, 16)]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for plane in pixels:
            tiles = (plane[y : y + 16, x : x + 16] for y, x in corners)
            held = (tile if tile.any() else None for tile in tiles)
            file.write(held, shape=(64, 48), dtype="uint16", tile=(16, 16), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as written:
        assert [page.databytecounts.count(0) for page in written.pages] == [1, 2]
    np.testing.assert_array_equal(open_image(path).data.compute(), pixels)
    np.testing.assert_array_equal(open_image(path).data[:, 5:40, 10:30].compute(), pixels[:, 5:40, 10:30])


def test_a_segment_that_is_too_small_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ome.tiff"
    tifffile.imwrite(path, noise((1, 40, 50)), photometric="minisblack", tile=(16, 16), compression="zlib", ome=True)
    decode = tifffile.TiffPage.decode
    monkeypatch.setattr(
        tifffile.TiffPage,
        "decode",
        property(lambda page: lambda *a, **k: (decode.func(page)(*a, **k)[0][:, :9], *decode.func(page)(*a, **k)[1:])),
    )
    data = open_image(path).data
    with pytest.raises(ImageDataError, match=r"pixels cannot be decoded \(a segment holds"):
        data.compute()


def test_jpeg2000_comes_back_in_pieces(tmp_path: Path) -> None:
    pixels = noise((3, 70, 90))
    path = tmp_path / "a.ome.tiff"
    tifffile.imwrite(
        path, pixels, photometric="minisblack", compression="jpeg2000", tile=(32, 32), metadata={"axes": "CYX"}
    )
    np.testing.assert_array_equal(open_image(path).data[1:, 30:70, 40:].compute(), pixels[1:, 30:70, 40:])


def test_jpeg2000_of_many_samples(tmp_path: Path) -> None:
    pixels = noise((70, 90, 7))
    tifffile.imwrite(tmp_path / "a.tif", pixels, planarconfig="contig", compression="jpeg2000", tile=(32, 32))
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels.transpose(2, 0, 1))


def test_a_region_reads_only_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ome.tiff"
    tifffile.imwrite(path, noise((3, 256, 256)), photometric="minisblack", tile=(32, 32), compression="zlib", ome=True)
    monkeypatch.setattr(segments, "CHUNK_PX", 32)
    image = open_image(path)
    decoded: list[int] = []
    decode = segments.SegmentedPixels._decode
    monkeypatch.setattr(
        segments.SegmentedPixels, "_decode", lambda *arguments: (decoded.append(1), decode(*arguments))[1]
    )
    image.data[1, 40:60, 70:90].compute()
    assert len(decoded) == 1


def test_a_set_of_ome_tiffs_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").mkdir()
    tifffile.imwrite(tmp_path / "secret" / "b.ome.tiff", noise((1, 20, 30)), photometric="minisblack", ome=True)
    path = tmp_path / "data" / "a.ome.tiff"
    tifffile.imwrite(
        path, noise((2, 20, 30)), photometric="minisblack", ome=True, compression="zlib", metadata={"axes": "CYX"}
    )
    xml = tifffile.tiffcomment(path)
    other = "../secret/b.ome.tiff"
    start, end = xml.index("<TiffData"), xml.index("</Pixels>")
    planes = "".join(
        f'<TiffData IFD="0" FirstC="{c}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{uid}</UUID></TiffData>'
        for c, name, uid in ((0, "a.ome.tiff", xml.split('UUID="urn:uuid:')[1][:36]), (1, other, "0" * 36))
    )
    tifffile.tiffcomment(path, (xml[:start] + planes + xml[end:]).encode())
    with pytest.raises(ImageDataError, match="outside its folder"):
        open_image(path)
