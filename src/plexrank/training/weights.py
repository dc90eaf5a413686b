"""Pretrained weights: torchvision's files, read into the trunk of a network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from plexrank.errors import MissingInputError, StudyError, naming_damage
from plexrank.models.architectures import published_weights
from plexrank.models.build import Network, trunk_of
from plexrank.rundir import file_digest
from plexrank.settings import ModelSettings

FIRST_CONVOLUTIONS = ("conv1.weight", "stem.0.weight")


def load_pretrained(settings: ModelSettings, network: Network) -> None:
    """Load published weights into the trunk of a network; without ``weights`` it stays as it is.

    ``imagenet`` is torchvision's file, looked for where torch keeps such files (``TORCH_HOME``) and never
    downloaded, since compute nodes have no internet. The first convolution, which has another number of input
    channels, stays as it is or becomes the sum over the colours, over the number of its input channels.

    Raises:
        MissingInputError: there is no such file, or it is not torchvision's.
        StudyError: the file holds another network.
    """
    published = published_weights(settings)
    if settings.weights == "none" or published is None:
        return
    if settings.weights == "imagenet":
        path = Path(torch.hub.get_dir()) / "checkpoints" / published.file
    else:
        path = Path(settings.weights)
    remedy = f"get {published.url} and put it there, or set model.weights to a path or to none"
    if not path.is_file():
        raise MissingInputError(f"model.weights: {path}: no such file; {remedy}")
    if settings.weights == "imagenet" and not (found := file_digest(path)).startswith(published.sha256):
        raise MissingInputError(
            f"model.weights: {path}: sha256 starts with {found[:8]}, expected {published.sha256}; {remedy}"
        )
    trunk = trunk_of(network)
    expected = f"model.weights: {path}: expected the state of torchvision's {published.network}"
    with naming_damage(expected, remedy, StudyError):
        state = torch.load(path, map_location="cpu", weights_only=True)
        trunk.load_state_dict(_for_trunk(state, trunk.state_dict(), settings.first_conv == "rgb_sum"))


def _for_trunk(state: dict[str, Tensor], own: dict[str, Tensor], sum_colours: bool) -> dict[str, Tensor]:
    """What a trunk takes of a published state; it may end before the published network does.

    Batch norms count their batches since torch 0.4; states from before, such as torchvision's of ResNet18 and ResNet50,
    lack the counts, which nothing rests on.

    Raises:
        KeyError: the state lacks a tensor.
    """
    fitting = {name: own[name] if name.endswith("num_batches_tracked") else state[name] for name in own}
    (first,) = (name for name in FIRST_CONVOLUTIONS if name in own)
    if sum_colours:
        summed = state[first].sum(dim=1, keepdim=True) / own[first].shape[1]
        fitting[first] = summed.expand_as(own[first])
    else:
        fitting[first] = own[first]
    return fitting
