"""r of every patient on one scale: networks of other folds and seeds give it another sign and another unit."""

from __future__ import annotations

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import RESOLUTION
from plexrank.ranking.pattern import Learned
from plexrank.ranking.samples import Samples
from plexrank.statistics.means import known_mean
from plexrank.statistics.pattern import label_scores, trend_slope


def directed_r(learned: Learned, samples: Samples) -> Array:
    """Held-out r (sample, channel), the mean over seeds, in standard deviations over the training samples of each unit.

    The sign is the one with which r rises with the outcome among these training samples: along the classes as they are
    listed (towards the last of two), higher grades and numbers, earlier events. So it is learned from no sample that it
    is given to. Of three classes or more, a channel that does not rise along their list has an arbitrary sign.

    Returns:
        0 all through for a channel whose r does not vary in training, NaN where a sample lacks the channel.
    """
    directed = np.full(learned.held_out.shape, np.nan)
    for seed, fold, rows, r in learned.training:
        center, size = direction_of_unit(r, rows, samples)
        own = samples.fold == fold
        directed[seed, own] = size * (learned.held_out[seed, own] - center)
    result: Array = known_mean(directed)
    return result


def direction_of_unit(r: Array, rows: Array, samples: Samples) -> tuple[Array, Array]:
    """Centre and factor (channel,) that turn r of one training into that of :func:`directed_r`: factor × (r − centre).

    Args:
        r: (row, channel) of its training samples.
        rows: (row,) which samples these are.
    """
    listed = np.arange(len(samples.outcome)) - (len(samples.outcome) - 1) / 2
    label, stratum = samples.label[rows], samples.stratum[rows]
    center = np.nan_to_num(known_mean(r))
    spread = np.nan_to_num(np.sqrt(known_mean((r - center) ** 2)))
    places = samples.outcome.places(label, stratum)
    if places is not None:
        along = trend_slope(r, places, stratum)[0]
    else:
        along = listed @ label_scores(r, label, stratum, len(samples.outcome))
    varies = spread > RESOLUTION * (1 + np.abs(center))
    return center, np.divide(np.sign(along), spread, out=np.zeros_like(spread), where=varies)
