"""Which labellings of patients are equally likely where the label means nothing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plexrank.arrays import Array

DRAWS = 100_000
"""Labellings behind a permutation p-value, where there are too many to go through all of them."""
ENTRIES_AT_ONCE = 2**20
"""Labels drawn at a time: bounds memory, and keeps what is computed of them in the cache."""


@dataclass(frozen=True)
class Exchange:
    """Whole patients exchange their labels within strata, such as sites or folds.

    A patient with several samples (several labels) gives and takes all labels together, so that one patient never
    counts as two independent ones. Patients exchange with those whose samples lie in the same strata; within a
    patient, the labels of samples of one stratum change places.

    Attributes:
        label: (sample,) int, as observed.
        patient: (sample,) int; samples of one patient may stand anywhere.
        stratum: (sample,) int; labels never leave it.
    """

    label: Array
    patient: Array
    stratum: Array

    def __post_init__(self) -> None:
        if not self.label.shape == self.patient.shape == self.stratum.shape:
            raise ValueError(
                f"one entry a sample: label {self.label.shape}, patient {self.patient.shape}, "
                f"stratum {self.stratum.shape}"
            )

    def groups(self) -> list[Array]:
        """Patients that exchange labels: for each group (patient, slot) int rows of the samples.

        Samples in the same slot lie in the same stratum.
        """
        order = np.lexsort((np.arange(len(self.label)), self.stratum, self.patient))
        rows = np.split(order, np.flatnonzero(np.diff(self.patient[order])) + 1) if len(order) else []
        members: dict[tuple[int, ...], list[Array]] = {}
        for own in rows:
            members.setdefault(tuple(self.stratum[own].tolist()), []).append(own)
        return [np.stack(members[strata]) for strata in sorted(members)]

    def log_count(self) -> float:
        """Natural logarithm of how many different labellings there are."""
        total = 0.0
        for rows in self.groups():
            strata = self.stratum[rows[0]]
            labels = self.label[rows]
            for stratum in np.unique(strata):
                same = strata == stratum
                labels[:, same] = np.sort(labels[:, same], axis=1)
                total += sum(_log_arrangements(own[same]) for own in labels)
            kinds = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
            total += _log_arrangements(kinds)
        return total

    def among(self, rows: Array) -> Exchange:
        """The same of some samples only, (sample,) bool: those that have a value."""
        return Exchange(self.label[rows], self.patient[rows], self.stratum[rows])

    def is_fixed(self) -> bool:
        """Whether there is no other labelling than the observed one."""
        return bool(self.log_count() < 0.5 * np.log(2))

    def labellings(self, draws: int, rng: np.random.Generator) -> Labellings:
        """All labellings where there are no more than ``draws`` and every patient has one sample; else random ones."""
        single = len(np.unique(self.patient)) == len(self.patient)
        if single and self.log_count() <= np.log(draws) + 1e-9:
            return Labellings(self, None, None)
        return Labellings(self, draws, rng)

    def draw(self, draws: int, rng: np.random.Generator) -> Array:
        """Random labellings (draw, sample) int."""
        labels = np.tile(self.label, (draws, 1))
        for rows in self.groups():
            patients, slots = rows.shape
            order = rng.permuted(np.tile(np.arange(patients, dtype=np.int32), (draws, 1)), axis=1)
            taken = self.label[rows][order]
            strata = self.stratum[rows[0]]
            for stratum in np.unique(strata) if slots > 1 else ():
                same = strata == stratum
                taken[..., same] = rng.permuted(taken[..., same], axis=2)
            labels[:, rows] = taken
        return labels

    def every(self) -> Array:
        """Every different labelling (labelling, sample) of patients with one sample each, the observed among them."""
        of_groups = [(rows[:, 0], _arrangements(self.label[rows[:, 0]])) for rows in self.groups()]
        places = itertools.product(*(range(len(labels)) for _, labels in of_groups))
        chosen = np.array(list(places)).reshape(-1, len(of_groups))
        result = np.empty((len(chosen), len(self.label)), dtype=np.min_scalar_type(self.label.max(initial=0)))
        for group, (rows, labels) in enumerate(of_groups):
            result[:, rows] = labels[chosen[:, group]]
        return result


@dataclass(frozen=True)
class Order:
    """Labels that stand for numbers.

    Attributes:
        place: (label,) the number of each.
        exchange: of these labels.
        is_ranked: whether only the order of the numbers counts.
    """

    place: Array
    exchange: Exchange
    is_ranked: bool = True


@dataclass(frozen=True)
class Labellings:
    """Labellings to compare the observed one with; made by :meth:`Exchange.labellings`.

    Attributes:
        draws: how many are drawn; ``None`` for all there are.
        rng: what draws them; iterating twice draws others.
    """

    exchange: Exchange
    draws: int | None
    rng: np.random.Generator | None

    def __iter__(self) -> Iterator[Array]:
        """Blocks (labelling, sample) int."""
        at_once = max(ENTRIES_AT_ONCE // max(len(self.exchange.label), 1), 1)
        if self.draws is None or self.rng is None:
            labels = self.exchange.every()
            yield from (labels[start : start + at_once] for start in range(0, len(labels), at_once))
            return
        for start in range(0, self.draws, at_once):
            yield self.exchange.draw(min(at_once, self.draws - start), self.rng)

    def p_value(self, reached: Array, total: int) -> Array:
        """The p-value of a statistic that ``reached`` of ``total`` labellings reach.

        Random labellings count the observed one among them (Phipson & Smyth 2010); all labellings hold it already.
        """
        p: Array = np.asarray(reached) / total if self.draws is None else (np.asarray(reached) + 1.0) / (total + 1.0)
        return p


def _log_arrangements(label: Array) -> float:
    counts = np.unique(label, return_counts=True)[1]
    return math.lgamma(len(label) + 1) - sum(math.lgamma(count + 1) for count in counts)


def _arrangements(label: Array) -> Array:
    """Every different order of some labels, (order, sample)."""
    values, counts = np.unique(label, return_counts=True)
    rarest_first = np.argsort(counts, kind="stable")
    values, counts = values[rarest_first], counts[rarest_first]
    result = np.full((1, len(label)), values[-1], dtype=np.min_scalar_type(label.max()))
    free = np.arange(len(label), dtype=np.int32)[None]  # (order, place) that hold the commonest label
    for number, (value, count) in enumerate(zip(values[:-1], counts[:-1], strict=True)):
        if number:
            free = np.nonzero(result == values[-1])[1].reshape(len(result), -1).astype(np.int32)
        chosen = np.array(list(itertools.combinations(range(free.shape[1]), count)), dtype=np.int32)
        pick = np.tile(chosen, (len(free), 1))
        places = np.repeat(free, len(chosen), axis=0)
        result = np.repeat(result, len(chosen), axis=0)
        np.put_along_axis(result, np.take_along_axis(places, pick, axis=1), value, axis=1)
    return result


def columns_alike(values: Array, exchange: Exchange) -> Iterator[tuple[Array, Array, Exchange]]:
    """Columns of (sample, column) that the same samples have: (sample,) bool who has them, (column,) int which, and
    the exchange among these samples; without columns for which that allows one labelling only.

    Were labels exchanged among all samples, and the label decided who has a value, the labels would hardly differ
    where the values are.
    """
    patterns, of_column = np.unique(~np.isnan(values), axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):
        among = exchange.among(rows)
        if not among.is_fixed():
            yield rows, np.flatnonzero(of_column.ravel() == number), among
