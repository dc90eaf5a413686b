"""One test made in several studies: its p-values combined, whether two studies have it, and how far orders agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from plexrank.arrays import Array
from plexrank.statistics.multiple import cauchy_combination

AT_LEAST = 2
"""Studies in which something is to be found to count as replicated."""
FEWEST_RANKED = 4
"""With fewer pairs a rank correlation has no interval."""


def spearman_interval(rho: float, number: int) -> tuple[float, float]:
    """95 % interval of Spearman's ρ: Fisher's z with the variance (1 + ρ²/2) / (n − 3) of Bonett & Wright (2000).

    It keeps its rate with a dozen pairs, where a bootstrap of pairs is too narrow. Pairs count as independent. A ρ of
    ±1, which has no z, takes the inner end of the nearest ρ that n ranks can have otherwise.

    Args:
        rho: of ``number`` pairs.

    Returns:
        Lower and upper end; NaN with fewer than four pairs.
    """
    if number < FEWEST_RANKED or not np.isfinite(rho):
        return np.nan, np.nan
    nearest = 1 - 12 / (number * (number**2 - 1))  # two neighbours exchanged
    inner = float(np.clip(rho, -nearest, nearest))
    z, half = np.arctanh(inner), stats.norm.isf(0.025) * np.sqrt((1 + inner**2 / 2) / (number - 3))
    low, high = float(np.tanh(z - half)), float(np.tanh(z + half))
    return (-1.0 if rho < -nearest else low), (1.0 if rho > nearest else high)


def combine_independent(p: Array) -> Array:
    """Fisher's method (1932): χ² of −2 Σ log p with two degrees of freedom a study, for tests without a direction.

    Args:
        p: (study, test); NaN takes no part.

    Returns:
        (test,), NaN where fewer than two studies have a p-value.
    """
    return _of_each(p, lambda own: float(stats.combine_pvalues(own, method="fisher").pvalue))


def combine_directed(p: Array, sign: Array, patients: Array) -> Array:
    """Stouffer's method on signed z, each weighted by √patients (Lipták 1958): opposite directions cancel.

    Args:
        p: (study, test) two-sided; NaN takes no part.
        sign: (study, test) −1, 0 or 1, the direction of each effect.
        patients: (study, test) that each p-value rests on.

    Returns:
        (test,) two-sided, NaN where fewer than two studies have a p-value.
    """
    known = np.isfinite(p)
    z = np.where(known, np.sign(sign) * stats.norm.isf(np.where(known, p, 1.0) / 2), 0.0)
    weight = np.where(known, np.sqrt(patients), 0.0)
    scale = np.sqrt((weight**2).sum(axis=0))
    total = np.divide((weight * z).sum(axis=0), scale, out=np.zeros(p.shape[1]), where=scale > 0)
    combined: Array = np.where(known.sum(axis=0) < AT_LEAST, np.nan, 2 * stats.norm.sf(np.abs(total)))
    return combined


def combine_dependent(p: Array) -> Array:
    """The Cauchy combination, NaN where fewer than two studies have a p-value; arguments as there."""
    combined: Array = np.where(np.isfinite(p).sum(axis=0) < AT_LEAST, np.nan, cauchy_combination(p))
    return combined


def partial_conjunction(p: Array, *, independent: bool) -> Array:
    """p-values of "fewer than two studies have an effect", by Benjamini & Heller (2008).

    The smallest p-value is set aside and the others are combined: by Fisher's method where studies are independent,
    else by Bonferroni's, which needs nothing of them. Of two studies it is the larger p-value either way.

    Args:
        p: (study, test); NaN takes no part.

    Returns:
        (test,), NaN where fewer than two studies have a p-value.
    """

    def of_one(own: Array) -> float:
        rest = np.sort(own)[AT_LEAST - 1 :]
        if independent and len(rest) > 1:
            return float(stats.combine_pvalues(rest, method="fisher").pvalue)
        return float(min(1.0, len(rest) * rest[0]))

    return _of_each(p, of_one)


def directed_partial_conjunction(p: Array, sign: Array, *, independent: bool) -> Array:
    """The same for effects of one direction: each direction by one-sided p-values, twice the smaller (Owen 2009).

    Args:
        p: (study, test) two-sided.
        sign: (study, test) −1, 0 or 1; an effect without a sign speaks for neither.
    """
    against = np.where((sign == 0) & np.isfinite(p), 1.0, 1 - p / 2)
    sides = [
        partial_conjunction(np.where(sign * side > 0, p / 2, against), independent=independent) for side in (1, -1)
    ]
    both: Array = np.minimum(1.0, 2 * np.minimum(*sides))
    return both


def overlap_of_tops(first: Array, second: Array, top: int) -> tuple[int, float, float]:
    """How many things two orders share among their first, what chance would give, and how likely so many are by it.

    Args:
        first: (thing,) place of each in one order, 1 or more.
        second: the same in the other.
        top: number of first places.

    Returns:
        The number, its expectation for unrelated orders, and the hypergeometric probability of as many or more.
    """
    shared = int(((first <= top) & (second <= top)).sum())
    number = len(first)
    return shared, top**2 / number, float(stats.hypergeom.sf(shared - 1, number, top, top))


def _of_each(p: Array, combine: Callable[[Array], float]) -> Array:
    known = np.isfinite(p)
    return np.array(
        [combine(column[own]) if own.sum() >= AT_LEAST else np.nan for column, own in zip(p.T, known.T, strict=True)],
        dtype=np.float64,
    )
