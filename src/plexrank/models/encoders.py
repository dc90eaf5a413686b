"""Encoders that turn one channel image into one number.

Sources: He et al. 2016 (ResNet18, as torchvision builds it) and section 3 of the MICCAI 2020 paper on
informative channels (the embedding encoder).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn

RESNET18_FEATURES = 512
EMBEDDING_KERNELS = 64
EMBEDDING_SIDE = 7
SHALLOW_LAYERS = ((1, 16, 5), (16, 16, 3), (16, 32, 3))
"""(input channels, kernels, kernel side) of each stride-2 convolution of the shallow encoder."""
LOG_OFFSET = 0.01
"""Keeps the logarithm of silent features finite; they have unit variance before the rectifier."""


def resnet18_trunk() -> nn.Sequential:
    """ResNet18 for one-channel images without pooling and FC: (B, 1, y, x) → (B, 512, ⌈y/32⌉, ⌈x/32⌉).

    The parameters carry torchvision's names, so that its weight files fit; they are freshly initialised.
    """
    from torchvision.models import resnet18  # takes two seconds to load, which the shallow backbone need not wait for

    network = resnet18(weights=None)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    kept = [(name, module) for name, module in network.named_children() if name not in ("avgpool", "fc")]
    return nn.Sequential(OrderedDict(kept))


class EmbeddingEncoder(nn.Module):
    """(B, 512, y, x) features → (B,) float32: three 3×3 convolutions, then one valid 7×7.

    Features of another size than 7×7 are pooled adaptively to it first. The last layer runs in full
    precision whatever the autocast, since its output is what the importances are computed from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(EMBEDDING_SIDE)
        layers: list[nn.Module] = []
        for in_channels in (RESNET18_FEATURES, EMBEDDING_KERNELS, EMBEDDING_KERNELS):
            layers += [
                nn.Conv2d(in_channels, EMBEDDING_KERNELS, kernel_size=3, padding=1),
                nn.BatchNorm2d(EMBEDDING_KERNELS),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.summary = nn.Conv2d(EMBEDDING_KERNELS, 1, kernel_size=EMBEDDING_SIDE)

    def forward(self, features: Tensor) -> Tensor:
        if tuple(features.shape[-2:]) != (EMBEDDING_SIDE, EMBEDDING_SIDE):
            features = self.pool(features)
        features = self.layers(features)
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, self.summary(features.float())).flatten()


class ResNet18Encoder(nn.Module):
    """The encoder of the paper: (B, 1, y, x) float32 → (B,) float32."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = resnet18_trunk()
        self.embedding = EmbeddingEncoder()

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.embedding(self.backbone(images)))


class ShallowEncoder(nn.Module):
    """Three stride-2 convolutions and a mean, for CPUs and small cohorts: (B, 1, y, x) → (B,) float32.

    The logarithm of the mean features is what is summarised, since protein abundance varies by ratios.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, kernels, side in SHALLOW_LAYERS:
            layers += [
                nn.Conv2d(in_channels, kernels, side, stride=2, padding=side // 2, bias=False),
                nn.BatchNorm2d(kernels),
                nn.ReLU(inplace=True),
            ]
        self.backbone = nn.Sequential(*layers)
        self.summary = nn.Linear(SHALLOW_LAYERS[-1][1], 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        with torch.autocast(features.device.type, enabled=False):
            mean = features.float().mean(dim=(-2, -1))
            return cast(Tensor, self.summary((mean + LOG_OFFSET).log())).flatten()
