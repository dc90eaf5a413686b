"""What a trained network says of the tiles that it held out: embedding, outputs and importances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from plexrank.arrays import IntArray
from plexrank.attribution.methods import METHODS
from plexrank.attribution.store import AttributionBlock
from plexrank.distributed import ProcessInfo
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.readout.pooling import tile_weights
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.training.checkpoint import TrainedUnit
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import embed_tiles, outputs_of_tiles
from plexrank.training.explain import explain_tiles


def explain_held_out(
    trained: TrainedUnit,
    cohort: TiledCohort,
    tiles: TrainingTiles,
    methods: Sequence[str],
    info: ProcessInfo,
    tiles_at_once: int,
) -> Iterator[AttributionBlock]:
    """The held-out embedding and importances of one training, whole images at a time. A collective.

    Args:
        tiles: of the cohort with the training's intensity scale.
        methods: importances to compute.
        tiles_at_once: in a block, about; an image's tiles are never parted.
    """
    index = held_out_tiles(trained, cohort)
    network = trained.network(info.device)
    for block in _whole_images(index, cohort.image_of_tile[index], tiles_at_once):
        if isinstance(network, ChannelEmbedding):
            r = embed_tiles(network, tiles, block, info)
            weight = tile_weights(trained.attention, r, cohort.image_of_tile[block])
            embedding = r if trained.blend is None else trained.blend.apply(r, cohort.channel_means[block])
            logits, values = _explain_embedding(trained, network, embedding, methods, info)
        else:
            weight = np.ones(len(block), dtype=np.float32)
            embedding = np.full((len(block), network.num_channels), np.nan, dtype=np.float32)
            logits = outputs_of_tiles(network, tiles, block, info)
            values = explain_tiles(network, tiles, block, methods, info)
        yield AttributionBlock(
            tile_id=block,
            embedding=embedding,
            logits=logits,
            mean_intensity=cohort.channel_means[block],
            weight=weight,
            values=values,
        )


def held_out_tiles(trained: TrainedUnit, cohort: TiledCohort) -> IntArray:
    """Indices (tile,) of the tiles that a training's fold holds out, image by image."""
    return cohort.tiles_of(cohort.plan.images(trained.fold, "held_out"))


def _whole_images(index: IntArray, image: IntArray, tiles_at_once: int) -> Iterator[IntArray]:
    """Parts of the tiles ``index`` of so many tiles or somewhat more, each with all tiles of its images."""
    starts = [0, *(np.flatnonzero(np.diff(image)) + 1).tolist(), len(index)]
    first = 0
    for start in starts[1:]:
        if start - first >= tiles_at_once or start == len(index):
            yield index[first:start]
            first = start


def _explain_embedding(
    trained: TrainedUnit,
    network: ChannelEmbedding,
    embedding: np.ndarray,
    methods: Sequence[str],
    info: ProcessInfo,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Outputs and importances of tiles, from the embedding and the small classifier alone."""
    classify = trained.classify(network)
    r = torch.from_numpy(embedding).to(info.device)
    background = torch.from_numpy(trained.embedding_mean).to(info.device)
    with torch.inference_mode():
        logits = classify(r).cpu().numpy()
    return logits, {name: METHODS[name].compute(classify, r, background).cpu().numpy() for name in methods}
