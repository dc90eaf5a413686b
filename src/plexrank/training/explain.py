"""Importances of the networks that have no channel embedding, which take passes over the tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plexrank.arrays import IntArray
from plexrank.attribution.gradients import scaled_per_tile
from plexrank.attribution.methods import METHODS
from plexrank.distributed import ProcessInfo
from plexrank.models.baselines import Baseline
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import over_tiles

TileMethod = Callable[[Baseline, Tensor, Tensor | None], Tensor]


def _own(network: Baseline, tiles: Tensor, present: Tensor | None) -> Tensor:
    return network.importances(tiles, present)


def _own_scaled(network: Baseline, tiles: Tensor, present: Tensor | None) -> Tensor:
    return scaled_per_tile(network.importances(tiles, present))


@torch.no_grad()
def removal(network: Baseline, tiles: Tensor, present: Tensor | None) -> Tensor:
    """output_k − output_k of the tile without channel c (Zeiler & Fergus 2014, with channels as patches).

    Returns:
        (tile, channel, output), NaN where a tile's image lacks the channel.
    """
    held = torch.ones(tiles.shape[:2], dtype=torch.bool, device=tiles.device) if present is None else present
    whole, without = network(tiles, present), []
    for channel in range(network.num_channels):
        left = held.clone()
        left[:, channel] = False
        without.append(whole - network(tiles, left))
    return torch.stack(without, dim=1).masked_fill(~held[:, :, None], torch.nan)


TILE_METHODS: Mapping[str, TileMethod] = MappingProxyType(
    {"gradient": _own, "gradient_paper": _own_scaled, "occlusion": removal}
)
"""What :class:`plexrank.attribution.methods.Method` names; all are called with (network, tiles, present)."""


def explain_tiles(
    network: Baseline, tiles: TrainingTiles, index: IntArray, methods: Sequence[str], info: ProcessInfo
) -> dict[str, NDArray[np.float32]]:
    """Per method (tile, channel, output) of whole tiles, NaN where a tile's image lacks the channel.

    ``gradient`` is the network's own importance, ``gradient_paper`` the same scaled to 0–1 for every tile, and
    ``occlusion`` the change of the output when the channel is taken away. A collective, see
    :func:`plexrank.training.embedding.over_tiles`.
    """
    shape = (network.num_channels, network.num_outputs)
    on_tiles = {name: METHODS[name].on_tiles for name in methods}
    computed = {
        name: over_tiles(network, partial(TILE_METHODS[name], network), shape, tiles, index, info)
        for name in sorted({*filter(None, on_tiles.values())})
    }
    return {name: computed[own] for name, own in on_tiles.items() if own is not None}
