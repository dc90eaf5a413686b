"""Exact permutation tests of ranks: do the values of patients differ between labels, or rise along their order?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from plexrank.statistics.exchange import Exchange, Labellings

Array = np.ndarray

ROUNDING = 1e-9
"""Share of the observed statistic by which another labelling may stay below and still count as reaching it."""


@dataclass(frozen=True)
class RankTest:
    """One entry a column.

    Attributes:
        effect: share of the variation of the ranks that the labels explain (ε² of Kruskal & Wallis, 0 to 1), or the
            rank correlation with their order (−1 to 1).
        p: permutation p-value; 1 for a column without variation, NaN for one without values.
    """

    effect: Array
    p: Array


def ranks_within(values: Array, stratum: Array) -> Array:
    """Mid-ranks within strata, about their mean and over the number of values + 1 (van Elteren 1960).

    Args:
        values: (sample, column), NaN takes no part.
        stratum: (sample,) int.

    Returns:
        (sample, column) between −½ and ½, 0 where the value is NaN.
    """
    result = np.zeros(values.shape)
    for own in np.unique(stratum):
        rows = stratum == own
        known = ~np.isnan(values[rows])
        count = known.sum(axis=0)
        ranks = stats.rankdata(np.where(known, values[rows], np.inf), axis=0)
        result[rows] = np.where(known, ranks / (count + 1) - 0.5, 0.0)
    return result


def rank_test(values: Array, exchange: Exchange, draws: int, rng: np.random.Generator) -> RankTest:
    """Whether values differ between labels: Kruskal & Wallis' statistic on ranks within strata, by permutation.

    The statistic is the sum over labels of (sum of ranks)² / number, which for two labels is Wilcoxon's. No
    approximation: all labellings are gone through where there are few, else ``draws`` of them.

    Args:
        values: (sample, column), NaN where a sample has no value: it takes no part there.
        exchange: the labels, and how they may be exchanged.
    """
    everywhere = np.ones(len(values), dtype=bool)
    return _rank_test([(everywhere, values)], exchange, draws, rng)


def rank_test_apart(values: Array, exchange: Exchange, draws: int, rng: np.random.Generator) -> RankTest:
    """The same where values do not compare between strata, nor between tables: statistics of each add up.

    Args:
        values: (table, sample, column), such as numbers from units of several seeds, each with a sign of its own.
        exchange: its strata are the parts in which values compare, such as folds.
    """
    parts = [(exchange.stratum == own, table) for own in np.unique(exchange.stratum) for table in values]
    return _rank_test([(rows, table[rows]) for rows, table in parts], exchange, draws, rng)


def _rank_test(
    parts: Sequence[tuple[Array, Array]], exchange: Exchange, draws: int, rng: np.random.Generator
) -> RankTest:
    """Args: parts: rows (sample,) bool and their values (row, column)."""
    ranked = [
        (rows, ranks_within(values, exchange.stratum[rows]), (~np.isnan(values)).astype(np.float64))
        for rows, values in parts
    ]
    classes = np.unique(exchange.label)

    def between(labels: Array) -> Array:
        total = np.zeros((len(labels), parts[0][1].shape[1]))
        for k in classes:
            own = (labels == k).astype(np.float64)
            for rows, ranks, known in ranked:
                total += (own[:, rows] @ ranks) ** 2 / np.maximum(own[:, rows] @ known, 1)
        return total

    observed = between(exchange.label[None])[0]
    reached, count = np.zeros(len(observed)), 0
    labellings = exchange.labellings(draws, rng)
    for labels in labellings:
        reached += (between(labels) >= observed * (1 - ROUNDING)).sum(axis=0)
        count += len(labels)
    spread = np.sum([(ranks**2).sum(axis=0) for _, ranks, _ in ranked], axis=0)
    known = np.any([own.any(axis=0) for _, _, own in ranked], axis=0)
    effect = np.divide(observed, spread, out=np.zeros_like(observed), where=spread > 0)
    return RankTest(effect, _p_values(labellings, reached, count, known, spread))


def trend_test(
    values: Array, order: Sequence[float] | Array, exchange: Exchange, draws: int, rng: np.random.Generator
) -> RankTest:
    """Whether values rise or fall along the order of the labels: Spearman's ρ within strata, by permutation.

    Args:
        values: (sample, column), NaN takes no part.
        order: (class,) place of each label.
        exchange: the labels, and how they may be exchanged.

    Returns:
        The two-sided p-value; the effect's sign says in which direction.
    """
    ranks, known = ranks_within(values, exchange.stratum), (~np.isnan(values)).astype(np.float64)
    places = ranks_within(np.asarray(order, dtype=np.float64)[exchange.label][:, None], exchange.stratum)[:, 0]
    of_class = np.array([places[exchange.label == k].mean() if (exchange.label == k).any() else 0.0
                         for k in range(len(order))])  # fmt: skip
    observed = of_class[exchange.label] @ ranks
    reached, count = np.zeros(values.shape[1]), 0
    labellings = exchange.labellings(draws, rng)
    for labels in labellings:
        reached += (np.abs(of_class[labels] @ ranks) >= np.abs(observed) * (1 - ROUNDING)).sum(axis=0)
        count += len(labels)
    centred = (of_class[exchange.label] - of_class[exchange.label].mean())[:, None] * known
    spread = (ranks**2).sum(axis=0)
    scale = np.sqrt(spread * (centred**2).sum(axis=0))
    effect = np.divide(observed, scale, out=np.zeros_like(observed), where=scale > 0)
    return RankTest(effect, _p_values(labellings, reached, count, known.any(axis=0), spread))


def _p_values(labellings: Labellings, reached: Array, count: int, known: Array, spread: Array) -> Array:
    p = np.where(spread > 0, labellings.p_value(reached, count), 1.0)
    return np.where(known, p, np.nan)
