"""P-values of several studies: known answers, and rates where nothing is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from plexrank.statistics.replication import (
    combine_dependent,
    combine_directed,
    combine_independent,
    directed_partial_conjunction,
    overlap_of_tops,
    partial_conjunction,
    spearman_interval,
)


def test_two_studies_replicate_by_the_larger_p() -> None:
    p = np.array([[0.01, 0.2, np.nan], [0.04, 0.001, 0.001]])
    for independent in (True, False):
        assert partial_conjunction(p, independent=independent) == pytest.approx([0.04, 0.2, np.nan], nan_ok=True)


def test_of_more_studies_the_smallest_p_is_set_aside() -> None:
    p = np.array([[1e-9], [0.01], [0.03]])
    assert partial_conjunction(p, independent=False) == pytest.approx([0.02])
    fisher = stats.chi2.sf(-2 * np.log([0.01, 0.03]).sum(), 4)
    assert partial_conjunction(p, independent=True) == pytest.approx([fisher])
    assert partial_conjunction(np.array([[1e-9], [1.0], [1.0]]), independent=True) == pytest.approx([1.0])


def test_opposite_directions_replicate_nothing() -> None:
    p = np.array([[0.01, 0.01, 0.01], [0.04, 0.04, 0.04]])
    sign = np.array([[1, 1, 0], [1, -1, 1]])
    found = directed_partial_conjunction(p, sign, independent=True)
    assert found == pytest.approx([0.04, 1.0, 1.0])


def test_directed_p_values_add_up_by_the_root_of_the_patients() -> None:
    p, sign = np.array([[0.05, 0.05], [0.2, 0.05]]), np.array([[1, 1], [1, -1]])
    patients = np.array([[100.0, 64.0], [25.0, 64.0]])
    z = (10 * stats.norm.isf(0.025) + 5 * stats.norm.isf(0.1)) / np.sqrt(125)
    assert combine_directed(p, sign, patients) == pytest.approx([2 * stats.norm.sf(z), 1.0])


def test_one_study_alone_is_no_combination() -> None:
    p = np.array([[0.01, 0.03], [np.nan, 0.03]])
    combined = [combine_independent(p), combine_dependent(p), combine_directed(p, np.ones((2, 2)), np.ones((2, 2)))]
    assert [np.isnan(one).tolist() for one in combined] == [[True, False]] * 3
    assert combined[0][1] == pytest.approx(stats.chi2.sf(-4 * np.log(0.03), 4))
    assert combined[1][1] == pytest.approx(0.03)


def test_rates_hold_where_one_study_alone_has_something() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=(3, 6000))
    p[0] = 1e-8
    sign = rng.choice([-1, 1], size=p.shape)
    for found in (
        partial_conjunction(p, independent=True),
        partial_conjunction(p, independent=False),
        directed_partial_conjunction(p, sign, independent=True),
    ):
        assert (found <= 0.05).mean() <= 0.0585  # three standard errors above


def test_overlap_of_the_first_is_compared_with_chance() -> None:
    places = np.arange(1, 41)
    assert overlap_of_tops(places, places, 10) == pytest.approx((10, 2.5, 1 / 847_660_528))
    assert overlap_of_tops(places, places[::-1], 10) == pytest.approx((0, 2.5, 1.0))


@pytest.mark.parametrize(("number", "rho"), [(12, 0.0), (12, 0.6), (36, 0.3)])
def test_the_interval_of_rho_covers_it(number: int, rho: float) -> None:
    rng = np.random.default_rng(1)
    pearson = 2 * np.sin(np.pi * rho / 6)
    drawn = rng.multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], size=(2000, number))
    ranks = stats.rankdata(drawn, axis=1)
    inside = []
    for one in ranks:
        low, high = spearman_interval(float(np.corrcoef(one.T)[0, 1]), number)
        inside.append(low <= rho <= high)
    assert np.mean(inside) >= 0.93


def test_the_interval_of_a_perfect_rho_is_not_a_point() -> None:
    low, high = spearman_interval(1.0, 8)
    assert low == pytest.approx(np.tanh(np.arctanh(41 / 42) - 1.959964 * np.sqrt((1 + (41 / 42) ** 2 / 2) / 5)))
    assert high == 1.0
    assert spearman_interval(-1.0, 8) == pytest.approx((-high, -low))
    assert np.isnan(spearman_interval(1.0, 3)).all()
