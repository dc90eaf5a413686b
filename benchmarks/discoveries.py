"""Power and false calls of the lists of discoveries, on simulated patients × channels whose encoders learn the labels.

    python benchmarks/discoveries.py WHAT [--cohorts N] [--first SEED]

Every channel of a patient has a brightness and five numbers of arrangement. In each fold and seed an encoder learns on
a bootstrap of the training labels which mixture of the six becomes r: the same for all channels (shared), or one for
each channel (own); its sign is free. The classifier is the product's logistic regression. Channels come in correlated
blocks of five. Prints a line of JSON for each cell. WHAT is one of

    null, power, carriers, arrangement   what each list calls
    intervals    whether intervals of whatever channel comes out first hold the truth
    variance     λ from 200 labellings and from more
    few          null cohorts in which reliance or adds call a channel, without their limit of patients in a class
    absent       p-values of channels of noise that only part of the patients have
    bent         p-values of the pattern where an encoder reads brightness alone, not by a straight line
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from scipy import stats

from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import SampleTables, UnitTable, gather_samples
from plexrank.ranking.conditional import explained_by_others
from plexrank.ranking.discoveries import find_discoveries
from plexrank.ranking.nulls import measure
from plexrank.ranking.pattern import arrangement, differs_in_arrangement
from plexrank.ranking.refitting import refitted_scores
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples, make_samples
from plexrank.ranking.scores import score_channels
from plexrank.statistics.multiple import benjamini_hochberg
from plexrank.statistics.pattern import OWN_ENCODERS, SHARED_ENCODER

CHANNELS, BLOCK, NUMBERS, CORRELATION = 40, 5, 6, 0.5
FOLDS, STRENGTH, FDR, DRAWS = 5, 0.1, 0.1, 2000
OUTCOME = Nominal(("A", "B"))


@dataclass(frozen=True)
class Cell:
    """One kind of cohort.

    Attributes:
        patients, rare: in all, and in the smaller class.
        brightness, arrangement: numbers of planted channels whose brightness, or first number of arrangement, differs.
        effect: by how many standard deviations.
        shared: one encoder for all channels.
        carriers: into how many channels of one block the same signal goes, instead of independent ones.
    """

    patients: int
    rare: int
    brightness: int = 0
    arrangement: int = 0
    effect: float = 0.0
    shared: bool = True
    carriers: int = 0
    seeds: int = 2
    channels: int = CHANNELS

    @property
    def variance(self) -> float:
        return SHARED_ENCODER if self.shared else OWN_ENCODERS

    def planted(self) -> np.ndarray:
        """Planted channels, in blocks of their own where there is room; carriers of one signal side by side."""
        if self.carriers:
            return np.arange(self.carriers)
        number = self.brightness + self.arrangement
        return (np.arange(number) * BLOCK) % self.channels + np.arange(number) * BLOCK // self.channels


def draw_content(cell: Cell, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(patient, channel, number), each of variance 1, channels of a block correlated."""
    shape = (cell.patients, cell.channels // BLOCK, 1, NUMBERS)
    shared = np.broadcast_to(rng.normal(size=shape), (*shape[:2], BLOCK, NUMBERS)).reshape(cell.patients, -1, NUMBERS)
    own = rng.normal(size=shared.shape)
    content = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
    planted = cell.planted()
    if cell.carriers:  # one signal: the same latent number in all carriers
        latent = rng.normal(size=cell.patients) + cell.effect * label
        content[:, planted, 0] = latent[:, None] * 0.9 + np.sqrt(1 - 0.81) * own[:, planted, 0]
        return content
    content[:, planted[: cell.brightness], 0] += cell.effect * label[:, None]
    content[:, planted[cell.brightness :], 1] += cell.effect * label[:, None]
    return content


def encode(content: np.ndarray, label: np.ndarray, train: np.ndarray, shared: bool, rng: np.random.Generator):
    """r (patient, channel), standardised over the training patients, of an encoder that learned their labels."""
    drawn = rng.choice(train, len(train))
    while len(np.unique(label[drawn])) < 2:
        drawn = rng.choice(train, len(train))
    part, own = content[drawn], label[drawn]
    difference = part[own == 1].mean(axis=0) - part[own == 0].mean(axis=0)  # (channel, number)
    if shared:
        direction = np.linalg.eigh(difference.T @ difference)[1][:, -1]
        r = content @ direction
    else:
        r = np.einsum("icd,cd->ic", content, difference)
    r = r * rng.choice([-1.0, 1.0], size=r.shape[1])
    return (r - r[train].mean(axis=0)) / r[train].std(axis=0)


def learned_cohort(cell: Cell, seed: int) -> tuple[list[UnitTable], Samples]:
    rng = np.random.default_rng(seed)
    label, fold, samples = draw_patients(cell, rng)
    content = draw_content(cell, label, rng)
    return train_units(cell, content, label, fold, range(cell.seeds), rng), samples


def draw_patients(cell: Cell, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Samples]:
    """(patient,) labels and folds, each fold with its share of both classes."""
    label = rng.permutation(np.arange(cell.patients) < cell.rare).astype(int)
    fold = np.empty(cell.patients, dtype=int)
    for k in (0, 1):
        members = rng.permutation(np.flatnonzero(label == k))
        fold[members] = np.arange(len(members)) % FOLDS
    ids = [f"p{number:03d}" for number in range(cell.patients)]
    return label, fold, make_samples(ids, [OUTCOME.levels[k] for k in label], fold.tolist(), outcome=OUTCOME)


def train_units(
    cell: Cell, content: np.ndarray, label: np.ndarray, fold: np.ndarray, seeds: range, rng: np.random.Generator
) -> list[UnitTable]:
    units = []
    for f in range(FOLDS):
        for s in seeds:
            train = np.flatnonzero(fold != f)
            r = encode(content, label, train, cell.shared, rng)
            units.append(unit_table(r, content[:, :, 0], label, fold, f, s))
    return units


def unit_table(r: np.ndarray, brightness: np.ndarray, label: np.ndarray, fold: np.ndarray, f: int, s: int) -> UnitTable:
    held_out, train = fold == f, fold != f
    weights = OUTCOME.fit(r[train], label[train], STRENGTH)
    logits = weights.outputs(r)
    gradient = np.broadcast_to(weights.coef.T, (*r.shape, 2))
    predicted = np.abs(gradient) * np.eye(2)[logits.argmax(axis=1)][:, None]

    def kept(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.where(rows.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)

    return UnitTable(
        fold=f,
        seed=s,
        classify=weights.outputs,
        n_tiles=held_out.astype(int),
        embedding=kept(r, held_out),
        logits=kept(logits, held_out),
        mean_intensity=kept(np.exp(brightness / 4), held_out),
        importance={"gradient": kept(predicted.sum(axis=2), held_out)},
        contrast={"gradient": kept(OUTCOME.contrasts(gradient.copy()), held_out)},
        training_embedding=kept(r, train),
        linear=weights,
        importance_by_class={"gradient": kept(predicted, held_out)},
    )


def q_values(units: list[UnitTable], tables: SampleTables, samples: Samples, cell: Cell, seed: int) -> dict[str, Any]:
    found = find_discoveries(units, tables, samples, None, cell.variance, np.random.default_rng(seed), DRAWS)
    q = {name: benjamini_hochberg(p) for name, p in found.p_values().items()}
    q["union"] = np.fmin(q["intensity"], q["pattern"])
    groups = [tables.mean_intensity[samples.label == k] for k in (0, 1)]
    q["kruskal"] = benjamini_hochberg(stats.kruskal(*groups, axis=0).pvalue)
    return q


def cohort_calls(cell: Cell, seed: int) -> dict[str, float]:
    """Share of the planted channels that each list calls, and of the calls that are false (1 where all are)."""
    units, samples = learned_cohort(cell, seed)
    tables = gather_samples(units, samples, "gradient")
    is_planted = np.zeros(cell.channels, dtype=bool)
    is_planted[cell.planted()] = cell.effect > 0
    line = {}
    for name, q in q_values(units, tables, samples, cell, seed).items():
        called = np.nan_to_num(q, nan=1.0) <= FDR
        if is_planted.any():
            line[f"{name}_power"] = float(called[is_planted].mean())
        line[f"{name}_false"] = float((called & ~is_planted).sum() / max(called.sum(), 1))
    return line


def first_is_covered(cell: Cell, seed: int) -> dict[str, float]:
    """Whether score and position interval of whatever stands first hold the true score and its position."""
    truth = true_scores(cell, 200)
    units, samples = learned_cohort(cell, seed)
    tables = gather_samples(units, samples, "gradient")
    refit = partial(refitted_scores, units, samples, "gradient")
    rng = np.random.default_rng(seed)
    everything = np.ones(cell.channels, dtype=bool)
    scores = score_channels(tables.importance, tables.unit_importance, samples, everything, 500, rng, refit)
    first = int(np.argmin(scores.position))
    better, equal = (truth > truth[first] + 1e-12).sum(), np.isclose(truth, truth[first]).sum()
    middle = better + (1 + equal) / 2
    return {
        "score": float(scores.low[first] <= truth[first] <= scores.high[first]),
        "position": float(scores.position_low[first] <= middle <= scores.position_high[first]),
        "width": float(scores.position_high[first] - scores.position_low[first] + 1),
    }


@cache
def true_scores(cell: Cell, cohorts: int) -> np.ndarray:
    """Mean score over cohorts, alike for channels that are planted alike."""
    total = np.zeros(cell.channels)
    for seed in range(cohorts):
        units, samples = learned_cohort(cell, 100_000 + seed)
        total += measure_score(units, samples)
    planted = np.zeros(cell.channels, dtype=bool)
    planted[cell.planted()] = cell.effect > 0
    for alike in (planted, ~planted):
        total[alike] = total[alike].mean() if alike.any() else 0.0
    return total / cohorts


def measure_score(units: list[UnitTable], samples: Samples) -> np.ndarray:
    return gather_samples(units, samples, "gradient").importance.mean(axis=(0, 1))


def recovered_variance(first: int, cohorts: int, labellings: int) -> list[dict[str, float]]:
    """λ from many labellings of one cohort each: its first 200 against all."""
    lines = []
    for seed in range(first, first + cohorts):
        cell = Cell(40, 20, seeds=1)
        rng = np.random.default_rng(seed)
        units, samples = learned_cohort(cell, seed)
        content = draw_content(cell, np.zeros(cell.patients, dtype=int), rng)
        del units
        values = []
        for label in samples.exchange(within_folds=True).draw(labellings, rng):
            relabelled = samples.relabelled(label)
            trained = train_units(cell, content, label, samples.fold, range(1), rng)
            values.append(measure(trained, relabelled, "gradient", rng).pattern)
        squares = np.array(values) ** 2
        lines.append({"first_200": float(squares[:200].mean()), "all": float(squares.mean())})
    return lines


def calls_of_few(cell: Cell, seed: int) -> dict[str, float]:
    units, samples = learned_cohort(cell, seed)
    tables = gather_samples(units, samples, "gradient")
    reliance = partial(measure_reliance, tables.embedding, tables.classify, tables.seeds, samples)
    p = {"reliance": reliance().p, "adds": reliance(explained=explained_by_others(units, tables, samples)).p}
    return {name: float((benjamini_hochberg(values) <= FDR).any()) for name, values in p.items()}


def small_p_of_absent(cell: Cell, seed: int) -> dict[str, float]:
    """Share of p ≤ 0.05 of channels that all patients of the smaller class have, and as many of the other class."""
    rng = np.random.default_rng(seed)
    units, samples = learned_cohort(cell, seed)
    lacking = rng.permutation(np.flatnonzero(samples.label == 0))[cell.rare :]
    units = [without(unit, lacking) for unit in units]
    tables = gather_samples(units, samples, "gradient")
    found = find_discoveries(units, tables, samples, np.array([0, 1]), cell.variance, rng, DRAWS)
    return {name: float((p <= 0.05).mean()) for name, p in found.p_values().items()}


def without(unit: UnitTable, lacking: np.ndarray) -> UnitTable:
    """The unit where these patients have no channel."""

    def masked(values: np.ndarray) -> np.ndarray:
        return np.where(np.isin(np.arange(len(values)), lacking).reshape(-1, *[1] * (values.ndim - 1)), np.nan, values)

    arrays = {name: masked(getattr(unit, name)) for name in ("embedding", "mean_intensity", "training_embedding")}
    methods = {
        name: {method: masked(values) for method, values in getattr(unit, name).items()}
        for name in ("importance", "contrast", "importance_by_class")
    }
    return replace(unit, **arrays, **methods)


READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "line": lambda x: x,
    "arcsinh": lambda x: np.arcsinh(np.exp(x)),
    "ramp": lambda x: np.maximum(x, 0.0),
    "exponential": lambda x: np.exp(x / 2),
}
"""How an encoder may read a log brightness of mean 0 and variance 1."""


def small_p_of_bent(cell: Cell, seed: int) -> dict[str, float]:
    """Share of the pattern's p ≤ 0.01 where every channel differs in brightness, and r reads that and little noise."""
    rng = np.random.default_rng(seed)
    label, fold, samples = draw_patients(cell, rng)
    brightness = draw_content(cell, label, rng)[:, :, 0]
    shares = {}
    for name, reading in READINGS.items():
        r = reading(brightness) + 0.05 * rng.normal(size=brightness.shape)
        units = [unit_table(r, brightness, label, fold, f, 0) for f in range(FOLDS)]
        tables = gather_samples(units, samples, "gradient")
        rest = arrangement(units, tables, samples)
        p = differs_in_arrangement(rest, samples, cell.variance, DRAWS, rng).p
        shares[name] = float((p <= 0.01).mean())
    return shares


def null_cells() -> list[Cell]:
    kinds = [(40, 3), (40, 5), (40, 9), (80, 3), (80, 5), (80, 9), (80, 40)]
    return [*(Cell(*kind) for kind in kinds), *(Cell(*kind, shared=False) for kind in [(40, 5), (40, 20), (80, 9)])]


def power_cells() -> list[Cell]:
    kinds = [(20, 10, 3, 2.0), (40, 20, 3, 1.2), (80, 40, 3, 0.8), (80, 8, 3, 1.2), (80, 8, 6, 1.2)]
    return [Cell(patients, rare, brightness=number, effect=effect) for patients, rare, number, effect in kinds]


def carrier_cells() -> list[Cell]:
    return [Cell(80, 40, effect=1.2, carriers=carriers) for carriers in (1, 2, 4, 8)]


def arrangement_cells() -> list[Cell]:
    return [Cell(80, 40, arrangement=3, effect=effect, shared=shared)
            for effect in (0.8, 1.2, 2.0) for shared in (True, False)]  # fmt: skip


def interval_cells() -> list[Cell]:
    kinds = [(40, 20), (80, 40), (80, 9)]
    cells = [Cell(patients, rare) for patients, rare in kinds]
    return [*cells, *(Cell(patients, rare, brightness=3, effect=1.2) for patients, rare in kinds)]


def few_cells() -> list[Cell]:
    return [Cell(40, rare) for rare in range(4, 10)]


def bent_cells() -> list[Cell]:
    kinds = [(80, 40, 1.2), (80, 20, 1.2), (70, 9, 2.0)]
    return [Cell(patients, rare, brightness=CHANNELS, effect=effect) for patients, rare, effect in kinds]


CELLS: dict[str, tuple[list[Cell], Callable[[Cell, int], dict[str, float]]]] = {
    "null": (null_cells(), cohort_calls),
    "power": (power_cells(), cohort_calls),
    "carriers": (carrier_cells(), cohort_calls),
    "arrangement": (arrangement_cells(), cohort_calls),
    "intervals": (interval_cells(), first_is_covered),
    "few": (few_cells(), calls_of_few),
    "absent": ([Cell(108, 8)], small_p_of_absent),
    "bent": (bent_cells(), small_p_of_bent),
}
"""What is asked: of which cells, and the figures of one cohort."""


def report(cell: Cell, lines: list[dict[str, float]]) -> None:
    names = list(lines[0])
    values = np.array([[line[name] for name in names] for line in lines])
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    described = {key: value for key, value in vars(cell).items() if value}
    figures = {name: f"{m:.3f} ({e:.3f})" for name, m, e in zip(names, mean, error, strict=True)}
    print(json.dumps(described | {"cohorts": len(lines)} | figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*CELLS, "variance"])
    parser.add_argument("--cohorts", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    parser.add_argument("--cells", type=int, nargs="*", help="numbers of the cells of cohorts, from 0; all if absent")
    parser.add_argument("--labellings", type=int, default=1000)
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.cohorts)
    if chosen.what == "variance":
        report(Cell(40, 20, seeds=1), recovered_variance(chosen.first, chosen.cohorts, chosen.labellings))
        return
    cells, measure_cohort = CELLS[chosen.what]
    for cell in cells if chosen.cells is None else [cells[number] for number in chosen.cells]:
        report(cell, [measure_cohort(cell, seed) for seed in seeds])


if __name__ == "__main__":
    main()
