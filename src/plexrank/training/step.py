"""One step of the optimiser, on what this process has of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plexrank.arrays import IntArray
from plexrank.distributed import ProcessInfo, all_reduce_sum, unwrap
from plexrank.errors import StudyError
from plexrank.settings import TrainSettings
from plexrank.training.data import Batch, TrainingTiles, augment, held_channels, model_input
from plexrank.training.losses import Loss, RowLoss


@dataclass(frozen=True, eq=False)
class Stepper:
    """What all steps of a training share.

    Attributes:
        wrapped: the network, over all processes.
        bf16: whether it computes in bfloat16 where that is safe.
    """

    wrapped: nn.Module
    optimiser: Optimizer
    loss: Loss
    tiles: TrainingTiles
    train: TrainSettings
    info: ProcessInfo
    bf16: bool

    def shares(self, batch: Batch) -> list[Batch]:
        """What this process passes of a step, one part after the other.

        Raises:
            StudyError: a process would have no tile, and batch norm takes its statistics over each process's own.
        """
        parts = batch.parts(self.train.accumulate)
        fewest = min(len(part.tiles) for part in parts)
        if fewest < self.info.world_size and not self.train.sync_batch_norm:
            raise StudyError(
                f"train.sync_batch_norm: false needs a tile for each process at once, found {fewest} for "
                f"{self.info.world_size} processes; set it to true, lower train.accumulate or start fewer processes"
            )
        return [part.share(self.info.process_rank, self.info.world_size) for part in parts]

    def step(self, batch: Batch, shares: list[Batch], loaded: Iterator[Tensor]) -> Tensor:
        """One step; a collective.

        Args:
            shares: of the batch, see :meth:`shares`.
            loaded: gives the intensities of each share.

        Returns:
            (4,) float64, of this process: the weighted loss, the weight, the right tiles and the tiles.
        """
        self.optimiser.zero_grad()
        sums = torch.zeros(4, dtype=torch.float64, device=self.info.device)
        if isinstance(self.loss, RowLoss):
            weight_of_step = float(batch.weights.sum())
            for share in shares:
                sums += self._pass(self.loss, share, next(loaded), weight_of_step)
        else:
            found, says_something = self._pass_together(batch, [(share, next(loaded)) for share in shares])
            sums += found
            if not says_something:  # such as no event: not even the momentum of the optimiser is to move
                return sums
        self.optimiser.step()
        return sums

    def _pass(self, loss: RowLoss, share: Batch, intensities: Tensor, weight_of_step: float) -> Tensor:
        """Forward and backward; the loss is normalised by the weight of the whole step, so that shares count right."""
        device = self.info.device
        outputs = self._outputs(self.wrapped, share, intensities)
        labels = torch.from_numpy(self.tiles.labels[share.tiles]).to(device)
        weights = torch.from_numpy(share.weights).to(device, torch.float32)
        total = (loss.of_rows(outputs, labels) * weights).sum()
        (total * (self.info.world_size / weight_of_step)).backward()  # type: ignore[no-untyped-call]
        right = (outputs.detach().argmax(dim=1) == labels).sum()
        tiles = torch.tensor(float(len(labels)), device=device)
        return torch.stack([total.detach(), weights.sum(), right, tiles]).double()

    def _pass_together(self, batch: Batch, passed: list[tuple[Batch, Tensor]]) -> tuple[Tensor, bool]:
        """Forward and backward where the loss compares all images of the step, whoever passes their tiles.

        The loss and its slope by every output are computed once, from the outputs of all processes and parts; then
        each part passes the slope of its own back. Where there are several parts, whose activations are not all in
        memory, each is passed forward once more for that.

        Returns:
            As :meth:`step`, and whether the loss depends on any output.
        """
        index = np.sort(batch.tiles)
        only = self._outputs(self.wrapped, *passed[0]) if len(passed) == 1 else None
        found = self._foreseen(passed) if only is None else [only.detach()]
        gathered = found[0].new_zeros(len(index), found[0].shape[1])
        for (share, _), outputs in zip(passed, found, strict=True):
            gathered[_rows(index, share)] = outputs
        loss, slope, weight = self._loss_and_slope(index, all_reduce_sum(gathered, self.info))
        for share, intensities in passed:
            outputs = self._outputs(self.wrapped, share, intensities) if only is None else only
            # Gradients are averaged over processes.
            outputs.backward(slope[_rows(index, share)] * self.info.world_size)  # type: ignore[no-untyped-call]
        n_tiles = sum(len(share.tiles) for share, _ in passed)
        of_all = [float(loss) * weight, weight] if self.info.is_first else [0.0, 0.0]
        return torch.tensor([*of_all, 0.0, n_tiles], dtype=torch.float64, device=self.info.device), bool(slope.any())

    def _foreseen(self, passed: list[tuple[Batch, Tensor]]) -> list[Tensor]:
        """The outputs of each part in training, without gradients; running statistics stay as they are."""
        network = unwrap(self.wrapped)
        with torch.no_grad(), _buffers_at_rest(network):
            return [self._outputs(network, *part) for part in passed]

    def _loss_and_slope(self, index: IntArray, outputs: Tensor) -> tuple[Tensor, Tensor, float]:
        """The loss of a step, its derivatives by the outputs (tile, output), and its weight.

        The outputs of an image's tiles are averaged first, so that an image is one, however many tiles of it there are.
        """
        leaf, device = outputs.requires_grad_(), self.info.device
        _, first, image, counts = np.unique(
            self.tiles.image_index[index], return_index=True, return_inverse=True, return_counts=True
        )
        sums = leaf.new_zeros(len(first), leaf.shape[1]).index_add(0, torch.from_numpy(image).to(device), leaf)
        means = sums / torch.from_numpy(counts).to(leaf)[:, None]
        labels, stratum = self.tiles.labels[index][first], self.tiles.stratum[index][first]
        loss = self.loss.of_images(means, torch.from_numpy(labels).to(device), torch.from_numpy(stratum).to(device))
        (slope,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), slope, self.loss.weight(labels)

    def _outputs(self, network: nn.Module, share: Batch, intensities: Tensor) -> Tensor:
        device = self.info.device
        images = model_input(augment(intensities.to(device, non_blocking=True), share, self.train.crop_px))
        held = held_channels(self.tiles.present(share.tiles), share.kept)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            return cast(Tensor, network(images, None if held is None else held.to(device)))


def _rows(index: IntArray, share: Batch) -> Tensor:
    """The places of the tiles of a share among all of the step, which rise."""
    return torch.from_numpy(np.searchsorted(index, share.tiles))


@contextmanager
def _buffers_at_rest(network: nn.Module) -> Iterator[None]:
    """What is computed within leaves running statistics as they were."""
    kept = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), kept, strict=True):
                buffer.copy_(before)
