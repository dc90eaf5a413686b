"""Exact permutation tests of ranks: do the values of patients differ between labels, or rise along their order?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import stats

from plexrank.arrays import Array
from plexrank.statistics.exchange import Exchange, Labellings, Order, columns_alike
from plexrank.statistics.means import known_mean

ROUNDING = 1e-9
"""Share of the observed statistic by which another labelling may stay below and still count as reaching it."""
SAME = 1e-12
"""Share of a stratum's mean up to which a deviation from it is rounding."""


@dataclass(frozen=True)
class RankTest:
    """One entry a column.

    Attributes:
        effect: share of the variation of the ranks that the labels explain (ε² of Kruskal & Wallis, 0 to 1), or the
            rank correlation with their order (−1 to 1).
        p: permutation p-value; 1 for a column without variation.

    Both are NaN where the samples with a value allow one labelling only, or there are none.
    """

    effect: Array
    p: Array

    @classmethod
    def of_columns(cls, values: Array, exchange: Exchange, test: Callable[[Array, Array, Exchange], RankTest]) -> Self:
        """Make a test for all columns that the same samples have, and put the results together.

        Args:
            values: (sample, column), NaN where a sample has no value.
            test: of the samples (sample,) bool, the columns (column,) int, and the exchange among these samples.
        """
        effect, p = np.full((2, values.shape[1]), np.nan)
        for rows, columns, among in columns_alike(values, exchange):
            found = test(rows, columns, among)
            effect[columns], p[columns] = found.effect, found.p
        return cls(effect, p)


def aligned_ranks(values: Array, stratum: Array) -> Array:
    """Mid-ranks of what is left when each stratum's mean is taken away, about their mean in each stratum.

    The aligned ranks of Hodges & Lehmann (1962): values of small strata still compare with all others, which ranks
    within strata do not.

    Args:
        values: (sample, column), NaN takes no part.
        stratum: (sample,) int, such as sites.

    Returns:
        (sample, column) in units of the number of values + 1, 0 where the value is NaN.
    """
    known = ~np.isnan(values)
    strata = [stratum == own for own in np.unique(stratum)]
    aligned = values
    if len(strata) > 1:
        aligned = np.empty(values.shape)
        for rows in strata:
            center = np.nan_to_num(known_mean(values[rows]))
            rest = values[rows] - center
            aligned[rows] = np.where(np.abs(rest) <= SAME * np.abs(center), 0.0, rest)
    ranks = stats.rankdata(np.where(known, aligned, np.inf), axis=0) / (known.sum(axis=0) + 1)
    result = np.zeros(values.shape)
    for rows in strata:
        own = np.where(known[rows], ranks[rows], np.nan)
        result[rows] = np.nan_to_num(own - known_mean(own))
    result[np.abs(result) <= SAME] = 0.0
    return result


def rank_test(values: Array, exchange: Exchange, draws: int, rng: np.random.Generator) -> RankTest:
    """Whether values differ between labels: Kruskal & Wallis' statistic on aligned ranks, by permutation.

    The statistic is the sum over labels of (sum of ranks)² / number, which for two labels is Wilcoxon's. No
    approximation: all labellings are gone through where there are few, else ``draws`` of them. By hand, since
    ``scipy.stats.kruskal`` knows neither strata nor labellings of patients.

    Args:
        values: (sample, column), NaN where a sample has no value: it takes no part there.
        exchange: the labels, and how they may be exchanged.
    """

    def test(rows: Array, columns: Array, among: Exchange) -> RankTest:
        everywhere = np.ones(rows.sum(), dtype=bool)
        return _rank_test([(everywhere, values[rows][:, columns])], among, draws, rng)

    return RankTest.of_columns(values, exchange, test)


def rank_test_apart(values: Array, exchange: Exchange, draws: int, rng: np.random.Generator) -> RankTest:
    """The same where values do not compare between strata, nor between tables: statistics of each add up.

    Args:
        values: (table, sample, column), such as numbers from units of several seeds, each with a sign of its own; a
            sample lacks a column in all tables or in none.
        exchange: its strata are the parts in which values compare, such as folds.
    """

    def test(rows: Array, columns: Array, among: Exchange) -> RankTest:
        parts = [(among.stratum == own, table) for own in np.unique(among.stratum) for table in values[:, rows]]
        return _rank_test([(own, table[own][:, columns]) for own, table in parts], among, draws, rng)

    return RankTest.of_columns(values[0], exchange, test)


def _rank_test(
    parts: Sequence[tuple[Array, Array]], exchange: Exchange, draws: int, rng: np.random.Generator
) -> RankTest:
    """Args: parts: rows (sample,) bool and their values (row, column), none of them NaN."""
    ranked = [(rows, aligned_ranks(values, exchange.stratum[rows])) for rows, values in parts]
    classes = np.unique(exchange.label)

    def between(labels: Array) -> Array:
        total = np.zeros((len(labels), parts[0][1].shape[1]))
        for k in classes:
            own = (labels == k).astype(np.float64)
            for rows, ranks in ranked:
                number = own[:, rows].sum(axis=1, keepdims=True)
                total += (own[:, rows] @ ranks) ** 2 / np.maximum(number, 1)
        return total

    observed = between(exchange.label[None])[0]
    reached, count = np.zeros(len(observed)), 0
    labellings = exchange.labellings(draws, rng)
    for labels in labellings:
        reached += (between(labels) >= observed * (1 - ROUNDING)).sum(axis=0)
        count += len(labels)
    spread = np.sum([(ranks**2).sum(axis=0) for _, ranks in ranked], axis=0)
    effect = np.divide(observed, spread, out=np.zeros_like(observed), where=spread > 0)
    return RankTest(effect, _p_values(labellings, reached, count, spread))


def trend_test(values: Array, order: Order, draws: int, rng: np.random.Generator) -> RankTest:
    """Whether values rise or fall along numbers of the samples: correlation of aligned ranks with them, by permutation.

    With ranks for the numbers it is Spearman's ρ; with martingale residuals the score test of Cox regression on ranks.

    Args:
        values: (sample, column), NaN takes no part.
        order: the numbers, and how they may be exchanged.

    Returns:
        The two-sided p-value; the effect's sign says in which direction.
    """

    def test(rows: Array, columns: Array, among: Exchange) -> RankTest:
        place = _mid_ranks(order.place, among.label) if order.is_ranked else order.place
        return _trend_test(values[rows][:, columns], place, among, draws, rng)

    return RankTest.of_columns(values, order.exchange, test)


def _mid_ranks(place: Array, label: Array) -> Array:
    """(label,) mid-ranks of the numbers of samples (sample,) among these samples; of other labels 0."""
    ranks = np.zeros(len(place))
    ranks[label] = stats.rankdata(place[label])
    return ranks


def _trend_test(values: Array, place: Array, exchange: Exchange, draws: int, rng: np.random.Generator) -> RankTest:
    ranks = aligned_ranks(values, exchange.stratum)
    deviation = place - place[exchange.label].mean()
    observed = deviation[exchange.label] @ ranks
    reached, count = np.zeros(values.shape[1]), 0
    labellings = exchange.labellings(draws, rng)
    for labels in labellings:
        reached += (np.abs(deviation[labels] @ ranks) >= np.abs(observed) * (1 - ROUNDING)).sum(axis=0)
        count += len(labels)
    spread = (ranks**2).sum(axis=0)
    scale = np.sqrt(spread * (deviation[exchange.label] ** 2).sum())
    effect = np.divide(observed, scale, out=np.zeros_like(observed), where=scale > 0)
    return RankTest(effect, _p_values(labellings, reached, count, spread))


def _p_values(labellings: Labellings, reached: Array, count: int, spread: Array) -> Array:
    return np.where(spread > 0, labellings.p_value(reached, count), 1.0)
