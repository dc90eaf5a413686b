"""The networks that a study can ask for, each declared here and nowhere else. Loads no torch.

The settings take their choices from here, :mod:`plexrank.models.build` the parts, which are loaded when one is built.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol


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


@dataclass(frozen=True)
class Backbone:
    """What computes the features of channels in a channel embedding.

    Attributes:
        encoder, trunk, embedding: its parts, names in ``plexrank.models``: what joins the other two, what computes
            features, and what makes one number of them.
        weights: that fit the trunk, if any were published.
    """

    encoder: str
    trunk: str
    embedding: str
    weights: PublishedWeights | None

    def parts(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        """Encoder, trunk and embedding, loaded."""
        return _load(self.encoder), _load(self.trunk), _load(self.embedding)


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes:
        network: its class, a name in ``plexrank.models``.
        has_embedding: whether every channel becomes one number, by one of ``BACKBONES``.
        weights: that fit its trunk; where it has an embedding they are its backbone's.
    """

    network: str
    has_embedding: bool
    weights: PublishedWeights | None

    def load(self) -> Callable[..., Any]:
        """Its class, loaded."""
        return _load(self.network)


BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {
        "resnet18": Backbone("encoders.PlaneEncoder", "trunks.resnet18_trunk", "encoders.EmbeddingEncoder", RESNET18),
        "resnet3d18": Backbone(
            "encoders.VolumeEncoder", "trunks.resnet3d18_first_layer", "encoders.DownsamplingEncoder", RESNET3D18
        ),
        "shallow": Backbone("encoders.PlaneEncoder", "trunks.shallow_trunk", "encoders.LogMean", None),
    }
)
ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "channel_embedding": Architecture("channel_embedding.ChannelEmbedding", has_embedding=True, weights=None),
        "resnet50": Architecture("baselines.ResNet50", has_embedding=False, weights=RESNET50),
        "resnet3d18": Architecture("baselines.ResNet3D18", has_embedding=False, weights=RESNET3D18),
        "bsn": Architecture("baselines.Bsn", has_embedding=False, weights=RESNET18),
    }
)

if TYPE_CHECKING:
    ArchitectureName = str
    BackboneName = str
else:  # the same names for the schema of the settings
    ArchitectureName = Literal[tuple(ARCHITECTURES)]
    BackboneName = Literal[tuple(BACKBONES)]


class NetworkChoice(Protocol):
    """What settings say of a network."""

    @property
    def architecture(self) -> str: ...

    @property
    def backbone(self) -> str: ...

    @property
    def encoder(self) -> str: ...

    @property
    def standardize(self) -> bool: ...


def published_weights(choice: NetworkChoice) -> PublishedWeights | None:
    """The file that ``weights: imagenet`` stands for, ``None`` where there is none."""
    architecture = ARCHITECTURES[choice.architecture]
    return BACKBONES[choice.backbone].weights if architecture.has_embedding else architecture.weights


def _load(name: str) -> Callable[..., Any]:
    part: Callable[..., Any] = pkgutil.resolve_name(f"plexrank.models.{name}")
    return part
