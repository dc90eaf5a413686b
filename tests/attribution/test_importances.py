"""Importances with known answers: linear classifiers, networks whose derivatives can be written down, completeness."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from plexrank.attribution import chunks
from plexrank.attribution.methods import METHODS, OF_EMBEDDING, Method
from plexrank.readout.linear import LinearClassifier
from plexrank.training.explain import TILE_METHODS

COEF = torch.tensor([[1.0, -2.0, 0.0], [0.5, 4.0, 0.0]], dtype=torch.float64)
COMPLETE = ("integrated_gradients", "shapley", "deeplift")
"""Methods whose values sum to logit(r) − logit(mean of the background)."""


def linear(r: torch.Tensor) -> torch.Tensor:
    """A linear classifier that does not show that it is one."""
    return r @ COEF.T + 7


def mlp(channels: int = 4, classes: int = 3, nonlinear: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Linear(channels, 16), nonlinear(), nn.Linear(16, 8), nonlinear(), nn.Linear(8, classes))
    return nn.Sequential(*layers).double()


def tiles(number: int, channels: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(number, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_method_that_forgets_a_property_is_refused() -> None:
    for forgotten in (field.name for field in dataclasses.fields(Method)):
        stated = {field.name: None for field in dataclasses.fields(Method) if field.name != forgotten}
        with pytest.raises(TypeError, match=f"missing 1 required keyword-only argument: '{forgotten}'"):
            Method(**stated)  # type: ignore[arg-type]


def test_every_method_has_what_computes_it() -> None:
    assert {method.on_tiles for method in METHODS.values()} - {None} == {*TILE_METHODS}
    for method in METHODS.values():
        assert method.from_embedding is not None or method.on_tiles is not None
    with pytest.raises(ValueError, match="not an importance of the channel embedding"):
        METHODS["gradcam"].compute  # noqa: B018


@pytest.mark.parametrize("method", OF_EMBEDDING)
def test_what_is_called_proportional_is_that(method: str) -> None:
    r, background = tiles(6, 3), tiles(4, 3, seed=2)
    coef, grown = COEF, COEF * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    once, again = (METHODS[method].compute(lambda r, c=c: r @ c.T, r, background) for c in (coef, grown))
    is_grown = torch.allclose(again, once * torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)[:, None])
    assert is_grown == METHODS[method].is_proportional


def test_gradient_of_a_linear_classifier_is_its_coefficients() -> None:
    r = tiles(5, 3)
    torch.testing.assert_close(METHODS["gradient"].compute(linear, r, r), COEF.T.expand(5, 3, 2))
    torch.testing.assert_close(METHODS["gradient_x_input"].compute(linear, r, r), r[:, :, None] * COEF.T)


DIFFERENCES = ("integrated_gradients", "occlusion", "shapley", "lime", "deeplift")


@pytest.mark.parametrize("method", [*DIFFERENCES, "permutation", "expected_gradients"])
def test_differences_of_a_linear_classifier_are_coefficient_times_distance(method: str) -> None:
    shown = LinearClassifier(COEF, torch.zeros(2, dtype=torch.float64))
    r, background = tiles(5, 3), tiles(100, 3, seed=2)
    expected = (r - background.mean(dim=0))[:, :, None] * COEF.T
    torch.testing.assert_close(METHODS[method].compute(shown, r, background), expected)
    background = background[:8]
    expected = (r - background.mean(dim=0))[:, :, None] * COEF.T
    if method != "expected_gradients":  # eight donors are all of this background
        torch.testing.assert_close(METHODS[method].compute(linear, r, background), expected)
    else:
        torch.testing.assert_close(
            METHODS[method].compute(linear, r, background[:1]), (r - background[0])[:, :, None] * COEF.T
        )


def test_paper_scales_the_gradient_of_every_tile_to_0_to_1() -> None:
    coef = torch.tensor([[1.0, -2.0, 0.0], [3.0, 3.0, 3.0]], dtype=torch.float64)
    values = METHODS["gradient_paper"].compute(lambda r: r @ coef.T, tiles(2, 3), tiles(2, 3))
    torch.testing.assert_close(values[1], torch.tensor([[0.5, 0], [1, 0], [0, 0]], dtype=torch.float64))


@pytest.mark.parametrize("method", COMPLETE)
def test_values_sum_to_the_difference_of_the_logits(method: str) -> None:
    network, r, background = mlp(), tiles(40, 4), tiles(30, 4, seed=2)
    expected = (network(r) - network(background.mean(dim=0, keepdim=True))).detach()
    tolerance = 0.01 if method == "integrated_gradients" else 1e-9
    torch.testing.assert_close(
        METHODS[method].compute(network, r, background).sum(dim=1), expected, atol=tolerance, rtol=0.01
    )
    wide = mlp(channels=14)
    r, background = tiles(6, 14), tiles(5, 14, seed=2)
    expected = (wide(r) - wide(background.mean(dim=0, keepdim=True))).detach()
    torch.testing.assert_close(
        METHODS[method].compute(wide, r, background).sum(dim=1), expected, atol=tolerance, rtol=0.01
    )


def test_expected_gradients_sum_to_the_distance_from_the_mean_logit() -> None:
    network, r, background = mlp(nonlinear=nn.Tanh), tiles(20, 4), tiles(200, 4, seed=2)
    expected = (network(r) - network(background).mean(dim=0)).detach()
    total = METHODS["expected_gradients"].compute(network, r, background).sum(dim=1)
    assert (total - expected).abs().mean() < 0.15 * expected.abs().mean()


def test_gradient_agrees_with_finite_differences_and_leaves_no_trace() -> None:
    network, r, step = mlp(nonlinear=nn.Tanh), tiles(6, 4), 1e-6
    with torch.inference_mode():
        values = METHODS["gradient"].compute(network, r, r)
    for c in range(4):
        moved = torch.zeros(4, dtype=torch.float64)
        moved[c] = step
        expected = (network(r + moved) - network(r - moved)) / (2 * step)
        torch.testing.assert_close(values[:, c], expected.detach(), atol=1e-8, rtol=1e-6)
    assert not values.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradient_of_a_class_without_a_path_to_r_is_zero() -> None:
    r = torch.randn(3, 2)
    values = METHODS["gradient"].compute(lambda r: torch.stack([r[:, 0], torch.ones(len(r))], dim=1), r, r)
    torch.testing.assert_close(values, torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(3, 2, 2))


def test_exact_shapley_values_are_the_mean_over_all_orders() -> None:
    network, r, background = mlp(), tiles(3, 4), tiles(7, 4, seed=2)
    reference = background.mean(dim=0)
    expected = np.zeros((3, 4, 3))
    for order in itertools.permutations(range(4)):
        at = reference.repeat(3, 1)
        before = network(at).detach().numpy()
        for c in order:
            at[:, c] = r[:, c]
            after = network(at).detach().numpy()
            expected[:, c] += (after - before) / math.factorial(4)
            before = after
    np.testing.assert_allclose(METHODS["shapley"].compute(network, r, background), expected, atol=1e-12)


def test_sampled_shapley_values_are_exact_where_channels_meet_in_pairs() -> None:
    def pairs(r: torch.Tensor) -> torch.Tensor:
        return torch.stack([r[:, 0] * r[:, 1] + r[:, 2], r[:, 3]], dim=1)

    values = METHODS["shapley"].compute(pairs, tiles(5, 12), torch.zeros(2, 12, dtype=torch.float64))
    r = tiles(5, 12)
    half = r[:, 0] * r[:, 1] / 2
    torch.testing.assert_close(values[:, :3, 0], torch.stack([half, half, r[:, 2]], dim=1))
    torch.testing.assert_close(values[:, 3, 1], r[:, 3])


def test_rescale_rule_of_one_hidden_layer() -> None:
    first = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    second = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    r, background = torch.tensor([[3.0, 1.0]], dtype=torch.float64), torch.tensor([[-1.0, -1.0]], dtype=torch.float64)
    values = METHODS["deeplift"].compute(lambda r: torch.relu(r @ first.T) @ second.T, r, background)
    # hidden: 4 against −2, slope 4/6; 2 against 0, slope 1
    expected = torch.tensor([[4 * (4 / 6 + 2), 2 * (4 / 6 - 2)]], dtype=torch.float64)
    torch.testing.assert_close(values[:, :, 0], expected)


def test_permutation_is_the_mean_over_donors() -> None:
    network, r, background = mlp(), tiles(3, 4), tiles(5, 4, seed=2)
    values = METHODS["permutation"].compute(network, r, background)
    replaced = r.repeat(5, 1, 1)
    replaced[:, :, 2] = background[:, None, 2]
    expected = network(r) - torch.stack([network(rows) for rows in replaced]).mean(dim=0)
    torch.testing.assert_close(values[:, 2], expected.detach())


def test_lime_finds_the_weights_of_a_classifier_that_is_nearly_linear() -> None:
    r, background = tiles(4, 8), torch.zeros(1, 8, dtype=torch.float64)
    coef = torch.arange(8.0, dtype=torch.float64)[None]
    values = METHODS["lime"].compute(lambda r: r @ coef.T + 0.01 * torch.sin(r[:, :1] * r[:, 1:2]), r, background)
    torch.testing.assert_close(values[:, :, 0], r * coef, atol=0.03, rtol=0)


@pytest.mark.parametrize("method", OF_EMBEDDING)
def test_chunks_change_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, r, background = mlp(nonlinear=nn.ReLU), tiles(11, 4), tiles(5, 4, seed=2)
    whole = METHODS[method].compute(network, r, background)
    monkeypatch.setattr(chunks, "ROWS_AT_ONCE", 9)
    torch.testing.assert_close(METHODS[method].compute(network, r, background), whole)


@pytest.mark.parametrize("method", OF_EMBEDDING)
@pytest.mark.parametrize("kind", ["linear", "network"])
def test_absent_channels_are_nan_and_do_not_touch_the_others(method: str, kind: str) -> None:
    center = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
    weights = mlp(classes=2)
    coef = tiles(2, 4)

    def classify(r: torch.Tensor) -> torch.Tensor:
        return weights(torch.where(r.isnan(), center, r))

    chosen = LinearClassifier(coef, torch.zeros(2, dtype=torch.float64), center) if kind == "linear" else classify
    r, background = tiles(6, 4), tiles(5, 4, seed=2)
    r[:2, 1], background[3, 1] = torch.nan, torch.nan
    with torch.inference_mode():
        values = METHODS[method].compute(chosen, r, background)
    assert (values.isnan() == r.isnan()[:, :, None]).all()
    rest = METHODS[method].compute(chosen, r[2:], background)
    torch.testing.assert_close(values[2:], rest)
    if method in COMPLETE:
        mean = background.nanmean(dim=0).expand(6, 4)
        expected = chosen(r) - chosen(torch.where(r.isnan(), r, mean))
        tolerance = 0.01 if method == "integrated_gradients" else 1e-9
        torch.testing.assert_close(values.nansum(dim=1), expected.detach(), atol=tolerance, rtol=0.01)
