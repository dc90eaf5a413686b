"""What all methods share: the classifier, its linear weights where it has any, and work in chunks of tiles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Classifier = Callable[[Tensor], Tensor]

ROWS_AT_ONCE = 65_536
"""Rows that the classifier sees at once: they bound the memory."""


def linear_coefficients(classify: Classifier, r: Tensor) -> Tensor | None:
    """(class, channel) like r of a classifier that is linear and says so, by a tensor ``coef``; otherwise None.

    Its logits are r @ coefᵀ plus a constant.
    """
    coefficients = getattr(classify, "coef", None)  # which a protocol of typing does not see among a module's buffers
    return coefficients.to(r) if isinstance(coefficients, Tensor) else None


def mean_of(background: Tensor) -> Tensor:
    """(channel,) mean over the images that have the channel, 0 where none has it: (image, channel), NaN for absent."""
    return background.nanmean(dim=0).nan_to_num(0.0)


def filled(background: Tensor) -> Tensor:
    """The background with the channel's mean in the place of NaN."""
    return torch.where(background.isnan(), mean_of(background), background)


def in_chunks(explain: Callable[[Tensor], Tensor], r: Tensor, rows_per_tile: int = 1) -> Tensor:
    """Values (tile, channel, class) of ``explain``, called with some tiles at a time; NaN where r is.

    Args:
        rows_per_tile: how many rows the classifier is given for a tile.
    """
    r = r.detach()
    tiles_at_once = max(ROWS_AT_ONCE // rows_per_tile, 1)
    values = torch.cat([explain(rows) for rows in torch.split(r, tiles_at_once)])
    return values.masked_fill(r.isnan()[:, :, None], torch.nan)


def difference_from(reference: Tensor, coefficients: Tensor, r: Tensor) -> Tensor:
    """(r − reference) × coefficient: what all methods that are complete give for a linear classifier."""
    return (r.detach() - reference.to(r))[:, :, None] * coefficients.T
