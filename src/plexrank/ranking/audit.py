"""Channels that tell the sites apart, and channels that stand for one another."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from plexrank.ranking.prediction import is_confounded, permute_labels
from plexrank.ranking.samples import UNKNOWN_SITE, Array, Samples
from plexrank.ranking.statistics import Association, kruskal

SAME_GROUP = 0.7
"""Mean |Spearman correlation| between the channels of two groups from which on they become one."""
MIN_SHARED = 4
ROUNDING = 1e-12


def site_association(aligned: Array, samples: Samples) -> Association | None:
    """Kruskal-Wallis of the held-out embedding (sample, channel) against the site; None with fewer than two sites."""
    if samples.site is None:
        return None
    known = samples.site != UNKNOWN_SITE
    if len(np.unique(samples.site[known])) < 2:
        return None
    return kruskal(aligned[known], samples.site[known])


def association_within_sites(
    values: Array, samples: Samples, permutations: int, rng: np.random.Generator, variance_factor: float = 1.0
) -> Array | None:
    """(channel,) p-values of the label among patients of the same site; None without sites, or where confounded.

    Ranks are taken within each site and divided by its number of samples + 1 (van Elteren 1960); the statistic is that
    of Kruskal & Wallis on their sums over the classes, and the labels are permuted over patients within sites.

    Args:
        values: (sample, channel), NaN where a sample lacks the channel: it takes no part there.
        variance_factor: as for :func:`~plexrank.ranking.statistics.kruskal`.
    """
    if samples.site is None or len(np.unique(samples.site)) < 2 or is_confounded(samples):
        return None
    known = ~np.isnan(values)
    score = np.zeros(values.shape)
    for site in np.unique(samples.site):
        rows = samples.site == site
        count = known[rows].sum(axis=0)
        ranks = rankdata(np.where(known[rows], values[rows], np.inf), axis=0)
        score[rows] = np.where(known[rows], ranks - (count + 1) / 2, 0.0) / (count + 1)
    labels = np.vstack([samples.label, permute_labels(samples, permutations, rng)])
    between = np.zeros((len(labels), values.shape[1]))
    for k in range(samples.num_classes):
        own = (labels == k).astype(np.float64)
        between += (own @ score) ** 2 / np.maximum(own @ known, 1)
    reached = (between[1:] >= between[0] / variance_factor - ROUNDING).sum(axis=0)
    p: Array = (1 + reached) / (1 + permutations)
    return p


def channel_groups(aligned: Array) -> Array:
    """Number of the group of each channel, (channel,) int from 1 in the order of the channels.

    Average linkage of 1 − |Spearman correlation| over samples, cut at 1 − ``SAME_GROUP``.

    Args:
        aligned: (sample, channel), NaN where a sample lacks the channel.
    """
    channels = aligned.shape[1]
    if channels < 2:
        return np.ones(channels, dtype=int)
    distance = 1 - np.abs(_correlations(aligned))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(np.clip(distance, 0, 1), checks=False), "average")
    label = fcluster(tree, 1 - SAME_GROUP, "distance")
    first = {group: number for number, group in enumerate(dict.fromkeys(label), start=1)}
    return np.array([first[group] for group in label])


def _correlations(values: Array) -> Array:
    """Spearman correlations of all pairs of columns; over the shared rows where some are NaN, 0 where too few."""
    known = ~np.isnan(values)
    if known.all():
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
