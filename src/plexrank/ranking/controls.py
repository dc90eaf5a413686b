"""Negative controls: decoy channels, and how many of them a ranking would call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from plexrank.ranking.aggregate import Classify, SampleTables, UnitTable
from plexrank.ranking.logistic import fit_logistic, logits_of, training_samples
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Array, Samples, image_means_to_samples
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

    A decoy is a channel that every sample takes from another patient, the same one in all units, be it held out there
    or not: what it has in common with the labels by chance adds up over folds and seeds as that of a real channel
    does. The logistic regression of every unit is fitted anew to channels and decoys together. A decoy tells what the
    classifier makes of nothing; what the encoder makes of nothing only a channel can tell that itself means nothing.
    """
    channels = tables.embedding.shape[2]
    donor = draw_donors(tables.present, samples, rng)
    embedding = np.full((len(tables.seeds), len(samples), 2 * channels), np.nan)
    classify: dict[tuple[int, int], Classify] = {}
    for unit in units:
        training, rows = training_samples(unit, samples), samples.fold == unit.fold
        if training is None:
            return None
        seed = tables.seeds.index(unit.seed)
        r = image_means_to_samples(unit.training_embedding, samples)
        r[rows] = tables.embedding[seed, rows]
        r = (r - training.center) / training.spread
        both = np.hstack([r, np.take_along_axis(r, donor, axis=0)])
        embedding[seed, rows] = both[rows]
        weights = fit_logistic(np.nan_to_num(both[training.sample]), training.label, training.strength)
        classify[unit.fold, unit.seed] = partial(logits_of, weights)
    return measure_reliance(embedding, classify, tables.seeds, samples, range(channels, 2 * channels)).p[channels:]


def draw_donors(present: Array, samples: Samples, rng: np.random.Generator) -> Array:
    """(sample, channel) the sample whose value each takes: patients who have the channel, in random order."""
    donor = np.tile(np.arange(len(present))[:, None], (1, present.shape[1]))
    for channel, has in enumerate(present.T):
        rows = np.flatnonzero(has)
        patients, own = np.unique(samples.patient[rows], return_inverse=True)
        number = np.arange(len(rows)) - np.searchsorted(own, own)  # of a sample among those of its patient
        count = np.bincount(own)
        for samples_each in np.unique(count):
            members = np.flatnonzero(count == samples_each)
            taken = np.empty(len(patients), dtype=int)
            taken[members] = rng.permutation(members)
            of_these = count[own] == samples_each
            donor[rows[of_these], channel] = rows[np.searchsorted(own, taken[own[of_these]]) + number[of_these]]
    return donor


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
