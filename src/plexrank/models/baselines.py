"""The networks that the channel embedding is compared with, each with its own importance of channels.

Source: section 4 and figure 3 of the MICCAI 2020 paper on informative channels. They have no channel embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from plexrank.models.encoders import blank_absent
from plexrank.models.ordered import last_layer
from plexrank.models.recomputation import Segments
from plexrank.models.trunks import resnet3d18_trunk, resnet18_trunk, resnet50_trunk

FEATURES = {"resnet18": 512, "resnet50": 2048, "resnet3d18": 512}


class Baseline(nn.Module, ABC):
    """A trunk, the average of its features over all positions, and one linear layer.

    Args:
        trunk: with torchvision's names.
        features: what it gives.
        num_channels: N, at least 1.
        num_outputs: K, at least 1.
        ordered: whether the outputs are one score and thresholds that fall.

    Raises:
        ValueError: the numbers are too small.
    """

    def __init__(
        self, trunk: Segments, features: int, num_channels: int, num_outputs: int, ordered: bool = False
    ) -> None:
        super().__init__()
        if num_channels < 1 or num_outputs < 1:
            raise ValueError(f"needs ≥ 1 channel and ≥ 1 output, got {num_channels} and {num_outputs}")
        self.num_channels = num_channels
        self.num_outputs = num_outputs
        self.trunk = trunk
        self.fc = last_layer(features, num_outputs, ordered)

    def forward(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """Tiles (B, N, y, x) float32 → outputs (B, K) float32.

        Args:
            present: (B, N) bool, which channels the tiles' images hold, ``None`` for all.
        """
        if tiles.shape[1] != self.num_channels:
            raise ValueError(f"expected tiles of {self.num_channels} channels, got {tiles.shape[1]}")
        return self._outputs(tiles, present)

    @abstractmethod
    def _outputs(self, tiles: Tensor, present: Tensor | None) -> Tensor: ...

    @abstractmethod
    def importances(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """How much every channel of every tile matters to every output: (B, N, K) float32, ≥ 0, NaN where absent.

        In evaluation mode, where tiles do not depend on each other.
        """

    def _predict(self, features: Tensor) -> Tensor:
        """Features (B, f, …) → (B, K) float32, whatever the autocast."""
        with torch.autocast(features.device.type, enabled=False):
            return cast(Tensor, self.fc(features.float().flatten(2).mean(dim=2)))


class WholeTileBaseline(Baseline):
    """A network that mixes the channels from its first convolution on; an absent channel is 0 to it.

    Its importance is the magnitude of the gradient of an output at the input (Simonyan, Vedaldi & Zisserman
    2013), averaged over y and x.
    """

    def importances(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """See :class:`Baseline`."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = blank_absent(tiles, present).detach().clone().requires_grad_()
            summed = self._outputs(leaf, None).sum(dim=0)
            per_output = [torch.autograd.grad(output, leaf, retain_graph=True)[0] for output in summed]
        values = torch.stack([gradient.abs().mean(dim=(2, 3)) for gradient in per_output], dim=-1)
        return values if present is None else values.masked_fill(~present[:, :, None], torch.nan)


class ResNet50(WholeTileBaseline):
    """ResNet50 with an N-channel first convolution."""

    def __init__(self, num_channels: int, num_outputs: int, ordered: bool = False) -> None:
        super().__init__(resnet50_trunk(num_channels), FEATURES["resnet50"], num_channels, num_outputs, ordered)

    def _outputs(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        return self._predict(self.trunk(blank_absent(tiles, present)))


class ResNet3D18(WholeTileBaseline):
    """ResNet3D-18 with the channels as depth."""

    def __init__(self, num_channels: int, num_outputs: int, ordered: bool = False) -> None:
        super().__init__(resnet3d18_trunk(), FEATURES["resnet3d18"], num_channels, num_outputs, ordered)

    def _outputs(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        return self._predict(self.trunk(blank_absent(tiles, present).unsqueeze(1)))


class Bsn(Baseline):
    """A ResNet18 predicts from every channel alone; the outputs are averaged over the channels that are present.

    After Lin et al. 2018 (boundary sensitive network), with channels in the place of video frames. Its importance is
    Grad-CAM (Selvaraju et al. 2017) of every channel, averaged over y and x.
    """

    def __init__(self, num_channels: int, num_outputs: int, ordered: bool = False) -> None:
        super().__init__(resnet18_trunk(), FEATURES["resnet18"], num_channels, num_outputs, ordered)

    def _outputs(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        if present is None:
            return self._predict(self._features(tiles, None)).reshape(*tiles.shape[:2], self.num_outputs).mean(dim=1)
        scores = self._predict(self._features(tiles, present))
        total = scores.new_zeros(len(tiles), self.num_outputs).index_add(0, present.nonzero()[:, 0], scores)
        return total / present.sum(dim=1, keepdim=True).clamp(min=1)

    def _features(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        images = tiles.flatten(0, 1) if present is None else tiles[present]
        return cast(Tensor, self.trunk(images.unsqueeze(1)))

    @torch.no_grad()
    def importances(self, tiles: Tensor, present: Tensor | None = None) -> Tensor:
        """See :class:`Baseline`.

        The score is linear in the averaged features, so that the gradient at every position of a feature map is the
        feature's weight over the number of positions; dividing by the number of averaged channels changes no share.
        """
        features = self._features(tiles, present).float()
        weight = self.fc.weight.expand(self.num_outputs, -1)
        maps = torch.einsum("mfyx,kf->mkyx", features, weight).relu()
        values = maps.mean(dim=(2, 3)) / (features.shape[-2] * features.shape[-1])
        if present is None:
            return values.reshape(*tiles.shape[:2], -1)
        result = values.new_full((*present.shape, self.num_outputs), torch.nan)
        result[present] = values
        return result
