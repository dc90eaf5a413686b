"""Classes without an order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray, IntArray
from plexrank.outcome.base import Group, LinearWeights, Outcome
from plexrank.statistics.logistic import fit_logistic
from plexrank.statistics.logistic_refit import LogisticRefit

SMALLEST_PROBABILITY = 1e-9


@dataclass(frozen=True, eq=False)
class Nominal(Outcome):
    """Classes; every one weighs the same in what is fitted, and has a logit of its own."""

    kind: ClassVar[str] = "nominal"
    linear_model: ClassVar[str] = "logistic"
    headline: ClassVar[str] = "auc"
    chance: ClassVar[float] = 0.5
    has_classes: ClassVar[bool] = True

    @property
    def groups(self) -> tuple[Group, ...]:
        """The classes."""
        return class_groups(self.levels)

    def group_of(self, label: IntArray) -> IntArray:
        """The class."""
        return label

    def strata(self, levels: Sequence[str]) -> list[str]:
        """The levels themselves."""
        return list(levels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """A logit for each class."""
        return self.levels

    @property
    def contrast_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.levels

    def weights(self, label: IntArray) -> FloatArray:
        """n / (K · n_k), so that all classes that occur weigh the same."""
        counts = np.bincount(label, minlength=len(self))
        weights: FloatArray = len(label) / ((counts > 0).sum() * np.maximum(counts, 1))
        return weights[label]

    def balance(self, label: IntArray) -> IntArray:
        """The class."""
        return label

    def fit(
        self,
        x: FloatArray,
        label: IntArray,
        strength: float,
        stratum: IntArray | None = None,
        weight: FloatArray | None = None,
        start: LinearWeights | None = None,
    ) -> LinearWeights:
        """Multinomial logistic regression with balanced classes; every class occurs."""
        return LinearWeights(*fit_logistic(x, label, strength, weight))

    def refitting(
        self, fitted: LinearWeights, x: FloatArray, label: IntArray, stratum: IntArray | None = None
    ) -> Callable[[FloatArray], FloatArray]:
        """Of all draws at once."""
        return LogisticRefit(fitted.coef, fitted.intercept, x, label).refit

    def implied_strength(
        self, fitted: LinearWeights, x: FloatArray, label: IntArray, stratum: IntArray | None = None
    ) -> float:
        """The same; two classes share out one logit, whose square is twice the sum of theirs."""
        penalty = float(LogisticRefit(fitted.coef, fitted.intercept, x, label).penalty[0])
        return (2.0 if len(self) == 2 else 1.0) / penalty

    def slope(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """(1 of the own class − probability) × weight."""
        own = np.equal(label[:, None], np.arange(outputs.shape[1])).astype(np.float64)
        result: FloatArray = (own - scipy.special.softmax(outputs, axis=-1)) * self.weights(label)[:, None]
        return result

    def fitting_loss(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> float:
        """Mean cross-entropy, every class with the same weight."""
        weight = self.weights(label)
        return float((weight * self.loss(self.predict(outputs), label)).sum() / weight.sum())

    def predict(self, outputs: FloatArray) -> FloatArray:
        """Probabilities of the classes."""
        result: FloatArray = scipy.special.softmax(outputs, axis=-1)
        return result

    def prediction_columns(self, prediction: FloatArray) -> dict[str, Array]:
        """``predicted``, and ``probability_<class>`` for each."""
        return probability_columns(self.levels, prediction, prediction.argmax(axis=1))

    def loss(self, prediction: FloatArray, label: IntArray) -> FloatArray:
        """−log of the probability of the true class."""
        return log_loss(prediction, label)

    def measures(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> Mapping[str, FloatArray]:
        """Accuracy, balanced accuracy, area under the ROC curve (with more than two classes of each against all)."""
        correct = (prediction.argmax(axis=1) == label).astype(np.float64)
        own = np.equal(label[:, None], np.arange(len(self))).astype(np.float64)
        recall = (weights * correct) @ own / (weights @ own)
        return {
            "accuracy": weights @ correct / weights.sum(axis=1),
            "balanced_accuracy": recall.mean(axis=1),
            "auc": _weighted_auc(prediction, own, weights),
        }

    def headline_of(self, prediction: FloatArray, labels: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """AUC for labels with equal class counts: Mann-Whitney's U."""
        ranks = scipy.stats.rankdata(prediction, axis=0)
        total = np.zeros(len(labels))
        for k in range(len(self)):
            own = labels == k
            positive = own.sum(axis=1)
            u = own @ ranks[:, k] - positive * (positive + 1) / 2
            total += u / (positive * (labels.shape[1] - positive))
        mean: FloatArray = total / len(self)
        return mean

    def places(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Classes have no order."""
        return None

    def shown_output(self, outputs: FloatArray) -> IntArray:
        """The predicted class."""
        result: IntArray = outputs.argmax(axis=1)
        return result

    def contrasts(self, values: Array) -> Array:
        """|v_k − mean of the other classes' v|, (row, channel, class)."""
        classes = values.shape[-1]
        total = values[..., 0].copy()
        for k in range(1, classes):  # a sum along so short an axis is slow
            total += values[..., k]
        contrast = values * (classes / (classes - 1))
        contrast -= (total / (classes - 1))[..., None]
        result: Array = np.abs(contrast, out=contrast)
        return result


def class_groups(classes: tuple[str, ...]) -> tuple[Group, ...]:
    """Each class: held out, and trained on, by every fold."""
    return tuple(Group(name, f"patient of class {name!r}", least_held_out=1, is_trained_on=True) for name in classes)


def probability_columns(classes: tuple[str, ...], probability: FloatArray, predicted: IntArray) -> dict[str, Array]:
    """``predicted`` (row,) classes, and a column of probabilities (row, class) for each class."""
    columns: dict[str, Array] = {"predicted": np.array(classes, dtype=object)[predicted]}
    return columns | {f"probability_{name}": probability[:, k] for k, name in enumerate(classes)}


def log_loss(probability: FloatArray, label: IntArray) -> FloatArray:
    """−log of the probability of the true class: (row, class), (row,) → (row,)."""
    true = np.take_along_axis(probability, label[:, None], axis=1)[:, 0]
    loss: FloatArray = -np.log(np.maximum(true, SMALLEST_PROBABILITY))
    return loss


def _weighted_auc(probability: FloatArray, own: FloatArray, weights: FloatArray) -> FloatArray:
    total = np.zeros(len(weights))
    for k in range(own.shape[1]):
        inside, outside = own[:, k] > 0, own[:, k] == 0
        higher = np.sign(probability[inside, k][:, None] - probability[outside, k]) / 2 + 0.5
        wins = ((weights[:, inside] @ higher) * weights[:, outside]).sum(axis=1)
        total += wins / (weights[:, inside].sum(axis=1) * weights[:, outside].sum(axis=1))
    mean: FloatArray = total / own.shape[1]
    return mean
