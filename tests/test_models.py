"""The networks have the published sizes, fold channels correctly, and the refit is a known classifier."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.encoders import EmbeddingEncoder, resnet18_trunk
from plexrank.models.parameters import n_parameters
from plexrank.models.refit import FALLBACK_STRENGTH, LinearClassifier, fit_linear_classifier


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_the_parts_have_the_published_sizes() -> None:
    assert count(resnet18_trunk()) == 11_170_240
    assert count(EmbeddingEncoder()) == 372_353


@pytest.mark.parametrize(("channels", "published"), [(30, 11_589_596), (39, 11_591_396)])
def test_the_network_has_the_published_size(channels: int, published: int) -> None:
    assert count(ChannelEmbedding(channels, 3)) == published
    assert n_parameters("resnet18", channels, 3) == published


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (41, 4)])
def test_the_closed_form_equals_the_shallow_network(channels: int, classes: int) -> None:
    assert n_parameters("shallow", channels, classes) == count(ChannelEmbedding(channels, classes, "shallow"))


def test_counting_parameters_loads_no_torch() -> None:
    code = "import sys, plexrank.models.parameters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("channels", "classes", "backbone", "message"),
    [(0, 2, "shallow", "≥ 1 channel"), (3, 1, "shallow", "≥ 2 classes"), (3, 2, "vgg", "resnet18 or shallow")],
)
def test_impossible_networks_are_refused(channels: int, classes: int, backbone: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelEmbedding(channels, classes, backbone)  # type: ignore[arg-type]


def test_tiles_of_another_panel_are_refused() -> None:
    with pytest.raises(ValueError, match="expected tiles of 3 channels, got 4"):
        ChannelEmbedding(3, 2, "shallow").embed(torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize(("backbone", "side_px"), [("shallow", 24), ("resnet18", 40)])
def test_r_of_a_channel_depends_on_that_channel_alone(backbone: str, side_px: int) -> None:
    torch.manual_seed(0)
    model = ChannelEmbedding(3, 2, backbone).eval()  # type: ignore[arg-type]
    tiles = torch.rand(2, 3, side_px, side_px)
    changed = tiles.clone()
    changed[1, 2] = torch.rand(side_px, side_px)
    swapped = tiles[:, [1, 0, 2]]
    with torch.no_grad():
        r, r_changed, r_swapped = model.embed(tiles), model.embed(changed), model.embed(swapped)
    different = (r - r_changed).abs() > 1e-6
    assert different.tolist() == [[False, False, False], [False, False, True]]
    torch.testing.assert_close(r_swapped, r[:, [1, 0, 2]])


def test_training_standardises_r_per_channel() -> None:
    torch.manual_seed(0)
    model = ChannelEmbedding(4, 2, "shallow").train()
    tiles = torch.rand(64, 4, 16, 16) * torch.tensor([1.0, 10.0, 0.1, 3.0]).reshape(1, 4, 1, 1)
    r = model.embed(tiles).detach()
    torch.testing.assert_close(r.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    raw = ChannelEmbedding(4, 2, "shallow", standardize=False).train().embed(tiles).detach()
    assert raw.std(dim=0).max() / raw.std(dim=0).min() > 3


def test_autocast_leaves_r_in_full_precision() -> None:
    torch.manual_seed(0)
    model = ChannelEmbedding(2, 2, "shallow").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        r = model.embed(torch.rand(5, 2, 16, 16))
        logits = model.classify(r)
    assert (r.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(r, r.bfloat16().float())


def separable(n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 20)
    r = generator.normal(size=(len(labels), 6)) + 5.0
    r[:, 2] += 2.5 * labels
    return r, labels, np.array([f"p{index // 2}" for index in range(len(labels))])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_refit_finds_the_channel_that_separates(n_classes: int) -> None:
    r, labels, groups = separable(n_classes)
    classifier = fit_linear_classifier(r, labels, groups, seed=0)
    assert classifier.coef.shape == (n_classes, 6)
    assert classifier.coef.abs().sum(dim=0).argmax() == 2
    predicted = classifier(torch.from_numpy(r.astype(np.float32))).argmax(dim=1).numpy()
    assert (predicted == labels).mean() > 0.8
    again = fit_linear_classifier(r, labels, groups, seed=0)
    assert torch.equal(again.coef, classifier.coef)
    assert torch.equal(again.intercept, classifier.intercept)


def test_two_classes_share_the_weights_symmetrically_and_equal_logistic_regression() -> None:
    r, labels, _ = separable(2)
    groups = np.where(labels == 0, "a", "b")
    classifier = fit_linear_classifier(r, labels, groups, seed=0)
    assert torch.equal(classifier.coef[0], -classifier.coef[1])
    standardized = (r - r.mean(axis=0)) / r.std(axis=0)
    reference = LogisticRegression(C=FALLBACK_STRENGTH, class_weight="balanced").fit(standardized, labels)
    probability = torch.softmax(classifier(torch.from_numpy(r.astype(np.float32))), dim=1).numpy()
    np.testing.assert_allclose(probability, reference.predict_proba(standardized), atol=1e-4)


def test_a_constant_channel_gets_no_weight() -> None:
    r, labels, groups = separable(2)
    r[:, 4] = 0.1 + 0.2
    assert fit_linear_classifier(r, labels, groups, seed=0).coef[:, 4].tolist() == [0.0, 0.0]


def test_noise_is_shrunk_more_than_signal() -> None:
    r, labels, groups = separable(2)
    noise = np.random.default_rng(1).normal(size=r.shape)
    of_signal = fit_linear_classifier(r, labels, groups, seed=0).coef.abs().max()
    of_noise = fit_linear_classifier(noise, labels, groups, seed=0).coef.abs().max()
    assert of_noise < of_signal / 3


BAD_REFITS = [
    (np.zeros((4, 2)), np.array([0, 1, 0]), "expected"),
    (np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), "not finite"),
    (np.zeros((4, 2)), np.array([0, 0, 0, 0]), "K ≥ 2"),
    (np.zeros((4, 2)), np.array([0, 2, 0, 2]), "cover 0…K−1"),
]


@pytest.mark.parametrize(("r", "labels", "message"), BAD_REFITS)
def test_a_refit_of_nonsense_is_refused(r: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_linear_classifier(r, labels, np.array(["a", "b", "c", "d"]), seed=0)


def test_the_linear_classifier_is_what_it_says() -> None:
    classifier = LinearClassifier(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([0.5, 0.0]))
    assert classifier(torch.tensor([[3.0, 4.0]])).tolist() == [[11.5, -4.0]]
    assert set(classifier.state_dict()) == {"coef", "intercept"}


def test_recentring_makes_given_moments_the_new_zero_and_one() -> None:
    torch.manual_seed(0)
    model = ChannelEmbedding(3, 2, "shallow").eval()
    images = torch.randn(8, 3, 32, 32)
    before = model.embed(images)
    model.recenter(before.mean(dim=0), before.var(dim=0, unbiased=False))
    after = model.embed(images)
    assert after.mean(dim=0).abs().max() < 1e-4
    assert (after.var(dim=0, unbiased=False) - 1).abs().max() < 1e-3
    plain = ChannelEmbedding(3, 2, "shallow", standardize=False).eval()
    untouched = plain.embed(images)
    plain.recenter(untouched.mean(dim=0), untouched.var(dim=0))
    assert torch.equal(plain.embed(images), untouched)
