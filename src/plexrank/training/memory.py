"""What a training step keeps in memory for its backward pass, and what to do where that is too much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    Where not even this tile fits the card, all of the card's memory.
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
    try:
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        ):
            logits = network(tile)  # holds what is kept until all of it is counted
            del logits
    except torch.OutOfMemoryError:
        return total_bytes(device)
    finally:
        network.train(was_training)
    return sum(kept.values())


def total_bytes(device: torch.device) -> int:
    """Memory of a card; 0 for a CPU, whose memory is not asked for."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0


def free_bytes(device: torch.device) -> int | None:
    """What tensors can still take of a card, torch's own reserve included; ``None`` for a CPU."""
    if device.type != "cuda":
        return None
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserve


def should_recompute(wanted: Literal["auto"] | bool, step_bytes: int, free: int | None) -> bool:
    """Whether activations are to be computed again.

    Args:
        wanted: the study's ``train.recompute``.
        step_bytes: what a pass keeps without recomputation.
        free: bytes free on the GPU, ``None`` on a CPU, where time is scarcer than memory.
    """
    if wanted == "auto":
        return free is not None and step_bytes > SHARE_FOR_ACTIVATIONS * free
    return wanted


@contextmanager
def naming_what_embeds(num_tiles: int, shape: Sequence[int]) -> Iterator[None]:
    """Turn running out of memory on whole tiles, which no setting of training bears on, into a message.

    Args:
        num_tiles: that pass at once.
        shape: (channel, y, x) of a tile.

    Raises:
        PlexrankError: in the place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        channels, height, width = shape
        raise PlexrankError(
            f"out of GPU memory: {num_tiles} whole tiles of {channels} channels, {height} × {width} px, at once "
            "without a backward pass; lower tile.tile_px, or use a GPU that nobody else computes on"
        ) from error


@contextmanager
def naming_what_fits(num_tiles: int, tile_bytes: int, recompute: bool, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into one message that says what to change.

    Args:
        num_tiles: the most tiles that pass at once in this process.
        tile_bytes: what a tile keeps without recomputation.
        recompute: whether activations are computed again already.

    Raises:
        PlexrankError: in the place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        total = total_bytes(device)
        fits = min(num_tiles - 1, int(SHARE_FOR_ACTIVATIONS * total / max(tile_bytes, 1)))
        remedy = "raise train.accumulate or lower train.batch_tiles or train.crop_px"
        if not recompute:
            remedy = f"set train.recompute: true, or {remedy}"
        raise PlexrankError(
            f"out of GPU memory: {num_tiles} tiles at once keep {num_tiles * tile_bytes / 2**30:.1f} GiB without "
            f"recomputation, and the card has {total / 2**30:.1f} GiB, which is room for about {fits}; {remedy}"
        ) from error
