"""What a network says of whole tiles, such as their channel embedding, and means over images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plexrank.arrays import IntArray
from plexrank.distributed import ProcessInfo, all_reduce_sum
from plexrank.models.build import Network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.training.data import TrainingTiles, model_input
from plexrank.training.memory import naming_what_embeds

CHANNEL_IMAGES = 512
"""Channel images per forward pass: small enough to stay in memory that the CPU already has at hand."""
PIXELS = CHANNEL_IMAGES * 256**2
"""Pixels of all channels per forward pass, so that large tiles take no more memory: some 4 GB with ResNet18."""


def embed_tiles(
    model: ChannelEmbedding, tiles: TrainingTiles, index: IntArray, info: ProcessInfo
) -> NDArray[np.float32]:
    """r (tile, channel) float32 of whole tiles, NaN where a tile's image lacks the channel; see :func:`over_tiles`."""
    return over_tiles(model, model.embed, (model.num_channels,), tiles, index, info)


def outputs_of_tiles(model: Network, tiles: TrainingTiles, index: IntArray, info: ProcessInfo) -> NDArray[np.float32]:
    """Outputs (tile, output) float32 of whole tiles; see :func:`over_tiles`."""
    return over_tiles(model, model, (model.num_outputs,), tiles, index, info)


@torch.inference_mode()
def over_tiles(
    model: Network,
    compute: Callable[[Tensor, Tensor | None], Tensor],
    shape: tuple[int, ...],
    tiles: TrainingTiles,
    index: IntArray,
    info: ProcessInfo,
) -> NDArray[np.float32]:
    """What a network says of whole tiles, without crop and augmentation, in evaluation mode, without autocast.

    A collective: the processes share the tiles, and each gets all of the result.

    Args:
        model: on ``info.device``; its mode is put back afterwards.
        compute: tiles (B, N, y, x), present (B, N) or ``None`` → (B, *shape).
        shape: of what is computed of a tile.
        index: (tile,) tile indices.

    Returns:
        (tile, *shape) float32 in the order of ``index``.

    Raises:
        PlexrankError: the GPU's memory does not hold the passage of whole tiles.
    """
    was_training = model.training
    model.eval()
    mine = np.arange(info.process_rank, len(index), info.world_size)
    pixels = math.prod(tiles.shape[-2:])
    at_once = max(1, min(CHANNEL_IMAGES, PIXELS // pixels) // model.num_channels)
    parts = np.array_split(mine, -(-len(mine) // at_once)) if len(mine) else []
    values = torch.zeros(len(index), *shape)
    with naming_what_embeds(at_once, tiles.shape):
        for part, intensities in zip(parts, tiles.batches(index[part] for part in parts), strict=True):
            present = tiles.present(index[part])
            images = model_input(intensities.to(info.device))
            computed = compute(images, None if present is None else present.to(info.device))
            values[torch.from_numpy(part)] = computed.float().cpu()
    model.train(was_training)
    of_all: NDArray[np.float32] = all_reduce_sum(values, info).numpy()
    return of_all


def mean_over_images(
    values: NDArray[np.floating], image_index: IntArray, weights: NDArray[np.floating] | None = None
) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
    """Means of (tile, …) values over the tiles of each image; NaN where the image lacks the channel.

    Args:
        weights: (tile,), 1 on average over the tiles of each image; all alike if absent.

    Returns:
        The images (image,) in rising order, the position of each one's first tile (image,), and the means
        (image, …) float64.
    """
    images, first, inverse, counts = np.unique(image_index, return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(images), *values.shape[1:]), dtype=np.float64)
    np.add.at(sums, inverse, values if weights is None else values * weights.reshape(-1, *[1] * (values.ndim - 1)))
    return images, first, sums / counts.reshape(-1, *[1] * (values.ndim - 1))
