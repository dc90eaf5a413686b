"""Channels that tell the sites apart, and channels that stand for one another."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from plexrank.ranking.samples import UNKNOWN_SITE, Array, Samples
from plexrank.ranking.statistics import Association, kruskal

SAME_GROUP = 0.7
"""Mean |Spearman correlation| between the channels of two groups from which on they become one."""
MIN_SHARED = 4


def site_association(aligned: Array, samples: Samples) -> Association | None:
    """Kruskal-Wallis of the held-out embedding (sample, channel) against the site; None with fewer than two sites."""
    if samples.site is None:
        return None
    known = samples.site != UNKNOWN_SITE
    if len(np.unique(samples.site[known])) < 2:
        return None
    return kruskal(aligned[known], samples.site[known])


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
