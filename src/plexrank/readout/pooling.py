"""Attention over the tiles of an image: how much each one counts in what the image is.

Source: Ilse, Tomczak & Welling 2018 (attention-based deep multiple instance learning), on the channel embedding r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plexrank.arrays import IntArray
from plexrank.models.ordered import last_layer

ATTENTION_UNITS = 16
STEPS = 200
LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.01

ImageLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Outputs (image, output), labels and strata (image,) int64 → the mean loss ()."""


class AttentionPooling(nn.Module):
    """Scores wᵀ tanh(V r + b) of tiles; their softmax over the tiles of an image is each one's share in it.

    Before training all tiles of an image count alike.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_channels, ATTENTION_UNITS)
        self.score = nn.Linear(ATTENTION_UNITS, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, r: Tensor, image: Tensor, num_images: int) -> Tensor:
        """Share (tile,) of each tile in its image, summing to 1 over the image.

        Args:
            r: (tile, channel) standardised, NaN where absent, which counts as 0.
            image: (tile,) int64 in 0…num_images − 1.
        """
        score = cast(Tensor, self.score(self.hidden(r.nan_to_num(nan=0)).tanh()))[:, 0]
        highest = score.new_full((num_images,), -torch.inf).scatter_reduce(0, image, score.detach(), "amax")
        power = (score - highest[image]).exp()
        return power / power.new_zeros(num_images).index_add(0, image, power)[image]


@dataclass(frozen=True, eq=False)
class Bags:
    """Tiles of images with a label.

    Attributes:
        r: (tile, channel) float32, NaN where absent.
        image: (tile,) int64, 0…I − 1; every number occurs.
        labels: (image,) int64.
        stratum: (image,) int64, such as sites.
    """

    r: Tensor
    image: Tensor
    labels: Tensor
    stratum: Tensor


def make_bags(r: NDArray[np.float32], image_index: IntArray, labels: IntArray, stratum: IntArray) -> Bags:
    """Bags of tiles: r (tile, channel), the image of each (tile,) as any number, its label and stratum (tile,)."""
    _, first, image = np.unique(image_index, return_index=True, return_inverse=True)
    of_image = (torch.from_numpy(values) for values in (image.astype(np.int64), labels[first], stratum[first]))
    return Bags(torch.from_numpy(r), *of_image)


def fit_attention(
    training: Bags, validation: Bags, num_outputs: int, seed: int, loss: ImageLoss, ordered: bool = False
) -> AttentionPooling:
    """Train attention and a linear model on it together; keep the step with the least validation loss.

    The first candidate is the plain mean, so that attention is kept only where it predicts images of other patients
    better than the mean does. Deterministic; the global random state is left alone.

    Args:
        training, validation: of different patients.
        num_outputs: of the linear model.
        seed: of the initial weights.
        loss: of images.
        ordered: whether the outputs are one score and thresholds that fall.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attention = AttentionPooling(training.r.shape[1])
        classifier = last_layer(training.r.shape[1], num_outputs, ordered)
        nn.init.zeros_(classifier.weight)
    best, best_loss = _state(attention), float("inf")
    _fit_classifier(attention, classifier, training, loss)
    parameters = [*attention.parameters(), *classifier.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        with torch.no_grad():
            found = float(_loss(attention, classifier, validation, loss))
        if found < best_loss:
            best, best_loss = _state(attention), found
        optimiser.zero_grad()
        _loss(attention, classifier, training, loss).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    attention.load_state_dict(best)
    return attention.requires_grad_(False).eval()


def _fit_classifier(attention: AttentionPooling, classifier: nn.Linear, bags: Bags, loss: ImageLoss) -> None:
    """Bring the linear model of the plain mean near its optimum, so that what attention adds is attention's."""
    optimiser = torch.optim.Adam(classifier.parameters(), lr=10 * LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        optimiser.zero_grad()
        _loss(attention, classifier, bags, loss).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _loss(attention: AttentionPooling, classifier: nn.Linear, bags: Bags, loss: ImageLoss) -> Tensor:
    shares = attention(bags.r, bags.image, len(bags.labels))
    r = bags.r.nan_to_num(nan=0)
    pooled = r.new_zeros(len(bags.labels), r.shape[1]).index_add(0, bags.image, shares[:, None] * r)
    return loss(classifier(pooled), bags.labels, bags.stratum)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def tile_weights(
    attention: AttentionPooling | None, r: NDArray[np.float32], image_index: IntArray
) -> NDArray[np.float32]:
    """Weight (tile,) float32 of each tile in its image, 1 on average over the image; 1 each without attention.

    Args:
        r: (tile, channel); all tiles of every image must be there.
        image_index: (tile,) the image of each, as any number.
    """
    if attention is None:
        return np.ones(len(r), dtype=np.float32)
    _, image, counts = np.unique(image_index, return_inverse=True, return_counts=True)
    with torch.inference_mode():
        shares = attention(torch.from_numpy(r), torch.from_numpy(image.astype(np.int64)), len(counts)).numpy()
    weights: NDArray[np.float32] = (shares * counts[image]).astype(np.float32)
    return weights
