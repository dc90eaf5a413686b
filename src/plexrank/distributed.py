"""Which process am I, and what the processes say to each other.

The only importer of ``torch.distributed`` and the only reader of ``RANK``, ``WORLD_SIZE`` and
``LOCAL_RANK``. Everything else is handed a :class:`ProcessInfo`. Every function that takes one is a
collective: all processes must reach it, in the same order. With one process it does nothing costly.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from plexrank.errors import PlexrankError

TIMEOUT = datetime.timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessInfo:
    """One process among ``world_size`` that train together.

    Attributes:
        process_rank: 0…world_size − 1.
        local_rank: the same within this machine; also the number of the GPU.
        device: where this process computes.
    """

    process_rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.process_rank == 0


@contextlib.contextmanager
def process_group() -> Iterator[ProcessInfo]:
    """Join the group that the environment describes, and leave it at the end.

    A single process where ``WORLD_SIZE`` is absent or 1; otherwise ``RANK``, ``LOCAL_RANK``,
    ``MASTER_ADDR`` and ``MASTER_PORT`` must be set, as torchrun and submitit do. Gloo on CPUs, NCCL on
    GPUs, one process a GPU.

    Raises:
        PlexrankError: the environment is incomplete or contradicts itself, or there are fewer GPUs than
            processes on this machine.
    """
    world_size = _environment_number("WORLD_SIZE", default=1)
    if world_size == 1:
        yield ProcessInfo(device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
        return
    info = ProcessInfo(
        process_rank=_environment_number("RANK"),
        world_size=world_size,
        local_rank=(local_rank := _environment_number("LOCAL_RANK")),
        device=_device(local_rank),
    )
    if not 0 <= info.process_rank < world_size:
        raise PlexrankError(f"RANK={info.process_rank} is not below WORLD_SIZE={world_size}; start all of them by srun")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise PlexrankError(f"WORLD_SIZE is {world_size} but {name} is not set; start by torchrun or submitit")
    backend = "nccl" if info.device.type == "cuda" else "gloo"
    if info.device.type == "cuda":
        torch.cuda.set_device(info.device)
    dist.init_process_group(backend, rank=info.process_rank, world_size=world_size, timeout=TIMEOUT)
    try:
        yield info
    finally:
        dist.destroy_process_group()


def wrap(model: nn.Module, info: ProcessInfo) -> nn.Module:
    """The model made ready to train over all processes; the model itself for a single process.

    Gradients are averaged over processes, so a loss must be scaled by ``world_size`` over what it sums.
    Batch norm takes its statistics over all processes: torch's own on GPUs, :class:`SharedBatchNorm` on
    CPUs. :func:`unwrap` gives back a module whose state has the keys of the plain model.
    """
    if info.world_size == 1:
        return model
    if info.device.type == "cuda":
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(synchronised, device_ids=[info.device.index])
    return DistributedDataParallel(_share_batch_norm(model))


def unwrap(model: nn.Module) -> nn.Module:
    """What :func:`wrap` was given, with its current weights."""
    return cast(nn.Module, model.module) if isinstance(model, DistributedDataParallel) else model


def all_reduce_sum(values: Tensor, info: ProcessInfo) -> Tensor:
    """The sum of every process's ``values``, of the same shape and dtype, on every process."""
    if info.world_size == 1:
        return values
    total = values.detach().to(info.device, copy=True)
    dist.all_reduce(total)
    return total.to(values.device)


def any_process(flag: bool, info: ProcessInfo) -> bool:
    """Whether the flag is set on at least one process; the same answer on all of them."""
    if info.world_size == 1:
        return flag
    return bool(all_reduce_sum(torch.tensor([int(flag)]), info).item() > 0)


def from_first(value: T, info: ProcessInfo) -> T:
    """The first process's ``value`` (tensors and plain types) on every process; others' are ignored."""
    if info.world_size == 1:
        return value
    box: list[Any] = [value if info.is_first else None]
    dist.broadcast_object_list(box, src=0, device=info.device)
    return cast(T, box[0])


def on_first(action: Callable[[], T], info: ProcessInfo) -> T:
    """Do something on the first process only; its result, or its error, reaches every process.

    Raises:
        PlexrankError, OSError: what ``action`` raised, on all processes, so that none waits for one that gave up.
    """
    if info.world_size == 1:
        return action()
    outcome: tuple[T | None, PlexrankError | OSError | None] = (None, None)
    if info.is_first:
        try:
            outcome = (action(), None)
        except (PlexrankError, OSError) as error:
            outcome = (None, error)
    value, failure = from_first(outcome, info)
    if failure is not None:
        raise failure
    return cast(T, value)


def barrier(info: ProcessInfo) -> None:
    """Wait until every process is here."""
    if info.world_size > 1:
        dist.barrier(device_ids=[info.device.index] if info.device.type == "cuda" else None)


class SharedBatchNorm(_BatchNorm):
    """Batch norm over (sample, channel, …) with statistics over all processes, for any backend.

    Differs from ``nn.BatchNorm1d`` and ``2d`` on the whole batch by rounding only, also where processes
    hold unequal shares of the batch or none of it.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        sums = cast(Tensor, _AllReduceSum.apply(self._local_sums(input)))
        count = sums[0].clamp(min=1)
        total, total_square = sums[1:].chunk(2)
        mean = total / count
        variance = (total_square / count - mean.square()).clamp(min=0)
        self._update_running(mean.detach(), variance.detach(), count.detach())
        scale = (variance + self.eps).rsqrt()
        shape = [1, -1] + [1] * (input.dim() - 2)
        normalised = (input - mean.to(input.dtype).reshape(shape)) * scale.to(input.dtype).reshape(shape)
        if self.affine:
            normalised = normalised * self.weight.reshape(shape) + self.bias.reshape(shape)
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (sample, channel, …), got {input.dim()} dimensions")

    def _local_sums(self, values: Tensor) -> Tensor:
        """(1 + 2 channels,) float64: how many values a channel has, their sums and sums of squares."""
        axes = [axis for axis in range(values.dim()) if axis != 1]
        count = values.numel() // values.shape[1]
        if count == 0:
            mean = variance = values.sum(dim=axes)
        else:
            variance, mean = torch.var_mean(values, dim=axes, unbiased=False)
        mean, variance = mean.double(), variance.double()
        counted = torch.full((1,), float(count), dtype=torch.float64, device=values.device)
        return torch.cat([counted, count * mean, count * (variance + mean.square())])

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum's every share is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _share_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm by a shared one with the same parameters and buffers, in place."""
    if isinstance(model, _BatchNorm):
        shared = SharedBatchNorm(model.num_features, model.eps, model.momentum, model.affine, model.track_running_stats)
        shared.weight, shared.bias = model.weight, model.bias
        shared.running_mean, shared.running_var = model.running_mean, model.running_var
        shared.num_batches_tracked = model.num_batches_tracked
        return shared.train(model.training)
    for name, child in model.named_children():
        model.add_module(name, _share_batch_norm(child))
    return model


def _environment_number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit() or (name == "WORLD_SIZE" and int(text) < 1):
        found = "absent" if text is None else f"{text!r}"
        raise PlexrankError(
            f"{name}: expected a whole number in the environment, found {found}; start by torchrun or srun"
        )
    return int(text)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise PlexrankError(
            f"LOCAL_RANK={local_rank} but this machine shows {torch.cuda.device_count()} GPUs; start one process a GPU"
        )
    return torch.device("cuda", local_rank)
