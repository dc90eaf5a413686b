"""What a test of mean intensities could have found: how large a difference, with these patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from plexrank.outcome import Kind
from plexrank.statistics.power import detectable_shift

POWER = 0.8
"""Chance to find a difference of the size that is named."""
RANK_CORRELATION = 1.06
"""Variance of Fisher's z of Spearman's ρ, times n − 3 (Fieller, Hartley & Pearson 1957)."""


def first_threshold(fdr: float, tests: int) -> float:
    """The p-value that the best of some channels needs where no other is found (Benjamini & Hochberg 1995)."""
    return fdr / max(tests, 1)


def detectable(kind: Kind, patients: Mapping[str, int], threshold: float) -> float | None:
    """The smallest effect that a test finds with a chance of ``POWER``, by large-sample approximations.

    Sites are not counted, nor that a channel may be the one of many that is found.

    Args:
        patients: ``counts.classes`` of ``summary.json``: patients by class, or events and censored patients.
        threshold: the p-value that is needed.

    Returns:
        Of classes the difference, in standard deviations, between the smallest class and all others; of grades and
        numbers Spearman's ρ; of survival the hazard ratio for one standard deviation (Schoenfeld 1983); ``None``
        with too few patients for any of these.
    """
    total = sum(patients.values())
    if kind == "nominal":
        return detectable_shift(list(patients.values()), threshold, POWER)
    normal = NormalDist()
    reach = normal.inv_cdf(POWER) - normal.inv_cdf(threshold / 2)
    if kind == "survival":
        events = next(iter(patients.values()), 0)
        return math.exp(reach / math.sqrt(events)) if events else None
    return math.tanh(reach * math.sqrt(RANK_CORRELATION / (total - 3))) if total > 4 else None
