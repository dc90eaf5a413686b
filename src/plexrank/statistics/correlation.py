"""Spearman's correlation of one table of numbers with many others, or over many resamplings."""

from __future__ import annotations

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray


def spearman(values: Array, others: Array) -> FloatArray:
    """Spearman's ρ (draw,) of values (row,) with each row of others (draw, row); 0 where either does not vary."""
    ranks = scipy.stats.rankdata(values) - (len(values) + 1) / 2
    other = scipy.stats.rankdata(others, axis=1) - (len(values) + 1) / 2
    scale = np.sqrt((ranks**2).sum() * (other**2).sum(axis=1))
    result: FloatArray = np.divide(other @ ranks, scale, out=np.zeros(len(others)), where=scale > 0)
    return result


def weighted_spearman(values: Array, other: Array, weights: Array) -> FloatArray:
    """Spearman's ρ (draw,) of values (row,) with others (row,), each row repeated by its weight (draw, row).

    NaN where either does not vary among the rows that have weight.
    """
    a, b = weighted_ranks(values, weights), weighted_ranks(other, weights)
    total = weights.sum(axis=1, keepdims=True)
    a, b = a - (weights * a).sum(axis=1, keepdims=True) / total, b - (weights * b).sum(axis=1, keepdims=True) / total
    along = (weights * a * b).sum(axis=1)
    scale = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
    varies = scale > 1e-12 * total[:, 0] ** 3
    result: FloatArray = np.divide(along, scale, out=np.full(len(weights), np.nan), where=varies)
    return result


def weighted_ranks(values: Array, weights: Array) -> FloatArray:
    """Mid-ranks (draw, row) of values (row,) of which each stands there as often as its weight (draw, row) says."""
    _, place = np.unique(values, return_inverse=True)
    of_value = np.zeros((len(weights), place.max(initial=0) + 1))
    np.add.at(of_value.T, place, weights.T)
    below = np.cumsum(of_value, axis=1) - of_value
    ranks: FloatArray = (below + (of_value + 1) / 2)[:, place]
    return ranks
