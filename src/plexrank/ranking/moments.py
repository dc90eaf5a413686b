"""Mergeable sums per group: any split of the rows gives the single-pass mean."""

from __future__ import annotations

import numpy as np

from plexrank.ranking.samples import Array


class GroupMoments:
    """Count and float64 sum of rows per group (tiles per image)."""

    def __init__(self, num_groups: int, shape: tuple[int, ...]) -> None:
        """Start with nothing seen.

        Args:
            num_groups: groups are numbered 0 … num_groups − 1.
            shape: shape of one row.
        """
        self.count = np.zeros(num_groups, dtype=np.int64)
        self.sum = np.zeros((num_groups, *shape), dtype=np.float64)

    def update(self, group: Array, values: Array) -> None:
        """Add rows: ``group`` (row,) int, ``values`` (row, *shape)."""
        np.add.at(self.count, group, 1)
        np.add.at(self.sum, group, np.asarray(values, dtype=np.float64))

    def merge(self, other: GroupMoments) -> None:
        """Add what another one has seen."""
        self.count += other.count
        self.sum += other.sum

    def mean(self) -> Array:
        """(group, *shape) float64, NaN for groups without rows."""
        count = self.count.reshape(-1, *(1,) * (self.sum.ndim - 1))
        with np.errstate(invalid="ignore"):
            means: Array = self.sum / count
        return means
