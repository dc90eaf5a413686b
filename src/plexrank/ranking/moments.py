"""Mergeable sums per group: any split of the rows gives the single-pass mean."""

from __future__ import annotations

import numpy as np

from plexrank.arrays import Array

SAMPLES_AT_ONCE = 2048
"""Rows of which a float64 copy is made at a time: they stay in the cache."""


class GroupMoments:
    """Count, weight and float64 sum of rows per group (tiles per image)."""

    def __init__(self, num_groups: int, shape: tuple[int, ...]) -> None:
        """Start with nothing seen.

        Args:
            num_groups: groups are numbered 0 … num_groups − 1.
            shape: shape of one row.
        """
        self.count = np.zeros(num_groups, dtype=np.int64)
        self.weight = np.zeros(num_groups, dtype=np.float64)
        self.sum = np.zeros((num_groups, *shape), dtype=np.float64)

    def update(self, group: Array, values: Array, weight: Array | None = None) -> None:
        """Add rows: ``group`` (row,) int, ``values`` (row, *shape), ``weight`` (row,), 1 each if absent.

        A row that is NaN somewhere makes the group's mean NaN there.
        """
        weight = np.ones(len(group)) if weight is None else np.asarray(weight, dtype=np.float64)
        flat = self.sum.reshape(len(self.sum), -1)
        for start in range(0, len(group), SAMPLES_AT_ONCE):
            rows = slice(start, start + SAMPLES_AT_ONCE)
            groups, place, count = np.unique(group[rows], return_inverse=True, return_counts=True)
            self.count[groups] += count
            self.weight[groups] += np.bincount(place, weight[rows])
            share = np.zeros((len(groups), len(place)))
            share[place, np.arange(len(place))] = weight[rows]
            flat[groups] += _product(share, values[rows].reshape(len(place), -1).astype(np.float64))

    def merge(self, other: GroupMoments) -> None:
        """Add what another one has seen."""
        self.count += other.count
        self.weight += other.weight
        self.sum += other.sum

    def mean(self) -> Array:
        """(group, *shape) float64, NaN for groups without rows."""
        weight = self.weight.reshape(-1, *(1,) * (self.sum.ndim - 1))
        with np.errstate(invalid="ignore"):
            means: Array = self.sum / weight
        return means


def _product(share: Array, values: Array) -> Array:
    """share (group, row) @ values (row, column), with NaN only in the groups that have a NaN among their rows."""
    total: Array = share @ values
    if not np.isnan(total).any() or len(share) == 1:
        return total
    missing = np.isnan(values)
    total = share @ np.where(missing, 0.0, values)
    total[(share > 0).astype(np.float64) @ missing > 0] = np.nan
    return total
