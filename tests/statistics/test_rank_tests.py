"""Permutation tests against known answers, and the pattern test on numbers whose sign differs between units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from plexrank.statistics.exchange import Exchange, Order
from plexrank.statistics.pattern import label_scores, pattern_test, trend_slope
from plexrank.statistics.rank_tests import aligned_ranks, rank_test, rank_test_apart, trend_test


def plain(label: np.ndarray, stratum: np.ndarray | None = None) -> Exchange:
    return Exchange(label, np.arange(len(label)), np.zeros_like(label) if stratum is None else stratum)


def in_order(places: np.ndarray) -> Order:
    different, number = np.unique(places, return_inverse=True)
    return Order(different, plain(number))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_few_patients_have_the_exact_p_value_of_wilcoxon() -> None:
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    values = np.array([[1.0, 3.1], [2.0, 0.2], [3.0, 7.0], [4.5, 1.0], [4.0, 2.0], [6.0, 9.0], [7.0, 0.1], [8.0, 4.0],
                       [9.0, 5.0]])  # fmt: skip
    found = rank_test(values, plain(label), 1000, rng())
    for column in (0, 1):
        exact = stats.mannwhitneyu(values[:4, column], values[4:, column], method="exact").pvalue
        assert found.p[column] == pytest.approx(exact)


def test_effect_is_that_of_kruskal_wallis_and_p_close_to_it_with_and_without_ties() -> None:
    generator = np.random.default_rng(1)
    label = generator.integers(0, 3, 40)
    values = np.stack([generator.normal(size=40) + 0.6 * label, generator.integers(0, 4, 40)], axis=1)
    found = rank_test(values, plain(label), 20_000, rng())
    for column in (0, 1):
        expected = stats.kruskal(*(values[label == k, column] for k in range(3)))
        assert found.effect[column] == pytest.approx(expected.statistic / 39, rel=1e-9)
        assert found.p[column] == pytest.approx(expected.pvalue, abs=0.02)


def test_a_constant_column_has_p_one_and_an_empty_one_none() -> None:
    values = np.column_stack([np.full(12, 3.3), np.full(12, np.nan), np.arange(12.0)])
    label = np.arange(12) % 2
    for found in (
        rank_test(values, plain(label), 100, rng()),
        trend_test(values, in_order(label), 100, rng()),
        rank_test_apart(np.stack([values, -values]), plain(label), 100, rng()),
    ):
        assert found.p[0] == 1.0
        assert np.isnan(found.p[1])
        assert 0 < found.p[2] <= 1


def test_a_test_on_part_of_the_samples_is_the_test_of_that_part() -> None:
    generator = np.random.default_rng(0)
    values, label = generator.normal(size=(40, 2)), np.arange(40) % 3
    gaps = values.copy()
    gaps[:13, 1] = np.nan
    whole, part = (rank_test(v, plain(k), 5000, rng()) for v, k in ((gaps, label), (values[13:, 1:], label[13:])))
    assert whole.effect[1] == pytest.approx(part.effect[0])
    assert whole.p[1] == pytest.approx(part.p[0], abs=0.03)


def test_trend_is_spearmans() -> None:
    generator = np.random.default_rng(1)
    order = np.arange(80) % 4
    values = generator.normal(size=(80, 2))
    values[:, 0] -= order / 4
    found = trend_test(values, in_order(stats.rankdata(order)), 20_000, rng())
    for column in (0, 1):
        expected = stats.spearmanr(values[:, column], order)
        assert found.effect[column] == pytest.approx(expected.statistic)
        assert found.p[column] == pytest.approx(expected.pvalue, abs=0.02)
    assert found.effect[0] < 0


def test_aligned_ranks_forget_what_differs_between_strata_and_compare_across_them() -> None:
    values = np.array([1.0, 2.0, 3.0, 100.0, 102.0, 104.0, 7.0])[:, None]
    ranks = aligned_ranks(values, np.array([0, 0, 0, 1, 1, 1, 2]))[:, 0]
    np.testing.assert_allclose(ranks, np.array([-2, 0, 2, -3, 0, 3, 0]) / 8)
    np.testing.assert_allclose(aligned_ranks(values, np.zeros(7, int))[:, 0] * 8, [-3, -2, -1, 1, 2, 3, 0])
    assert (aligned_ranks(np.full((6, 1), 0.1), np.array([0, 0, 0, 1, 1, 1])) == 0).all()


def test_a_difference_within_small_sites_is_found_though_sites_differ_more() -> None:
    generator = np.random.default_rng(2)
    site, label = np.arange(60) // 6, np.tile([1, 0, 0, 0, 0, 0], 10)
    values = generator.normal(size=(60, 4)) + 5 * generator.normal(size=10)[site][:, None]
    values[:, 1] += 3.0 * label
    found = rank_test(values, plain(label, site), 5000, rng())
    assert found.p[1] < 0.001
    assert found.p[[0, 2, 3]].min() > 0.002


def test_where_labels_mean_nothing_a_level_is_held() -> None:
    generator = np.random.default_rng(3)
    p = [rank_test(generator.normal(size=(14, 20)), plain(np.arange(14) % 2), 2000, generator).p for _ in range(20)]
    for level in (0.02, 0.1, 0.3):
        share = np.mean(np.concatenate(p) <= level)
        assert abs(share - level) <= 2.5 * np.sqrt(level * (1 - level) / 400) + 0.01  # 3432 labellings, ties in pairs


def test_a_level_is_held_where_the_label_decides_who_has_a_value() -> None:
    generator = np.random.default_rng(4)
    label, fold = np.repeat([0, 1], (8, 100)), np.concatenate([np.arange(8) % 4, np.arange(100) % 4])
    values = generator.normal(size=(108, 300))
    values[16:] = np.nan
    held_out, scores = np.zeros((1, *values.shape)), np.zeros((1, 108, 2, 300))
    for f in range(4):
        train = fold != f
        held_out[0, ~train] = values[~train]
        scores[0, ~train] = label_scores(values[train], label[train], np.zeros(train.sum(), int), 2)
    found = (
        rank_test(values, plain(label), 1000, generator).p,
        trend_test(values, in_order(label), 1000, generator).p,
        pattern_test(held_out, scores, fold, plain(label, fold), 1.5, 1000, generator).p,
    )
    for p in found:
        assert np.mean(p <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 300)


def test_values_of_one_label_only_are_no_test() -> None:
    label, fold = np.arange(20) % 2, np.arange(20) // 2 % 5
    values = np.random.default_rng(0).normal(size=(20, 2))
    values[label == 1, 0] = np.nan
    exchange, scores = plain(label), np.ones((1, 20, 2, 2))
    for found in (
        rank_test(values, exchange, 1000, rng()),
        trend_test(values, in_order(label), 1000, rng()),
        pattern_test(values[None], scores, fold, exchange, 1.5, 1000, rng()),
    ):
        np.testing.assert_array_equal(np.isnan(found.p), [True, False])
        np.testing.assert_array_equal(np.isnan(found.effect), [True, False])


def units_of_any_sign(content: np.ndarray, label: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Held-out values (1, sample, column) and label scores, each fold's numbers with a sign and scale of their own."""
    held_out, scores = np.zeros((1, *content.shape)), np.zeros((1, len(label), 2, content.shape[1]))
    for f in np.unique(fold):
        sign = np.random.default_rng(int(f)).choice([-3.0, 1.0], size=content.shape[1])
        train = fold != f
        held_out[0, ~train] = (content * sign)[~train]
        scores[0, ~train] = label_scores((content * sign)[train], label[train], np.zeros(train.sum(), int), 2)
    return held_out, scores


def test_the_pattern_test_finds_what_differs_though_signs_differ_between_units() -> None:
    generator = np.random.default_rng(0)
    label, fold = np.arange(60) % 2, np.arange(60) // 2 % 5
    content = generator.normal(size=(60, 8))
    content[:, 2] += 1.8 * label
    found = pattern_test(*units_of_any_sign(content, label, fold), fold, plain(label, fold), 1.5, 5000, rng())
    assert found.p[2] < 0.001
    assert found.z[2] > 4
    assert found.effect.argmax() == 2
    assert found.p[[0, 1, 3, 4, 5, 6, 7]].min() > 0.001
    priced = pattern_test(*units_of_any_sign(content, label, fold), fold, plain(label, fold), 4.0, 5000, rng())
    assert (priced.p >= found.p)[found.p < 0.5].all()
    np.testing.assert_array_equal(priced.z, found.z)
    content[:, 5] = 3.0
    constant = pattern_test(*units_of_any_sign(content, label, fold), fold, plain(label, fold), 1.5, 5000, rng())
    assert constant.p[5] == 1
    assert np.isnan(constant.z[5])  # and so counts in no variance over labellings


def test_the_pattern_statistic_is_the_one_written_down() -> None:
    label, fold = np.array([0, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    content = np.array([1.0, 2, 3, 4, 4, 3, 2, 1])[:, None]
    held_out, scores = content[None], np.zeros((1, 8, 2, 1))
    scores[0, :4, 1], scores[0, :4, 0] = 0.5, -0.5
    scores[0, 4:, 1], scores[0, 4:, 0] = -0.1, 0.1
    found = pattern_test(held_out, scores, fold, plain(label, fold), 1.0, 10_000, rng())
    ranks = np.array([-0.3, -0.1, 0.1, 0.3, 0.3, 0.1, -0.1, -0.3])
    own = np.array([-0.5, 0.5, -0.5, 0.5, 0.1, -0.1, 0.1, -0.1])
    assert found.effect[0] == pytest.approx(ranks @ own / np.sqrt((ranks**2).sum() * (own**2).sum()))
    observed = ranks @ own
    totals = [
        sum(ranks[i] * (0.5 if i in first else -0.5) for i in range(4))
        + sum(ranks[i] * (-0.1 if i in second else 0.1) for i in range(4, 8))
        for first in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
        for second in ((4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7))
    ]
    assert found.p[0] == pytest.approx(np.mean(np.array(totals) >= observed - 1e-12))
    assert found.z[0] == pytest.approx(observed / np.std(totals))


def test_label_scores_are_mean_ranks_of_the_classes_and_slopes_along_their_order() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan])[:, None]
    label, site = np.array([0, 0, 1, 1, 2, 2]), np.zeros(6, int)
    np.testing.assert_allclose(label_scores(values, label, site, 4)[:, 0], [-0.25, 1 / 12, 1 / 3, 0])
    expected = np.polyfit(label[:5], np.arange(1, 6) / 6, 1)[0]
    assert trend_slope(values[:5], label[:5].astype(float), site[:5])[0] == pytest.approx([expected])


def test_an_order_is_that_of_the_samples_with_a_value() -> None:
    generator = np.random.default_rng(2)
    values, places = generator.normal(size=(30, 1)), np.repeat([0.0, 1.0, 2.0], 10)
    values[[0, 1, 2, 3, 4, 25], 0] = np.nan
    known = ~np.isnan(values[:, 0])
    found = trend_test(values, in_order(places), 100, rng())
    assert found.effect[0] == pytest.approx(stats.spearmanr(values[known, 0], places[known]).statistic)
    as_numbers = Order(in_order(places).place ** 3, in_order(places).exchange, is_ranked=False)
    ranks = stats.rankdata(values[known, 0])
    expected = np.corrcoef(ranks, places[known] ** 3)[0, 1]
    assert trend_test(values, as_numbers, 100, rng()).effect[0] == pytest.approx(expected)
