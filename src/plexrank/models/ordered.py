"""The last layer of a network; of grades, one whose outputs keep their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_GAP = 1e-3
"""Between neighbouring thresholds, at least."""


class OrderedLinear(nn.Linear):
    """One score plus thresholds that fall: outputs are cumulative logits (McCullagh 1980).

    Before training the thresholds are where, at a score of 0, all grades are equally likely.

    Args:
        num_features: of what comes in.
        num_outputs: K − 1, how many grades there are but one.
    """

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__(num_features, 1, bias=False)
        above = torch.arange(num_outputs, 0, -1, dtype=torch.float64) / (num_outputs + 1)
        logits = above.logit()
        gaps = (-logits.diff() - LEAST_GAP).clamp(min=LEAST_GAP)
        steps = torch.cat([logits[:1], gaps.expm1().log()])
        self.steps = nn.Parameter(steps.to(self.weight))

    @property
    def thresholds(self) -> Tensor:
        """(output,) float32, each below the one before."""
        falls = nn.functional.softplus(self.steps[1:]) + LEAST_GAP
        return self.steps[0] - torch.cat([falls.new_zeros(1), falls.cumsum(dim=0)])

    def forward(self, features: Tensor) -> Tensor:
        """(B, feature) → (B, output)."""
        return super().forward(features) + self.thresholds


def last_layer(num_features: int, num_outputs: int, ordered: bool) -> nn.Linear:
    """Features (B, feature) → outputs (B, output), freshly initialised."""
    return OrderedLinear(num_features, num_outputs) if ordered else nn.Linear(num_features, num_outputs)
