"""Pretrained weights reach the trunk they belong to and are never silently replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.video import r3d_18

from plexrank.errors import MissingInputError, StudyError
from plexrank.models.architectures import RESNET18, RESNET50, published_weights
from plexrank.models.build import Network, build_network, trunk_of
from plexrank.settings import ModelSettings
from plexrank.training.weights import load_pretrained


def settings(weights: Path | str, **changes: str) -> ModelSettings:
    return ModelSettings.model_validate({"weights": weights, **changes})


def network(chosen: ModelSettings) -> Network:
    return build_network(chosen, 3, 2)


def written(model: nn.Module, folder: Path) -> Path:
    """As torchvision publishes ResNet18: without the counts of batch norm, which are younger."""
    state = {name: values for name, values in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(
    ("published", "changes", "inputs", "later"),
    [
        (resnet18, {}, 1, "layer4.1.conv2.weight"),
        (resnet18, {"architecture": "bsn"}, 1, "bn1.running_var"),
        (r3d_18, {"backbone": "resnet3d18"}, 1, "layer1.1.conv2.0.weight"),
        (resnet50, {"architecture": "resnet50"}, 3, "layer2.0.bn3.weight"),
    ],
)
def test_weights_go_everywhere_and_into_the_first_convolution_as_asked(
    tmp_path: Path, published, changes: dict[str, str], inputs: int, later: str
) -> None:
    source = published(weights=None)
    path, state = written(source, tmp_path), source.state_dict()
    first = "stem.0.weight" if "stem.0.weight" in state else "conv1.weight"
    fresh = network(settings(path, **changes))
    drawn = trunk_of(fresh).state_dict()[first].clone()
    load_pretrained(settings(path, **changes), fresh)
    assert torch.equal(trunk_of(fresh).state_dict()[first], drawn)
    assert torch.equal(trunk_of(fresh).state_dict()[later], state[later])
    summed = settings(path, first_conv="rgb_sum", **changes)
    load_pretrained(summed, fresh)
    images = torch.rand(2, 1, *(12,) * (state[first].ndim - 2))
    grey = nn.functional.conv2d if images.ndim == 4 else nn.functional.conv3d
    found = grey(images.expand(-1, inputs, *images.shape[2:]), trunk_of(fresh).state_dict()[first])
    torch.testing.assert_close(found, grey(images.expand(-1, 3, *images.shape[2:]), state[first]), atol=1e-5, rtol=1e-4)


def test_no_weights_change_nothing() -> None:
    model = network(settings("none"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_pretrained(settings("none"), model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_absent_or_other_imagenet_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    expected = tmp_path / "hub" / "checkpoints" / RESNET18.file
    model = network(settings("imagenet"))
    with pytest.raises(MissingInputError, match=r"resnet18-f37072fd\.pth: no such file; get https://.*none"):
        load_pretrained(settings("imagenet"), model)
    expected.parent.mkdir(parents=True)
    torch.save(resnet18(weights=None).state_dict(), expected)
    with pytest.raises(MissingInputError, match=r"sha256 starts with .*, expected f37072fd"):
        load_pretrained(settings("imagenet"), model)


def test_every_network_knows_its_file() -> None:
    assert (RESNET50.sha256, RESNET50.url) == (
        "0676ba61",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    )
    named = [published_weights(settings("imagenet", architecture=name)) for name in ("resnet50", "resnet3d18", "bsn")]
    assert [weights and weights.file for weights in named] == [
        "resnet50-0676ba61.pth",
        "r3d_18-b3b3357e.pth",
        "resnet18-f37072fd.pth",
    ]
    assert published_weights(settings("none", backbone="shallow")) is None


@pytest.mark.parametrize("content", ["text", "other"])
def test_files_of_another_network_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("hello")
    else:
        torch.save({"layer1.weight": torch.zeros(2)}, path)
    model = network(settings(path))
    with pytest.raises(
        StudyError, match=r"model\.weights: .*weights\.pth: expected the state of torchvision's resnet18"
    ):
        load_pretrained(settings(path), model)
    with pytest.raises(MissingInputError, match="no such file"):
        load_pretrained(settings(tmp_path / "absent.pth"), model)
