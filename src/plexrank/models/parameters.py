"""How many parameters a network has, in closed form, and which published weights fit it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from plexrank.settings import ModelSettings

RESNET_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class PublishedWeights:
    """A weight file of torchvision.

    Attributes:
        network: its name there.
        file: its name in torch's folder of checkpoints; ends with the first digits of its sha256.
    """

    network: str
    file: str

    @property
    def url(self) -> str:
        """Where it can be had."""
        return f"https://download.pytorch.org/models/{self.file}"

    @property
    def sha256(self) -> str:
        """The first eight digits."""
        return self.file.removesuffix(".pth").rpartition("-")[2]


RESNET18 = PublishedWeights("resnet18", "resnet18-f37072fd.pth")
RESNET50 = PublishedWeights("resnet50", "resnet50-0676ba61.pth")
RESNET3D18 = PublishedWeights("r3d_18", "r3d_18-b3b3357e.pth")


def published_weights(model: ModelSettings) -> PublishedWeights | None:
    """The file that ``weights: imagenet`` stands for, ``None`` where there is none."""
    if model.architecture == "channel_embedding":
        return {"resnet18": RESNET18, "resnet3d18": RESNET3D18, "shallow": None}[model.backbone]
    return {"resnet50": RESNET50, "resnet3d18": RESNET3D18, "bsn": RESNET18}[model.architecture]


def n_parameters(model: ModelSettings, num_channels: int, num_classes: int) -> int:
    """Trainable parameters; of the default settings with 30 channels and 3 classes 11,589,596."""
    if model.architecture == "resnet50":
        return _resnet50_trunk(num_channels) + _linear(2048, num_classes)
    if model.architecture == "resnet3d18":
        return _resnet3d18_trunk(4) + _linear(512, num_classes)
    if model.architecture == "bsn":
        return _resnet18_trunk() + _linear(512, num_classes)
    backbone, embedding = {
        "resnet18": (_resnet18_trunk(), _embedding_encoder()),
        "resnet3d18": (_resnet3d18_trunk(1), _downsampling_encoder()),
        "shallow": (_conv_norm(1, 16, 25) + _conv_norm(16, 16, 9) + _conv_norm(16, 32, 9), _linear(32, 1)),
    }[model.backbone]
    embeddings = num_channels if model.encoder == "independent" else 1
    classifier = _linear(num_channels, 200) + _linear(200, 200) + _linear(200, num_classes)
    return backbone + embeddings * embedding + classifier


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _conv_norm(inputs: int, kernels: int, positions: int) -> int:
    """A convolution of so many positions without bias, and its batch norm."""
    return inputs * kernels * positions + 2 * kernels


def _basic_blocks(layers: int, positions: int) -> int:
    """The first layers of a ResNet of two basic blocks a layer."""
    total, inputs = 0, RESNET_WIDTHS[0]
    for width in RESNET_WIDTHS[:layers]:
        total += _conv_norm(inputs, width, positions) + 3 * _conv_norm(width, width, positions)
        if inputs != width:
            total += _conv_norm(inputs, width, 1)
        inputs = width
    return total


def _resnet18_trunk() -> int:
    return _conv_norm(1, 64, 49) + _basic_blocks(4, 9)


def _resnet3d18_trunk(layers: int) -> int:
    return _conv_norm(1, 64, 3 * 49) + _basic_blocks(layers, 27)


def _resnet50_trunk(num_channels: int) -> int:
    total, inputs = _conv_norm(num_channels, 64, 49), 64
    for width, blocks in zip(RESNET_WIDTHS, (3, 4, 6, 3), strict=True):
        total += _conv_norm(inputs, 4 * width, 1)
        for _ in range(blocks):
            total += _conv_norm(inputs, width, 1) + _conv_norm(width, width, 9) + _conv_norm(width, 4 * width, 1)
            inputs = 4 * width
    return total


def _embedding_encoder() -> int:
    with_bias = 64
    convolutions = _conv_norm(512, 64, 9) + 2 * _conv_norm(64, 64, 9) + 3 * with_bias
    return convolutions + 64 * 7**2 + 1


def _downsampling_encoder() -> int:
    with_bias = 64
    return 4 * 2 * (_conv_norm(64, 64, 9) + with_bias) + 64 * 7**2 + 1
