"""Agreement of units (fold × seed) on an order, and orders made from theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from plexrank.arrays import Array


@dataclass(frozen=True)
class Agreement:
    """How much the units agree; None with fewer than two units or channels.

    Attributes:
        spearman: mean rank correlation of the importances over all pairs of units.
        kendall_w: Kendall's coefficient of concordance of the orders, 0 to 1.
        nogueira: stability of the sets of the first ``top`` channels, at most 1, 0 as loose as chance.
        top: how many channels count as the first.
    """

    spearman: float | None
    kendall_w: float | None
    nogueira: float | None
    top: int


def measure_agreement(unit_importance: Array, top: int) -> Agreement:
    """Agreement over the channels that every unit has seen.

    Args:
        unit_importance: (unit, channel) of the ranked channels, NaN where a unit has not seen the channel.
        top: size of the sets whose stability is measured; half of the channels where there are not twice as many.
    """
    seen = unit_importance[:, ~np.isnan(unit_importance).any(axis=0)]
    units, channels = seen.shape
    top = min(top, channels // 2)
    spearman = mean_agreement(unit_importance)
    if units < 2 or top < 1:
        return Agreement(None if np.isnan(spearman) else spearman, None, None, top)
    ranks = stats.rankdata(-seen, axis=1)
    return Agreement(spearman, _kendall_w(ranks), nogueira_stability(ranks <= top), top)


def mean_agreement(unit_importance: Array) -> float:
    """Mean Spearman correlation between the importances (unit, channel) of all pairs of units; NaN for one unit.

    Two units are compared over the channels that both have seen, those that are not NaN.
    """
    units = len(unit_importance)
    pairs = [_rank_correlation(unit_importance[[a, b]]) for a in range(units) for b in range(a)]
    return float(np.mean(pairs)) if pairs else float("nan")


def _rank_correlation(pair: Array) -> float:
    ranks = stats.rankdata(pair[:, ~np.isnan(pair).any(axis=0)], axis=1)
    ranks = ranks - ranks.mean(axis=1, keepdims=True) if ranks.size else ranks
    norm = float(np.sqrt((ranks**2).sum(axis=1).prod()))
    return float(ranks[0] @ ranks[1]) / norm if norm > 0 else 0.0


def _kendall_w(ranks: Array) -> float:
    """W of Kendall & Babington Smith (1939) with the correction for ties: (unit, channel) ranks."""
    units, channels = ranks.shape
    spread = ((ranks.sum(axis=0) - units * (channels + 1) / 2) ** 2).sum()
    ties = sum(float((count**3 - count).sum()) for count in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = units**2 * (channels**3 - channels) - units * ties
    return float(12 * spread / most) if most > 0 else 0.0


def nogueira_stability(selected: Array) -> float:
    """Stability of feature selection of Nogueira, Sechidis & Brown (2018): 1 for equal sets, 0 expected by chance.

    Args:
        selected: (unit, channel) bool, two units or more.
    """
    units = len(selected)
    share = selected.mean(axis=0)
    chosen = share.mean()
    by_chance = chosen * (1 - chosen)
    return float(1 - (share * (1 - share)).mean() * units / (units - 1) / by_chance) if by_chance > 0 else 1.0


def borda_points(unit_positions: Array) -> Array:
    """Mean over units of the share of channels that a channel beats (Borda count), higher is better.

    Args:
        unit_positions: (unit, channel), 1 = best; NaN where a unit has not seen the channel.

    Returns:
        (channel,), NaN for channels that no unit has seen.
    """
    known = ~np.isnan(unit_positions)
    beaten = known.sum(axis=1, keepdims=True) - np.where(known, unit_positions, 0.0)
    points = np.where(known, beaten / np.maximum(known.sum(axis=1, keepdims=True) - 1, 1), 0.0).sum(axis=0)
    count = known.sum(axis=0)
    result: Array = np.divide(points, count, out=np.full(len(count), np.nan), where=count > 0)
    return result
