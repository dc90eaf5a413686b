"""A regularised linear model, fitted on the channel embedding once the encoder is trained.

The 200 × 200 units that train the encoder are far too free for some dozens of patients.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn

from plexrank.arrays import FloatArray, IntArray
from plexrank.outcome import LinearWeights, Outcome
from plexrank.outcome.nominal import Nominal
from plexrank.statistics.means import known_moments

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 1, 11))
"""The grid of C, the inverse strength of the penalty."""
FALLBACK_STRENGTH = 0.1
"""C where a class, or the events, have too few patients to choose one by cross-validation."""
NEWTON_IMAGES = 300
"""Up to this many images Newton's method fits correlated channels, as embeddings are, in 0.6–0.7 of the time of L-BFGS
(100 × 40 × 2: 2.8 against 4.2 ms, 300 × 40 × 3: 5.2 against 8.8); independent ones in up to 1.9 times as long."""
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
MAX_SPLITS = 5
MIN_PATIENTS = 3
"""Patients that a class, or the events, need at least for the inner cross-validation."""


class LinearClassifier(nn.Module):
    """Outputs r @ coefᵀ + intercept, with a channel's centre in the place of NaN.

    Args:
        coef: (output, channel) float32.
        intercept: (output,) float32.
        center: (channel,) float32, the mean r of the images that it was fitted to; zeros if absent.
    """

    coef: Tensor
    intercept: Tensor
    center: Tensor

    def __init__(self, coef: Tensor, intercept: Tensor, center: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("coef", coef)
        self.register_buffer("intercept", intercept)
        self.register_buffer("center", torch.zeros(coef.shape[1]) if center is None else center)

    def forward(self, r: Tensor) -> Tensor:
        """r (tile, channel) → outputs (tile, output)."""
        return torch.where(r.isnan(), self.center, r) @ self.coef.T + self.intercept


def fit_readout(
    outcome: Outcome,
    r: FloatArray,
    labels: IntArray,
    groups: NDArray[np.str_],
    seed: int,
    strength: float | None = None,
    stratum: IntArray | None = None,
) -> LinearClassifier:
    """The linear model of an outcome (:meth:`~plexrank.outcome.Outcome.fit`) with an L2 penalty; deterministic.

    Channels are standardised as in :func:`fit_linear_classifier`, which fits classes without an order. The strength of
    the penalty is the one with the least sum of losses in an inner cross-validation that keeps patients together; ties
    go to the stronger penalty.

    Args:
        r: (image, channel) float64, the image means of the embedding, NaN where an image lacks the channel.
        labels: (image,) places among the levels of the outcome.
        groups: (image,) patient ids.
        seed: of the inner splits.
        strength: C, where it is not to be chosen.
        stratum: (image,) int, such as sites, each with a baseline of its own where the outcome knows one.

    Raises:
        ValueError: the shapes disagree, r is infinite or an image has none, or a group that is trained on is missing.
    """
    if isinstance(outcome, Nominal):
        return fit_linear_classifier(r, labels, groups, seed, strength)
    r = np.asarray(r, dtype=np.float64)
    _check_shapes(r, labels, groups)
    if outcome.missing_groups(labels):
        raise ValueError(f"the labels hold too little of the outcome, {outcome.kind}, for a fit")
    standardized, center, scale = _standardized(r)
    stratum = np.zeros(len(labels), dtype=np.int64) if stratum is None else stratum
    if strength is None:
        strength = _choose_strength_of(outcome, standardized, labels, groups, stratum, seed)
    fitted = outcome.fit(standardized, labels, strength, stratum)
    return _unscaled(fitted, center, scale)


def fit_linear_classifier(
    r: FloatArray, labels: IntArray, groups: NDArray[np.str_], seed: int, strength: float | None = None
) -> LinearClassifier:
    """Multinomial logistic regression with an L2 penalty and balanced class weights; deterministic.

    Channels are standardised for the fit over the images that hold them, and the scaling is folded into the weights;
    an image that lacks a channel counts as having its mean. The strength of the penalty is the one with the least log
    loss, balanced over classes, in an inner cross-validation that keeps patients together; ties go to the stronger
    penalty. Two classes get the weights −w/2 and +w/2.

    Args:
        r: (image, channel) float64, the image means of the embedding, NaN where an image lacks the channel.
        labels: (image,) integers 0…K−1; every class occurs.
        groups: (image,) patient ids.
        seed: of the inner splits.
        strength: C, where it is not to be chosen.

    Raises:
        ValueError: the shapes disagree, r is infinite or an image has none, or a class does not occur.
    """
    r = np.asarray(r, dtype=np.float64)
    _check_shapes(r, labels, groups)
    present = np.unique(labels)
    if len(present) < 2 or not np.array_equal(present, np.arange(len(present))):
        raise ValueError(f"labels must cover 0…K−1 with K ≥ 2, found {present.tolist()}")
    standardized, center, scale = _standardized(r)
    if strength is None:
        strength = _choose_strength(standardized, labels, groups, seed)
    fitted = _fit(standardized, labels, strength)
    coef, intercept = fitted.coef_, fitted.intercept_
    if len(coef) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return _unscaled(LinearWeights(coef, intercept), center, scale)


def _standardized(r: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """r (image, channel) of mean 0 and variance 1 over the images that hold the channel, 0 in others; centre, scale."""
    center, spread = known_moments(r)
    scale = np.where(spread > 1e-12 * (1 + np.abs(center)), spread, np.inf)
    return np.where(np.isnan(r), 0.0, (r - center) / scale), center, scale


def _unscaled(fitted: LinearWeights, center: FloatArray, scale: FloatArray) -> LinearClassifier:
    """Weights for r of those for standardised r."""
    coef = fitted.coef / scale
    intercept = fitted.intercept - coef @ center
    return LinearClassifier(*(torch.from_numpy(part.astype(np.float32)) for part in (coef, intercept, center)))


def _check_shapes(r: FloatArray, labels: IntArray, groups: NDArray[np.str_]) -> None:
    if r.ndim != 2 or labels.shape != (len(r),) or groups.shape != (len(r),):
        raise ValueError(
            f"r is {r.shape}, labels {labels.shape}, groups {groups.shape}; expected (image, channel), (image,) twice"
        )
    if np.isinf(r).any() or np.isnan(r).all(axis=1).any():
        raise ValueError("the embedding holds values that are not finite")


def _fit(r: FloatArray, labels: IntArray, strength: float) -> LogisticRegression:
    solver = "newton-cholesky" if len(r) <= NEWTON_IMAGES else "lbfgs"
    counts = np.bincount(labels)
    balanced = (len(labels) / (len(counts) * counts))[labels]  # as class_weight="balanced", which takes a quarter more
    return LogisticRegression(C=strength, solver=solver, max_iter=1000).fit(r, labels, sample_weight=balanced)


def _choose_strength(r: FloatArray, labels: IntArray, groups: NDArray[np.str_], seed: int) -> float:
    classes = np.unique(labels)
    fewest = min(len(np.unique(groups[labels == label])) for label in classes)
    if fewest < MIN_PATIENTS:
        return FALLBACK_STRENGTH
    splitter = StratifiedGroupKFold(n_splits=min(MAX_SPLITS, fewest), shuffle=True, random_state=seed)
    splits = [
        (fit, held_out)
        for fit, held_out in splitter.split(r, labels, groups)
        if len(np.unique(labels[fit])) == len(classes)
    ]
    if not splits:
        return FALLBACK_STRENGTH
    weight = 1 / np.bincount(labels)[labels]
    losses = [
        sum(
            _log_loss(
                _fit(r[fit], labels[fit], strength).predict_proba(r[held_out]), labels[held_out], weight[held_out]
            )
            for fit, held_out in splits
        )
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


def _log_loss(probability: FloatArray, labels: IntArray, weight: FloatArray) -> float:
    """Sum of weight × −log of the probability of the true class; sklearn's checks its input as long as a fit takes."""
    true = np.clip(probability[np.arange(len(labels)), labels], LEAST_PROBABILITY, 1)
    return float(-(weight * np.log(true)).sum())


def _choose_strength_of(
    outcome: Outcome,
    r: FloatArray,
    labels: IntArray,
    groups: NDArray[np.str_],
    stratum: IntArray,
    seed: int,
) -> float:
    """As :func:`_choose_strength`, for any outcome."""
    group = outcome.group_of(labels)
    trained_on = [place for place, one in enumerate(outcome.groups) if one.is_trained_on]
    fewest = min(len(np.unique(groups[group == place])) for place in trained_on)
    if fewest < MIN_PATIENTS:
        return FALLBACK_STRENGTH
    n_splits = min(MAX_SPLITS, fewest)
    splitter = StratifiedGroupKFold(n_splits=n_splits, shuffle=True, random_state=seed)
    splits = [
        (fit, held_out)
        for fit, held_out in splitter.split(r, _dealt_evenly(outcome, labels, n_splits), groups)
        if not outcome.missing_groups(labels[fit])
    ]
    if not splits:
        return FALLBACK_STRENGTH
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for fit, _ in splits:
            outputs = outcome.fit(r[fit], labels[fit], strength, stratum[fit]).outputs(r)
            fitted = np.isin(np.arange(len(labels)), fit)
            total += float(outcome.held_out_losses(outputs, labels, fitted, stratum).sum())
        losses.append(total)
    return STRENGTHS[int(np.argmin(losses))]


def _dealt_evenly(outcome: Outcome, labels: IntArray, n_splits: int) -> IntArray:
    """What the inner splits keep even, (image,): groups, or parts of a single one; the commonest takes in rare ones."""
    part = outcome.group_of(labels)
    if len(outcome.groups) == 1:
        part = np.unique(outcome.strata([outcome.levels[label] for label in labels]), return_inverse=True)[1]
    counts = np.bincount(part)
    return np.where(counts[part] < n_splits, counts.argmax(), part)
