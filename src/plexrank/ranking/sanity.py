"""Does the order depend on the labels, and does a classifier fitted to its first channels alone predict as well?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.prediction import headline
from plexrank.ranking.samples import Samples
from plexrank.ranking.training_samples import TrainingSamples, training_samples

LABELLINGS = 5
SIZES = (1, 2, 3, 5, 10, 20)
"""How many of the first channels are kept, as far as there are more."""
RETRAINED_ORDERS = 5


@dataclass(frozen=True)
class Sanity:
    """Checks after Adebayo et al. (2018) and Hooker et al. (2019).

    Attributes:
        random_labels: mean Spearman correlation of the channels' order with that of classifiers that are fitted to the
            same embedding with labels permuted over patients; near 0 where the order comes from the labels; None
            where one of them gives all channels the same weight.
        sizes: numbers of channels.
        retrained: headline measure, held out, of models refitted to so many of the first channels in each unit's own
            order.
        retrained_random: the same for random orders, mean over these.
    """

    random_labels: float | None
    sizes: tuple[int, ...]
    retrained: tuple[float, ...]
    retrained_random: tuple[float, ...]


def measure_sanity(
    units: Sequence[UnitTable], tables: SampleTables, samples: Samples, included: Array, rng: np.random.Generator
) -> Sanity | None:
    """The checks, on classifiers fitted to the training samples of each unit; nothing looks at held-out labels.

    Args:
        included: (channel,) bool; excluded channels take no part.

    Returns:
        None where units kept no training embedding, or fewer than three channels are ranked.
    """
    training = [training_samples(unit, samples) for unit in units]
    known = [value for value in training if value is not None]
    if len(known) < len(training) or included.sum() < 3:
        return None
    own = np.stack([_importance(unit, unit.label, included) for unit in known])
    sizes = tuple(size for size in SIZES if size < included.sum())
    orders = [np.flatnonzero(included)[np.argsort(-importance, kind="stable")] for importance in own]
    by_chance = []
    for _ in range(RETRAINED_ORDERS):
        order = rng.permutation(np.flatnonzero(included))
        by_chance.append(_retrained(units, known, [order] * len(known), tables, samples, sizes))
    return Sanity(
        random_labels=_similarity_under_random_labels(known, own.mean(axis=0), samples, included, rng),
        sizes=sizes,
        retrained=tuple(_retrained(units, known, orders, tables, samples, sizes)),
        retrained_random=tuple(np.mean(by_chance, axis=0).tolist()),
    )


def _importance(unit: TrainingSamples, label: Array, included: Array) -> Array:
    """(included channel,) mean magnitude of the coefficients, scaled to sum to 1."""
    magnitude = np.abs(unit.fit(unit.r[:, included], label).coef).mean(axis=0)
    total = magnitude.sum()
    scaled: Array = magnitude / total if total > 0 else magnitude
    return scaled


def _similarity_under_random_labels(
    training: Sequence[TrainingSamples], own: Array, samples: Samples, included: Array, rng: np.random.Generator
) -> float | None:
    found = []
    for labels in samples.exchange().draw(LABELLINGS, rng):
        usable = [unit for unit in training if unit.has_groups(labels[unit.sample])]
        if usable:
            permuted = np.mean([_importance(unit, labels[unit.sample], included) for unit in usable], axis=0)
            if np.ptp(own) > 0 and np.ptp(permuted) > 0:
                found.append(stats.spearmanr(own, permuted).statistic)
    return float(np.mean(found)) if found else None


def _retrained(
    units: Sequence[UnitTable],
    training: Sequence[TrainingSamples],
    orders: Sequence[Array],
    tables: SampleTables,
    samples: Samples,
    sizes: Sequence[int],
) -> list[float]:
    prediction = np.zeros((len(sizes), *tables.prediction.shape))
    for unit, known, order in zip(units, training, orders, strict=True):
        rows = samples.fold == unit.fold
        held_out = known.standardise(tables.embedding[tables.seeds.index(unit.seed), rows])
        for place, size in enumerate(sizes):
            kept = order[:size]
            outputs = known.fit(known.r[:, kept]).outputs(held_out[:, kept])
            prediction[place, rows] += samples.outcome.predict(outputs) / len(tables.seeds)
    return [headline(predicted, samples) for predicted in prediction]
