"""How many parameters a network has, in closed form, so that a login node needs no torch to say so."""

from __future__ import annotations

from typing import Literal

RESNET18_WIDTHS = (64, 128, 256, 512)
IMAGENET_FILE = "resnet18-f37072fd.pth"
IMAGENET_URL = f"https://download.pytorch.org/models/{IMAGENET_FILE}"


def n_parameters(backbone: Literal["resnet18", "shallow"], num_channels: int, num_classes: int) -> int:
    """Trainable parameters of ``ChannelEmbedding``; ``n_parameters("resnet18", 30, 3)`` is 11,589,596.

    Raises:
        ValueError: the backbone is unknown.
    """
    if backbone == "resnet18":
        encoder = _resnet18_trunk() + _embedding_encoder()
    elif backbone == "shallow":
        encoder = _conv_norm(1, 16, 5) + _conv_norm(16, 16, 3) + _conv_norm(16, 32, 3) + _linear(32, 1)
    else:
        raise ValueError(f"backbone must be resnet18 or shallow, got {backbone!r}")
    return encoder + _linear(num_channels, 200) + _linear(200, 200) + _linear(200, num_classes)


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _conv_norm(inputs: int, kernels: int, side: int) -> int:
    """A convolution without bias and its batch norm."""
    return inputs * kernels * side**2 + 2 * kernels


def _resnet18_trunk() -> int:
    total = _conv_norm(1, 64, 7)
    inputs = RESNET18_WIDTHS[0]
    for width in RESNET18_WIDTHS:
        total += _conv_norm(inputs, width, 3) + 3 * _conv_norm(width, width, 3)
        if inputs != width:
            total += _conv_norm(inputs, width, 1)
        inputs = width
    return total


def _embedding_encoder() -> int:
    with_bias = 64
    convolutions = _conv_norm(512, 64, 3) + 2 * _conv_norm(64, 64, 3) + 3 * with_bias
    return convolutions + 64 * 7**2 + 1
