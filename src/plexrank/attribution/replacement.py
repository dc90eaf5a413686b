"""Importances from what the logits become when channels are replaced."""

from __future__ import annotations

import itertools
from math import comb

import torch
from torch import Tensor

from plexrank.attribution.chunks import (
    Classifier,
    difference_from,
    filled,
    in_chunks,
    linear_coefficients,
    mean_of,
)

DONORS = 8
"""Training images whose values a channel takes in turn."""
EXACT_CHANNELS = 10
"""Up to so many channels Shapley values run over all subsets."""
ORDERS = 8
"""Orders of the channels, half of them the reverse of the others, that Shapley values are otherwise drawn from."""
LIME_SAMPLES_PER_CHANNEL = 4
LIME_WIDTH = 0.75
"""Width of the kernel, times √ of the number of channels, as in LIME's own code for tables."""


def occlusion(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """logit_k(r) − logit_k(r with r_c replaced by its training mean) (Zeiler & Fergus 2014, with channels as patches).

    Args:
        classify: r (tile, channel) → logits (tile, class), each row on its own (evaluation mode).
        r: (tile, channel), NaN where a tile's image lacks the channel.
        background: (image, channel) r of training images, NaN for absent; their mean replaces a channel.

    Returns:
        (tile, channel, class) of r's dtype, on r's device, detached; NaN where r is.
    """
    return _replaced_one_by_one(classify, r, mean_of(background)[None])


def permutation(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """logit_k(r) − mean of logit_k(r with r_c of another image) over ``DONORS`` images evenly spaced in the background.

    The loss of one tile in permutation importance (Breiman 2001). For a linear classifier over all images of the
    background, in closed form. Arguments and result as for :func:`occlusion`.
    """
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(mean_of(background), coefficients, r)
    count = min(DONORS, len(background))
    rows = torch.linspace(0, len(background) - 1, count).round().long().to(background.device)
    return _replaced_one_by_one(classify, r, filled(background)[rows])


@torch.no_grad()
def shapley(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """Shapley values of the game in which absent players stand at their training mean (Lundberg & Lee 2017).

    The sum over channels is exactly logit(r) − logit(reference). In closed form for a linear classifier, over all
    subsets for up to ``EXACT_CHANNELS`` channels, otherwise from ``ORDERS`` antithetic orders, the same for all tiles
    (Mitchell et al. 2022). Arguments and result as for :func:`occlusion`.
    """
    reference, channels = mean_of(background).to(r), r.shape[1]
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(reference, coefficients, r)
    if channels <= EXACT_CHANNELS:
        kept, mixture = _all_subsets(channels)
    else:
        kept, mixture = _antithetic_orders(channels)
    return _mixed(classify, r, reference, kept, mixture)


@torch.no_grad()
def lime(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """Weights of the local linear model of LIME (Ribeiro, Singh & Guestrin 2016).

    Channels are switched at random between r and their training mean, the same switches for all tiles, half of them
    the reverse of the others; a linear model with intercept is fitted to the logits by least squares, near
    switchings weighing more. Exact for a linear classifier. Arguments and result as for :func:`occlusion`.
    """
    reference, channels = mean_of(background).to(r), r.shape[1]
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(reference, coefficients, r)
    generator = torch.Generator().manual_seed(0)
    half = torch.rand(LIME_SAMPLES_PER_CHANNEL * channels // 2 + 1, channels, generator=generator) < 0.5
    kept = torch.cat([torch.ones(1, channels, dtype=torch.bool), half, ~half])
    design = torch.cat([kept.double(), torch.ones(len(kept), 1, dtype=torch.float64)], dim=1)
    squared_distance = (~kept).sum(dim=1).double()
    root_weight = torch.exp(-squared_distance / (2 * LIME_WIDTH**2 * channels)).sqrt()[:, None]
    mixture = torch.linalg.pinv(design * root_weight)[:-1] * root_weight.T
    return _mixed(classify, r, reference, kept, mixture)


def _mixed(classify: Classifier, r: Tensor, reference: Tensor, kept: Tensor, mixture: Tensor) -> Tensor:
    """Linear mixtures of the logits with some channels kept and the others at the reference.

    Args:
        kept: (subset, channel) bool.
        mixture: (channel, subset) float64.
    """
    kept, mixture = kept.to(r.device), mixture.to(r)

    def explain(rows: Tensor) -> Tensor:
        away = torch.where(rows.isnan(), rows, reference)
        switched = torch.where(kept[:, None], rows, away)
        logits = classify(switched.reshape(-1, rows.shape[1])).reshape(len(kept), len(rows), -1)
        return torch.einsum("cs,stk->tck", mixture, logits)

    return in_chunks(explain, r, len(kept))


def _all_subsets(channels: int) -> tuple[Tensor, Tensor]:
    kept = torch.tensor(list(itertools.product([False, True], repeat=channels)))
    size = kept.sum(dim=1)
    weight = torch.tensor([1 / (channels * comb(channels - 1, k)) for k in range(channels)], dtype=torch.float64)
    with_it, without_it = weight[(size - 1).clamp(min=0)], weight[size.clamp(max=channels - 1)]
    return kept, torch.where(kept.T, with_it, -without_it)


def _antithetic_orders(channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    half = [torch.randperm(channels, generator=generator) for _ in range(ORDERS // 2)]
    orders = [order for drawn in half for order in (drawn, drawn.flip(0))]
    place = torch.stack([order.argsort() for order in orders])
    steps = torch.arange(channels + 1)
    kept = (place[:, None] < steps[:, None]).reshape(-1, channels)
    mixture = torch.zeros(channels, len(orders), channels + 1, dtype=torch.float64)
    for number, order in enumerate(orders):
        mixture[order, number, steps[1:]] += 1 / len(orders)
        mixture[order, number, steps[:-1]] -= 1 / len(orders)
    return kept, mixture.reshape(channels, -1)


@torch.no_grad()
def _replaced_one_by_one(classify: Classifier, r: Tensor, donors: Tensor) -> Tensor:
    """logit(r) − mean over donors (row, channel) of logit(r with one channel of the donor)."""
    channels = r.shape[1]
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(donors.mean(dim=0), coefficients, r)
    index = torch.arange(channels, device=r.device)
    donors = donors.to(r)

    def explain(rows: Tensor) -> Tensor:
        replaced = rows[:, None, None].repeat(1, len(donors), channels, 1)
        replaced[:, :, index, index] = donors
        logits = classify(replaced.reshape(-1, channels)).reshape(len(rows), len(donors), channels, -1)
        return classify(rows)[:, None] - logits.mean(dim=1)

    return in_chunks(explain, r, channels * len(donors))
