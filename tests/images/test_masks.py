"""Tissue from masks: TIFF, NPZ and GeoJSON, pixel by pixel, and the tiles that follow from them."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import tifffile
from matplotlib.path import Path as MatplotlibPath

from conftest import Plexrank, run_arguments
from image_files import noise as image_noise
from lazy_images import lazy, names, noise, settings
from plexrank.errors import ImageDataError, MissingInputError
from plexrank.images import mask as masks
from plexrank.images import outlines
from plexrank.images.mask import open_mask
from plexrank.planning.check import check_study_file
from plexrank.simulate import simulate
from plexrank.tiles.tiling import tile_image

TISSUE = np.random.default_rng(3).random((40, 50)) < 0.4


def write_tiff(path: Path, mask: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, mask, photometric="minisblack", metadata=None, **options)
    return path


def write_npz(path: Path, mask: np.ndarray) -> Path:
    np.savez_compressed(path, mask)
    return path


def write_geojson(path: Path, *geometries: dict[str, Any]) -> Path:
    """As QuPath has it."""
    features = [
        {"type": "Feature", "id": str(index), "geometry": geometry, "properties": {"objectType": "annotation"}}
        for index, geometry in enumerate(geometries)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def square(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def read(path: Path, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    mask = open_mask(path, *shape).data
    assert mask.shape == (1, *shape)
    assert mask.dtype == bool
    pixels: np.ndarray = mask.compute(scheduler="sync")[0]
    np.testing.assert_array_equal(mask[:, 13:31, 17:44].compute(scheduler="sync")[0], pixels[13:31, 17:44])
    sent = pickle.loads(cloudpickle.dumps(mask))
    np.testing.assert_array_equal(sent.compute(scheduler="sync")[0], pixels)
    return pixels


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32"])
def test_tissue_is_what_is_not_zero(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "BAND_BYTES", 7 * 50)
    monkeypatch.setattr(masks, "CHUNK_PX", 16)
    labels = (TISSUE * image_noise((40, 50), "uint8").clip(1)).astype(dtype)
    if dtype == "float32":
        labels[~TISSUE] = np.where(np.arange((~TISSUE).sum()) % 2, np.nan, 0)
    for path in (
        write_tiff(tmp_path / "a.tif", labels, tile=(16, 16), compression=None if dtype == "bool" else "zlib"),
        write_npz(tmp_path / "a.npz", labels),
        write_npz(tmp_path / "by_columns.npz", np.asfortranarray(labels)),
    ):
        np.testing.assert_array_equal(read(path), TISSUE)


@pytest.mark.parametrize("write", [write_tiff, write_npz])
@pytest.mark.parametrize("shape", [(120, 150), (121, 152), (119, 148)])
def test_a_mask_reduced_by_a_whole_number_is_enlarged(tmp_path: Path, write: Any, shape: tuple[int, int]) -> None:
    read_mask = read(
        write(tmp_path / "mask", TISSUE.astype("uint8"))
        if write is write_tiff
        else write(tmp_path / "mask.npz", TISSUE),
        shape,
    )
    ys, xs = (np.minimum(np.arange(side) // 3, own - 1) for side, own in zip(shape, (40, 50), strict=True))
    np.testing.assert_array_equal(read_mask, TISSUE[np.ix_(ys, xs)])


def test_a_mask_reduced_by_a_real_number_is_enlarged(tmp_path: Path) -> None:
    found = read(write_npz(tmp_path / "a.npz", TISSUE), (101, 126))  # by 2.52
    assert [found[0, x] for x in (0, 2, 3)] == [TISSUE[0, 0], TISSUE[0, 0], TISSUE[0, 1]]
    assert found.mean() == pytest.approx(TISSUE.mean(), abs=0.01)


def test_outlines_cover_the_pixels_whose_centres_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "CHUNK_PX", 16)
    path = write_geojson(
        tmp_path / "a.geojson",
        polygon(square(3, 2, 20, 12), square(5, 4, 9, 8)),
        {"type": "MultiPolygon", "coordinates": [[square(15, 10, 30, 20)], [square(-10, 30, 4.6, 99)]]},
        {"type": "Point", "coordinates": [1, 1]},
    )
    expected = np.zeros((40, 50), bool)
    expected[2:12, 3:20] = True
    expected[4:8, 5:9] = False
    expected[10:20, 15:30] = True  # where two areas overlap it is tissue
    expected[30:, :5] = True
    np.testing.assert_array_equal(read(path), expected)


def test_outlines_equal_those_of_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "CHUNK_PX", 16)
    rng = np.random.default_rng(1)
    angles = np.sort(rng.random(40)) * 2 * np.pi
    radii = 8 + 14 * rng.random(40)
    star = np.column_stack([25 + radii * np.cos(angles), 20 + radii * np.sin(angles)])
    y, x = np.indices((40, 50)) + 0.5
    inside = MatplotlibPath(star, closed=False).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(40, 50)
    assert 0.1 < inside.mean() < 0.6
    path = tmp_path / "a.json"
    for content in (
        polygon(star.tolist()),
        {"type": "Feature", "geometry": polygon(star.tolist()[::-1])},
        [{"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [polygon(star.tolist())]}}],
    ):
        path.write_text(json.dumps(content))
        np.testing.assert_array_equal(read(path), inside)


def two_arrays(path: Path) -> Path:
    np.savez(path, a=TISSUE, b=TISSUE)
    return path


def objects(path: Path) -> Path:
    np.savez(path, np.array([["a"]], object))
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


def cut_within(path: Path) -> Path:
    """A zip whose array ends early."""
    with zipfile.ZipFile(path, "w") as archive:
        header = b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (40, 50), }"
        archive.writestr("a.npy", header.ljust(127) + b"\n" + bytes(500))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: write_tiff(f / "a.tif", TISSUE[:39].astype("uint8")),
            "a mask of 39 × 50 pixels for an image of 40 × 50",
        ),
        (
            lambda f: write_tiff(f / "a.tif", TISSUE[:, ::2].astype("uint8")),
            "a mask of 40 × 25 pixels for an image of 40 ×",
        ),
        (lambda f: write_npz(f / "a.npz", np.ones((80, 100))), "a mask of 80 × 100 pixels .* reduced by one factor"),
        (lambda f: write_tiff(f / "a.tif", image_noise((2, 40, 50))), "a mask of 2 planes"),
        (lambda f: write_tiff_rgb(f / "a.tif"), "a RGB picture"),
        (lambda f: cut(write_tiff(f / "a.tif", TISSUE.astype("uint8"))), "not readable as TIFF"),
        (lambda f: cut(write_npz(f / "a.npz", TISSUE)), "not readable as mask .*copy or export"),
        (lambda f: cut_within(f / "a.npz"), "not readable as mask"),
        (lambda f: two_arrays(f / "a.npz"), r"not readable as mask \(it holds 2 arrays: a\.npy, b\.npy\)"),
        (lambda f: write_npz(f / "a.npz", np.ones((2, 40, 50))), r"an array of shape \(2, 40, 50\)"),
        (lambda f: objects(f / "a.npz"), "type object"),
        (lambda f: text(f / "a.geojson", ""), "not readable as mask"),
        (lambda f: text(f / "a.geojson", "{"), "not readable as mask .*expected a TIFF, an NPZ .* or GeoJSON"),
        (lambda f: text(f / "a.geojson", '{"a": 1}'), "not readable as mask"),
        (lambda f: text(f / "a.geojson", "3"), "not readable as mask"),
        (lambda f: write_geojson(f / "a.geojson"), "it holds no polygon"),
        (lambda f: write_geojson(f / "a.geojson", polygon([[1, 1], [2, 2]])), "three or more points"),
        (
            lambda f: write_geojson(f / "a.geojson", polygon([[1, 1], [2, float("nan")], [4, 4]])),
            "three or more points",
        ),
        (lambda f: write_geojson(f / "a.geojson", polygon([[1, 1], [2, 1], [4, 1]])), "no height"),
        (lambda f: write_geojson(f / "a.geojson", polygon([["x", 1], [2, 1], [4, 1]])), "not readable as mask"),
    ],
)
def test_a_bad_mask_is_told_in_one_line(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    path = make(tmp_path)
    with pytest.raises(ImageDataError, match=message) as caught:
        open_mask(path, 40, 50)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def write_tiff_rgb(path: Path) -> Path:
    tifffile.imwrite(path, image_noise((40, 50, 3), "uint8"), photometric="rgb")
    return path


def test_a_missing_mask_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"a\.tif: no such mask; fix the path .* or empty the cell"):
        open_mask(tmp_path / "a.tif", 40, 50)


# --- tiles


def test_tiles_are_kept_by_the_mask_and_not_by_the_signal(tmp_path: Path) -> None:
    tissue = np.zeros((40, 50), bool)
    tissue[:16, :8] = True  # half of tile (0, 0)
    tissue[35:, 48:] = True  # 5 × 2 of the 8 × 2 pixels of tile (2, 3)
    mask = open_mask(write_npz(tmp_path / "a.npz", tissue), 40, 50)
    pixels = noise((2, 40, 50), "uint16")
    tiled = tile_image(lazy(pixels), [0, 1], names(2), settings(min_tissue=0.1), tmp_path / "a.ome.zarr", mask=mask)
    assert [(row.tile.row, row.tile.col, row.tissue_fraction) for row in tiled.tiles] == [(0, 0, 0.5), (2, 3, 0.625)]
    assert tiled.n_background == 10
    assert not tiled.warnings


@pytest.mark.parametrize(
    ("values", "factors"),
    [({"downsample": 2}, (2, 2)), ({"um_per_px": 1.25}, (2.5, 5)), ({"um_per_px": 0.75}, (1.5, 3))],
)
def test_a_mask_is_reduced_as_the_image_is(
    tmp_path: Path, values: dict[str, Any], factors: tuple[float, float]
) -> None:
    top, left = int(16 * factors[0]), int(16 * factors[1])
    tissue = np.zeros((120, 240), bool)
    tissue[: top // 2, :left] = True  # half of the tile (0, 0), and the same of a part of (0, 1)
    tissue[: top // 2, left : left + left // 4] = True
    mask = open_mask(write_npz(tmp_path / "a.npz", tissue), 120, 240)
    chosen = settings(min_tissue=0.01, **values)
    tiled = tile_image(lazy(noise((1, 120, 240), "uint8")), [0], ["A"], chosen, tmp_path / "a.ome.zarr", mask=mask)
    assert [(row.tile.row, row.tile.col) for row in tiled.tiles] == [(0, 0), (0, 1)]
    assert [row.tissue_fraction for row in tiled.tiles] == pytest.approx([0.5, 0.125], rel=1e-6)


def test_a_mask_without_tissue_is_refused(tmp_path: Path) -> None:
    mask = open_mask(write_geojson(tmp_path / "a.geojson", polygon(square(60, 60, 80, 80))), 40, 50)
    image, store = lazy(noise((1, 40, 50), "uint8")), tmp_path / "a.ome.zarr"
    words = r"a\.geojson: no pixel of this mask is tissue; fix it, or leave /images/a\.tiff out"
    with pytest.raises(ImageDataError, match=words):
        tile_image(image, [0], ["A"], settings(), store, mask=mask, where="/images/a.tiff")
    assert [path.name for path in tmp_path.iterdir()] == ["a.geojson"]


def test_a_cohort_with_masks_is_checked_and_tiled(tmp_path: Path, plexrank: Plexrank) -> None:
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=48, seed=0)
    tissue = np.zeros((48, 48), bool)
    tissue[:16, :32] = True
    write_npz(study.parent / "mask.npz", tissue)
    write_npz(study.parent / "small.npz", tissue[:40])
    sheet = study.parent / "samplesheet.csv"
    table = pd.read_csv(sheet)

    def set_masks(*names: str) -> None:
        table.assign(mask=[*names, *[""] * (8 - len(names))]).to_csv(sheet, index=False)

    set_masks("mask.npz", "small.npz", "absent.npz")
    found = [str(problem) for problem in check_study_file(study).problems]
    assert len(found) == 2
    assert "absent.npz: no such mask; fix the path or empty the cell" in found[0]
    assert "small.npz: a mask of 40 × 48 pixels for an image of 48 × 48" in found[1]

    set_masks("mask.npz")
    run = tmp_path / "run"
    arguments = [*run_arguments(study, run, "tile.tile_px=16", "tile.min_tissue=0.05"), "--until", "tile"]
    assert plexrank(*arguments).returncode == 0
    tiles = pd.read_parquet(run / "tiles" / "tiles.parquet")
    masked = tiles[tiles["image_id"] == table["image_id"][0]]
    assert masked[["row", "col", "tissue_fraction"]].to_numpy().tolist() == [[0, 0, 1], [0, 1, 1]]

    write_npz(study.parent / "mask.npz", tissue.T)
    assert "changed: mask" in plexrank(*arguments, "--dry-run").stdout
