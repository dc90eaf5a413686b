"""Which process am I, and what the processes compute together.

The only one that makes a :class:`ProcessInfo` of ``RANK``, ``LOCAL_RANK`` and what srun calls them. Everything else is
handed one. Every function that takes one is a collective: all processes must reach it, in the same order. With one
process it does nothing costly.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store, rendezvous  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from plexrank.distributed.messages import packed, packed_error, unpacked, unpacked_error
from plexrank.distributed.rendezvous import LOOPBACK_DEVICE, TIMEOUT, is_on_one_host, meet
from plexrank.errors import PlexrankError
from plexrank.machine.devices import choose_device, identity, in_words, refuse_unlike
from plexrank.machine.environment_names import SRUN_NAMES, TORCHRUN_NAMES
from plexrank.models.shared_batch_norm import SharedBatchNorm

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessInfo:
    """One process among ``world_size`` that train together.

    Attributes:
        process_rank: 0…world_size − 1.
        local_rank: the same within this machine; also the number of the GPU.
        device: where this process computes.
        hardware: what all of them compute on, in words, such as ``4 × NVIDIA A100``.
    """

    process_rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    hardware: str = "CPU"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.process_rank == 0


@contextlib.contextmanager
def process_group(meetings: Path) -> Iterator[ProcessInfo]:
    """Join the group that the environment describes, and leave it at the end.

    torchrun sets ``WORLD_SIZE``, ``RANK``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``. srun says who a
    process is; there the first one takes a free port and publishes it in the folder ``meetings``. A single process
    otherwise. Gloo on CPUs, NCCL on GPUs, one process a GPU.

    Raises:
        PlexrankError: the environment is incomplete or contradicts itself, GPUs were given and cannot be used or are
            not one for each process, or the first process does not show up.
    """
    by_torchrun = TORCHRUN_NAMES.world_size in os.environ
    names = TORCHRUN_NAMES if by_torchrun else SRUN_NAMES
    world_size = _environment_number(names.world_size, default=1)
    if world_size == 1:
        device = choose_device(0)
        yield ProcessInfo(device=device, hardware=in_words([identity(device)[0]]))
        return
    process_rank, local_rank = _environment_number(names.process_rank), _environment_number(names.local_rank)
    if not 0 <= process_rank < world_size:
        raise PlexrankError(
            f"{names.process_rank}={process_rank} is not below {names.world_size}={world_size}; start all by srun"
        )
    info = ProcessInfo(process_rank, world_size, local_rank, choose_device(local_rank))
    store = _store_at_master_port(info) if by_torchrun else meet(meetings, info)
    info = replace(info, hardware=_agree_on_devices(store, info))
    if not by_torchrun and is_on_one_host():  # of gloo; NCCL passes over it
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK_DEVICE)
    backend = "nccl" if info.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=process_rank, world_size=world_size, timeout=TIMEOUT)
    try:
        yield info
    finally:
        dist.destroy_process_group()


def _store_at_master_port(info: ProcessInfo) -> Store:
    """torch's own, by MASTER_ADDR and MASTER_PORT."""
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise PlexrankError(f"WORLD_SIZE is given but {name} is not set; start by torchrun or srun")
    store, _, _ = next(rendezvous("env://", info.process_rank, info.world_size, timeout=TIMEOUT))
    return cast(Store, store)


def _agree_on_devices(store: Store, info: ProcessInfo) -> str:
    """What all processes compute on, in words, after each has seen that it fits together."""
    store.set(f"device-{info.process_rank}", json.dumps([socket.gethostname(), *identity(info.device)]))
    found = [json.loads(store.get(f"device-{rank}")) for rank in range(info.world_size)]
    hosts, names, identities = (list(column) for column in zip(*found, strict=True))
    refuse_unlike(hosts, names, identities)
    return in_words(names)


@runtime_checkable
class SharesSums(Protocol):
    """A module whose statistics rest on sums over the batch."""

    share_sums: Callable[[Tensor], Tensor]


def wrap(model: nn.Module, info: ProcessInfo, sync_batch_norm: bool = True) -> nn.Module:
    """The model made ready to train over all processes; the model itself for a single process.

    Gradients are averaged over processes, so a loss must be scaled by ``world_size`` over what it sums.
    Batch norm takes its statistics over all processes: torch's own on GPUs, :class:`SharedBatchNorm` on CPUs; without
    ``sync_batch_norm`` over each process's own, and running statistics differ until :func:`copy_buffers_of_first`. A
    module with sums of its own (:class:`SharesSums`) is always given what adds them up. :func:`unwrap` gives back a
    module whose state has the keys of the plain model.
    """
    if info.world_size == 1:
        return model
    for module in model.modules():
        if isinstance(module, SharesSums):
            module.share_sums = _sum_over_processes
    if info.device.type == "cuda" and sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.register_forward_pre_hook(_empty_in_float32)
    elif sync_batch_norm:
        model = _share_batch_norm(model)
    is_cuda = info.device.type == "cuda"
    wrapped = DistributedDataParallel(
        model,
        device_ids=[info.device.index] if is_cuda else None,
        gradient_as_bucket_view=True,
        # By default, gradients go to other buckets after the first step, so that three processes and more would add
        # them up in another order after a stop than without one. Looking for unused parameters keeps the buckets;
        # torch then warns that there are none.
        find_unused_parameters=not is_cuda and info.world_size > 2,
    )
    if sync_batch_norm:  # all processes reach the same running statistics
        wrapped.broadcast_buffers = False
    return wrapped


def unwrap(model: nn.Module) -> nn.Module:
    """What :func:`wrap` was given, with its current weights."""
    return cast(nn.Module, model.module) if isinstance(model, DistributedDataParallel) else model


def copy_buffers_of_first(model: nn.Module, info: ProcessInfo) -> None:
    """Every process's running statistics become the first one's, in place."""
    if info.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def all_reduce_sum(values: Tensor, info: ProcessInfo) -> Tensor:
    """The sum of every process's ``values``, of the same shape and dtype, on every process."""
    if info.world_size == 1:
        return values
    total = values.detach().to(info.device, copy=True)
    dist.all_reduce(total)
    return total.to(values.device)


def any_process(flags: Sequence[bool], info: ProcessInfo) -> list[bool]:
    """Which of the flags are set on at least one process; the same answer on all of them."""
    if info.world_size == 1:
        return list(flags)
    return (all_reduce_sum(torch.tensor(flags, dtype=torch.int32), info) > 0).tolist()


def from_first(value: T, info: ProcessInfo) -> T:
    """The first process's ``value`` (what :func:`~plexrank.distributed.messages.packed` takes) on every process.

    Others' values are ignored.
    """
    if info.world_size == 1:
        return value
    content = torch.frombuffer(bytearray(packed(value)), dtype=torch.uint8) if info.is_first else None
    length = torch.tensor([0 if content is None else len(content)], device=info.device)
    dist.broadcast(length, src=0)
    sent = torch.empty(int(length), dtype=torch.uint8) if content is None else content
    received = sent.to(info.device)
    dist.broadcast(received, src=0)
    return value if info.is_first else cast(T, unpacked(received.cpu().numpy().tobytes()))


def on_first(action: Callable[[], T], info: ProcessInfo) -> T:
    """Do something on the first process only; its result, or its error, reaches every process.

    Raises:
        PlexrankError, OSError, ValueError: what ``action`` raised, on all processes, so that none waits for one that
            gave up.
    """
    if info.world_size == 1:
        return action()
    value: T | None = None
    failure: Exception | None = None
    if info.is_first:
        try:
            value = action()
        except (PlexrankError, OSError, ValueError) as error:
            failure = error
    told, complaint = from_first((value, None if failure is None else packed_error(failure)), info)
    if complaint is not None:
        raise failure or unpacked_error(complaint)
    return cast(T, told)


def barrier(info: ProcessInfo) -> None:
    """Wait until every process is here."""
    if info.world_size > 1:
        dist.barrier(device_ids=[info.device.index] if info.device.type == "cuda" else None)


def _empty_in_float32(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """Statistics travel as float32 where there are samples, and as the input's type where there is none."""
    return (inputs[0].float(),) if inputs[0].numel() == 0 else None


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


def _sum_over_processes(values: Tensor) -> Tensor:
    return cast(Tensor, _AllReduceSum.apply(values))


def _summed(values: Tensor) -> Tensor:
    """The sum of every process's ``values``, which it takes the place of."""
    dist.all_reduce(values)
    return values


def _share_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm by a shared one with the same parameters and buffers, in place."""
    if isinstance(model, _BatchNorm):
        return SharedBatchNorm(model, _summed)
    for name, child in model.named_children():
        model.add_module(name, _share_batch_norm(child))
    return model


def _environment_number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    counts = name in (TORCHRUN_NAMES.world_size, SRUN_NAMES.world_size)
    if text is None or not text.isdigit() or (counts and int(text) < 1):
        found = "absent" if text is None else f"{text!r}"
        raise PlexrankError(
            f"{name}: expected a whole number in the environment, found {found}; start by torchrun or srun"
        )
    return int(text)
