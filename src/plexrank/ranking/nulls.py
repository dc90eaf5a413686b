"""What the whole procedure, training included, makes of labels that mean nothing: the exact null."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import UnitTable, gather_samples
from plexrank.ranking.pattern import arrangement, differs_in_arrangement
from plexrank.ranking.prediction import headline
from plexrank.ranking.reliance import can_measure_reliance, measure_reliance
from plexrank.ranking.samples import Samples
from plexrank.statistics.means import known_mean

FEWEST_LABELLINGS = 200
"""Labellings from which on p-values are given: with fewer none reaches 0.005."""
FEWEST_VALUES = 100
"""Values from which on λ is measured instead of assumed."""
DRAWS_OF_A_LABELLING = 2000
"""Labellings that standardise the pattern statistic of each training; the spread over them is known to 2 %."""

NullUnits = Iterable[tuple[Array, Sequence[UnitTable]]]
"""For each labelling the label of every image, (image,) int, and the units trained on it, one a fold."""


@dataclass(frozen=True)
class Statistics:
    """What is compared between the true labels and permuted ones; from units of one seed.

    Attributes:
        score: (channel,) share of the importance.
        pattern: (channel,) standardised statistic of the pattern test, NaN without an embedding.
        reliance: (channel,), NaN where it is not measured.
        headline: measure of the held-out prediction.
    """

    score: Array
    pattern: Array
    reliance: Array
    headline: float


def measure(units: Sequence[UnitTable], samples: Samples, method: str, rng: np.random.Generator) -> Statistics:
    """The statistics of one set of units, one seed for each fold."""
    tables = gather_samples(units, samples, method)
    nothing = np.full(tables.mean_intensity.shape[1], np.nan)
    pattern, reliance = nothing, nothing
    rest = arrangement(units, tables, samples)
    if rest is not None:
        pattern = differs_in_arrangement(rest, samples, 1.0, DRAWS_OF_A_LABELLING, rng).z
    if can_measure_reliance(tables, samples):
        reliance = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples).mean
    score = known_mean(tables.importance, (0, 1))
    return Statistics(score, pattern, reliance, headline(tables.prediction, samples))


@dataclass(frozen=True)
class Null:
    """Statistics of many labellings beside the observed ones.

    Attributes:
        score, pattern, reliance: (labelling, channel).
        headline: (labelling,).
        observed: of the true labels, from the units of the first seed, as the others are.
    """

    score: Array
    pattern: Array
    reliance: Array
    headline: Array
    observed: Statistics

    def __len__(self) -> int:
        return len(self.headline)

    def pattern_variance(self, included: Array) -> float | None:
        """λ: variance of the standardised pattern statistic over labellings and ranked channels, at least 1.

        None where there are fewer than ``FEWEST_VALUES`` values.
        """
        values = self.pattern[:, included]
        values = values[np.isfinite(values)]
        return max(float(np.mean(values**2)), 1.0) if len(values) >= FEWEST_VALUES else None

    def p_values(self, name: str, included: Array) -> tuple[Array, Array]:
        """Exact p-values of a statistic, (channel,) each: of the channel alone, and of the largest of all channels.

        The observed statistic counts among those of the labellings; where networks of some labellings say nothing of
        a channel theirs is 0. NaN below ``FEWEST_LABELLINGS``; the second controls the chance of any false call
        (Westfall & Young 1993) and is NaN for excluded channels.
        """
        observed, drawn = getattr(self.observed, name), getattr(self, name)
        unknown = np.isnan(observed) | np.isnan(drawn).all(axis=0)
        drawn = np.nan_to_num(drawn)
        if len(self) < FEWEST_LABELLINGS:
            unknown = np.ones_like(unknown)
        alone = (1 + (drawn >= observed).sum(axis=0)) / (1 + len(self))
        ranked = np.where(included & ~unknown, drawn, -np.inf)
        highest = ranked.max(axis=1, initial=-np.inf)[:, None]
        largest = (1 + (highest >= observed).sum(axis=0)) / (1 + len(self))
        return np.where(unknown, np.nan, alone), np.where(unknown | ~included, np.nan, largest)

    def headline_p(self) -> float | None:
        """Exact p-value of the headline measure; None below ``FEWEST_LABELLINGS``."""
        if len(self) < FEWEST_LABELLINGS:
            return None
        return float((1 + (self.headline >= self.observed.headline).sum()) / (1 + len(self)))

    def score_band(self, included: Array) -> tuple[Array, Array]:
        """95 % band of the score that stands at each position where labels mean nothing, (position,) each."""
        ordered = -np.sort(-self.score[:, included], axis=1)
        low, high = np.percentile(ordered, (2.5, 97.5), axis=0)
        return low, high


def measure_null(
    null_units: NullUnits, units: Sequence[UnitTable], samples: Samples, method: str, rng: np.random.Generator
) -> Null | None:
    """Statistics of every labelling, one in memory at a time; ``None`` where there is none.

    Args:
        null_units: trained on permuted labels.
        units: of the true labels; the first seed is compared.
    """
    found = []
    for labels, of_labelling in null_units:
        relabelled = np.zeros_like(samples.label)
        relabelled[samples.image_sample] = labels
        found.append(measure(of_labelling, samples.relabelled(relabelled), method, rng))
    if not found:
        return None
    first = min(unit.seed for unit in units)
    observed = measure([unit for unit in units if unit.seed == first], samples, method, rng)
    score, pattern, reliance = (
        np.stack([getattr(one, name) for one in found]) for name in ("score", "pattern", "reliance")
    )
    return Null(score, pattern, reliance, np.array([one.headline for one in found]), observed)
