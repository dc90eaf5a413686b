"""Batch norm whose statistics rest on the samples of several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

SumOverProcesses = Callable[[Tensor], Tensor]
"""Sums of this process → sums of all; not differentiated."""


class SharedBatchNorm(_BatchNorm):
    """Batch norm over (sample, channel, …) with statistics over all processes, on CPUs.

    Differs from ``nn.BatchNorm1d`` and ``2d`` on the whole batch by rounding only, also where processes hold unequal
    shares of the batch or none of it.

    Args:
        like: what to replace; its parameters and buffers are taken over.
        sum_over_processes: called by all processes in the same order.
    """

    def __init__(self, like: _BatchNorm, sum_over_processes: SumOverProcesses) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.sum_over_processes = sum_over_processes
        self.train(like.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count, mean, variance = _statistics(input.detach(), self.sum_over_processes)
        if count > 0:
            self._follow(count, mean, variance)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        normalised = _Normalise.apply(input, weight, bias, mean, variance, count, self.eps, self.sum_over_processes)
        return cast(Tensor, normalised)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (sample, channel, …), got {input.dim()} dimensions")

    @torch.no_grad()
    def _follow(self, count: float, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def _statistics(values: Tensor, sum_over_processes: SumOverProcesses) -> tuple[float, Tensor, Tensor]:
    """How many values a channel has over all processes, their mean and (biased) variance (channel,) float32."""
    count = values.numel() // values.shape[1]
    if count == 0:
        mean = variance = values.new_zeros(values.shape[1], dtype=torch.float64)
    else:
        unused = torch.zeros(values.shape[1], device=values.device)  # makes results float32, whatever the values are
        found = torch.batch_norm_update_stats(values, unused, unused.clone(), 0.0)
        mean, variance = (part.double() for part in found)
    counted = torch.full((1,), float(count), dtype=torch.float64, device=values.device)
    sums = sum_over_processes(torch.cat([counted, count * mean, count * (variance + mean.square())]))
    total = float(sums[0])
    mean, square = (sums[1:] / max(total, 1.0)).chunk(2)
    return total, mean.float(), (square - mean.square()).clamp(min=0).float()


class _Normalise(torch.autograd.Function):
    """γ (x − mean) / √(variance + ε) + β, where mean and variance are those of all processes' x.

    Backward, with x̂ the normalised x and n the count (Ioffe and Szegedy 2015, section 3):
    ∂x = γ / √(variance + ε) · (∂y − Σ∂y / n − x̂ Σ(∂y x̂) / n), sums over all processes; those of γ and β are this
    process's share.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: float,
        eps: float,
        sum_over_processes: SumOverProcesses,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.count, ctx.eps, ctx.sum_over_processes = count, eps, sum_over_processes
        return _affine(values, mean, variance, weight, bias, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, variance = ctx.saved_tensors
        gradient = gradients[0]
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if values.numel() > 0:
            _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, values, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
            )
        summed = ctx.sum_over_processes(torch.stack([by_weight, by_bias]).double()) / max(ctx.count, 1.0)
        scale = weight * (variance + ctx.eps).rsqrt()
        shared = -scale * summed.to(scale)
        by_values = _affine(values, mean, variance, shared[0], shared[1], ctx.eps)
        by_values.addcmul_(gradient, scale.reshape(-1, *[1] * (values.dim() - 2)))
        return by_values, by_weight, by_bias, None, None, None, None, None


def _affine(values: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """weight (values − mean) / √(variance + eps) + bias by channel, in torch's fastest kernel for it."""
    if values.numel() == 0:
        return torch.zeros_like(values)
    return nn.functional.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps)
