"""What training writes and reads: checkpoints of plain types and tensors, and pretrained weights."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plexrank.errors import MissingInputError, RunDirError, StudyError
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.parameters import IMAGENET_FILE, IMAGENET_URL
from plexrank.models.refit import LinearClassifier
from plexrank.rundir import file_digest, replacing
from plexrank.study import ModelSettings
from plexrank.tiles.intensity import IntensityFit

FORMAT = "plexrank-checkpoint-1"
IMAGENET_SHA256 = "f37072fd"
REPLACED_LAYERS = ("conv1.", "fc.")
"""Layers of a ResNet18 file that this network has otherwise: one input channel, no 1000 classes."""

_LOAD_ERRORS = (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedUnit:
    """The best weights of one unit and what attribution needs with them (``best.pt``).

    Attributes:
        key: digest of the settings and inputs it was trained with.
        epoch: the epoch with the lowest validation loss, from 0.
        channel_names: N names in the order of r.
        class_names: K names in the order of the logits.
        model_state: of the plain :class:`ChannelEmbedding`.
        classifier: the refitted one, or ``None`` where the network's own is used.
        embedding_images: (image,) int64, the images of training and validation.
        embedding_mean: (image, channel) float32, the mean r over the tiles of each, NaN for channels it lacks.
    """

    key: str
    fold: int
    seed: int
    epoch: int
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    intensity: IntensityFit
    settings: ModelSettings
    model_state: Mapping[str, Tensor]
    classifier: LinearClassifier | None
    embedding_images: NDArray[np.int64]
    embedding_mean: NDArray[np.float32]

    def network(self, device: torch.device) -> ChannelEmbedding:
        """The network with these weights, in evaluation mode."""
        model = build_network(self.settings, len(self.channel_names), len(self.class_names))
        model.load_state_dict(dict(self.model_state))
        return model.to(device).eval()

    def classify(self, network: ChannelEmbedding) -> Callable[[Tensor], Tensor]:
        """What turns r (tile, channel) into logits (tile, class), on the network's device."""
        if self.classifier is None:
            return network.classify
        return self.classifier.to(next(network.parameters()).device)


@dataclass(eq=False)
class Progress:
    """Where a unit's training stands (``last.pt``): the next step is batch ``batch`` of epoch ``epoch``.

    Attributes:
        sums: loss, weight, right tiles and tiles so far in this epoch.
        stale_epochs: epochs since the validation loss was last at its lowest.
        history: one row of plain numbers an epoch.
        seconds: spent so far in this epoch.
    """

    key: str
    epoch: int = 0
    batch: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    seconds: float = 0.0
    best_epoch: int = -1
    best_loss: float = float("inf")
    stale_epochs: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    model: dict[str, Tensor] = field(default_factory=dict)
    best_model: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)


def build_network(settings: ModelSettings, num_channels: int, num_classes: int) -> ChannelEmbedding:
    """The network that the settings ask for, freshly initialised, laid out channels-last.

    Channels-last trains the shallow encoder two to three times as fast on CPUs.
    """
    model = ChannelEmbedding(num_channels, num_classes, settings.backbone, settings.standardize)
    return model.to(memory_format=torch.channels_last)


def save(path: Path, state: Mapping[str, object], *, keep_previous: bool = False) -> None:
    """Write a checkpoint atomically; ``keep_previous`` leaves the one before at ``PATH.prev``."""
    with replacing(path) as temporary:
        torch.save({"format": FORMAT, **state}, temporary)
        if keep_previous and path.exists():
            path.replace(previous_path(path))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain types are accepted from the file.

    Raises:
        MissingInputError: there is no such file.
        RunDirError: it is torn, or no checkpoint of ours.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such checkpoint; run plexrank train first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _LOAD_ERRORS as error:
        raise RunDirError(f"{path}: damaged checkpoint ({_first_line(error)}); delete it and train again") from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise RunDirError(f"{path}: expected a checkpoint of format {FORMAT}; delete it and train again")
    return state


def previous_path(path: Path) -> Path:
    """Where :func:`save` keeps the checkpoint before the newest."""
    return path.with_name(path.name + ".prev")


def write_progress(path: Path, progress: Progress) -> None:
    """Write ``last.pt`` and keep the one before."""
    save(path, vars(progress), keep_previous=True)


def read_progress(path: Path, key: str) -> Progress | None:
    """The newest progress that loads, or ``None`` where there is none or it was made with other settings.

    Raises:
        RunDirError: there are files, and none of them loads.
    """
    candidates = [candidate for candidate in (path, previous_path(path)) if candidate.is_file()]
    for candidate in candidates:
        try:
            progress = _progress(candidate, load(candidate))
        except RunDirError as error:
            if candidate is candidates[-1]:
                raise
            _logger.warning("%s; going on from %s instead", error, candidates[-1].name)
            continue
        return progress if progress.key == key else None
    return None


def write_unit(path: Path, unit: TrainedUnit) -> None:
    """Write ``best.pt``."""
    plain = {entry.name: getattr(unit, entry.name) for entry in dataclasses.fields(unit)}
    plain["channel_names"], plain["class_names"] = list(unit.channel_names), list(unit.class_names)
    plain["intensity"] = {
        "transform": unit.intensity.transform,
        "cofactor": float(unit.intensity.cofactor),
        "scale": [float(value) for value in unit.intensity.scale],
    }
    plain["settings"] = unit.settings.model_dump(mode="json")
    plain["model_state"] = dict(unit.model_state)
    plain["classifier"] = dict(unit.classifier.state_dict()) if unit.classifier else None
    plain["embedding_images"] = torch.from_numpy(unit.embedding_images)
    plain["embedding_mean"] = torch.from_numpy(unit.embedding_mean)
    save(path, plain)


def read_unit(path: Path) -> TrainedUnit:
    """Read ``best.pt``.

    Raises:
        MissingInputError: there is no such file.
        RunDirError: it is torn, or not a trained unit.
    """
    state = load(path)
    try:
        intensity, classifier = state["intensity"], state["classifier"]
        return TrainedUnit(
            **{name: state[name] for name in ("key", "fold", "seed", "epoch", "model_state")},
            channel_names=tuple(state["channel_names"]),
            class_names=tuple(state["class_names"]),
            intensity=IntensityFit(
                intensity["transform"], intensity["cofactor"], np.array(intensity["scale"], dtype=np.float32)
            ),
            settings=ModelSettings.model_validate(state["settings"]),
            classifier=LinearClassifier(**classifier) if classifier else None,
            embedding_images=state["embedding_images"].numpy(),
            embedding_mean=state["embedding_mean"].numpy(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirError(f"{path}: no trained unit ({_first_line(error)}); delete it and train again") from error


def load_backbone_weights(weights: Literal["imagenet", "none"] | Path, backbone: nn.Module) -> None:
    """Load a ResNet18 file into a trunk, all but its first convolution; ``none`` leaves it as it is.

    ``imagenet`` is torchvision's file, looked for where torch keeps such files (``TORCH_HOME``) and never
    downloaded, since compute nodes have no internet.

    Raises:
        MissingInputError: there is no such file, or it is not torchvision's.
        StudyError: the file holds no ResNet18.
    """
    if weights == "none":
        return
    path = Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET_FILE if weights == "imagenet" else Path(weights)
    remedy = f"get {IMAGENET_URL} and put it there, or set model.weights to a path or to none"
    if not path.is_file():
        raise MissingInputError(f"model.weights: {path}: no such file; {remedy}")
    if weights == "imagenet" and not (found := file_digest(path)).startswith(IMAGENET_SHA256):
        raise MissingInputError(
            f"model.weights: {path}: sha256 starts with {found[:8]}, expected {IMAGENET_SHA256}; {remedy}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        kept = {name: value for name, value in state.items() if not name.startswith(REPLACED_LAYERS)}
        fresh = {name: v for name, v in backbone.state_dict().items() if name.startswith(REPLACED_LAYERS)}
        backbone.load_state_dict({**kept, **fresh})
    except (*_LOAD_ERRORS, AttributeError) as error:
        raise StudyError(
            f"model.weights: {path}: expected the state of torchvision's resnet18 ({_first_line(error)}); {remedy}"
        ) from error


def _progress(path: Path, state: dict[str, Any]) -> Progress:
    try:
        return Progress(**state)
    except TypeError as error:
        raise RunDirError(f"{path}: no training progress ({_first_line(error)}); delete it and train again") from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
