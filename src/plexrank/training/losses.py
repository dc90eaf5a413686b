"""What a training minimises, for every kind of outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from plexrank.arrays import FloatArray, IntArray
from plexrank.outcome import Outcome
from plexrank.outcome.continuous import HUBER, Continuous
from plexrank.outcome.nominal import Nominal
from plexrank.outcome.ordinal import Ordinal
from plexrank.outcome.survival import Survival
from plexrank.statistics.cox import partial_likelihood
from plexrank.training.metrics import area_under_curve, class_weights, weighted_log_loss

LEAST_DIFFERENCE = 1e-6
"""Between the logits above and below a grade, at least, so that its probability has a logarithm."""


@dataclass(frozen=True, eq=False)
class Loss(ABC):
    """The loss of a network's outputs.

    Labels are places among the levels of the outcome. Outputs are (row, output) float32.
    """

    outcome: Outcome

    has_origin: ClassVar[bool] = True
    """Whether adding one number to all outputs changes the loss."""
    has_ordered_outputs: ClassVar[bool] = False
    """Whether the outputs are one score and thresholds that fall."""
    counts_right: ClassVar[bool] = False
    """Whether the highest output is right or wrong."""

    def label_weights(self, label: IntArray) -> FloatArray:
        """How much each level counts (level,), of the labels (image,) of the training images."""
        return np.ones(len(self.outcome))

    def spread(self, label: IntArray) -> NDArray[np.bool_] | None:
        """Which rows all batches need as many of as can be, (row,); ``None`` where they are drawn freely."""
        return None

    def weight(self, label: IntArray) -> float:
        """What the mean loss of images with these labels (image,) weighs among those of other images."""
        return float(len(label))

    @abstractmethod
    def of_images(self, outputs: Tensor, label: Tensor, stratum: Tensor) -> Tensor:
        """The mean loss of images: (image, output), int64 labels (image,) and sites (image,) → ()."""

    def of_validation(
        self, outputs: FloatArray, label: IntArray, label_weights: FloatArray, stratum: IntArray | None = None
    ) -> float:
        """The loss of the validation images by which epochs are compared, NaN where their labels do not allow one.

        Args:
            label_weights: (level,) those of the training images.
            stratum: (image,) sites.
        """
        return self.outcome.fitting_loss(outputs, label, stratum)

    def score(self, outputs: FloatArray, label: IntArray) -> float:
        """The headline measure of images, higher is better; NaN where it is not defined."""
        measures = self.outcome.measures(self.outcome.predict(outputs), label, np.ones((1, len(label))))
        return float(measures[self.outcome.headline][0])


@dataclass(frozen=True, eq=False)
class RowLoss(Loss):
    """A loss that is a weighted sum over rows."""

    @abstractmethod
    def of_rows(self, outputs: Tensor, label: Tensor) -> Tensor:
        """(row, output), int64 (row,) → (row,)."""

    def of_images(self, outputs: Tensor, label: Tensor, stratum: Tensor) -> Tensor:
        """See :class:`Loss`."""
        return self.of_rows(outputs, label).mean()


@dataclass(frozen=True, eq=False)
class NominalLoss(RowLoss):
    """Cross-entropy, every class with the same weight."""

    counts_right: ClassVar[bool] = True

    def label_weights(self, label: IntArray) -> FloatArray:
        """See :class:`Loss`."""
        return class_weights(label, len(self.outcome))

    def of_rows(self, outputs: Tensor, label: Tensor) -> Tensor:
        """See :class:`RowLoss`."""
        return nn.functional.cross_entropy(outputs, label, reduction="none")

    def of_images(self, outputs: Tensor, label: Tensor, stratum: Tensor) -> Tensor:
        """See :class:`Loss`."""
        counts = torch.bincount(label, minlength=outputs.shape[1]).clamp(min=1)
        return nn.functional.cross_entropy(outputs, label, weight=1 / counts.to(outputs))

    def of_validation(
        self, outputs: FloatArray, label: IntArray, label_weights: FloatArray, stratum: IntArray | None = None
    ) -> float:
        """See :class:`Loss`."""
        return weighted_log_loss(label, outputs, label_weights)

    def score(self, outputs: FloatArray, label: IntArray) -> float:
        """See :class:`Loss`."""
        return area_under_curve(label, softmax(outputs, axis=-1))


@dataclass(frozen=True, eq=False)
class OrdinalLoss(RowLoss):
    """−log of the probability of the grade, from cumulative logits (McCullagh 1980)."""

    has_ordered_outputs: ClassVar[bool] = True

    def of_rows(self, outputs: Tensor, label: Tensor) -> Tensor:
        """See :class:`RowLoss`.

        Where u is the logit of being above the grade before and l that of being above the grade itself, the
        probability is σ(u) − σ(l) = σ(u) σ(−l) (1 − e^(l − u)).
        """
        highest = outputs.shape[1] - 1
        has_upper, has_lower = label > 0, label <= highest
        upper = outputs.gather(1, (label - 1).clamp(min=0)[:, None])[:, 0]
        lower = outputs.gather(1, label.clamp(max=highest)[:, None])[:, 0]
        gap = torch.where(has_upper & has_lower, upper - lower, torch.inf).clamp(min=LEAST_DIFFERENCE)
        nothing = torch.zeros_like(upper)
        return -(
            torch.where(has_upper, nn.functional.logsigmoid(upper), nothing)
            + torch.where(has_lower, nn.functional.logsigmoid(-lower), nothing)
            + torch.log(-torch.expm1(-gap))
        )


@dataclass(frozen=True, eq=False)
class ContinuousLoss(RowLoss):
    """Huber's loss (1964) of the standardised number."""

    def of_rows(self, outputs: Tensor, label: Tensor) -> Tensor:
        """See :class:`RowLoss`."""
        outcome = cast(Continuous, self.outcome)
        true = torch.from_numpy(outcome.standardised).to(outputs)[label]
        return nn.functional.huber_loss(outputs[:, 0], true, reduction="none", delta=HUBER)


@dataclass(frozen=True, eq=False)
class SurvivalLoss(Loss):
    """Minus Cox's log partial likelihood (1972) an event, with Efron's ties (1977); every site is a stratum."""

    has_origin: ClassVar[bool] = False

    @property
    def _event(self) -> NDArray[np.bool_]:
        """(level,)."""
        return cast(Survival, self.outcome).event

    def spread(self, label: IntArray) -> NDArray[np.bool_]:
        """Those with an event."""
        spread: NDArray[np.bool_] = self._event[label]
        return spread

    def weight(self, label: IntArray) -> float:
        """The number of events."""
        return float(self._event[label].sum())

    def of_images(self, outputs: Tensor, label: Tensor, stratum: Tensor) -> Tensor:
        """See :class:`Loss`; 0 without an event, NaN where an output is not finite."""
        log_hazard, own = outputs.float()[:, 0], label.cpu().numpy()
        if not log_hazard.isfinite().all():
            return log_hazard.sum() * torch.nan
        if not self._event[own].any():
            return log_hazard.sum() * 0
        time = cast(Survival, self.outcome).time[own]
        return cast(Tensor, _PartialLikelihood.apply(log_hazard, time, self._event[own], stratum.cpu().numpy()))


class _PartialLikelihood(torch.autograd.Function):
    """Minus the log partial likelihood an event, in float64 whatever the network computes in."""

    @staticmethod
    def forward(ctx: Any, log_hazard: Tensor, time: FloatArray, event: NDArray[np.bool_], stratum: IntArray) -> Tensor:
        value, slope = partial_likelihood(log_hazard.detach().cpu().double().numpy(), time, event, stratum)
        events = int(event.sum())
        ctx.save_for_backward(torch.from_numpy(-slope / events).to(log_hazard))
        return log_hazard.new_tensor(-value / events)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * gradients[0], None, None, None


def make_loss(outcome: Outcome) -> Loss:
    """The loss of an outcome."""
    match outcome:
        case Nominal():
            return NominalLoss(outcome)
        case Ordinal():
            return OrdinalLoss(outcome)
        case Continuous():
            return ContinuousLoss(outcome)
        case Survival():
            return SurvivalLoss(outcome)
    raise ValueError(f"no loss is known for the kind {outcome.kind!r}")
