"""Encoders that turn every channel of a tile into one number.

A backbone computes features of each channel and an embedding turns them into a number. The backbone is one for all
channels; the embedding is one for all, or one for each (``independent``). Source: section 3 and the ablation study
of the MICCAI 2020 paper on informative channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from plexrank.models.architectures import BACKBONES
from plexrank.models.recomputation import Segments
from plexrank.models.trunks import SHALLOW_LAYERS

RESNET18_FEATURES = 512
RESNET3D_FEATURES = 64
EMBEDDING_KERNELS = 64
EMBEDDING_SIDE = 7
DOWNSAMPLING_BLOCKS = 4
FEATURE_OFFSET = 0.01
"""Keeps the logarithm of silent features finite; they have unit variance before the rectifier."""


def make_encoder(backbone: str, independent: bool, num_channels: int) -> PlaneEncoder | VolumeEncoder:
    """An encoder (B, N, y, x) → (B, N), freshly initialised.

    Raises:
        ValueError: the backbone is unknown.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    encoder, make_trunk, make_embedding = BACKBONES[backbone].parts()
    trunk = make_trunk()
    made: PlaneEncoder | VolumeEncoder = encoder(
        trunk, Independent(make_embedding, num_channels) if independent else make_embedding()
    )
    return made


class PlaneEncoder(nn.Module):
    """A backbone that sees one channel at a time: (B, 1, y, x) → features (B, f, y', x'), then an embedding."""

    def __init__(self, backbone: Segments, embedding: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedding = embedding

    def forward(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        """Tiles (B, N, y, x) → (B, N) float32, 0 where ``present`` (B, N) is false; those planes are not encoded."""
        images = tiles.flatten(0, 1) if present is None else tiles[present]
        return _embed(self.embedding, self.backbone(images.unsqueeze(1)), present, tiles.shape[:2])


class VolumeEncoder(nn.Module):
    """A backbone that convolves across neighbouring channels too: (B, 1, N, y, x) → (B, f, N, y', x').

    A channel that is absent is 0 to its neighbours, which is halfway between dark and bright.
    """

    def __init__(self, backbone: Segments, embedding: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedding = embedding

    def forward(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        """As :meth:`PlaneEncoder.forward`."""
        planes = self.backbone(blank_absent(tiles, present).unsqueeze(1)).transpose(1, 2)
        features = planes.flatten(0, 1) if present is None else planes[present]
        return _embed(self.embedding, features, present, tiles.shape[:2])


def blank_absent(tiles: Tensor, present: Tensor | None) -> Tensor:
    """Tiles (B, N, y, x) with 0 in the planes whose ``present`` (B, N) is false."""
    return tiles if present is None else tiles.masked_fill(~present[:, :, None, None], 0)


def _embed(embedding: nn.Module, features: Tensor, present: Tensor | None, shape: torch.Size) -> Tensor:
    """Features (M, …) of the channels that are present, tile by tile → (B, N)."""
    r = embedding(features, present, shape[1]) if isinstance(embedding, Independent) else embedding(features)
    if present is None:
        return cast(Tensor, r.reshape(shape))
    return cast(Tensor, r.new_zeros(shape).masked_scatter(present, r))


class Independent(nn.Module):
    """One embedding for each channel."""

    def __init__(self, make: Callable[[], nn.Module], num_channels: int) -> None:
        super().__init__()
        self.of_channel = nn.ModuleList(make() for _ in range(num_channels))

    def forward(self, features: Tensor, present: Tensor | None, num_channels: int) -> Tensor:
        """Features (M, …) of the channels that are ``present`` (B, N), tile by tile → (M,)."""
        if present is None:
            of_channel = [embed(features[channel::num_channels]) for channel, embed in enumerate(self.of_channel)]
            return torch.stack(of_channel, dim=1).flatten()
        channel_of = present.nonzero()[:, 1]
        r = torch.zeros(len(features), device=features.device)
        for channel, embed in enumerate(self.of_channel):
            rows = (channel_of == channel).nonzero()[:, 0]
            r = r.index_copy(0, rows, embed(features[rows]))
        return r


class EmbeddingEncoder(nn.Module):
    """(B, 512, y, x) features → (B,) float32: three 3×3 convolutions, then one valid 7×7.

    Features of another size than 7×7 are pooled adaptively to it first. The last layer runs in
    float32 whatever the autocast, since its output is what the importances are computed from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv_norm(RESNET18_FEATURES), *_conv_norm(EMBEDDING_KERNELS), *_conv_norm(EMBEDDING_KERNELS)
        )
        self.summary = nn.Conv2d(EMBEDDING_KERNELS, 1, kernel_size=EMBEDDING_SIDE)

    def forward(self, features: Tensor) -> Tensor:
        """One number each."""
        return _summarise(self.summary, self.layers(_to_summary_side(features)))


class DownsamplingEncoder(nn.Module):
    """(B, 64, y, x) features → (B,) float32, for a backbone that hardly reduces y and x.

    Four times a maximum over 2×2 and two 3×3 convolutions, which makes 7×7 of 112×112 (other sizes are pooled to it
    adaptively), then one valid 7×7 in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(DOWNSAMPLING_BLOCKS):
            pool = nn.MaxPool2d(2, ceil_mode=True)
            blocks[str(number)] = nn.Sequential(pool, *_conv_norm(RESNET3D_FEATURES), *_conv_norm(EMBEDDING_KERNELS))
        self.layers = Segments(blocks, [(name,) for name in blocks])
        self.summary = nn.Conv2d(EMBEDDING_KERNELS, 1, kernel_size=EMBEDDING_SIDE)

    def forward(self, features: Tensor) -> Tensor:
        """One number each."""
        return _summarise(self.summary, _to_summary_side(self.layers(features)))


class LogMean(nn.Module):
    """(B, 32, y, x) features → (B,) float32: a weighted sum of the logarithms of their means over y and x.

    The logarithm is what is summarised, since protein abundance varies by ratios.
    """

    def __init__(self) -> None:
        super().__init__()
        self.summary = nn.Linear(SHALLOW_LAYERS[-1][1], 1)

    def forward(self, features: Tensor) -> Tensor:
        """One number each."""
        with torch.autocast(features.device.type, enabled=False):
            mean = features.float().mean(dim=(-2, -1))
            return cast(Tensor, self.summary((mean + FEATURE_OFFSET).log())).flatten()


def _conv_norm(in_channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(in_channels, EMBEDDING_KERNELS, kernel_size=3, padding=1)
    return convolution, nn.BatchNorm2d(EMBEDDING_KERNELS), nn.ReLU(inplace=True)


def _to_summary_side(features: Tensor) -> Tensor:
    if tuple(features.shape[-2:]) == (EMBEDDING_SIDE, EMBEDDING_SIDE):
        return features
    return nn.functional.adaptive_avg_pool2d(features, EMBEDDING_SIDE)


def _summarise(summary: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return cast(Tensor, summary(features.float())).flatten()
