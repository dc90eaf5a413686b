"""Channels that differ between sites, and groups of highly correlated channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from plexrank.arrays import Array
from plexrank.ranking.aggregate import UnitTable
from plexrank.ranking.samples import UNKNOWN_SITE, Samples, image_means_to_samples
from plexrank.statistics.exchange import Exchange
from plexrank.statistics.rank_tests import RankTest, rank_test_apart

SAME_GROUP = 0.7
"""Mean |Spearman correlation| between the channels of two groups from which on they become one."""
MIN_SHARED = 4


def site_association(
    units: Sequence[UnitTable], samples: Samples, draws: int, rng: np.random.Generator
) -> RankTest | None:
    """Whether the held-out embedding differs between sites, whatever the sign of r in each unit.

    A patient's images at one site are one value; patients exchange their sites within the folds that hold them out.
    Statistics of folds and seeds add up, since r does not compare between units.

    Returns:
        One entry a channel; None with fewer than two sites.
    """
    site = samples.image_site
    if site is None or len(np.unique(site[site != UNKNOWN_SITE])) < 2:
        return None
    patient = samples.patient[samples.image_sample]
    places, row_of_image = np.unique(np.stack([patient, site], axis=1), axis=0, return_inverse=True)
    fold_of_patient = np.zeros(samples.num_patients, dtype=int)
    fold_of_patient[samples.patient] = samples.fold
    seeds = sorted({unit.seed for unit in units})
    values = np.full((len(seeds), len(samples.image_sample), units[0].embedding.shape[1]), np.nan)
    for unit in units:
        held_out = unit.n_tiles > 0
        values[seeds.index(unit.seed), held_out] = unit.embedding[held_out]
    of_places = np.stack([_means(table, row_of_image.ravel(), len(places)) for table in values])
    known = places[:, 1] != UNKNOWN_SITE
    exchange = Exchange(places[known, 1], places[known, 0], fold_of_patient[places[known, 0]])
    return rank_test_apart(of_places[:, known], exchange, draws, rng)


def _means(values: Array, row: Array, rows: int) -> Array:
    known = np.isfinite(values)
    total, count = np.zeros((rows, values.shape[1])), np.zeros((rows, values.shape[1]))
    np.add.at(total, row, np.where(known, values, 0.0))
    np.add.at(count, row, known)
    means: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return means


def channel_groups(units: Sequence[UnitTable], samples: Samples) -> Array:
    """Number of the group of each channel, (channel,) int from 1 in the order of the channels.

    Average linkage of 1 − |Spearman correlation| of r, cut at 1 − ``SAME_GROUP``. The correlation is taken over the
    training samples of each unit, as its magnitude, since r has a sign of its own in every unit, and averaged.
    """
    channels = units[0].embedding.shape[1]
    if channels < 2:
        return np.ones(channels, dtype=int)
    of_units = [np.abs(_correlations(image_means_to_samples(unit.training_embedding, samples))) for unit in units]
    distance = 1 - np.mean(of_units, axis=0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.clip(distance, 0, 1), checks=False), "average")
    label = fcluster(tree, 1 - SAME_GROUP, "distance")
    first = {group: number for number, group in enumerate(dict.fromkeys(label), start=1)}
    return np.array([first[group] for group in label])


def _correlations(values: Array) -> Array:
    """Spearman correlations of all pairs of columns over the rows that both have, 0 where too few."""
    values = values[~np.isnan(values).all(axis=1)]
    known = ~np.isnan(values)
    if known.all() and len(values):
        ranks = rankdata(values, axis=0)
        ranks -= ranks.mean(axis=0)
        norm = np.sqrt((ranks**2).sum(axis=0))
        ranks = np.divide(ranks, norm, out=np.zeros_like(ranks), where=norm > 0)
        complete: Array = ranks.T @ ranks
        return complete
    channels = values.shape[1]
    result = np.eye(channels)
    for a in range(channels):
        for b in range(a):
            shared = known[:, a] & known[:, b]
            if shared.sum() >= MIN_SHARED:
                result[a, b] = result[b, a] = _correlations(values[shared][:, [a, b]])[0, 1]
    return result
