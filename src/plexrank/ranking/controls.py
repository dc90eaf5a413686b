"""Negative controls: decoy channels, and how many of them a ranking would call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import Classify, SampleTables, UnitTable
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.ranking.training_samples import training_samples
from plexrank.statistics.multiple import benjamini_hochberg


@dataclass(frozen=True)
class Controls:
    """What negative controls say of the false discoveries.

    Attributes:
        decoys: how many decoys there are, one a channel; 0 where reliance is not measured.
        decoys_called: decoys on which the model relies: their p passes the threshold that channels of reliance_q ≤ fdr
            pass, or q ≤ fdr among themselves where no channel does.
        excluded: how many channels the study excludes.
        excluded_called: names of those that would be found to differ, by intensity or by pattern.
    """

    decoys: int
    decoys_called: int
    excluded: int
    excluded_called: tuple[str, ...]


def decoy_reliance_p(
    units: Sequence[UnitTable], tables: SampleTables, samples: Samples, rng: np.random.Generator
) -> Array | None:
    """p-values of the reliance on decoys, (channel,); None where units kept no training embedding.

    A decoy is a channel that every sample takes from another patient, the same one in all units, be it held out there
    or not: what it has in common with the labels by chance adds up over folds and seeds as that of a real channel
    does. The linear model of every unit is refitted to channels and decoys together. A decoy tells what the
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
        classify[unit.fold, unit.seed] = training.fit(np.nan_to_num(both[training.sample])).outputs
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
    tests: Mapping[str, Array],
    decoy_p: Array | None,
    *,
    fdr: float,
) -> Controls:
    """Count the controls that pass.

    Args:
        channels: names.
        included: (channel,) bool.
        tests: (channel,) p-values of ``reliance``, ``intensity`` and ``pattern``, as far as they were made.
        decoy_p: (channel,) p-values of the reliance on decoys.
        fdr: the study's.
    """
    decoys_called = 0
    if decoy_p is not None and "reliance" in tests:
        of_decoys = decoy_p[included]
        threshold = _threshold(tests["reliance"], included, fdr)
        passed = benjamini_hochberg(of_decoys) <= fdr if threshold is None else of_decoys <= threshold
        decoys_called = int(passed.sum())
    called = np.zeros(len(included), dtype=bool)
    for name in ("intensity", "pattern"):
        threshold = _threshold(tests[name], included, fdr) if name in tests else None
        if threshold is not None:
            called |= ~included & (tests[name] <= threshold)
    return Controls(
        decoys=0 if decoy_p is None else int(included.sum()),
        decoys_called=decoys_called,
        excluded=int((~included).sum()),
        excluded_called=tuple(name for name, is_called in zip(channels, called, strict=True) if is_called),
    )


def _threshold(p: Array, included: Array, fdr: float) -> float | None:
    """The largest p-value of a ranked channel with q ≤ fdr, None where there is none."""
    own = p[included]
    passed = own[benjamini_hochberg(own) <= fdr]
    return float(passed.max()) if len(passed) else None
