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

    The sign is the one with which r rises with the outcome among these training samples: towards the last of two
    classes, higher grades and numbers, earlier events; of more classes, the sign that orders them most as the first
    unit does. So it is learned from no sample that it is given to.

    Returns:
        0 all through for a channel whose r does not vary in training, NaN where a sample lacks the channel.
    """
    directed = np.full(learned.held_out.shape, np.nan)
    as_classes = np.array([[-1.0], [1.0]]) if len(samples.outcome) == 2 else None
    for seed, fold, rows, r in learned.training:
        label, stratum = samples.label[rows], samples.stratum[rows]
        center = np.nan_to_num(known_mean(r))
        spread = np.nan_to_num(np.sqrt(known_mean((r - center) ** 2)))
        places = samples.outcome.places(label, stratum)
        if places is not None:
            along = trend_slope(r, places, stratum)[0]
        else:
            scores = label_scores(r, label, stratum, len(samples.outcome))
            as_classes = scores if as_classes is None else as_classes
            along = (scores * as_classes).sum(axis=0)
        varies = spread > RESOLUTION * (1 + np.abs(center))
        size = np.divide(np.sign(along), spread, out=np.zeros_like(spread), where=varies)
        own = samples.fold == fold
        directed[seed, own] = size * (learned.held_out[seed, own] - center)
    result: Array = known_mean(directed)
    return result
