"""From the settings of a study to its network."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from plexrank.models.architectures import ARCHITECTURES, NetworkChoice
from plexrank.models.baselines import Baseline
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.recomputation import Segments

Network = ChannelEmbedding | Baseline
"""Tiles (B, N, y, x), present (B, N) or ``None`` → outputs (B, K)."""


def build_network(choice: NetworkChoice, num_channels: int, num_outputs: int, ordered: bool = False) -> Network:
    """The network that a study asks for, freshly initialised, laid out channels-last.

    Channels-last trains the shallow encoder two to three times as fast on CPUs.

    Args:
        ordered: whether the outputs are one score and thresholds that fall
            (:class:`~plexrank.models.ordered.OrderedLinear`).
    """
    architecture = ARCHITECTURES[choice.architecture]
    parts = (choice.backbone, choice.standardize, choice.encoder == "independent") if architecture.has_embedding else ()
    network: Network = architecture.load()(num_channels, num_outputs, *parts, ordered=ordered)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    return network


@torch.no_grad()
def shift_outputs(network: Network, by: Tensor) -> None:
    """Add (output,) to every output, in place, by the bias of the last layer, which must have one."""
    layer = network.classifier[-1] if isinstance(network, ChannelEmbedding) else network.fc
    cast(nn.Linear, layer).bias.add_(by.to(layer.weight))  # type: ignore[arg-type]


def trunk_of(network: Network) -> Segments:
    """The part of a network that published weights are for."""
    return network.encoder.backbone if isinstance(network, ChannelEmbedding) else network.trunk
