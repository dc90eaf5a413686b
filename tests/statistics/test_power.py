"""The power of a Kruskal-Wallis test, against simulation, and the smallest p-values of permutations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from plexrank.statistics.power import detectable_shift, smallest_p


@pytest.mark.parametrize("sizes", [[20, 30], [20, 20, 20], [10] * 8])
def test_the_shift_is_found_with_the_power_that_is_named(sizes: list[int]) -> None:
    threshold, power = 0.01, 0.8
    shift = detectable_shift(sizes, threshold, power)
    assert shift is not None
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(len(sizes)), sizes)
    draws = rng.normal(size=(1000, len(group))) + shift * (group == 0)
    ranks = stats.rankdata(draws, axis=1)
    total = len(group)
    means = np.stack([ranks[:, group == k].mean(axis=1) for k in range(len(sizes))], axis=1)
    statistic = 12 / (total * (total + 1)) * ((means - (total + 1) / 2) ** 2 @ np.array(sizes))
    found = float((stats.chi2.sf(statistic, len(sizes) - 1) <= threshold).mean())
    assert power - 0.06 <= found <= power + (0.06 if len(sizes) <= 3 else 0.15)  # of many groups it promises too little


def test_two_groups_are_those_of_textbooks() -> None:
    # 64 in each group find half a standard deviation by a t-test at 0.05 with a chance of 80 % (Cohen 1988).
    found = detectable_shift([64, 64], 0.05, 0.8)
    assert found is not None
    assert found / math.sqrt(math.pi / 3) == pytest.approx(0.5, abs=0.01)
    assert detectable_shift([4, 4], 0.001, 0.8) is None
    assert detectable_shift([1, 30], 0.05, 0.8) is None
    assert detectable_shift([], 0.05, 0.8) is None


def test_the_smallest_p_counts_labellings() -> None:
    assert smallest_p([[4, 4]]) == pytest.approx(2 / math.comb(8, 4))
    assert smallest_p([[2, 10]]) == pytest.approx(1 / math.comb(12, 2))
    assert smallest_p([[1, 2], [1, 3]]) == pytest.approx(1 / 12)
    assert smallest_p([[2, 2, 2]]) == pytest.approx(1 / 90)
    assert smallest_p([[5, 0]]) == pytest.approx(1.0)
