"""Modules in a row whose activations can be computed again in the backward pass instead of being kept.

Chen et al. 2016 (training deep nets with sublinear memory cost). All channel images of a batch pass a piece together,
so that the statistics of batch norm are those of the whole batch, and the gradients those without recomputation.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Segments(nn.Sequential):
    """A sequence cut into pieces.

    Args:
        modules: by name, in their order.
        pieces: names of (sub)modules in their order; the input of each piece is kept for the backward pass, and with
            ``recompute`` nothing else.

    Attributes:
        recompute: whether training trades time for memory.
    """

    def __init__(self, modules: OrderedDict[str, nn.Module], pieces: Sequence[Sequence[str]]) -> None:
        super().__init__(modules)
        self.pieces = tuple(tuple(piece) for piece in pieces)
        self.recompute = False

    def forward(self, values: Tensor) -> Tensor:
        """Pass all pieces."""
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        for piece in self.pieces:
            modules = [self.get_submodule(name) for name in piece]
            values = _pass_again(modules, values) if recompute else _pass(modules, values)
        return values


def set_recompute(network: nn.Module, recompute: bool) -> None:
    """Turn recomputation on or off in all of a network."""
    for module in network.modules():
        if isinstance(module, Segments):
            module.recompute = recompute


def _pass(modules: Sequence[nn.Module], values: Tensor) -> Tensor:
    for module in modules:
        values = module(values)
    return values


def _pass_again(modules: Sequence[nn.Module], values: Tensor) -> Tensor:
    passed: Tensor = checkpoint(
        partial(_pass, modules),
        values,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=partial(_contexts, modules),
    )
    return passed


def _contexts(modules: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return contextlib.nullcontext(), _statistics_at_rest(modules)


@contextlib.contextmanager
def _statistics_at_rest(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norm goes by the batch as before, but moves copies of its running statistics, which have seen the batch."""
    norms = [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
