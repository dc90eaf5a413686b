"""Every format: names kept, pixels equal to those of an independent reader, regions read in pieces."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import tifffile
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from readimc import MCDFile, TXTFile

from image_files import (
    DCIS,
    IMC,
    METALS,
    NAMES,
    noise,
    qptiff_description,
    write_mcd,
    write_mibitiff,
    write_ome,
    write_ome_zarr,
    write_pyramid,
    write_qptiff,
    write_tiff_folder,
    write_txt,
)
from plexrank.images import imc_mcd, imc_txt
from plexrank.images.lazy import LazyImage
from plexrank.images.open import open_image
from plexrank.settings import TileSettings
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image

MIBI_NAMES = ("CD3", "HLA-DR/DP", "dsDNA")
FORMATS: dict[str, tuple[Callable[[Path], tuple[Path, np.ndarray]], tuple[str, ...] | None]] = {}


def format_case(name: str, names: tuple[str, ...] | None = NAMES) -> Callable[..., Any]:
    """Register a writer that returns the image's path and its pixels as an independent reader has them."""

    def register(write: Callable[[Path], tuple[Path, np.ndarray]]) -> Callable[[Path], tuple[Path, np.ndarray]]:
        FORMATS[name] = (write, names)
        return write

    return register


def by_tifffile(path: Path) -> tuple[Path, np.ndarray]:
    return path, tifffile.imread(path, series=0)


for layout in ("tiled", "stripped", "plain"):
    for codec in ("none", "zlib", "lzw", "zstd", "jpeg2000"):
        options = {"tiled": {"tile": (16, 16)}, "stripped": {"rowsperstrip": 7}, "plain": {}}[layout]
        compression = None if codec == "none" else codec

        @format_case(f"OME-TIFF {layout} {codec}")
        def _(folder: Path, options: Any = options, compression: Any = compression) -> tuple[Path, np.ndarray]:
            return by_tifffile(write_ome(folder / "a.ome.tiff", noise(), compression=compression, **options))


@format_case("OME-TIFF pyramid in SubIFDs")
def _(folder: Path) -> tuple[Path, np.ndarray]:
    return by_tifffile(write_pyramid(folder / "a.ome.tif", noise((3, 64, 80))))


@format_case("QPTIFF")
def _(folder: Path) -> tuple[Path, np.ndarray]:
    descriptions = [qptiff_description(name, "Opal 570") for name in NAMES]
    return by_tifffile(write_qptiff(folder / "a.qptiff", noise((3, 64, 80)), descriptions))


@format_case("MIBItiff", MIBI_NAMES)
def _(folder: Path) -> tuple[Path, np.ndarray]:
    path = write_mibitiff(folder / "a.tiff", noise(), [f"{name} (15{i})" for i, name in enumerate(MIBI_NAMES)])
    return by_tifffile(path)


@format_case("TIFF stack", None)
def _(folder: Path) -> tuple[Path, np.ndarray]:
    tifffile.imwrite(folder / "a.tiff", noise(dtype="float32"), photometric="minisblack", metadata=None)
    return by_tifffile(folder / "a.tiff")


@format_case("TIFF stack of ImageJ", None)
def _(folder: Path) -> tuple[Path, np.ndarray]:
    tifffile.imwrite(folder / "a.tiff", noise(dtype="float32"), imagej=True, metadata={"axes": "CYX"})
    return by_tifffile(folder / "a.tiff")


for inner in ("TIFs", ""):

    @format_case(f"folder of TIFFs {inner}".strip(), ("CD3", "CD8", "Ki-67"))
    def _(folder: Path, inner: str = inner) -> tuple[Path, np.ndarray]:
        path = write_tiff_folder(folder / "fov8" / inner, noise())
        return folder / "fov8", np.stack([tifffile.imread(path / f"{name}.tif") for name in ("CD3", "CD8", "Ki-67")])


@format_case("IMC .mcd")
def _(folder: Path) -> tuple[Path, np.ndarray]:
    path = write_mcd(folder / "a.mcd", {1: noise((3, 9, 8)), 3: noise(dtype="float32") / 7})
    with MCDFile(path) as file:
        return folder / "a.mcd#3", file.read_acquisition(file.slides[0].acquisitions[1])


@format_case("IMC .mcd, pixels in another order")
def _(folder: Path) -> tuple[Path, np.ndarray]:
    order = np.random.default_rng(0).permutation(2000)
    path = write_mcd(folder / "a.mcd", {3: noise(dtype="float32")}, order=order)
    with MCDFile(path) as file:
        return path, file.read_acquisition(file.slides[0].acquisitions[0])


@format_case("IMC .txt")
def _(folder: Path) -> tuple[Path, np.ndarray]:
    path = write_txt(folder / "a.txt", noise(dtype="float32") / 7)
    with TXTFile(path) as file:
        return path, file.read_acquisition()


for version in (FormatV04(), FormatV05()):
    for axes in ("cyx", "tczyx"):

        @format_case(f"OME-Zarr {version.version} {axes}")
        def _(folder: Path, version: Any = version, axes: str = axes) -> tuple[Path, np.ndarray]:
            path = write_ome_zarr(folder / "a.ome.zarr", noise(), version, axes)
            (node, *_) = Reader(parse_url(path))()
            return path, np.asarray(node.data[0]).reshape(3, 40, 50)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_keeps_names_and_pixels(tmp_path: Path, name: str) -> None:
    write, names = FORMATS[name]
    path, expected = write(tmp_path)
    image = open_image(path)
    assert image.channel_names == names
    assert image.data.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.data.compute(), expected)
    np.testing.assert_array_equal(image.data[1:, 11:33, 7:40].compute(), expected[1:, 11:33, 7:40])


@pytest.mark.parametrize(
    "name", ["QPTIFF", "folder of TIFFs TIFs", "IMC .mcd", "IMC .txt", "OME-Zarr 0.5 cyx", "OME-TIFF plain none"]
)
def test_an_image_travels_to_another_process(tmp_path: Path, name: str) -> None:
    path, expected = FORMATS[name][0](tmp_path)
    sent = cloudpickle.dumps(open_image(path).data)
    np.testing.assert_array_equal(pickle.loads(sent).compute(scheduler="synchronous"), expected)


@pytest.mark.parametrize("name", ["IMC .mcd", "IMC .mcd, pixels in another order", "IMC .txt"])
def test_imc_is_read_in_bands_that_join(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imc_mcd, "BAND_BYTES", 7 * 50 * 24)
    monkeypatch.setattr(imc_txt, "_TEXT_BYTES", 7 * 50 * 40)
    monkeypatch.setattr(imc_txt, "_SCAN_BYTES", 997)
    path, expected = FORMATS[name][0](tmp_path)
    image = open_image(path)
    assert image.data.numblocks[1] > 4
    np.testing.assert_array_equal(image.data.compute(), expected)


def test_metals_are_kept_beside_the_labels_and_stand_in_for_absent_ones(tmp_path: Path) -> None:
    labels = ("CD3", "", "  ")
    write_mcd(tmp_path / "a.mcd", {1: noise()}, labels)
    write_txt(tmp_path / "a.txt", noise(), labels)
    for path in (tmp_path / "a.mcd", tmp_path / "a.txt"):
        image = open_image(path)
        assert image.channel_names == ("CD3", "Nd148", "Ir191")
        assert image.channel_ids == METALS


@pytest.mark.parametrize(
    ("name", "size"),
    [("IMC .mcd", (2.0, 1.0)), ("IMC .txt", None), ("OME-Zarr 0.4 tczyx", (0.5, 0.25)), ("QPTIFF", (0.25, 0.5))],
)
def test_pixel_sizes(tmp_path: Path, name: str, size: tuple[float, float] | None) -> None:
    found = open_image(FORMATS[name][0](tmp_path)[0]).pixel_size_um
    assert found == (None if size is None else pytest.approx(size))


# --- real images

imc = pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")


@imc
def test_mcd_ome_tiff_and_txt_of_an_acquisition_agree() -> None:
    seen = 0
    for path in sorted((IMC / "raw").glob("*.mcd")):
        with MCDFile(path) as file:
            for acquisition in file.slides[0].acquisitions:
                number = acquisition.id
                mcd = open_image(path.with_name(f"{path.name}#{number}"))
                ome = open_image(IMC / "ometiff" / f"{path.stem}_s0_a{number}_ac.ome.tiff")
                txt = open_image(next((IMC / "raw").glob(f"{path.stem}_*_{number}.txt")))
                assert mcd.channel_names == ome.channel_names == txt.channel_names == tuple(acquisition.channel_labels)
                assert mcd.channel_ids == txt.channel_ids == tuple(acquisition.channel_names)
                pixels = mcd.data.compute()
                np.testing.assert_array_equal(pixels, file.read_acquisition(acquisition))
                np.testing.assert_array_equal(pixels, ome.data.compute())
                np.testing.assert_allclose(txt.data.compute(), pixels, rtol=1e-6, atol=0.0005)
                seen += 1
    assert seen == 15


@imc
def test_the_tiles_of_an_acquisition_are_the_same_from_every_format(tmp_path: Path) -> None:
    raw, stem, number = IMC / "raw", "20210305_NE_mockData2", 2
    paths = {
        "mcd": raw / f"{stem}.mcd#{number}",
        "ome": IMC / "ometiff" / f"{stem}_s0_a{number}_ac.ome.tiff",
        "txt": next(raw.glob(f"{stem}_*_{number}.txt")),
    }
    stores, tiled = {}, {}
    for name, path in paths.items():
        image, store = open_image(path), tmp_path / f"{name}.ome.zarr"
        assert image.channel_names is not None
        indices = range(len(image.channel_names))
        tiled[name] = tile_image(image, indices, image.channel_names, TileSettings(tile_px=16, min_tissue=0.3), store)
        stores[name] = TileStore(store)
    rows = {name: [(row.tile, row.tissue_fraction) for row in found.tiles] for name, found in tiled.items()}
    assert len(rows["mcd"]) > 4
    assert rows["mcd"] == rows["ome"] == rows["txt"]
    assert stores["mcd"].digests()["0/c.0.0.0"] == stores["ome"].digests()["0/c.0.0.0"]
    for tile, _ in rows["mcd"]:
        pixels = [stores[name].read_tile(tile.row, tile.col) for name in ("mcd", "txt")]
        np.testing.assert_allclose(*pixels, rtol=1e-6, atol=0.0005)


@imc
def test_steinbock_images_are_read() -> None:
    for path in sorted((IMC / "steinbock").glob("*/*.tiff")):
        image = open_image(path)
        assert (image.channel_names is None) == (path.parent.name == "img")
        np.testing.assert_array_equal(image.data.compute(), tifffile.imread(path))


@pytest.mark.skipif(not DCIS.is_dir(), reason=f"{DCIS} is absent")
def test_mibi_images_are_read() -> None:
    paths = sorted(DCIS.glob("*.ome.tiff"))
    names = {open_image(path).channel_names for path in paths[::10]}
    assert len(names) == 1
    with tifffile.TiffFile(paths[0]) as file:
        assert names == {
            tuple(
                channel["Name"] for channel in tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
            )
        }
        expected = file.asarray(key=range(3, 6))
    np.testing.assert_array_equal(open_image(paths[0]).data[3:6].compute(), expected)


def test_a_lazy_image_without_ids_is_as_before() -> None:
    assert LazyImage(np.zeros((1, 1, 1)), None, None).channel_ids is None  # type: ignore[arg-type]
