"""What the other channels explain of a channel, so that reliance can be asked on the rest alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.samples import Samples
from plexrank.ranking.training_samples import TrainingSamples, training_samples

SHRINKAGE = 0.1
"""Share of the identity in the correlation matrix: keeps the regressions of many channels on few patients tame."""


def explained_by_others(units: Sequence[UnitTable], tables: SampleTables, samples: Samples) -> Array | None:
    """The part of each held-out r that a linear regression on the other channels predicts.

    Each unit's regressions are fitted to its training samples; the coefficients come from the inverse of the shrunk
    correlation matrix, r_c being explained by −P_ck / P_cc of the others.

    Returns:
        (seed, sample, channel), None where units kept no training embedding.
    """
    result = np.zeros_like(tables.embedding)
    for unit in units:
        training = training_samples(unit, samples)
        if training is None:
            return None
        rows = samples.fold == unit.fold
        seed = tables.seeds.index(unit.seed)
        standard = training.standardise(tables.embedding[seed, rows])
        spread = np.where(np.isfinite(training.spread), training.spread, 0.0)
        result[seed, rows] = standard @ _regressions(training) * spread + training.center
    return result


def _regressions(training: TrainingSamples) -> Array:
    """(channel, channel): column c holds the coefficients that predict channel c from the others."""
    r = training.r
    correlation = r.T @ r / len(r)
    precision = np.linalg.inv((1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(r.shape[1]))
    coefficients: Array = -precision / np.diag(precision)
    np.fill_diagonal(coefficients, 0.0)
    return coefficients
