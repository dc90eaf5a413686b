"""The channel embedding of whole tiles, and its means over images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from plexrank.distributed import ProcessInfo, all_reduce_sum
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.training.data import TrainingTiles, model_input

CHANNEL_IMAGES = 512
"""Channel images per forward pass: small enough to stay in memory that the CPU already has at hand."""

IntArray = NDArray[np.int64]


@torch.inference_mode()
def embed_tiles(
    model: ChannelEmbedding, tiles: TrainingTiles, index: IntArray, info: ProcessInfo
) -> NDArray[np.float32]:
    """r of whole tiles, without crop and augmentation, in evaluation mode and full precision.

    A collective: the processes share the tiles, and each gets all of the result.

    Args:
        model: on ``info.device``; its mode is put back afterwards.
        index: (tile,) tile indices.

    Returns:
        (tile, channel) float32 in the order of ``index``, NaN where a tile's image lacks the channel.
    """
    was_training = model.training
    model.eval()
    mine = np.arange(info.process_rank, len(index), info.world_size)
    at_once = max(1, CHANNEL_IMAGES // model.num_channels)
    parts = np.array_split(mine, -(-len(mine) // at_once)) if len(mine) else []
    r = torch.zeros(len(index), model.num_channels)
    for part, intensities in zip(parts, tiles.batches(index[part] for part in parts), strict=True):
        present = tiles.present(index[part])
        images = model_input(intensities.to(info.device))
        embedded = model.embed(images, None if present is None else present.to(info.device))
        r[torch.from_numpy(part)] = embedded.cpu()
    model.train(was_training)
    of_all: NDArray[np.float32] = all_reduce_sum(r, info).numpy()
    return of_all


def mean_over_images(
    values: NDArray[np.floating], image_index: IntArray
) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
    """Means of (tile, …) values over the tiles of each image; NaN where the image lacks the channel.

    Returns:
        The images (image,) in rising order, the position of each one's first tile (image,), and the means
        (image, …) float64.
    """
    images, first, inverse, counts = np.unique(image_index, return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(images), *values.shape[1:]), dtype=np.float64)
    np.add.at(sums, inverse, values)
    return images, first, sums / counts.reshape(-1, *[1] * (values.ndim - 1))
