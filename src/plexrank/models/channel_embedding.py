"""The network of the paper: every channel becomes one number, and the numbers are classified."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from plexrank.models.encoders import ResNet18Encoder, ShallowEncoder
from plexrank.models.standardizer import Standardizer

HIDDEN_UNITS = 200


class ChannelEmbedding(nn.Module):
    """One encoder shared by all channels, then a small classifier on the channel embedding r.

    With ``standardize``, r has mean 0 and variance 1 per channel (:class:`Standardizer`), so that gradients of
    different channels compare.

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
        self.standardizer = Standardizer(num_channels) if standardize else None
        self.classifier = nn.Sequential(
            nn.Linear(num_channels, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, num_classes),
        )

    def embed(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """Tiles (B, N, y, x) float32 → r (B, N) float32; the channels are folded into the batch.

        Args:
            present: (B, N) bool, which channels the tiles' images hold, ``None`` for all. The others are not encoded,
                count in no statistic, and their r is NaN.
        """
        r = self._embed(tiles, present)
        return r if present is None else r.masked_fill(~present, torch.nan)

    def _embed(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        """r with some finite number where a channel is absent."""
        batch, channels, height, width = tiles.shape
        if channels != self.num_channels:
            raise ValueError(f"expected tiles of {self.num_channels} channels, got {channels}")
        if present is None:
            r = self.encoder(tiles.reshape(batch * channels, 1, height, width)).reshape(batch, channels)
        else:
            encoded = self.encoder(tiles[present].unsqueeze(1))
            r = encoded.new_zeros(batch, channels).masked_scatter(present, encoded)
        if self.standardizer is None:
            return cast(Tensor, r)
        with torch.autocast(r.device.type, enabled=False):
            return cast(Tensor, self.standardizer(r, present))

    def recenter(self, mean: Tensor, variance: Tensor) -> None:
        """Make the given mean and variance of r, as it is now, its new 0 and 1; nothing without ``standardize``.

        Args:
            mean, variance: (channel,), NaN for channels to leave as they are.
        """
        if self.standardizer is not None:
            self.standardizer.recenter(mean, variance)

    def classify(self, r: Tensor) -> Tensor:
        """r (B, N) float32 → logits (B, K) float32, in full precision whatever the autocast; NaN counts as 0."""
        return self._classify(r.masked_fill(r.isnan(), 0))

    def _classify(self, r: Tensor) -> Tensor:
        with torch.autocast(r.device.type, enabled=False):
            return cast(Tensor, self.classifier(r))

    def forward(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """Logits (B, K) of tiles; unlike in :meth:`classify`, an r that is NaN where a channel is present shows."""
        r = self._embed(tiles, present)
        return self._classify(r if present is None else r.masked_fill(~present, 0))
