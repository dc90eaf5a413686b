"""The networks have the published sizes, fold channels correctly, and the refit is a known classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from torch import nn

from plexrank.models.architectures import ARCHITECTURES
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.encoders import EmbeddingEncoder
from plexrank.models.standardizer import Standardizer
from plexrank.models.trunks import resnet18_trunk
from plexrank.readout.linear import FALLBACK_STRENGTH, LinearClassifier, fit_linear_classifier
from plexrank.settings import ModelSettings


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def settings(**changes: object) -> ModelSettings:
    return ModelSettings.model_validate({"weights": "none", **changes})


def test_the_parts_have_the_published_sizes() -> None:
    assert count(resnet18_trunk()) == 11_170_240
    assert count(EmbeddingEncoder()) == 372_353


@pytest.mark.parametrize(("channels", "published"), [(30, 11_589_596), (39, 11_591_396)])
def test_the_network_has_the_published_size(channels: int, published: int) -> None:
    assert count(ChannelEmbedding(channels, 3)) == published


@pytest.mark.parametrize(
    ("changes", "of_30_channels"),
    [
        ({"encoder": "independent"}, 22_387_833),
        ({"backbone": "resnet3d18"}, 799_004),
        ({"backbone": "resnet3d18", "encoder": "independent"}, 9_486_969),
        ({"backbone": "shallow"}, 54_476),
        ({"backbone": "shallow", "encoder": "independent"}, 55_433),
        ({"architecture": "resnet50"}, 23_598_851),
        ({"architecture": "resnet3d18"}, 33_148_995),
        ({"architecture": "bsn"}, 11_171_779),
    ],
)
def test_every_network_has_its_size(changes: dict[str, str], of_30_channels: int) -> None:
    with torch.device("meta"):
        assert count(build_network(settings(**changes), 30, 3)) == of_30_channels


def test_the_settings_offer_every_network_that_is_declared() -> None:
    for name in ARCHITECTURES:
        assert settings(architecture=name).has_embedding == (name == "channel_embedding")
    with pytest.raises(ValidationError, match="'channel_embedding', 'resnet50', 'resnet3d18' or 'bsn'"):
        settings(architecture="vgg")
    with pytest.raises(ValidationError, match="'resnet18', 'resnet3d18' or 'shallow'"):
        settings(backbone="vgg")


@pytest.mark.parametrize(
    ("channels", "outputs", "backbone", "message"),
    [
        (0, 2, "shallow", "≥ 1 channel"),
        (3, 0, "shallow", "≥ 1 output"),
        (3, 2, "vgg", "resnet18, resnet3d18, shallow"),
    ],
)
def test_impossible_networks_are_refused(channels: int, outputs: int, backbone: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelEmbedding(channels, outputs, backbone)


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


def test_the_standardizer_is_batch_norm_where_nothing_is_absent() -> None:
    own, known = Standardizer(3).train(), nn.BatchNorm1d(3, affine=False).double().train()
    values, pull = torch.randn(9, 3) * torch.tensor([1.0, 30.0, 0.1]) + 5, torch.randn(9, 3)
    found, expected = values.clone().requires_grad_(), values.double().requires_grad_()
    out, known_out = own(found), known(expected)
    torch.testing.assert_close(out.double(), known_out, atol=1e-6, rtol=1e-6)
    (out * pull).sum().backward()
    (known_out * pull).sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    torch.testing.assert_close(found.grad.double(), expected.grad, atol=1e-5, rtol=1e-5)
    assert list(own.state_dict()) == list(known.state_dict())
    for key, value in known.float().state_dict().items():
        torch.testing.assert_close(own.state_dict()[key], value)
    torch.testing.assert_close(own.eval()(values), known.eval()(values), atol=1e-5, rtol=1e-5)


def lacking() -> tuple[torch.Tensor, torch.Tensor]:
    """Tiles (6, 3, 24, 24) and presence; tiles 1 and 4 lack channel 2, tile 5 lacks channel 0."""
    present = torch.ones(6, 3, dtype=torch.bool)
    present[[1, 4], 2] = present[5, 0] = False
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(3)), present


@pytest.mark.parametrize("training", [True, False])
def test_pixels_of_absent_channels_change_nothing(training: bool) -> None:
    tiles, present = lacking()
    found = []
    for filling in (0.0, 1e6, torch.nan):
        torch.manual_seed(0)
        model = ChannelEmbedding(3, 2, "shallow").train(training)
        filled = torch.where(present[:, :, None, None], tiles, filling)
        r, logits = model.embed(filled, present), model(filled, present)
        assert torch.equal(r.isnan(), ~present)
        torch.testing.assert_close(model.eval().classify(model.embed(filled, present)), model(filled, present))
        logits.sum().backward()
        gradients = {name: value.grad for name, value in model.named_parameters()}
        found.append({"r": r, "logits": logits, **model.state_dict(), **gradients})
    for name, value in found[0].items():
        assert value is not None
        for other in found[1:]:
            torch.testing.assert_close(other[name], value, rtol=0, atol=0, equal_nan=True)
        assert value.isfinite().all() or name == "r"


def test_a_channel_that_all_lack_leaves_the_network_of_the_others() -> None:
    tiles, present = lacking()[0], torch.tensor([True, False, True]).expand(6, 3)
    torch.manual_seed(0)
    model, smaller = ChannelEmbedding(3, 2, "shallow").train(), ChannelEmbedding(2, 2, "shallow").train()
    smaller.encoder.load_state_dict(model.encoder.state_dict())
    smaller.classifier.load_state_dict(
        {n: v[:, [0, 2]] if n == "0.weight" else v for n, v in model.classifier.state_dict().items()}
    )
    torch.testing.assert_close(model(tiles, present), smaller(tiles[:, [0, 2]]))
    torch.testing.assert_close(model.embed(tiles, present)[:, [0, 2]], smaller.embed(tiles[:, [0, 2]]))
    assert model.standardizer is not None
    assert model.standardizer.running_mean[1] == 0
    assert model.standardizer.running_var[1] == 1


def test_a_channel_is_standardised_over_the_images_that_hold_it() -> None:
    norm, present = Standardizer(2).train(), torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    values = torch.tensor([[1.0, 1.0], [2.0, 900.0], [3.0, 5.0], [6.0, 9.0]])
    out = norm(values, present)
    expected = nn.BatchNorm1d(1, affine=False).train()(values[[0, 2, 3], 1:])
    torch.testing.assert_close(out[[0, 2, 3], 1:], expected)
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * torch.tensor([14 / 3, 16.0]))


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


def test_a_refit_takes_an_absent_channel_as_its_centre_over_those_that_hold_it() -> None:
    r, labels, groups = separable(2)
    r[::5, 1] = np.nan
    classifier = fit_linear_classifier(r, labels, groups, seed=0, strength=0.1)
    center, spread = np.nanmean(r, axis=0), np.nanstd(r, axis=0)
    np.testing.assert_allclose(classifier.center, center, rtol=1e-6)
    standardized = np.where(np.isnan(r), 0, (r - center) / spread)
    reference = LogisticRegression(C=0.1, class_weight="balanced").fit(standardized, labels)
    np.testing.assert_allclose(classifier.coef[1] - classifier.coef[0], reference.coef_[0] / spread, atol=1e-4)
    rows = torch.from_numpy(r.astype(np.float32))
    probability = torch.softmax(classifier(rows), dim=1).numpy()
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
    assert classifier(torch.tensor([[3.0, torch.nan]])).tolist() == [[3.5, 0.0]]
    centred = LinearClassifier(classifier.coef, classifier.intercept, torch.tensor([0.0, 4.0]))
    assert centred(torch.tensor([[3.0, torch.nan]])).tolist() == [[11.5, -4.0]]
    assert set(classifier.state_dict()) == {"coef", "intercept", "center"}


def test_recentring_makes_given_moments_the_new_zero_and_one() -> None:
    torch.manual_seed(0)
    model = ChannelEmbedding(3, 2, "shallow").eval()
    images = torch.randn(8, 3, 32, 32)
    before = model.embed(images)
    model.recenter(before.mean(dim=0), before.var(dim=0, unbiased=False))
    after = model.embed(images)
    assert after.mean(dim=0).abs().max() < 1e-4
    assert (after.var(dim=0, unbiased=False) - 1).abs().max() < 1e-3
    model.recenter(torch.tensor([torch.nan, 0, 0]), torch.tensor([torch.nan, 1, 1]))
    torch.testing.assert_close(model.embed(images), after)
    plain = ChannelEmbedding(3, 2, "shallow", standardize=False).eval()
    untouched = plain.embed(images)
    plain.recenter(untouched.mean(dim=0), untouched.var(dim=0))
    assert torch.equal(plain.embed(images), untouched)
