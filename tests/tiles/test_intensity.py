"""Intensities: the transform, the scale and the histogram behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plexrank.settings import IntensitySettings
from plexrank.tiles.intensity import IntensityFit, IntensityHistogram, fit_intensity


def linear(percentile: float) -> IntensitySettings:
    return IntensitySettings(transform="linear", clip_percentile=percentile)


def test_apply_gives_the_transform_over_the_scale_clipped() -> None:
    fit = IntensityFit("arcsinh", 5.0, np.array([2.0, 0.5], np.float32))
    counts = np.array([[[0, 10]], [[1, 100]]], np.uint16)
    applied = fit.apply(counts)
    assert applied.dtype == np.float32
    np.testing.assert_allclose(applied, [[[0, np.arcsinh(2) / 2]], [[np.arcsinh(0.2) / 0.5, 1]]], rtol=1e-6)
    np.testing.assert_array_equal(fit.apply(np.stack([counts, counts]))[1], applied)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32", "float64"])
def test_apply_leaves_its_input_alone_and_takes_every_type(dtype: str) -> None:
    counts = np.arange(24).reshape(1, 4, 6).astype(dtype)
    before = counts.copy()
    applied = IntensityFit("linear", 5.0, np.array([46.0], np.float32)).apply(counts)
    np.testing.assert_array_equal(counts, before)
    np.testing.assert_allclose(applied[0, -1, -1], 0.5, rtol=1e-6)


def test_negative_counts_become_zero() -> None:
    fit = IntensityFit("arcsinh", 5.0, np.ones(1, np.float32))
    assert fit.apply(np.full((1, 1, 1), -3.0)).item() == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("percentile", [60, 99, 99.5, 100])
def test_whole_numbers_give_the_exact_percentile(dtype: str, percentile: float) -> None:
    tiles = np.random.default_rng(3).poisson(20, (5, 2, 40, 30)).astype(dtype)
    fit = fit_intensity(iter(tiles), linear(percentile))
    expected = np.percentile(tiles, percentile, axis=(0, 2, 3), method="inverted_cdf")
    np.testing.assert_array_equal(fit.scale, expected.astype(np.float32))


@pytest.mark.parametrize("transform", ["arcsinh", "linear"])
def test_real_numbers_give_the_percentile_to_one_part_in_a_thousand(transform: str) -> None:
    tiles = np.random.default_rng(4).lognormal(0, 2, (6, 3, 64, 64)).astype(np.float32)
    settings = IntensitySettings(transform=transform, clip_percentile=99)  # type: ignore[arg-type]
    transformed = np.arcsinh(tiles / 5) if transform == "arcsinh" else tiles
    expected = np.percentile(transformed, 99, axis=(0, 2, 3), method="inverted_cdf")
    np.testing.assert_allclose(fit_intensity(tiles, settings).scale, expected, rtol=1e-3)


def test_sparse_channels_scale_by_their_maximum_and_empty_ones_by_one() -> None:
    tile = np.zeros((3, 100, 100), np.uint8)
    tile[0, 0, 0] = 40  # 0.01 %, beyond the percentile
    tile[2] = 8
    fit = fit_intensity([tile], linear(99.5))
    np.testing.assert_array_equal(fit.scale, np.float32([40, 1, 8]))


def test_any_split_of_the_tiles_gives_the_same_fit() -> None:
    tiles = np.random.default_rng(5).gamma(0.3, 10, (8, 2, 16, 16)).astype(np.float32)
    whole, left, right = (IntensityHistogram(2) for _ in range(3))
    for index, tile in enumerate(tiles):
        whole.update(tile)
        (left if index % 3 else right).update(tile)
    left.merge(right)
    settings = IntensitySettings()
    np.testing.assert_array_equal(left.fit(settings).scale, whole.fit(settings).scale)
    np.testing.assert_array_equal(fit_intensity(tiles[::-1], settings).scale, whole.fit(settings).scale)


@pytest.mark.parametrize("values", [[1e-30, 1e-20], [1e20, 1e30], [-5.0, -1.0], [0.001, 0.002]])
def test_values_of_any_size_give_a_usable_scale(values: list[float]) -> None:
    tile = np.tile(np.array(values, np.float32), (1, 32, 16))
    fit = fit_intensity([tile], linear(99))
    applied = fit.apply(tile)
    assert np.all(fit.scale > 0)
    assert np.all((applied >= 0) & (applied <= 1))


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ([], "no tile"),
        ([np.zeros((2, 0, 4))], "no pixel"),
        ([np.zeros((2, 4, 4)), np.zeros((3, 4, 4))], "expected \\(2, y, x\\)"),
        ([np.zeros((4, 4))], "expected"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tiles: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_intensity(tiles, IntensitySettings())


def test_a_tile_of_another_panel_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        IntensityFit("linear", 5.0, np.ones(3, np.float32)).apply(np.zeros((2, 4, 4)))


def test_planes_that_are_absent_do_not_count() -> None:
    tiles = np.random.default_rng(6).poisson(9, (4, 2, 8, 8)).astype(np.uint16)
    expected = np.float32([tiles[[0, 2]][:, 0].max(), tiles[:, 1].max()])
    tiles[[1, 3], 0] = 60_000
    present = np.array([[True, True], [False, True], [True, True], [False, True]])
    np.testing.assert_array_equal(fit_intensity(tiles, linear(100), present).scale, expected)
    with pytest.raises(ValueError, match=r"no pixel to fit intensities on in channels \[0\]"):
        fit_intensity(tiles[[1]], linear(100), present[[1]])
