"""What the embedding of a channel sees, in the words of image statistics that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.discoveries import association_test
from plexrank.ranking.pattern import Learned, amounts, arrangement, learned_embedding, log_intensities
from plexrank.ranking.prediction import is_confounded
from plexrank.ranking.samples import Samples, image_means_to_samples
from plexrank.statistics.means import known_mean
from plexrank.statistics.multiple import benjamini_hochberg

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
READS_COLUMNS = ("channel", "statistic", "r2", "r2_beyond_brightness", "association", "p", "q")

ImageStatistics = Mapping[str, Array]
"""By name, such as ``morans_i_20um``, (image, channel); NaN where an image lacks the channel."""


def reads_table(
    statistics: ImageStatistics,
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
    its training samples, and ``r2_beyond_brightness`` that of what the log mean intensity leaves of r;
    ``association``, ``p`` and ``q`` are those of the same permutation test as for the mean intensity, q over all rows
    of ranked channels.
    """
    if not statistics:
        return pd.DataFrame(columns=list(READS_COLUMNS))
    names = list(statistics)
    values = [image_means_to_samples(of_images, samples) for of_images in statistics.values()]
    tested = association_test(np.hstack([amounts(one) for one in values]), samples, draws, rng)
    r, rest = learned_embedding(units, tables, samples), arrangement(units, tables, samples)
    shape = (len(names), len(channels))
    table = pd.DataFrame(
        {
            "channel": list(channels) * len(names),
            "statistic": np.repeat(names, len(channels)),
            "r2": np.concatenate([explained_share(one, r, samples) for one in values]),
            "r2_beyond_brightness": np.concatenate([explained_share(one, rest, samples) for one in values]),
            "association": tested.effect,
            "p": np.where(included & (not is_confounded(samples)), tested.p.reshape(shape), np.nan).ravel(),
        }
    )
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    place = {name: number for number, name in enumerate(channels)}
    return table.sort_values("channel", key=lambda column: column.map(place), kind="stable", ignore_index=True)


def explained_share(values: Array, learned: Learned | None, samples: Samples) -> Array:
    """r² out of fold of a statistic (sample, channel), mean over seeds, not below 0; NaN without an embedding.

    A statistic that is nowhere negative enters as its logarithm, since amounts vary by ratios.
    """
    if learned is None:
        return np.full(values.shape[1], np.nan)
    error = np.zeros((len(learned.held_out), values.shape[1]))
    total = np.zeros_like(error)
    is_amount = not (values < 0).any()
    for seed, fold, rows, r in learned.training:
        x = log_intensities(values, rows) if is_amount else values
        own = samples.fold == fold
        center, intercept, slope = _line(x[rows], r)
        held_out = learned.held_out[seed, own]
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
    """For each channel what its embedding sees; empty where that is not known.

    Such as ``brightness (r² 0.92)``, ``clustering at 20 µm (r² 0.71)``, or both: ``brightness (r² 0.66) and, beyond it,
    clustering at 20 µm (r² 0.71)``.
    """
    found = []
    for channel in channels:
        own = table[(table["channel"] == channel) & table["r2"].notna()]
        found.append(_sentence(*(dict(zip(own["statistic"], own[column], strict=True))
                                 for column in ("r2", "r2_beyond_brightness"))))  # fmt: skip
    return found


def _sentence(r2: Mapping[str, float], beyond: Mapping[str, float]) -> str:
    if not r2:
        return ""
    brightness = max(r2.get("mean", 0.0), 0.0)
    of_r = {name: value for name, value in r2.items() if name != "mean"}
    of_rest = {name: value for name, value in beyond.items() if name != "mean"}
    best_of_rest = max(of_rest.values(), default=0.0)
    if brightness >= LEAST_R2:
        first = f"brightness (r² {brightness:.2f})"
        return f"{first} and, beyond it, {_named(of_rest)}" if best_of_rest >= LEAST_R2 else first
    best = max(of_r.values(), default=0.0)
    if max(best, best_of_rest) >= LEAST_R2:
        return _named(of_rest if best_of_rest > best else of_r)
    return f"neither brightness nor arrangement (r² at most {max(best, brightness):.2f})"


def _named(r2: Mapping[str, float]) -> str:
    first = best_statistic(r2)
    return f"{in_words(first)} (r² {r2[first]:.2f})"


def best_statistic(r2: Mapping[str, float]) -> str:
    """The statistic that explains most, an earlier one in ``WORDS`` where it explains nearly as much.

    One that explains less than ``LEAST_R2`` does so only where all do.
    """
    kinds, most = list(WORDS), max(r2.values())
    close = [name for name, value in r2.items() if value >= max(most - AS_GOOD, min(LEAST_R2, most))]
    return min(close, key=lambda name: (kinds.index(_kind(name)), -r2[name]))


def in_words(statistic: str) -> str:
    """Such as ``clustering at 20 µm`` for ``morans_i_20um``."""
    length = statistic.removeprefix(_kind(statistic)).strip("_").removesuffix("um")
    return f"{WORDS[_kind(statistic)]}{f' at {length} µm' if length else ''}"


def _kind(name: str) -> str:
    return next(kind for kind in WORDS if name.startswith(kind))
