"""How few channels do: forward selection, and what becomes of the prediction without or with only the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.prediction import headline
from plexrank.ranking.samples import Samples
from plexrank.ranking.training_samples import TrainingSamples, training_samples
from plexrank.statistics.means import known_mean

LARGEST_PANEL = 15
RANDOM_ORDERS = 10


@dataclass(frozen=True)
class SmallPanel:
    """The smallest panel that keeps the held-out performance.

    Attributes:
        channels: its channels, those that the units choose first on average; none where no panel of up to
            :data:`LARGEST_PANEL` keeps it.
        curve: headline measure, held out, with panels of 1, 2, … channels, each unit choosing its own from its
            training samples.
        full: the same with all channels.
        tolerance: by how much the measure may be below that of all channels: its standard error.
    """

    channels: tuple[str, ...]
    curve: tuple[float, ...]
    full: float
    tolerance: float


def smallest_panel(
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    channels: Sequence[str],
    included: Array,
    tolerance: float,
) -> SmallPanel | None:
    """Forward selection within the training samples of each unit, judged on the samples that it holds out.

    At each step the channel joins along which the penalised loss of the panel so far falls most steeply (as in
    orthogonal matching pursuit, Pati et al. 1993), and the linear model is fitted again.

    Returns:
        None where units kept no training embedding.
    """
    largest = min(LARGEST_PANEL, int(included.sum()))
    prediction = np.zeros((largest + 1, *tables.prediction.shape))
    places = []
    for unit in units:
        training = training_samples(unit, samples)
        if training is None:
            return None
        rows = samples.fold == unit.fold
        held_out = training.standardise(tables.embedding[tables.seeds.index(unit.seed), rows])
        chosen = _forward(training, included, largest)
        for size, own in enumerate([*(chosen[: k + 1] for k in range(largest)), np.flatnonzero(included)]):
            outputs = training.fit(training.r[:, own]).outputs(held_out[:, own])
            prediction[size, rows] += samples.outcome.predict(outputs) / len(tables.seeds)
        place = np.full(len(included), largest + 1.0)
        place[chosen] = np.arange(1, largest + 1)
        places.append(place)
    curve = [headline(predicted, samples) for predicted in prediction]
    size = next((k for k, value in enumerate(curve[:-1], start=1) if value >= curve[-1] - tolerance), 0)
    first = np.argsort(np.where(included, np.mean(places, axis=0), np.inf), kind="stable")[:size]
    return SmallPanel(tuple(channels[c] for c in first), tuple(curve[:-1]), curve[-1], tolerance)


def _forward(training: TrainingSamples, included: Array, size: int) -> Array:
    chosen: list[int] = []
    for _ in range(size):
        outputs = training.fit(training.r[:, chosen]).outputs(training.r[:, chosen])
        slope = training.outcome.slope(outputs, training.label, training.stratum)
        steepness = np.abs(slope.T @ training.r).sum(axis=0)
        steepness[~included] = -1.0
        steepness[chosen] = -1.0
        chosen.append(int(steepness.argmax()))
    return np.array(chosen)


@dataclass(frozen=True)
class Faithfulness:
    """Held-out AUC with the first 0, 1, … N channels at their training mean, and with all but them at it.

    ``deletion_random`` and ``insertion_random`` are means over random orders: a faithful order falls faster and rises
    faster than these.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    deletion_random: tuple[float, ...]
    insertion_random: tuple[float, ...]


def measure_faithfulness(
    tables: SampleTables, samples: Samples, included: Array, rng: np.random.Generator
) -> Faithfulness:
    """Deletion and insertion curves (Petsiuk, Das & Saenko 2018), with channels in the place of pixels.

    Each fold's channels go in the order of its own units. The order of the cohort would not do: it has seen the
    labels of the samples that the fold holds out, and channels that come last in it are those whose held-out
    association is the opposite of that in training.

    Args:
        included: (channel,) bool; excluded channels stay as they are.
    """
    channels = np.flatnonzero(included)
    importance = dict(zip(sorted(tables.classify), tables.unit_importance, strict=True))
    orders = {}
    for fold in np.unique(samples.fold):
        of_fold = known_mean(np.stack([importance[int(fold), seed][channels] for seed in tables.seeds]))
        orders[int(fold)] = channels[np.argsort(-of_fold, kind="stable")]
    deletion, insertion = _curves(tables, samples, orders)
    shuffled = [rng.permutation(channels) for _ in range(RANDOM_ORDERS)]
    by_chance = np.mean([_curves(tables, samples, dict.fromkeys(orders, order)) for order in shuffled], axis=0)
    return Faithfulness(tuple(deletion), tuple(insertion), *(tuple(curve.tolist()) for curve in by_chance))


def _curves(tables: SampleTables, samples: Samples, orders: dict[int, Array]) -> tuple[list[float], list[float]]:
    place = np.arange(len(next(iter(orders.values()))))
    steps = np.arange(len(place) + 1)[:, None]
    prediction = np.zeros((2, len(steps), *tables.prediction.shape))
    for fold, seed in tables.classify:
        absent = np.zeros((2, len(steps), tables.embedding.shape[2]), dtype=bool)
        absent[0][:, orders[fold]] = place < steps
        absent[1][:, orders[fold]] = place >= steps
        rows = np.flatnonzero(samples.fold == fold)
        r = tables.embedding[tables.seeds.index(seed), rows]
        cut = np.where(absent[:, :, None], np.nan, r)
        predicted = samples.outcome.predict(tables.classify[fold, seed](cut.reshape(-1, r.shape[1])))
        prediction[:, :, rows] += predicted.reshape(2, len(steps), len(rows), -1) / len(tables.seeds)
    deletion, insertion = ([headline(step, samples) for step in curve] for curve in prediction)
    return deletion, insertion
