"""The optimiser of the paper and what lowers its learning rate."""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


def make_optimiser(network: nn.Module, learning_rate: float) -> Optimizer:
    """Adam with amsgrad and a weight decay of 1e-7, in one kernel for all parameters."""
    return Adam(network.parameters(), lr=learning_rate, weight_decay=1e-7, amsgrad=True, fused=True)


def make_scheduler(optimiser: Optimizer) -> ReduceLROnPlateau:
    """Lowers the rate to 0.65 of it where the validation score has not risen for six epochs, then waits for three."""
    return ReduceLROnPlateau(optimiser, mode="max", factor=0.65, patience=6, cooldown=3, threshold_mode="abs")
