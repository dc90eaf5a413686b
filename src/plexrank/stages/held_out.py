"""What a trained network says of the tiles that it held out: embedding, logits and importances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from plexrank.attribution.methods import METHODS
from plexrank.attribution.store import UnitAttribution
from plexrank.distributed import ProcessInfo
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.readout.pooling import tile_weights
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.training.checkpoint import TrainedUnit
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import embed_tiles, logits_of_tiles
from plexrank.training.explain import explain_tiles


def explain_held_out(
    trained: TrainedUnit,
    cohort: TiledCohort,
    tiles: TrainingTiles,
    methods: Sequence[str],
    info: ProcessInfo,
    checkpoint_sha256: str = "",
) -> UnitAttribution:
    """The held-out embedding and importances of one training. A collective.

    Args:
        tiles: of the cohort with the training's intensity scale.
        methods: importances to compute.
        checkpoint_sha256: digest of the file that ``trained`` was read from, where the result is to name it.
    """
    index = cohort.tiles_of(cohort.plan.images(trained.fold, "held_out"))
    network = trained.network(info.device)
    if isinstance(network, ChannelEmbedding):
        r = embed_tiles(network, tiles, index, info)
        weight = tile_weights(trained.attention, r, cohort.image_of_tile[index])
        embedding = r if trained.blend is None else trained.blend.apply(r, cohort.channel_means[index])
        logits, values = _explain_embedding(trained, network, embedding, methods, info)
    else:
        weight = np.ones(len(index), dtype=np.float32)
        embedding = np.full((len(index), network.num_channels), np.nan, dtype=np.float32)
        logits = logits_of_tiles(network, tiles, index, info)
        values = explain_tiles(network, tiles, index, methods, info)
    return UnitAttribution(
        fold=trained.fold,
        seed=trained.seed,
        channel_names=trained.channel_names,
        class_names=trained.class_names,
        checkpoint_sha256=checkpoint_sha256,
        tile_id=index,
        embedding=embedding,
        logits=logits,
        mean_intensity=cohort.channel_means[index],
        weight=weight,
        values=values,
    )


def _explain_embedding(
    trained: TrainedUnit,
    network: ChannelEmbedding,
    embedding: np.ndarray,
    methods: Sequence[str],
    info: ProcessInfo,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits and importances of tiles, from the embedding and the small classifier alone."""
    classify = trained.classify(network)
    r = torch.from_numpy(embedding).to(info.device)
    background = torch.from_numpy(trained.embedding_mean).to(info.device)
    with torch.inference_mode():
        logits = classify(r).cpu().numpy()
    return logits, {name: METHODS[name].compute(classify, r, background).cpu().numpy() for name in methods}
