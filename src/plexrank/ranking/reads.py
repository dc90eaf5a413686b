"""What the embedding of a channel sees, in the words of image statistics that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.pattern import amounts, log_means
from plexrank.ranking.samples import Array, Samples, image_means_to_samples
from plexrank.statistics.means import known_mean
from plexrank.statistics.multiple import benjamini_hochberg
from plexrank.statistics.rank_tests import rank_test

LEAST_R2 = 0.3
"""Share of the variation of r that a statistic explains at least where the embedding is said to see it."""
AS_GOOD = 0.1
"""A statistic earlier in ``WORDS`` is preferred to one that explains at most this much more."""
WORDS = {
    "mean": "brightness",
    "morans_i": "clustering",
    "granularity": "patches",
    "positive_share": "share of positive pixels",
    "tail_ratio": "brightest pixels",
    "variation": "contrast",
}
"""What a statistic is called, by its name without a length."""
COLUMNS = ("channel", "statistic", "r2", "association", "p", "q")

Statistics = Mapping[str, Array]
"""By name, such as ``morans_i_20um``, (image, channel); NaN where an image lacks the channel."""


def reads_table(
    statistics: Statistics,
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    channels: Sequence[str],
    included: Array,
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """reads.csv: every channel × statistic: what it explains of r out of fold, and whether it differs between labels.

    ``r2`` is the share of the held-out r that a linear regression on the statistic explains, fitted by each unit to
    its training samples; ``association``, ``p`` and ``q`` are those of the same permutation test as for the mean
    intensity, q over all rows of ranked channels.
    """
    parts = []
    for name, of_images in statistics.items():
        values = image_means_to_samples(of_images, samples)
        found = rank_test(amounts(values), samples.exchange(), draws, rng)
        explained = explained_share(np.maximum(values, 0.0) if name == "mean" else values, units, tables, samples)
        parts.append(
            pd.DataFrame(
                {
                    "channel": list(channels),
                    "statistic": name,
                    "r2": explained,
                    "association": found.effect,
                    "p": np.where(included, found.p, np.nan),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    place = {name: number for number, name in enumerate(channels)}
    return table.sort_values("channel", key=lambda names: names.map(place), kind="stable", ignore_index=True)


def explained_share(values: Array, units: Sequence[UnitTable], tables: SampleTables, samples: Samples) -> Array:
    """r² out of fold of a statistic (sample, channel), mean over seeds, not below 0; NaN without an embedding.

    A statistic that is nowhere negative enters as its logarithm, since amounts vary by ratios.
    """
    error = np.zeros((len(tables.seeds), values.shape[1]))
    total = np.zeros_like(error)
    is_amount = bool(np.nanmin(values, initial=0.0) >= 0)
    for unit in units:
        r = image_means_to_samples(unit.training_embedding, samples)
        rows = np.flatnonzero(np.isfinite(r).any(axis=1))
        if not len(rows):
            return np.full(values.shape[1], np.nan)
        x = log_means(values, rows) if is_amount else values
        own, seed = samples.fold == unit.fold, tables.seeds.index(unit.seed)
        center, intercept, slope = _line(x[rows], r[rows])
        held_out = tables.embedding[seed, own]
        predicted = intercept + slope * np.nan_to_num(x[own] - center)
        known = ~np.isnan(held_out)
        error[seed] += np.where(known, (held_out - predicted) ** 2, 0.0).sum(axis=0)
        total[seed] += np.where(known, (held_out - intercept) ** 2, 0.0).sum(axis=0)
    share = np.divide(error, total, out=np.ones_like(error), where=total > 0)
    result: Array = np.clip(1 - share.mean(axis=0), 0.0, 1.0)
    return result


def _line(x: Array, r: Array) -> tuple[Array, Array, Array]:
    """Centre of x, mean of r and slope of its regression on x, (channel,) each."""
    x = np.where(np.isnan(r), np.nan, x)
    center, intercept = np.nan_to_num(known_mean(x)), np.nan_to_num(known_mean(r))
    variance = np.nan_to_num(known_mean((x - center) ** 2))
    along = np.nan_to_num(known_mean((x - center) * (r - intercept)))
    slope = np.divide(along, variance, out=np.zeros_like(along), where=variance > 1e-12 * (1 + center**2))
    return center, intercept, slope


def sentences(table: pd.DataFrame, channels: Sequence[str]) -> list[str]:
    """For each channel what its embedding sees, such as ``clustering at 20 µm (r² 0.71)``; empty where not known."""
    found = []
    for channel in channels:
        own = table[(table["channel"] == channel) & table["r2"].notna()]
        found.append(_sentence(dict(zip(own["statistic"], own["r2"], strict=True))))
    return found


def _sentence(r2: Mapping[str, float]) -> str:
    if not r2:
        return ""
    best = max(r2.values())
    if best < LEAST_R2:
        return f"neither brightness nor arrangement (r² at most {best:.2f})"
    kinds = list(WORDS)
    close = [name for name, value in r2.items() if value >= max(best - AS_GOOD, LEAST_R2)]
    first = min(close, key=lambda name: (kinds.index(_kind(name)), -r2[name]))
    length = first.removeprefix(_kind(first)).strip("_").removesuffix("um")
    return f"{WORDS[_kind(first)]}{f' at {length} µm' if length else ''} (r² {r2[first]:.2f})"


def _kind(name: str) -> str:
    return next(kind for kind in WORDS if name.startswith(kind))
