"""Who is still at risk when: samples in order of time, and sums over risk sets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np

from plexrank.arrays import Array, IntArray


@dataclass(frozen=True)
class RiskSets:
    """Samples as rows: by stratum, within it the latest first, so that a risk set is a cumulative sum.

    Attributes:
        order: (row,) int, the sample of each row.
        strata: rows of each stratum.
        first, last: (row,) int, first and last row with the same time and stratum; those at risk at the time of a row
            are the rows of its stratum up to ``last``.
    """

    order: IntArray
    strata: tuple[slice, ...]
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, time: Array, stratum: Array | None = None) -> Self:
        """Args: time: (sample,) float; stratum: (sample,) int, all samples are at risk together where it is None."""
        if stratum is None:
            stratum = np.zeros(len(time), dtype=np.int64)
        if time.shape != stratum.shape:
            raise ValueError(f"one entry a sample: time {time.shape}, stratum {stratum.shape}")
        order = np.lexsort((-time, stratum))
        leaves = np.diff(stratum[order]) != 0
        starts = _starts(leaves | (np.diff(time[order]) != 0))
        sizes = np.diff(starts, append=len(order))
        bounds = [*_starts(leaves).tolist(), len(order)]
        strata = tuple(slice(low, high) for low, high in itertools.pairwise(bounds))
        return cls(order, strata, np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes))

    def starts(self) -> IntArray:
        """(tie,) int rows: the first of each time of each stratum."""
        return np.unique(self.first)

    def onwards(self, values: Array, add: np.ufunc = np.add) -> Array:
        """Sum over the risk set at each row's time: (row, ...) of rows → the same shape.

        Args:
            add: ``np.logaddexp`` where values are logarithms.
        """
        total = np.empty_like(values)
        for rows in self.strata:
            add.accumulate(values[rows], axis=0, out=total[rows])
        return total[self.last]

    def until(self, values: Array, add: np.ufunc = np.add) -> Array:
        """Sum over the rows of the same stratum at each row's time or before it, (row, ...) → the same shape."""
        total = np.empty_like(values)
        for rows in self.strata:
            add.accumulate(values[rows][::-1], axis=0, out=total[rows][::-1])
        return total[self.first]


def logarithm(values: Array) -> Array:
    """Natural logarithm of what is not negative, −∞ for 0."""
    result: Array = np.log(values, out=np.full(values.shape, -np.inf), where=values > 0)
    return result


def _starts(leaves: Array) -> IntArray:
    return np.concatenate([[0], np.flatnonzero(leaves) + 1])
