"""Reliance: how much worse held-out prediction gets when one channel no longer belongs to its patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.outcome import Outcome
from plexrank.ranking.aggregate import Classify, SampleTables
from plexrank.ranking.samples import Samples
from plexrank.statistics.means import OUT_OF_FOLD_VARIANCE, balanced_mean_above_zero

MAX_DONORS = 24
EXCHANGED_AT_ONCE = 65_536
LOSS_ROUNDING = 1e-12
FEWEST_PATIENTS = 8
"""Patients that every class needs: with fewer, null cohorts are called too often (docs/evidence.md)."""


@dataclass(frozen=True)
class Reliance:
    """Attributes:
    increase: (sample, channel) rise of the loss, NaN where a sample lacks the channel or has no donor.
    mean: (channel,) its mean, classes counting alike, NaN where no sample has a donor.
    p: (channel,) one-sided p-value that it is above zero.
    """

    increase: Array
    mean: Array
    p: Array


def can_measure_reliance(tables: SampleTables, samples: Samples) -> bool:
    """Whether the networks have an embedding, and every class ``FEWEST_PATIENTS`` patients; or so many events."""
    everyone = np.ones((len(samples), 1), dtype=bool)
    return bool(tables.classify) and int(samples.fewest_patients(everyone)[0]) >= FEWEST_PATIENTS


def measure_reliance(
    embedding: Array,
    classify: Mapping[tuple[int, int], Classify],
    seeds: tuple[int, ...],
    samples: Samples,
    channels: Sequence[int] | None = None,
    explained: Array | None = None,
) -> Reliance:
    """Permutation importance (Breiman 2001; Fisher et al. 2019) of the ensemble on held-out samples.

    A channel's r is exchanged among the held-out samples of the same fold and, where sites are known, the same site
    (no known site counts as one), so that what r knows of the site alone changes nothing. This is done in all seeds
    alike, by up to ``MAX_DONORS`` shifts of a fixed order without fixed points: each sample takes the value of every
    other sample once where there are no more than ``MAX_DONORS`` + 1. The loss is that of the mean prediction over
    seeds. Samples that lack the channel neither give nor take, and one that is alone says nothing of it.

    The p-value is a class-balanced t-test over patients with the variance of out-of-fold means, see
    :data:`plexrank.statistics.means.OUT_OF_FOLD_VARIANCE`.

    Args:
        embedding: (seed, sample, channel), NaN where a sample lacks the channel.
        classify: the classifier of each (fold, seed), r (row, channel) → outputs (row, output).
        seeds: the seeds in the order of the first axis.
        channels: those to measure, all if absent; the others are NaN, with p 1.
        explained: (seed, sample, channel) what the other channels explain of r. It stays and only the rest is
            exchanged: conditional importance (Strobl et al. 2008, with a regression in the place of strata).
    """
    increase = np.full(embedding.shape[1:], np.nan)
    wanted = range(embedding.shape[2]) if channels is None else channels
    explained = np.zeros_like(embedding) if explained is None else explained
    undisturbed = _predictions(embedding, classify, seeds, samples)
    order = np.random.default_rng(0).permutation(len(samples))
    site = np.zeros_like(samples.fold) if samples.site is None else samples.site
    outcomes = {
        int(place): samples.outcome.calibrated(undisturbed[site == place], samples.label[site == place])
        for place in np.unique(site)
    }
    for fold, place in np.unique(np.stack([samples.fold, site], axis=1), axis=0):
        rows = order[(samples.fold[order] == fold) & (site[order] == place)]
        units = [classify[int(fold), seed] for seed in seeds]
        ensemble = _Ensemble(units, outcomes[int(place)])
        increase[rows] = _increase(embedding[:, rows], explained[:, rows], ensemble, samples.label[rows], wanted)
    mean, p = balanced_mean_above_zero(increase, samples.balance, samples.patient, OUT_OF_FOLD_VARIANCE)
    return Reliance(increase, mean, p)


def _predictions(
    embedding: Array, classify: Mapping[tuple[int, int], Classify], seeds: tuple[int, ...], samples: Samples
) -> Array:
    """(sample, column) of the undisturbed ensemble."""
    outputs = np.zeros((len(samples), len(samples.outcome.output_names)))
    result: Array = np.zeros_like(samples.outcome.predict(outputs))
    for fold in np.unique(samples.fold):
        units, rows = [classify[int(fold), seed] for seed in seeds], samples.fold == fold
        result[rows] = _Ensemble(units, samples.outcome).predict(embedding[:, rows])
    return result


@dataclass(frozen=True)
class _Ensemble:
    """The units of all seeds that hold the same samples out."""

    units: list[Classify]
    outcome: Outcome

    def predict(self, r: Array) -> Array:
        """Mean prediction (row, column) over the seeds, of r (seed, row, channel)."""
        predictions = [self.outcome.predict(classify(rows)) for classify, rows in zip(self.units, r, strict=True)]
        mean: Array = np.mean(predictions, axis=0)
        return mean

    def loss(self, r: Array, label: Array) -> Array:
        """(row,) of the mean prediction, of r (seed, row, channel) and labels (row,)."""
        return self.outcome.loss(self.predict(r), label)


def _increase(r: Array, explained: Array, ensemble: _Ensemble, label: Array, wanted: Sequence[int]) -> Array:
    known = np.isfinite(r).all(axis=0)
    undisturbed = ensemble.loss(r, label)
    increase = np.full(r.shape[1:], np.nan)
    for channel in wanted:
        rows = known[:, channel]
        stays = explained[:, rows, channel]
        increase[rows, channel] = _increase_of(channel, r[:, rows], stays, ensemble, label[rows], undisturbed[rows])
    return np.where(np.abs(increase) <= LOSS_ROUNDING, 0.0, increase)


def _increase_of(channel: int, r: Array, stays: Array, ensemble: _Ensemble, label: Array, undisturbed: Array) -> Array:
    """(sample,) mean rise of the loss over the shifts.

    Args:
        r: (seed, sample, channel) of samples that have the channel.
        stays: (seed, sample) the part of the channel's r that is not exchanged.
    """
    _, n, channels = r.shape
    shifts = min(n - 1, MAX_DONORS)
    if shifts < 1:
        return np.full(n, np.nan)
    donors = (np.arange(n) + np.arange(1, shifts + 1)[:, None]) % n
    total = np.zeros(n)
    shifts_at_once = max(EXCHANGED_AT_ONCE // n, 1)
    for start in range(0, shifts, shifts_at_once):
        some = donors[start : start + shifts_at_once]
        exchanged = np.repeat(r[:, None], len(some), axis=1)
        exchanged[..., channel] = stays[:, None] + (r[..., channel] - stays)[:, some]
        flat = exchanged.reshape(len(r), len(some) * n, channels)
        loss = ensemble.loss(flat, np.tile(label, len(some)))
        total += loss.reshape(len(some), n).sum(axis=0)
    increase: Array = total / shifts - undisturbed
    return increase
