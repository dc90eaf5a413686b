"""Negative controls: decoy channels, and how many of them a ranking would call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from plexrank.ranking.aggregate import Classify, LinearWeights, SampleTables, UnitTable
from plexrank.ranking.logistic import TrainingSamples, fit_logistic, training_samples
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Array, Samples
from plexrank.ranking.statistics import benjamini_hochberg


@dataclass(frozen=True)
class Controls:
    """What negative controls say of the false discoveries.

    Attributes:
        decoys: how many decoys there are, one a channel; 0 where classifiers cannot be fitted anew.
        decoys_called: decoys whose reliance passes the threshold that the significant channels pass, or q ≤ fdr
            among themselves where no channel is significant.
        empirical_fdr: decoys_called over the number of significant channels, at most 1; None where none is.
        excluded: how many channels the study excludes.
        excluded_called: names of those whose reliance passes the same threshold.
    """

    decoys: int
    decoys_called: int
    empirical_fdr: float | None
    excluded: int
    excluded_called: tuple[str, ...]


def decoy_reliance_p(
    units: Sequence[UnitTable], tables: SampleTables, samples: Samples, rng: np.random.Generator
) -> Array | None:
    """p-values of the reliance on decoys, (channel,); None where units kept no training embedding.

    A decoy is a channel's r, shuffled between the training samples and between the held-out samples of each fold.
    The logistic regression of every unit is fitted anew to channels and decoys together. A decoy tells what the
    classifier makes of nothing; what the encoder makes of nothing only a channel can tell that itself means nothing.
    """
    training = {(unit.fold, unit.seed): training_samples(unit, samples) for unit in units}
    known = {key: value for key, value in training.items() if value is not None}
    if len(known) < len(training):
        return None
    channels = tables.embedding.shape[2]
    classify = {key: _fit_with_decoys(value, rng) for key, value in known.items()}
    embedding = np.empty((len(tables.seeds), len(samples), 2 * channels))
    for fold in np.unique(samples.fold):
        rows = np.flatnonzero(samples.fold == fold)
        order = _shuffles(tables.present[rows], rng)
        for number, seed in enumerate(tables.seeds):
            unit = known[int(fold), seed]
            r = np.where(tables.present[rows], unit.standardise(tables.embedding[number, rows]), np.nan)
            embedding[number, rows] = np.hstack([r, np.take_along_axis(r, order, axis=0)])
    return measure_reliance(embedding, classify, tables.seeds, samples, range(channels, 2 * channels)).p[channels:]


def _fit_with_decoys(unit: TrainingSamples, rng: np.random.Generator) -> Classify:
    decoys = np.take_along_axis(unit.r, _shuffles(unit.known, rng), axis=0)
    return partial(_logits, fit_logistic(np.hstack([unit.r, decoys]), unit.label, unit.strength))


def _logits(weights: LinearWeights, r: Array) -> Array:
    logits: Array = np.nan_to_num(r) @ weights.coef.T + weights.intercept
    return logits


def _shuffles(present: Array, rng: np.random.Generator) -> Array:
    """(row, channel) rows to take values from, shuffled among the rows that have the channel."""
    order = np.tile(np.arange(len(present))[:, None], (1, present.shape[1]))
    for channel, rows in enumerate(present.T):
        order[rows, channel] = rng.permutation(np.flatnonzero(rows))
    return order


def count_called(
    channels: Sequence[str],
    included: Array,
    significant: Array,
    reliance_p: Array,
    decoy_p: Array | None,
    *,
    fdr: float,
) -> Controls:
    """Count the controls that pass.

    Args:
        channels: names.
        included, significant: (channel,) bool.
        reliance_p, decoy_p: (channel,) p-values of channels and of their decoys.
        fdr: the study's.
    """
    called = int(significant.sum())
    threshold = reliance_p[significant].max(initial=0.0)
    passed = np.zeros(int(included.sum()), dtype=bool)
    if decoy_p is not None:
        own = decoy_p[included]
        passed = own <= threshold if called else benjamini_hochberg(own) <= fdr
    excluded = [name for name, p, ranked in zip(channels, reliance_p, included, strict=True)
                if called and not ranked and p <= threshold]  # fmt: skip
    return Controls(
        decoys=0 if decoy_p is None else len(passed),
        decoys_called=int(passed.sum()),
        empirical_fdr=min(passed.sum() / called, 1.0) if called and decoy_p is not None else None,
        excluded=int((~included).sum()),
        excluded_called=tuple(excluded),
    )
