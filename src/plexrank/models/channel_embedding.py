"""The network of the paper: every channel becomes one number, and from the numbers it predicts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from plexrank.models.encoders import make_encoder
from plexrank.models.ordered import last_layer
from plexrank.models.standardizer import Standardizer

HIDDEN_UNITS = 200


class ChannelEmbedding(nn.Module):
    """An encoder that makes one number of each channel, then a small classifier on the channel embedding r.

    With ``standardize``, r has mean 0 and variance 1 per channel (:class:`Standardizer`), so that gradients of
    different channels compare.

    Args:
        num_channels: N, at least 1.
        num_outputs: K, at least 1.
        backbone: ``resnet18`` (the paper's), ``resnet3d18`` (convolves across channels, of the paper's ablation) or
            ``shallow``.
        standardize: whether r is standardised before it is classified.
        independent: whether what turns features into a number is another for each channel.
        ordered: whether the outputs are one score and thresholds that fall.

    Raises:
        ValueError: the numbers are too small or the backbone is unknown.
    """

    def __init__(
        self,
        num_channels: int,
        num_outputs: int,
        backbone: str = "resnet18",
        standardize: bool = True,
        independent: bool = False,
        ordered: bool = False,
    ) -> None:
        super().__init__()
        if num_channels < 1 or num_outputs < 1:
            raise ValueError(f"needs ≥ 1 channel and ≥ 1 output, got {num_channels} and {num_outputs}")
        self.num_channels = num_channels
        self.num_outputs = num_outputs
        self.encoder = make_encoder(backbone, independent, num_channels)
        self.standardizer = Standardizer(num_channels) if standardize else None
        self.classifier = nn.Sequential(
            nn.Linear(num_channels, HIDDEN_UNITS),
            nn.ReLU(),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.ReLU(),
            last_layer(HIDDEN_UNITS, num_outputs, ordered),
        )

    def embed(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """Tiles (B, N, y, x) float32 → r (B, N) float32.

        Args:
            present: (B, N) bool, which channels the tiles' images hold, ``None`` for all. The others are not encoded,
                count in no statistic, and their r is NaN.
        """
        r = self._embed(tiles, present)
        return r if present is None else r.masked_fill(~present, torch.nan)

    def _embed(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        """r with some finite number where a channel is absent."""
        if tiles.shape[1] != self.num_channels:
            raise ValueError(f"expected tiles of {self.num_channels} channels, got {tiles.shape[1]}")
        r = self.encoder(tiles, present)
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
        """r (B, N) float32 → outputs (B, K) float32, whatever the autocast; NaN counts as 0."""
        return self._classify(r.masked_fill(r.isnan(), 0))

    def _classify(self, r: Tensor) -> Tensor:
        with torch.autocast(r.device.type, enabled=False):
            return cast(Tensor, self.classifier(r))

    def forward(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """Outputs (B, K) of tiles; unlike in :meth:`classify`, an r that is NaN where a channel is present shows."""
        r = self._embed(tiles, present)
        return self._classify(r if present is None else r.masked_fill(~present, 0))
