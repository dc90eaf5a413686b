"""Many tests at once: false-discovery rates and combined p-values."""

from __future__ import annotations

import numpy as np
from scipy import stats

from plexrank.arrays import Array

LARGEST_P = 0.99
"""Larger p-values are combined as this: one of 1, whose quantile is minus infinity, would undo all others."""


def benjamini_hochberg(p: Array) -> Array:
    """q-values of Benjamini & Hochberg (1995).

    Args:
        p: (test,) p-values; NaN stands outside of the family and stays NaN.
    """
    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def cauchy_combination(p: Array) -> Array:
    """One p-value of several dependent ones, by the Cauchy combination of Liu & Xie (2020).

    Args:
        p: (kind, test); NaN takes no part.

    Returns:
        (test,), NaN where all are.
    """
    known = np.isfinite(p)
    terms = np.where(known, np.tan((0.5 - np.minimum(np.where(known, p, 0.5), LARGEST_P)) * np.pi), 0.0)
    count = known.sum(axis=0)
    mean = np.divide(terms.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
    combined: Array = stats.cauchy.sf(mean)
    return combined
