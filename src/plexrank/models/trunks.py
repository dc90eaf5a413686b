"""The published networks up to their pooling, and a small one for CPUs, freshly initialised.

Sources: He et al. 2016 (ResNet18, ResNet50) and Tran et al. 2018 (ResNet3D-18), as torchvision builds them. The
parameters carry torchvision's names, so that its weight files fit.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from plexrank.models.recomputation import Segments

# torchvision takes two seconds to load, which the shallow backbone need not wait for

HEADS = ("avgpool", "fc")
STEM = ("conv1", "bn1", "relu", "maxpool")
SHALLOW_LAYERS = ((1, 16, 5), (16, 16, 3), (16, 32, 3))
"""(input channels, kernels, kernel side) of each stride-2 convolution of the shallow backbone."""


def resnet18_trunk() -> Segments:
    """(B, 1, y, x) → (B, 512, ⌈y/32⌉, ⌈x/32⌉)."""
    from torchvision.models import resnet18

    return _resnet_trunk(resnet18(weights=None), 1)


def resnet50_trunk(num_channels: int) -> Segments:
    """(B, N, y, x) → (B, 2048, ⌈y/32⌉, ⌈x/32⌉)."""
    from torchvision.models import resnet50

    return _resnet_trunk(resnet50(weights=None), num_channels)


def resnet3d18_trunk(layers: int = 4) -> Segments:
    """The stem and the first ``layers`` of the four layers of ResNet3D-18, for volumes of one colour.

    (B, 1, N, y, x) → (B, 64, N, ⌈y/2⌉, ⌈x/2⌉) after the first layer; each of the others halves all sides and doubles
    the features.
    """
    from torchvision.models.video import r3d_18

    network = r3d_18(weights=None)
    network.stem[0] = nn.Conv3d(1, 64, kernel_size=(3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
    _initialise(network.stem[0])
    return _trunk(network, ("stem", *(f"layer{number + 1}" for number in range(layers))), ("stem",))


def resnet3d18_first_layer() -> Segments:
    """:func:`resnet3d18_trunk` up to its first layer, which keeps a plane of features for every channel."""
    return resnet3d18_trunk(layers=1)


def shallow_trunk() -> Segments:
    """(B, 1, y, x) → (B, 32, ⌈y/8⌉, ⌈x/8⌉): three stride-2 convolutions, for CPUs and small cohorts."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for in_channels, kernels, side in SHALLOW_LAYERS:
        layers[str(len(layers))] = nn.Conv2d(in_channels, kernels, side, stride=2, padding=side // 2, bias=False)
        layers[str(len(layers))] = nn.BatchNorm2d(kernels)
        layers[str(len(layers))] = nn.ReLU(inplace=True)
    names = list(layers)
    return Segments(layers, [names[start : start + 3] for start in range(0, len(names), 3)])


def _resnet_trunk(network: nn.Module, num_channels: int) -> Segments:
    network.conv1 = nn.Conv2d(num_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    _initialise(network.conv1)
    return _trunk(network, [name for name, _ in network.named_children() if name not in HEADS], STEM)


def _initialise(first: nn.Conv2d | nn.Conv3d) -> None:
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")


def _trunk(network: nn.Module, names: list[str] | tuple[str, ...], stem: tuple[str, ...]) -> Segments:
    """One piece for the stem and one for each block."""
    kept = OrderedDict((name, network.get_submodule(name)) for name in names)
    blocks = [(f"{name}.{block}",) for name in names if name not in stem for block in range(len(kept[name]))]  # type: ignore[arg-type]
    return Segments(kept, [stem, *blocks])
