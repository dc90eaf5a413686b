"""Losses with known values, for every kind of outcome."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from plexrank.outcome import Kind, make_outcome
from plexrank.outcome.base import Outcome
from plexrank.outcome.survival import survival_level
from plexrank.statistics.cox import partial_likelihood
from plexrank.training.losses import RowLoss, SurvivalLoss, make_loss

NO_SITES = torch.zeros(3, dtype=torch.int64)


def row_loss(outcome: Outcome) -> RowLoss:
    loss = make_loss(outcome)
    assert isinstance(loss, RowLoss)
    return loss


def test_classes_have_their_cross_entropy_and_weights() -> None:
    loss = row_loss(make_outcome("nominal", ["a", "b"]))
    logits = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]).log()
    np.testing.assert_allclose(loss.of_rows(logits, torch.tensor([0, 1, 0])), -np.log([0.25, 0.5, 0.9]), rtol=1e-6)
    expected = (-np.log([0.25, 0.9]).mean() - np.log(0.5)) / 2
    assert float(loss.of_images(logits, torch.tensor([0, 1, 0]), NO_SITES)) == pytest.approx(expected)
    np.testing.assert_allclose(loss.label_weights(np.array([0, 0, 0, 1])), [4 / 6, 2.0])
    assert (loss.counts_right, loss.has_ordered_outputs, loss.spread(np.array([0]))) == (True, False, None)
    assert loss.score(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]]), np.array([1, 0, 0])) == 0.5


def test_grades_have_the_logarithm_of_their_probability() -> None:
    loss = row_loss(make_outcome("ordinal", [], ["0", "1", "2", "3"]))
    outputs = torch.tensor([[2.0, 0.5, -1.0]]).repeat(4, 1)
    above = expit([2.0, 0.5, -1.0])
    probability = -np.diff([1.0, *above, 0.0])
    label = torch.arange(4)
    np.testing.assert_allclose(loss.of_rows(outputs, label), -np.log(probability), rtol=1e-6)
    assert float(loss.of_images(outputs, label, label)) == pytest.approx(-np.log(probability).mean())
    assert (loss.counts_right, loss.has_ordered_outputs, loss.spread(np.array([0]))) == (False, True, None)
    np.testing.assert_array_equal(loss.label_weights(np.array([0, 1, 2, 3])), np.ones(4))
    assert loss.of_validation(outputs.double().numpy(), np.arange(4), np.ones(4)) == pytest.approx(
        -np.log(probability).mean()
    )


def test_the_slope_of_grades_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    loss = row_loss(make_outcome("ordinal", [], ["0", "1", "2", "3"]))
    outputs = torch.randn(12, 3, generator=generator, dtype=torch.float64).sort(dim=1, descending=True).values
    outputs.requires_grad_()
    label = torch.arange(12) % 4
    assert torch.autograd.gradcheck(lambda values: loss.of_rows(values, label), outputs)


@pytest.mark.parametrize("score", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_grades_far_from_their_thresholds_have_finite_losses(score: float) -> None:
    loss = row_loss(make_outcome("ordinal", [], ["0", "1", "2", "3"]))
    outputs = (score + torch.tensor([1.0, 0.0, -1.0])).repeat(4, 1).requires_grad_()
    found = loss.of_rows(outputs, torch.arange(4))
    found.sum().backward()
    assert found.isfinite().all()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_two_grades_are_logistic_regression() -> None:
    loss = row_loss(make_outcome("ordinal", [], ["0", "1"]))
    outputs = torch.tensor([[-1.0], [2.0]])
    found = loss.of_rows(outputs, torch.tensor([0, 1]))
    np.testing.assert_allclose(found, [-np.log(1 - expit(-1)), -np.log(expit(2))], rtol=1e-6)


def test_numbers_count_by_their_square_up_to_one_and_a_half_standard_deviations() -> None:
    outcome = make_outcome("continuous", ["-3", "-1", "1", "3"])  # mean 0, standard deviation √5
    loss = row_loss(outcome)
    outputs = torch.tensor([[0.0], [0.0], [5 / 5**0.5], [-2.0]])
    label = torch.tensor([2, 3, 1, 3])
    deviation = np.array([1 / 5**0.5, 3 / 5**0.5, 6 / 5**0.5, 2 + 3 / 5**0.5])
    expected = np.where(deviation <= 1.5, deviation**2 / 2, 1.5 * (deviation - 0.75))
    np.testing.assert_allclose(loss.of_rows(outputs, label), expected, rtol=1e-6)
    found = loss.of_validation(outputs.double().numpy(), label.numpy(), np.ones(4))
    assert found == pytest.approx(expected.mean())
    assert (loss.counts_right, loss.has_ordered_outputs) == (False, False)


def survival(seed: int = 0, samples: int = 40) -> tuple[SurvivalLoss, np.ndarray, np.ndarray, np.ndarray]:
    """Loss, labels, log hazards and sites; many times are tied, within events and with censored ones."""
    generator = np.random.default_rng(seed)
    time, event = generator.integers(1, 12, samples), generator.random(samples) < 0.6
    levels = [survival_level(str(one), bool(is_event)) for one, is_event in zip(time, event, strict=True)]
    outcome = make_outcome("survival", levels)
    loss = make_loss(outcome)
    assert isinstance(loss, SurvivalLoss)
    return loss, outcome.labels(levels), generator.normal(size=samples), generator.integers(0, 3, samples)


@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_times_have_coxs_partial_likelihood_with_efrons_ties_and_strata(shift: float) -> None:
    loss, label, log_hazard, site = survival()
    time = np.array([float(loss.outcome.levels[one].split()[0]) for one in label])
    event = loss.spread(label)
    value, slope = partial_likelihood(log_hazard, time, event, site)
    outputs = torch.from_numpy(log_hazard + shift).float()[:, None].requires_grad_()
    found = loss.of_images(outputs, torch.from_numpy(label), torch.from_numpy(site))
    found.backward()
    assert float(found.detach()) == pytest.approx(-value / event.sum(), rel=1e-3 if shift else 1e-5)
    assert outputs.grad is not None
    np.testing.assert_allclose(outputs.grad[:, 0], -slope / event.sum(), atol=1e-4 if shift else 1e-6)
    assert loss.weight(label) == event.sum()


def test_times_that_differ_by_less_than_float32_holds_are_not_tied() -> None:
    levels = ["10000000.0 event", "10000000.1 event", "10000000.2 event"]
    loss, label = make_loss(make_outcome("survival", levels)), torch.arange(3)
    found = loss.of_images(torch.tensor([[0.0], [1.0], [2.0]]), label, NO_SITES)
    hazard = np.exp([0.0, 1.0, 2.0])
    expected = -np.log([hazard[0] / hazard.sum(), hazard[1] / hazard[1:].sum(), 1.0]).mean()
    assert float(found) == pytest.approx(expected)


def test_without_an_event_there_is_nothing_to_learn() -> None:
    loss, label, _, _ = survival()
    for rows in (np.flatnonzero(~loss.spread(label))[:5], np.flatnonzero(loss.spread(label))[:1], np.empty(0, int)):
        outputs = torch.randn(len(rows), 1).requires_grad_()
        found = loss.of_images(outputs, torch.from_numpy(label[rows]), torch.zeros(len(rows), dtype=torch.int64))
        found.backward()
        assert float(found.detach()) == 0
        assert outputs.grad is not None
        assert (outputs.grad == 0).all()
    assert np.isnan(loss.of_validation(np.zeros((2, 1)), label[np.flatnonzero(~loss.spread(label))[:2]], np.ones(1)))


def test_outputs_that_are_not_finite_show_in_the_loss() -> None:
    loss, label, log_hazard, site = survival()
    log_hazard[3] = np.inf
    outputs = torch.from_numpy(log_hazard).float()[:, None]
    assert loss.of_images(outputs, torch.from_numpy(label), torch.from_numpy(site)).isnan()


@pytest.mark.parametrize("kind", ["ordinal", "continuous", "survival"])
def test_the_score_is_the_headline_measure(kind: Kind) -> None:
    levels = {
        "ordinal": ["1", "2", "3", "4"],
        "continuous": ["1", "2", "3", "4"],
        "survival": ["4 event", "3 event", "2 event", "1 event"],
    }[kind]
    outcome = make_outcome(kind, levels, levels)
    loss, label = make_loss(outcome), outcome.labels(levels)
    rising = np.arange(4.0)[:, None] - np.arange(len(outcome.output_names)) * 0.1
    assert loss.score(rising, label) == pytest.approx(1.0)
    assert loss.score(-rising[:, ::-1], label) == pytest.approx(0.0 if kind == "survival" else -1.0)


def test_validation_of_survival_compares_within_sites() -> None:
    outcome = make_outcome("survival", ["1 event", "2 event", "3 event", "4 event"])
    loss, label, site = make_loss(outcome), np.arange(4), np.array([0, 1, 0, 1])
    outputs = np.array([[0.5], [9.0], [-0.5], [8.0]])
    apart = partial_likelihood(outputs[:, 0], np.arange(1.0, 5.0), np.ones(4, bool), site)[0]
    assert loss.of_validation(outputs, label, np.ones(4), site) == pytest.approx(-apart / 4)
    assert loss.of_validation(outputs, label, np.ones(4), site) < loss.of_validation(outputs, label, np.ones(4))
