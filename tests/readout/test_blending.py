"""The embedding takes in the intensities at their share, on one scale, and looks at no label."""

from __future__ import annotations

import numpy as np
import pytest

from plexrank.readout.blending import IntensityBlend, fit_blend, log_means, mean_offset

IMAGES = 40


def cohort() -> tuple[np.ndarray, np.ndarray]:
    """r (image, 3) of spread 2 about 1, and means: of channel 1 they fall with r, of channel 2 they do not vary."""
    generator = np.random.default_rng(0)
    r = 1 + 2 * generator.normal(size=(IMAGES, 3))
    means = np.exp(generator.normal(size=(IMAGES, 3)))
    means[:, 1] = np.exp(-r[:, 1] + generator.normal(size=IMAGES))
    means[:, 2] = 7.0
    return r, means


def fitted(r: np.ndarray, means: np.ndarray, share: float, standardize: bool = True) -> IntensityBlend:
    offset = mean_offset(means)
    return fit_blend(r, log_means(means, offset), offset, share, standardize=standardize)


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def test_half_of_each_at_unit_variance_along_the_sign_of_their_correlation() -> None:
    r, means = cohort()
    blended = fitted(r, means, 0.5).apply(r, means)
    logs = np.log(means + 0.01 * means.mean(axis=0))
    np.testing.assert_allclose(blended[:, 1], standard(standard(r[:, 1]) - standard(logs[:, 1])), atol=1e-5)
    np.testing.assert_allclose(blended.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(blended.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_at_the_ends_there_is_one_of_them(share: float) -> None:
    r, means = cohort()
    blended = fitted(r, means, share).apply(r, means)
    wanted = r[:, 0] if share == 0 else np.log(means[:, 0] + 0.01 * means[:, 0].mean())
    assert abs(np.corrcoef(blended[:, 0], wanted)[0, 1]) == pytest.approx(1, abs=1e-6)


def test_what_does_not_vary_leaves_the_other_alone() -> None:
    r, means = cohort()
    r[:, 0] = 3.0
    blended = fitted(r, means, 0.5).apply(r, means)
    logs = np.log(means + 0.01 * means.mean(axis=0))
    np.testing.assert_allclose(blended[:, 2], standard(r[:, 2]), atol=1e-5)
    np.testing.assert_allclose(blended[:, 0], standard(logs[:, 0]), atol=1e-5)
    r[:, 2] = 0.0
    assert (fitted(r, means, 0.5).apply(r, means)[:, 2] == 0).all()


def test_without_standardisation_r_keeps_its_spread() -> None:
    r, means = cohort()
    blended = fitted(r, means, 0.5, standardize=False).apply(r, means)
    np.testing.assert_allclose(blended.std(axis=0), r.std(axis=0), rtol=1e-5)


def test_silent_and_negative_means_are_finite_and_absent_channels_take_no_part() -> None:
    r, means = cohort()
    means[:5, 0], means[5:9, 0], means[:, 1] = 0.0, -0.1, 0.0
    lacking = np.arange(IMAGES) % 4 == 0
    r[lacking, 2] = means[lacking, 2] = np.nan
    blend = fitted(r, means, 0.5)
    blended = blend.apply(r, means)
    np.testing.assert_array_equal(np.isnan(blended), np.isnan(r))
    of_holders = fitted(r[~lacking], means[~lacking], 0.5)
    np.testing.assert_allclose(blend.slope[2], of_holders.slope[2])
    np.testing.assert_allclose(blend.shift[2], of_holders.shift[2])


def test_a_share_is_linear_in_the_tiles_of_an_image() -> None:
    r, means = cohort()
    blend = fitted(r, means, 0.5)
    of_images = blend.apply(r, means).reshape(-1, 2, 3).mean(axis=1)
    logs = log_means(means, blend.offset).reshape(-1, 2, 3).mean(axis=1)
    by_hand = r.reshape(-1, 2, 3).mean(axis=1) * blend.slope + logs * blend.weight + blend.shift
    np.testing.assert_allclose(of_images, by_hand, atol=1e-5)
