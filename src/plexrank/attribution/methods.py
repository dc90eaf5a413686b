"""Importances from r (tile, channel) and the classifier behind it, signed and for every class.

r is NaN where a tile's image lacks the channel; the classifier copes with that, and the importance is NaN there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Classifier = Callable[[Tensor], Tensor]
Method = Callable[[Classifier, Tensor, Tensor], Tensor]
Values = TypeVar("Values", np.ndarray, Tensor)

TILES_AT_ONCE = 4096
ROWS_AT_ONCE = 65_536


def gradient(classify: Classifier, r: Tensor, reference: Tensor | None = None) -> Tensor:
    """d logit_k / d r_c (Simonyan, Vedaldi & Zisserman 2013, with r in the place of the image).

    Args:
        classify: r (tile, channel) → logits (tile, class), each row on its own (evaluation mode).
        r: (tile, channel).
        reference: taken so that all methods are called alike; a gradient needs none.

    Returns:
        (tile, channel, class) of r's dtype, on r's device, detached.
    """
    return _per_tile_chunk(lambda rows: _gradient(classify, rows), r, TILES_AT_ONCE)


def occlusion(classify: Classifier, r: Tensor, reference: Tensor) -> Tensor:
    """logit_k(r) − logit_k(r with r_c replaced by reference_c) (Zeiler & Fergus 2014, with channels as patches).

    Args:
        classify: r (tile, channel) → logits (tile, class), each row on its own (evaluation mode).
        r: (tile, channel).
        reference: (channel,), such as the mean r of the training images.

    Returns:
        (tile, channel, class) of r's dtype, on r's device, detached.
    """
    tiles_at_once = max(ROWS_AT_ONCE // r.shape[1], 1)
    return _per_tile_chunk(lambda rows: _occlusion(classify, rows, reference), r, tiles_at_once)


METHODS: Mapping[str, Method] = MappingProxyType({"gradient": gradient, "occlusion": occlusion})
"""Every method by the name that a study gives it; all are called with (classify, r, reference)."""


def of_predicted_class(values: Values, logits: Values) -> Values:
    """|value| for the class of the highest logit.

    Args:
        values: (tile, channel, class), arrays or tensors.
        logits: (tile, class).

    Returns:
        (tile, channel).
    """
    return abs(values[list(range(len(values))), :, logits.argmax(-1)])


def _per_tile_chunk(explain: Callable[[Tensor], Tensor], r: Tensor, tiles_at_once: int) -> Tensor:
    values = torch.cat([explain(rows) for rows in torch.split(r.detach(), tiles_at_once)])
    return values.masked_fill(r.detach().isnan()[:, :, None], torch.nan)


def _gradient(classify: Classifier, r: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = r.clone().requires_grad_()
        summed = classify(leaf).sum(dim=0)
        per_class = [torch.autograd.grad(logit, leaf, retain_graph=True, materialize_grads=True)[0] for logit in summed]
    return torch.stack(per_class, dim=-1)


@torch.no_grad()
def _occlusion(classify: Classifier, r: Tensor, reference: Tensor) -> Tensor:
    tiles, channels = r.shape
    occluded = r[:, None].repeat(1, channels, 1)
    index = torch.arange(channels, device=r.device)
    occluded[:, index, index] = reference.to(r)
    without = classify(occluded.reshape(tiles * channels, channels)).reshape(tiles, channels, -1)
    return classify(r)[:, None] - without
