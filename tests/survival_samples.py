"""Made-up survival data with all kinds of ties, for comparison with other packages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from plexrank.arrays import Array


class Survival(NamedTuple):
    """Arrays (sample,), x (sample, column)."""

    time: Array
    event: Array
    stratum: Array
    x: Array


def tied_survival(seed: int, samples: int = 80, columns: int = 4, strata: int = 3, end: float = 12.0) -> Survival:
    """Times in whole months, so that events meet events and censoring; whoever is left is censored at the end."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, columns))
    stratum = rng.integers(0, strata, samples)
    hazard = np.exp(0.7 * x[:, 0] - 0.4 * x[:, -1] + 0.3 * stratum) / 10
    until_event, until_censored = rng.exponential(1 / hazard), rng.exponential(15, samples)
    time = np.minimum(np.ceil(np.minimum(until_event, until_censored)), end)
    event = (until_event <= until_censored) & (until_event <= end)
    return Survival(time, event, stratum, x)
