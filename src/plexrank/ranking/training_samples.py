"""What a unit was trained on, and linear models refitted to it: of some channels, or with decoys beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.outcome import LinearWeights, Outcome
from plexrank.ranking.aggregate import UnitTable
from plexrank.ranking.refitting import implied_strength
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.statistics.means import known_mean

DEFAULT_STRENGTH = 0.1
"""C where the unit's own classifier tells none."""


@dataclass(frozen=True)
class TrainingSamples:
    """What a unit was trained on.

    Attributes:
        r: (row, channel) mean embedding of each training sample, standardised; 0 where it lacks the channel.
        known: (row, channel) bool.
        label: (row,) int.
        sample: (row,) which samples these are.
        strength: C of the unit's own classifier, or what serves in its place.
        center, spread: (channel,) of the training samples.
        outcome: of the cohort.
        stratum: (row,) int, the site.
    """

    r: Array
    known: Array
    label: Array
    sample: Array
    strength: float
    center: Array
    spread: Array
    outcome: Outcome
    stratum: Array

    def fit(self, x: Array, label: Array | None = None) -> LinearWeights:
        """The linear model of the outcome on x (row, column), with labels (row,) other than its own if given."""
        label = self.label if label is None else label
        return self.outcome.fit(x, label, self.strength, self.stratum)

    def has_groups(self, label: Array) -> bool:
        """Whether labels (row,) hold every group that a fit needs."""
        return not self.outcome.missing_groups(label)

    def standardise(self, r: Array) -> Array:
        """(row, channel) in the units of the training samples; 0 where a channel is absent."""
        result: Array = np.nan_to_num((r - self.center) / self.spread)
        return result


def training_samples(unit: UnitTable, samples: Samples) -> TrainingSamples | None:
    """The training samples of a unit, None where it kept no training embedding or lacks a group to train on."""
    means = image_means_to_samples(unit.training_embedding, samples)
    rows = np.flatnonzero(np.isfinite(means).any(axis=1))
    if samples.outcome.missing_groups(samples.label[rows]):
        return None
    r = means[rows]
    center = np.nan_to_num(known_mean(r))
    spread = np.nan_to_num(np.sqrt(known_mean((r - center) ** 2)))
    spread = np.where(spread > 0, spread, np.inf)
    return TrainingSamples(
        r=np.nan_to_num((r - center) / spread),
        known=np.isfinite(r),
        label=samples.label[rows],
        sample=rows,
        strength=_strength(unit, samples),
        center=center,
        spread=spread,
        outcome=samples.outcome,
        stratum=samples.stratum[rows],
    )


def _strength(unit: UnitTable, samples: Samples) -> float:
    if unit.linear is None:
        return DEFAULT_STRENGTH
    seen = np.flatnonzero(np.isfinite(unit.training_embedding).any(axis=1))
    sample = samples.image_sample[seen]
    embedding = unit.training_embedding[seen]
    return implied_strength(samples.outcome, unit.linear, embedding, samples.label[sample], samples.stratum[sample])
