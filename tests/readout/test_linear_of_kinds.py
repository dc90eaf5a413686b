"""Linear models of every kind of outcome, fitted on the embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plexrank.outcome import KINDS, Kind, LinearWeights, Outcome
from plexrank.readout import linear
from plexrank.readout.linear import (
    FALLBACK_STRENGTH,
    STRENGTHS,
    LinearClassifier,
    fit_linear_classifier,
    fit_readout,
)
from plexrank.readout.pooling import fit_attention, make_bags, tile_weights
from plexrank.training.losses import make_loss
from tiny_outcomes import levels_of, outcome_of

OTHERS: list[Kind] = [kind for kind in KINDS if kind != "nominal"]
IMAGES = 60


def cohort(kind: Kind, seed: int = 0) -> tuple[Outcome, np.ndarray, np.ndarray, np.ndarray]:
    """Outcome, r (image, 4) of which channel 2 tells it, labels and patients of two images each."""
    generator = np.random.default_rng(seed)
    score = generator.normal(size=IMAGES)
    r = generator.normal(size=(IMAGES, 4)) * [1, 5, 2, 0.1] + [0, 10, -3, 0]
    r[:, 2] = -3 + 2 * (score + 0.3 * generator.normal(size=IMAGES))
    levels = levels_of(kind, score, generator)
    outcome = outcome_of(kind, levels)
    return outcome, r, outcome.labels(levels), np.array([f"p{image // 2}" for image in range(IMAGES)])


def outputs_of(classifier: LinearClassifier, r: np.ndarray) -> np.ndarray:
    found: np.ndarray = classifier(torch.from_numpy(r).float()).double().numpy()
    return found


@pytest.mark.parametrize("kind", OTHERS)
def test_a_fit_of_given_strength_is_the_outcomes_own_on_standardised_channels(kind: Kind) -> None:
    outcome, r, labels, groups = cohort(kind)
    site = np.arange(IMAGES) % 3
    classifier = fit_readout(outcome, r, labels, groups, 0, 0.3, site)
    standardized = (r - r.mean(axis=0)) / r.std(axis=0)
    expected = outcome.fit(standardized, labels, 0.3, site).outputs(standardized)
    np.testing.assert_allclose(outputs_of(classifier, r), expected, atol=1e-4)
    assert classifier.coef.shape == (len(outcome.output_names), 4)
    np.testing.assert_allclose(classifier.center, r.mean(axis=0), rtol=1e-5)
    if kind == "survival":
        assert outputs_of(classifier, r).mean() == pytest.approx(0, abs=1e-5)
        alike = fit_readout(outcome, r, labels, groups, 0, 0.3)
        assert not torch.allclose(alike.coef, classifier.coef, rtol=1e-3)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_refit_finds_the_channel_that_tells_the_outcome(kind: Kind) -> None:
    outcome, r, labels, groups = cohort(kind)
    classifier = fit_readout(outcome, r, labels, groups, seed=0)
    assert ((classifier.coef * torch.from_numpy(r.std(axis=0))).abs().argmax(dim=1) == 2).all()
    other, held_out, held_labels, _ = cohort(kind, seed=1)
    score = make_loss(other).score(outputs_of(classifier, held_out), held_labels)
    assert score > (0.7 if kind == "survival" else 0.85)
    again = fit_readout(outcome, r, labels, groups, seed=0)
    assert torch.equal(again.coef, classifier.coef)


@pytest.mark.parametrize("kind", OTHERS)
def test_an_image_that_lacks_a_channel_counts_as_having_its_mean(kind: Kind) -> None:
    outcome, r, labels, groups = cohort(kind)
    r[::5, 1] = np.nan
    classifier = fit_readout(outcome, r, labels, groups, 0)
    filled = np.where(np.isnan(r), np.nanmean(r, axis=0), r)
    np.testing.assert_allclose(outputs_of(classifier, r), outputs_of(classifier, filled), atol=1e-5)
    assert np.isfinite(outputs_of(classifier, r)).all()


@pytest.mark.parametrize("kind", OTHERS)
def test_strength_is_chosen_by_patients_left_out(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, r, labels, groups = cohort(kind)
    fitted: list[tuple[float, int]] = []
    fit = type(outcome).fit

    def fit_and_note(
        self: Outcome, x: np.ndarray, label: np.ndarray, strength: float, *rest: np.ndarray
    ) -> LinearWeights:
        rows = (x[:, None] == standardized).all(axis=2).argmax(axis=1)
        assert set(np.bincount(rows // 2)) <= {0, 2}  # both images of a patient or neither
        fitted.append((strength, len(x)))
        return fit(self, x, label, strength, *rest)

    standardized, _, _ = linear._standardized(r)
    monkeypatch.setattr(type(outcome), "fit", fit_and_note)
    fit_readout(outcome, r, labels, groups, seed=0)
    *inner, last = fitted
    assert last[1] == IMAGES
    assert last[0] in STRENGTHS
    assert {strength for strength, _ in inner} == set(STRENGTHS)
    assert all(IMAGES / 2 < images < IMAGES for _, images in inner)


@pytest.mark.parametrize("kind", ["ordinal", "survival"])
def test_few_patients_get_the_fallback_strength(kind: Kind) -> None:
    outcome, r, labels, groups = cohort(kind)
    rare = outcome.group_of(labels) == 0
    kept = np.concatenate([np.flatnonzero(rare)[:1], np.flatnonzero(~rare)])
    found, expected = (
        fit_readout(outcome, r[kept], labels[kept], groups[kept], 0, strength) for strength in (None, FALLBACK_STRENGTH)
    )
    assert torch.equal(found.coef, expected.coef)


def test_a_single_censored_patient_disturbs_no_split(recwarn: pytest.WarningsRecorder) -> None:
    outcome, r, labels, groups = cohort("survival")
    event = outcome.group_of(labels) == 0
    kept = np.concatenate([np.flatnonzero(event), np.flatnonzero(~event)[:1]])
    assert torch.isfinite(fit_readout(outcome, r[kept], labels[kept], groups[kept], 0).coef).all()
    assert not recwarn.list


def test_classes_are_fitted_as_ever() -> None:
    outcome, r, labels, groups = cohort("nominal")
    found, expected = fit_readout(outcome, r, labels, groups, 0), fit_linear_classifier(r, labels, groups, 0)
    assert torch.equal(found.coef, expected.coef)
    assert torch.equal(found.intercept, expected.intercept)


@pytest.mark.parametrize("kind", ["ordinal", "survival"])
def test_labels_without_a_grade_or_an_event_are_refused(kind: Kind) -> None:
    outcome, r, labels, groups = cohort(kind)
    kept = outcome.group_of(labels) > 0
    with pytest.raises(ValueError, match=f"too little of the outcome, {kind}, for a fit"):
        fit_readout(outcome, r[kept], labels[kept], groups[kept], 0)


@pytest.mark.parametrize("kind", OTHERS)
def test_attention_turns_to_the_tiles_that_tell(kind: Kind) -> None:
    """Of 12 tiles of an image two are marked by channel 0, and only in these channel 1 tells the outcome."""
    generator = np.random.default_rng(0)
    score = generator.normal(size=150)
    r = generator.normal(size=(150, 12, 3)).astype(np.float32)
    r[:, :2, 0] += 4
    r[:, :2, 1] += 2 * score[:, None]
    r[:, 2:, 1] *= 4
    levels = levels_of(kind, score, generator)
    outcome = outcome_of(kind, levels)
    loss, labels, image = make_loss(outcome), outcome.labels(levels), np.repeat(np.arange(50), 12)
    training, validation = (
        make_bags(r[rows].reshape(-1, 3), image, labels[rows][image], image % 2) for rows in (np.s_[:50], np.s_[50:100])
    )
    outputs, ordered = len(outcome.output_names), loss.has_ordered_outputs
    attention = fit_attention(training, validation, outputs, 0, loss.of_images, ordered)
    weights = tile_weights(attention, r[100:].reshape(-1, 3), image).reshape(50, 12)
    assert weights[:, :2].mean() > 2 * weights[:, 2:].mean()
