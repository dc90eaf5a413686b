"""Fewer pixels, each the mean over its area: closed forms, and nothing depends on how an image is cut."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile

from lazy_images import Image, lazy, names, noise, settings, whole_image
from plexrank.errors import ImageDataError, StudyError
from plexrank.planning.check import check_study_file
from plexrank.settings import TileSettings
from plexrank.simulate import simulate
from plexrank.study import load_study
from plexrank.tiles.resampling import Resampling, area_mean, find_resampling
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image


def exact(pixels: np.ndarray, factor_y: Fraction, factor_x: Fraction) -> np.ndarray:
    """Area means from the definition, in fractions, pixel by pixel."""

    def weights(total: int, factor: Fraction) -> np.ndarray:
        rows = []
        for place in range(-(-total // factor)):
            begin, end = place * factor, min((place + 1) * factor, Fraction(total))
            covered = [max(Fraction(0), min(end, pixel + 1) - max(begin, pixel)) for pixel in range(total)]
            rows.append([float(part / (end - begin)) for part in covered])
        return np.array(rows)

    _, height, width = pixels.shape
    return np.einsum("iy,cyx,jx->cij", weights(height, factor_y), pixels, weights(width, factor_x))


def test_a_ramp_becomes_a_ramp() -> None:
    ramp = np.arange(12, dtype=np.uint8)[np.newaxis, :, np.newaxis].repeat(6, axis=2)
    edges_y, edges_x = np.arange(9) * 1.5, np.arange(5) * 1.5
    means = area_mean(ramp, edges_y, edges_x)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means[0, :, 0], [1 / 3, 5 / 3, 10 / 3, 14 / 3, 19 / 3, 23 / 3, 28 / 3, 32 / 3])
    np.testing.assert_allclose(means, means[:, :, :1].repeat(4, axis=2))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_partial_squares_average_what_they_hold(dtype: str) -> None:
    pixels = np.arange(15, dtype=dtype).reshape(1, 3, 5)
    expected = [[[(0 + 1 + 5 + 6) / 4, (2 + 3 + 7 + 8) / 4, (4 + 9) / 2], [10.5, 12.5, 14]]]
    np.testing.assert_array_equal(area_mean(pixels, np.array([0, 2, 3]), np.array([0, 2, 4, 5])), np.float32(expected))


@pytest.mark.parametrize(
    ("factor_y", "factor_x"),
    [("3", "3"), ("5/2", "5/2"), ("4/3", "11/5"), ("1", "7/4"), ("2", "3/2"), ("101/100", "47"), ("94", "1")],
)
@pytest.mark.parametrize("chunks", [(1, 10, 33), (2, 101, 94), (1, 34, 9)])
def test_every_pixel_is_its_area_mean_however_the_image_is_cut(
    factor_y: str, factor_x: str, chunks: tuple[int, int, int]
) -> None:
    pixels = noise((2, 101, 94), "uint16")
    lazy_pixels = da.from_array(pixels, chunks=chunks)
    resampling = Resampling((float(Fraction(factor_y)), float(Fraction(factor_x))))
    expected = exact(pixels, Fraction(factor_y), Fraction(factor_x))
    assert resampling.shape(pixels.shape) == expected.shape
    _, height, width = expected.shape
    whole = resampling.part(lazy_pixels, slice(0, height), slice(0, width))
    assert whole.chunks == resampling.chunks(lazy_pixels.chunks)
    assert whole.dtype == np.float32
    means = whole.compute(scheduler="sync")
    np.testing.assert_allclose(means, expected, rtol=1e-6)
    ys, xs = slice(height // 3, height // 3 + height // 2 + 1), slice(width // 4, width // 4 + width // 2 + 1)
    np.testing.assert_array_equal(resampling.part(lazy_pixels, ys, xs).compute(scheduler="sync"), means[:, ys, xs])


def test_a_pixel_size_that_is_a_multiple_equals_downsampling(tmp_path: Path) -> None:
    image = lazy(noise((2, 101, 94), "uint8"), (1, 10, 33), pixel_size_um=(0.1, 0.1))
    tile_image(image, [0, 1], names(2), settings(downsample=3), tmp_path / "downsample" / "a.ome.zarr")
    tile_image(image, [0, 1], names(2), settings(um_per_px=0.3), tmp_path / "um" / "a.ome.zarr")  # 0.3 / 0.1 < 3
    files = [path for path in (tmp_path / "um").rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        assert path.read_bytes() == (tmp_path / "downsample" / path.relative_to(tmp_path / "um")).read_bytes()


def test_images_of_two_resolutions_become_one(tmp_path: Path) -> None:
    scene = noise((1, 48, 60), "float32")
    fine, coarse = scene.repeat(4, axis=1).repeat(4, axis=2), scene.repeat(3, axis=1).repeat(2, axis=2)
    for name, pixels, size in (("fine", fine, (0.25, 0.25)), ("coarse", coarse, (1 / 3, 0.5))):
        path = tmp_path / f"{name}.ome.zarr"
        tile_image(lazy(pixels, pixel_size_um=size), [0], ["A"], settings(um_per_px=1.0), path)
        store = TileStore(path)
        assert store.shape == (1, 48, 60)
        np.testing.assert_allclose(whole_image(store)[:, :48, :60], scene, rtol=1e-6)
        scale = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"][0]
        assert scale["coordinateTransformations"][0]["scale"] == pytest.approx([1, 1, 1])


def test_an_image_of_the_size_asked_for_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = noise((1, 40, 40), "uint16")
    path = tmp_path / "a.ome.zarr"
    tile_image(lazy(pixels, pixel_size_um=(0.5, 0.5)), [0], ["A"], settings(um_per_px=0.5), path)
    read = whole_image(TileStore(path))[:, :40, :40]
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("values", "size", "message"),
    [
        ({"um_per_px": 0.4}, (0.25, 0.5), r"^a: its pixels of 0\.25 × 0\.5 µm .* set tile\.um_per_px to 0\.5 or more"),
        ({"um_per_px": 0.4}, None, r"^a: has no pixel size.* set tile\.downsample instead"),
        (
            {"um_per_px": 20},
            (0.4, 0.4),
            r"^a: 40 × 30 pixels are less than one pixel at tile\.um_per_px 20, .* 50 ×",
        ),
        ({"downsample": 31}, None, r"^a: 40 × 30 pixels are less than one pixel at tile\.downsample 31"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, values: Any, size: Any, message: str) -> None:
    image = Image(da.from_array(noise((1, 40, 30), "uint8")), size)
    with pytest.raises(ImageDataError, match=message):
        tile_image(image, [0], ["A"], settings(**values), tmp_path / "a.ome.zarr")
    assert not list(tmp_path.iterdir())


def test_an_image_may_become_a_single_pixel() -> None:
    assert find_resampling(TileSettings(downsample=30), (1, 30, 30), None, "a").shape((1, 30, 30)) == (1, 1, 1)


def test_a_study_reduces_in_one_way(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: a\ncohort: {samplesheet: s.csv, label: l}\ntile: {downsample: 2, um_per_px: 1}\n")
    with pytest.raises(StudyError, match="tile: downsample 2 and um_per_px 1 both say how far to reduce; keep one"):
        load_study(path)
    assert load_study(path, ["tile.downsample=1"]).tile.um_per_px == 1


def test_a_study_says_how_large_pixels_are_where_images_do_not(tmp_path: Path) -> None:
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=48, seed=0)  # pixels of 1 µm
    images = sorted((tmp_path / "cohort" / "images").iterdir())
    for path in images[:3]:
        tifffile.imwrite(path, tifffile.imread(path), photometric="minisblack")
    (warning,) = [one for one in check_study_file(study).warnings if "pixels" in one]
    assert warning.startswith("3 of 8 images do not say how large their pixels are, which are taken for 1 µm")
    problems = check_study_file(study, ["tile.um_per_px=2"]).problems
    assert len(problems) == 3
    assert all("has no pixel size" in str(problem) for problem in problems)
    given = check_study_file(study, ["tile.um_per_px=2", "tile.image_um_per_px=0.5", "tile.tile_px=16"])
    assert not given.problems
    assert not [one for one in given.warnings if "pixels" in one]
    assert given.cost is not None
    assert given.cost.n_tiles == 5 * 4 + 3 * 1  # 24 and 12 px wide


def test_check_tells_the_images_that_cannot_be_reduced_and_what_the_others_cost(tmp_path: Path) -> None:
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=48, seed=0)  # pixels of 1 µm
    (problem,) = check_study_file(study, ["tile.um_per_px=0.5"]).problems
    assert "8 images: its pixels of 1 × 1 µm (y × x) are larger than tile.um_per_px 0.5" in str(problem)
    for values, tiles_an_image in (("um_per_px=1.5", 4), ("downsample=1", 9)):
        cost = check_study_file(study, [f"tile.{values}", "tile.tile_px=16"]).cost
        assert cost is not None
        assert cost.n_tiles == 8 * tiles_an_image
