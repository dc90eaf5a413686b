"""The network of the paper: every channel becomes one number, and the numbers are classified."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from plexrank.models.encoders import ResNet18Encoder, ShallowEncoder

HIDDEN_UNITS = 200


class ChannelEmbedding(nn.Module):
    """One encoder shared by all channels, then a small classifier on the channel embedding r.

    With ``standardize``, r has mean 0 and variance 1 per channel (batch norm without affine, running
    statistics in evaluation), so that gradients of different channels compare.

    Args:
        num_channels: N, at least 1.
        num_classes: K, at least 2.
        backbone: ``resnet18`` (11.5 million parameters) or ``shallow`` (7,473).
        standardize: whether r is standardised before it is classified.

    Raises:
        ValueError: the numbers are too small or the backbone is unknown.
    """

    def __init__(
        self,
        num_channels: int,
        num_classes: int,
        backbone: Literal["resnet18", "shallow"] = "resnet18",
        standardize: bool = True,
    ) -> None:
        super().__init__()
        if num_channels < 1 or num_classes < 2:
            raise ValueError(f"needs ≥ 1 channel and ≥ 2 classes, got {num_channels} and {num_classes}")
        if backbone not in ("resnet18", "shallow"):
            raise ValueError(f"backbone must be resnet18 or shallow, got {backbone!r}")
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.encoder: nn.Module = ResNet18Encoder() if backbone == "resnet18" else ShallowEncoder()
        self.standardizer: nn.Module = nn.BatchNorm1d(num_channels, affine=False) if standardize else nn.Identity()
        self.classifier = nn.Sequential(
            nn.Linear(num_channels, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, num_classes),
        )

    def embed(self, tiles: Tensor) -> Tensor:
        """Tiles (B, N, y, x) float32 → r (B, N) float32; the channels are folded into the batch."""
        batch, channels, height, width = tiles.shape
        if channels != self.num_channels:
            raise ValueError(f"expected tiles of {self.num_channels} channels, got {channels}")
        r = self.encoder(tiles.reshape(batch * channels, 1, height, width)).reshape(batch, channels)
        with torch.autocast(r.device.type, enabled=False):
            return cast(Tensor, self.standardizer(r))

    @torch.no_grad()
    def recenter(self, mean: Tensor, variance: Tensor) -> None:
        """Make the given mean and variance of r, as it is now, its new 0 and 1; nothing without ``standardize``.

        Running statistics lag behind the weights; known ones of the images that matter do not. A variance
        below batch norm's ε (1e-5, before standardisation) stays below 1.

        Args:
            mean, variance: (channel,).
        """
        if isinstance(self.standardizer, nn.Identity):
            return
        running = cast(nn.BatchNorm1d, self.standardizer)
        running_mean, running_var = cast(Tensor, running.running_mean), cast(Tensor, running.running_var)
        spread = running_var + running.eps
        running_mean += mean.to(running_mean) * spread.sqrt()
        running_var.copy_((variance.to(running_var) * spread - running.eps).clamp(min=0))

    def classify(self, r: Tensor) -> Tensor:
        """r (B, N) float32 → logits (B, K) float32, in full precision whatever the autocast."""
        with torch.autocast(r.device.type, enabled=False):
            return cast(Tensor, self.classifier(r))

    def forward(self, tiles: Tensor) -> Tensor:
        return self.classify(self.embed(tiles))
