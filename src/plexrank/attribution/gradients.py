"""Importances from derivatives of the logits with respect to r."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu
from torch.overrides import TorchFunctionMode

from plexrank.attribution.chunks import (
    Classifier,
    difference_from,
    filled,
    in_chunks,
    linear_coefficients,
    mean_of,
)

PATH_STEPS = 32
"""Points on the way from the reference to r, at the middles of equal steps."""
NEARLY_EQUAL = 1e-6


def gradient(classify: Classifier, r: Tensor, background: Tensor | None = None) -> Tensor:
    """d logit_k / d r_c (Simonyan, Vedaldi & Zisserman 2013, with r in the place of the image).

    Args:
        classify: r (tile, channel) → logits (tile, class), each row on its own (evaluation mode).
        r: (tile, channel), NaN where a tile's image lacks the channel.
        background: taken so that all methods are called alike; a gradient needs none.

    Returns:
        (tile, channel, class) of r's dtype, on r's device, detached; NaN where r is.
    """
    return in_chunks(lambda rows: _gradient(classify, rows), r)


def gradient_paper(classify: Classifier, r: Tensor, background: Tensor | None = None) -> Tensor:
    """|gradient| scaled to 0–1 over the channels of each tile, as Abdel Magid et al. (2020) did before they summed.

    Arguments and result as for :func:`gradient`.
    """
    return scaled_per_tile(gradient(classify, r))


def scaled_per_tile(values: Tensor) -> Tensor:
    """|value| (tile, channel, class) scaled to 0–1 over the channels that a tile's image holds."""
    values = values.abs()
    absent = values.isnan()
    low = values.masked_fill(absent, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(absent, -torch.inf).amax(dim=1, keepdim=True)
    span = high - low
    return torch.where(span > 0, (values - low) / span, values * 0)


def gradient_x_input(classify: Classifier, r: Tensor, background: Tensor | None = None) -> Tensor:
    """r_c × d logit_k / d r_c (Shrikumar et al. 2016). Arguments and result as for :func:`gradient`."""
    return r.detach()[:, :, None] * gradient(classify, r)


def integrated_gradients(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """(r − reference) × mean gradient on the straight way between them (Sundararajan, Taly & Yan 2017).

    The sum over channels is logit(r) − logit(reference), up to the ``PATH_STEPS`` of the integral; exact for a linear
    classifier.

    Args:
        background: (image, channel) r of training images, NaN for absent; their mean is the reference.

    Otherwise as for :func:`gradient`.
    """
    reference = mean_of(background).to(r)
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(reference, coefficients, r)

    def explain(rows: Tensor) -> Tensor:
        shares = (torch.arange(PATH_STEPS, device=r.device) + 0.5) / PATH_STEPS
        total = sum(_gradient(classify, torch.lerp(reference.expand_as(rows), rows, float(s))) for s in shares)
        return (rows - reference)[:, :, None] * total / PATH_STEPS

    return in_chunks(explain, r)


def expected_gradients(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """Integrated gradients averaged over references drawn from the training images (Erion et al. 2021).

    One pass over ``PATH_STEPS`` references, evenly spaced in the background, each with its own point on the way; the
    same for all tiles, so that equal tiles get equal values. Exact for a linear classifier. Arguments and result as
    for :func:`integrated_gradients`.
    """
    coefficients = linear_coefficients(classify, r)
    if coefficients is not None:
        return difference_from(mean_of(background), coefficients, r)
    rows_of = torch.linspace(0, len(background) - 1, PATH_STEPS).round().long().to(background.device)
    references = filled(background)[rows_of].to(r)
    shares = (torch.arange(PATH_STEPS) * 13 % PATH_STEPS + 0.5) / PATH_STEPS  # each once, apart for neighbours

    def explain(rows: Tensor) -> Tensor:
        total = torch.zeros((), device=r.device, dtype=r.dtype)
        for reference, share in zip(references, shares.tolist(), strict=True):
            at = torch.lerp(reference.expand_as(rows), rows, share)
            total = total + (rows - reference)[:, :, None] * _gradient(classify, at)
        return total / PATH_STEPS

    return in_chunks(explain, r)


def deeplift(classify: Classifier, r: Tensor, background: Tensor) -> Tensor:
    """DeepLIFT with the rescale rule (Shrikumar, Greenside & Kundaje 2017), for classifiers of linear layers and ReLU.

    (r − reference) × multiplier: a gradient in which the slope of every ReLU is replaced by (output − reference
    output) / (input − reference input). The sum over channels is exactly logit(r) − logit(reference). Arguments and
    result as for :func:`integrated_gradients`.
    """
    reference = mean_of(background).to(r)

    def explain(rows: Tensor) -> Tensor:
        at_reference = torch.where(rows.isnan(), rows, reference)
        with torch.inference_mode(False), torch.enable_grad(), _RescaleRule():
            leaf = rows.clone().requires_grad_()
            logits = classify(torch.cat([leaf, at_reference]))[: len(rows)]
            multiplier = _derivatives(logits.sum(dim=0), leaf)
        return (rows - reference)[:, :, None] * multiplier

    return in_chunks(explain, r, rows_per_tile=2)


class _RescaleRule(TorchFunctionMode):
    """Within it the slope of ReLU is that between the first and the second half of the rows."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (relu, torch.relu, Tensor.relu):
            return _SecantRelu.apply(args[0])
        return function(*args, **(kwargs or {}))


class _SecantRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        tile, reference = x.chunk(2)
        apart = tile - reference
        rise = tile.clamp(min=0) - reference.clamp(min=0)
        slope = torch.where(apart.abs() > NEARLY_EQUAL, rise / apart, (tile > 0).to(x))
        return torch.cat([slope, slope]) * grad


def _gradient(classify: Classifier, r: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = r.clone().requires_grad_()
        return _derivatives(classify(leaf).sum(dim=0), leaf)


def _derivatives(summed: Tensor, leaf: Tensor) -> Tensor:
    """(tile, channel, class) of the logits that were summed over tiles, (class,)."""
    per_class = [torch.autograd.grad(logit, leaf, retain_graph=True, materialize_grads=True)[0] for logit in summed]
    return torch.stack(per_class, dim=-1).detach()
