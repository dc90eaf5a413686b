"""Mergeable sums per group: any split of the rows gives the single-pass mean."""

from __future__ import annotations

import numpy as np

from plexrank.ranking.samples import Array


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
        """Add rows: ``group`` (row,) int, ``values`` (row, *shape), ``weight`` (row,), 1 each if absent."""
        weight = np.ones(len(group)) if weight is None else np.asarray(weight, dtype=np.float64)
        np.add.at(self.count, group, 1)
        np.add.at(self.weight, group, weight)
        values = np.asarray(values, dtype=np.float64)
        np.add.at(self.sum, group, values * weight.reshape(-1, *(1,) * (values.ndim - 1)))

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
