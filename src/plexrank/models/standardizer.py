"""Brings every channel of the embedding to mean 0 and variance 1, over the images that hold it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to variances, as by batch norm."""
MOMENTUM = 0.1
"""Share of a batch in the running statistics, as by batch norm."""


def _of_this_process(sums: Tensor) -> Tensor:
    return sums


class Standardizer(nn.Module):
    """Batch norm without affine over (tile, channel), whose channels may lack some of the tiles.

    Where no channel lacks a tile it differs from ``nn.BatchNorm1d(affine=False)`` by rounding only, and its state has
    the same keys.

    Args:
        num_channels: N.

    Attributes:
        share_sums: what turns the sums of this process (float64) into those of all, differentiably.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.share_sums: Callable[[Tensor], Tensor] = _of_this_process

    def forward(self, values: Tensor, present: Tensor | None = None) -> Tensor:
        """(tile, channel) float32 → the same standardised, by the batch in training, by running statistics otherwise.

        Args:
            present: (tile, channel) bool, ``None`` for all; what stands elsewhere does not count and must be finite.
        """
        if not self.training:
            return (values - self.running_mean) * (self.running_var + EPSILON).rsqrt()
        wide = values.double()
        counted = torch.ones_like(wide) if present is None else present.double()
        count, total, square = self.share_sums(torch.stack([counted, counted * wide, counted * wide.square()]).sum(1))
        count = count.detach()
        mean = total / count.clamp(min=1)
        variance = (square / count.clamp(min=1) - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach(), count)
        standardised: Tensor = (wide - mean) * (variance + EPSILON).rsqrt()
        return standardised.to(values.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics of the channels that have a variance in this batch."""
        self.num_batches_tracked.add_(1)
        share = MOMENTUM * (count > 1)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (unbiased - self.running_var)

    @torch.no_grad()
    def recenter(self, mean: Tensor, variance: Tensor) -> None:
        """Make the given mean and variance of standardised values the new 0 and 1.

        Running statistics lag behind the weights; known ones of the images that matter do not. A variance below
        ``EPSILON`` before standardisation stays below 1.

        Args:
            mean, variance: (channel,), NaN for channels to leave as they are.
        """
        spread = self.running_var + EPSILON
        moved = self.running_mean + mean.to(spread) * spread.sqrt()
        widened = (variance.to(spread) * spread - EPSILON).clamp(min=0)
        self.running_mean.copy_(torch.where(mean.to(spread).isnan(), self.running_mean, moved))
        self.running_var.copy_(torch.where(variance.to(spread).isnan(), self.running_var, widened))
