"""What a training step keeps in memory for its backward pass, and what to do where that is too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from plexrank.errors import PlexrankError

SHARE_FOR_ACTIVATIONS = 0.6
"""Of a GPU's free memory; the rest is for weights, gradients, optimiser and what a layer needs at once."""


def activation_bytes(network: nn.Module, num_channels: int, side_px: int, device: torch.device, bf16: bool) -> int:
    """Bytes that the passage of one tile keeps for the backward pass, without recomputation.

    Measured on a tile of zeros in evaluation mode, which keeps what training does. The network is left as it was.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(values: Tensor) -> Tensor:
        storage = values.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return values

    was_training = network.training
    network.eval()
    tile = torch.zeros(1, num_channels, side_px, side_px, device=device)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values),
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
    ):
        logits = network(tile)  # holds what is kept until all of it is counted
    network.train(was_training)
    del logits
    return sum(kept.values())


def should_recompute(wanted: Literal["auto"] | bool, step_bytes: int, free_bytes: int | None) -> bool:
    """Whether activations are to be computed anew.

    Args:
        wanted: the study's ``train.recompute``.
        step_bytes: what a pass keeps without recomputation.
        free_bytes: free memory of the GPU, ``None`` on a CPU, where time is scarcer than memory.
    """
    if wanted == "auto":
        return free_bytes is not None and step_bytes > SHARE_FOR_ACTIVATIONS * free_bytes
    return wanted


@contextmanager
def naming_what_fits(num_tiles: int, tile_bytes: int, recompute: bool) -> Iterator[None]:
    """Turn running out of memory into one message that says what to change.

    Args:
        num_tiles: tiles that pass at once in this process.
        tile_bytes: what a tile keeps without recomputation.
        recompute: whether activations are computed anew already.

    Raises:
        PlexrankError: in the place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
        fits = int(SHARE_FOR_ACTIVATIONS * total / max(tile_bytes, 1))
        remedy = "raise train.accumulate or lower train.batch_tiles or train.crop_px"
        if not recompute:
            remedy = f"set train.recompute: true, or {remedy}"
        raise PlexrankError(
            f"out of GPU memory: {num_tiles} tiles at once keep {num_tiles * tile_bytes / 2**30:.1f} GiB without "
            f"recomputation, and the card has {total / 2**30:.1f} GiB, which is room for about {fits}; {remedy}"
        ) from error
