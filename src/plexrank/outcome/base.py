"""What every kind of outcome can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from plexrank.arrays import Array, BoolArray, FloatArray, IntArray

MEASURE_NAMES = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "spearman": "Spearman's ρ",
    "kappa": "quadratic-weighted kappa",
    "accuracy": "accuracy",
    "r2": "R²",
    "c_index": "Harrell's C",
    "uno_c": "Uno's C",
    "dynamic_auc": "time-dependent AUC",
    "brier": "integrated Brier score (lower is better)",
}
"""What measures are called in reports, headline measures first."""


LINEAR_MODELS = {
    "logistic": "logistic regression",
    "proportional_odds": "proportional odds regression",
    "ridge": "ridge regression",
    "cox": "Cox regression",
}
"""What linear models are called in reports."""


@dataclass(frozen=True)
class LinearWeights:
    """Weights of outputs that are linear in r: ``coef`` (output, channel), ``intercept`` (output,), float64.

    ``center`` (channel,) is what an absent channel counts as, 0 if absent.
    """

    coef: Array
    intercept: Array
    center: Array | float = 0.0

    def outputs(self, r: Array) -> Array:
        """Outputs (row, output) of r (row, channel), NaN where a channel is absent."""
        result: Array = np.where(np.isnan(r), self.center, r) @ self.coef.T + self.intercept
        return result


@dataclass(frozen=True)
class Group:
    """Patients that are counted together, and that every fold needs some of.

    Attributes:
        name: such as a class.
        one: what a patient of it is in words, ``patient of class 'a'`` or ``event``.
        least_held_out: how many of them a fold must hold out.
        is_trained_on: whether a fold must train on some.
    """

    name: str
    one: str
    least_held_out: int
    is_trained_on: bool


@dataclass(frozen=True, eq=False)
class Outcome(ABC):
    """The outcome of a cohort.

    A patient's outcome is written as a text, its level, and computed with as a ``label``: the place of that text among
    ``levels``. A network, and a linear model after it, has one or more ``outputs``, numbers without bounds that add up
    over tiles and to which importances belong; a ``prediction`` is what they mean: probabilities, a number, a risk.

    Attributes:
        levels: every different outcome of the cohort as text, in their order.
    """

    levels: tuple[str, ...]

    kind: ClassVar[str]
    linear_model: ClassVar[str]
    """What :meth:`fit` fits, one of :data:`LINEAR_MODELS`."""
    headline: ClassVar[str]
    """The measure by which predictions are compared."""
    chance: ClassVar[float]
    """The headline measure of predictions that know nothing."""
    has_classes: ClassVar[bool] = False
    """Whether the levels are a few classes, each with several patients."""
    shares_slope: ClassVar[bool] = False
    """Whether all outputs have the same coefficients."""
    is_ranked: ClassVar[bool] = True
    """Whether only the order of :meth:`places` counts in tests."""
    ends: ClassVar[tuple[str, str]] = ("low", "high")
    """What the lower and the upper half of the patients are called, where labels have an order."""

    def __len__(self) -> int:
        return len(self.levels)

    # What the outcome is made of.

    @property
    @abstractmethod
    def groups(self) -> tuple[Group, ...]:
        """What patients are counted by."""

    @abstractmethod
    def group_of(self, label: IntArray) -> IntArray:
        """The group (row,) of each label (row,)."""

    def missing_groups(self, label: IntArray) -> list[Group]:
        """The groups that have to be trained on and are not among labels (row,)."""
        held = set(self.group_of(label).tolist())
        return [group for place, group in enumerate(self.groups) if group.is_trained_on and place not in held]

    @abstractmethod
    def strata(self, levels: Sequence[str]) -> list[str]:
        """What is dealt evenly into folds, of the levels of all patients: groups, or finer; sorted as text."""

    def shortcomings(self, patients: Sequence[int]) -> tuple[list[str], list[str]]:
        """Why the outcome cannot be analysed, and what makes it doubtful; of how many patients each group has."""
        return [], []

    def oddities(self, levels: Sequence[str]) -> tuple[list[str], list[str]]:
        """Why these levels, of all patients, cannot be analysed, and what is odd about them."""
        return [], []

    def lonely(self, levels: Sequence[str], sites: Sequence[str]) -> tuple[list[str], list[str]]:
        """Why patients (row,) cannot be compared within their sites (row,), and what makes that doubtful."""
        return [], []

    def describe(self, levels: Sequence[str]) -> str:
        """The outcome of all patients in a line, empty where the counts of the groups say it."""
        return ""

    def without_channels(self, label: IntArray, stratum: IntArray | None = None) -> dict[str, float | int]:
        """Measures of the same prediction for all patients, labels (row,), where chance is no round number.

        With them, what the measures are taken over. Empty where the measures say all that by themselves.
        """
        return {}

    def labels(self, levels: Sequence[str]) -> IntArray:
        """(row,) the place of each level."""
        place = {level: number for number, level in enumerate(self.levels)}
        return np.array([place[level] for level in levels], dtype=np.int64)

    @property
    @abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """What each output stands for."""

    @property
    def contrast_names(self) -> tuple[str, ...]:
        """What channels are ranked for one by one, beside the whole."""
        return self.output_names[:1]

    def columns(self, label: IntArray) -> dict[str, Array]:
        """How tables write the outcome: names and values (row,)."""
        return {"label": np.array(self.levels, dtype=object)[label]}

    # What is fitted.

    def weights(self, label: IntArray) -> FloatArray:
        """How much each label (row,) counts in what is fitted, 1 on average."""
        return np.ones(len(label))

    def balance(self, label: IntArray) -> IntArray:
        """Groups (row,) of labels that count alike in means over patients, however many patients each has."""
        return np.zeros(len(label), dtype=np.int64)

    @abstractmethod
    def fit(
        self,
        x: FloatArray,
        label: IntArray,
        strength: float,
        stratum: IntArray | None = None,
        weight: FloatArray | None = None,
        start: LinearWeights | None = None,
    ) -> LinearWeights:
        """The linear model that minimises C × loss + ½ ‖coef‖².

        Args:
            x: (row, column) about standardised, no NaN.
            label: (row,).
            strength: C, above 0.
            stratum: (row,) rows with a baseline of their own where the kind knows one, such as sites.
            weight: (row,) how often each row counts; once if absent.
            start: a model nearby; then a few steps are enough, as for a bootstrap.
        """

    def refitting(
        self, fitted: LinearWeights, x: FloatArray, label: IntArray, stratum: IntArray | None = None
    ) -> Callable[[FloatArray], FloatArray]:
        """What turns weights (draw, row) into coefficients (draw, output, column) of models fitted with these.

        Args:
            fitted: the model of all rows, from which each draw starts; it tells C.
            x, label, stratum: as for :meth:`fit`.
        """
        strength = self.implied_strength(fitted, x, label, stratum)

        def refit(weights: FloatArray) -> FloatArray:
            return np.stack([self.fit(x, label, strength, stratum, own, fitted).coef for own in weights])

        return refit

    def implied_strength(
        self, fitted: LinearWeights, x: FloatArray, label: IntArray, stratum: IntArray | None = None
    ) -> float:
        """C for which the gradient of what :meth:`fit` minimises vanishes at its result, along the coefficients."""
        along = float((self.slope(fitted.outputs(x), label, stratum).T @ x * fitted.coef).sum())
        squares = float((fitted.coef**2).sum()) / (len(fitted.coef) if self.shares_slope else 1)
        return squares / along if along > 0 and squares > 0 else 1.0

    @abstractmethod
    def slope(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """Derivatives (row, output) of minus the loss that :meth:`fit` minimises, by the outputs (row, output)."""

    @abstractmethod
    def fitting_loss(self, outputs: FloatArray, label: IntArray, stratum: IntArray | None = None) -> float:
        """The loss of all rows together, by which epochs of a training are compared."""

    # What is predicted, and how well.

    @abstractmethod
    def predict(self, outputs: FloatArray) -> FloatArray:
        """Predictions (…, column) of outputs (…, output)."""

    @abstractmethod
    def prediction_columns(self, prediction: FloatArray) -> dict[str, Array]:
        """How tables write predictions (row, column): names and values (row,)."""

    @abstractmethod
    def loss(self, prediction: FloatArray, label: IntArray) -> FloatArray:
        """How wrong each prediction (row, column) is, (row,)."""

    def held_out_losses(
        self, outputs: FloatArray, label: IntArray, fitted: BoolArray, stratum: IntArray | None = None
    ) -> FloatArray:
        """How wrong a model is on each row that it was not fitted to, of outputs (row, output): (held-out row,).

        Args:
            fitted: (row,) bool, the rows that it was fitted to.
        """
        return self.loss(self.predict(outputs[~fitted]), label[~fitted])

    def calibrated(self, prediction: FloatArray, label: IntArray) -> Outcome:
        """The outcome by whose :meth:`loss` predictions near these (row, column) are compared."""
        return self

    @abstractmethod
    def measures(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> Mapping[str, FloatArray]:
        """Measures (draw,) of predictions (row, column) for every row of weights (draw, row); NaN where undefined.

        Args:
            stratum: (row,) rows that alone compare with each other where the kind knows a baseline, such as sites.
        """

    def headline_over(
        self, prediction: FloatArray, label: IntArray, weights: FloatArray, stratum: IntArray | None = None
    ) -> FloatArray:
        """The headline measure alone; arguments as for :meth:`measures`."""
        return self.measures(prediction, label, weights, stratum)[self.headline]

    @abstractmethod
    def headline_of(self, prediction: FloatArray, labels: IntArray, stratum: IntArray | None = None) -> FloatArray:
        """The headline measure (draw,) of the same predictions (row, column) for many labels (draw, row)."""

    # What is tested of single channels.

    @abstractmethod
    def places(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Numbers (row,) along which channels may rise or fall; ``None`` where labels have no order.

        Args:
            label: (row,).
            stratum: (row,) such as sites, each with a baseline of its own where the kind knows one.
        """

    def targets(self, label: IntArray, stratum: IntArray) -> FloatArray | None:
        """Numbers (row,) that a regression may learn in the place of the outcome; ``None`` for classes."""
        return None

    # Importances.

    def shown_output(self, outputs: FloatArray) -> IntArray:
        """Which output (row,) the importance of each row belongs to, of outputs (row, output)."""
        return np.zeros(len(outputs), dtype=np.int64)

    def contrasts(self, values: Array) -> Array:
        """|importance| (row, channel, contrast) of signed importances (row, channel, output)."""
        result: Array = np.abs(values[..., :1])
        return result

    def importance(self, values: Array, shown: IntArray) -> Array:
        """|importance| (row, channel) for the output that :meth:`shown_output` gives, of (row, channel, output)."""
        of_output = values[..., 0].copy()
        for k in range(1, values.shape[-1]):  # a selection along so short an axis is slow
            np.copyto(of_output, values[..., k], where=(shown == k)[:, None])
        result: Array = np.abs(of_output, out=of_output)
        return result
