"""The tables of a ranking, as product columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables
from plexrank.ranking.columns import EFFECT_COLUMNS, EXACT_STATISTICS, RANKING_COLUMNS
from plexrank.ranking.nulls import Null
from plexrank.ranking.samples import UNKNOWN_SITE, Samples
from plexrank.ranking.scores import Scores, positions
from plexrank.statistics.means import known_mean
from plexrank.statistics.multiple import benjamini_hochberg, cauchy_combination


class Tested(Protocol):
    """A test of every channel: effect size and p-value, (channel,) each."""

    @property
    def effect(self) -> Array: ...

    @property
    def p(self) -> Array: ...


@dataclass(frozen=True)
class ChannelFindings:
    """What is known of the channels beside their scores.

    Attributes:
        tests: by the names of ``columns.EFFECT_COLUMNS``; one that is absent leaves its columns empty.
        group: (channel,) int, highly correlated channels share a number.
        reads: what the embedding of each channel sees, in words.
        null: statistics of trainings on permuted labels, if there are any.
    """

    tests: Mapping[str, Tested]
    group: Array
    reads: Sequence[str]
    null: Null | None = None


def ranking_table(
    channels: Sequence[str],
    included: Array,
    scores: Scores,
    findings: ChannelFindings,
    tables: SampleTables,
    samples: Samples,
    *,
    fdr: float,
) -> pd.DataFrame:
    """ranking.csv: one row a channel, best first, excluded channels last.

    A channel is significant where the q of the intensity test or that of the pattern test is at most ``fdr``. Excluded
    channels have no position and stand outside of every family of tests: their q-values are missing.

    Args:
        included: (channel,) bool.
    """
    log2, direction = directions(tables.mean_intensity, samples)
    columns = {
        "position": scores.position,
        "channel": list(channels),
        "score": scores.score,
        "score_low": scores.low,
        "score_high": scores.high,
        "position_low": scores.position_low,
        "position_high": scores.position_high,
        "p_top10": scores.p_top10,
        "reads": list(findings.reads),
        "direction": direction,
        "direction_log2": log2,
        "stability": scores.stability,
        "n_patients": _patients_with(tables.present, samples),
        "n_images": tables.channel_images,
        "n_tiles": tables.channel_tiles,
        "excluded": ~included,
        "borda_position": scores.borda_position,
        "group": findings.group,
        **_test_columns(findings.tests, included),
        **_null_columns(findings.null, scores, included),
    }
    columns["mean_intensity_q"] = columns["intensity_q"]
    columns["combined_p"] = cauchy_combination(np.stack([columns["intensity_p"], columns["pattern_p"]]))
    columns["combined_q"] = _q_values(columns["combined_p"], included)
    columns["found_by"] = found_by(columns["intensity_q"], columns["pattern_q"], fdr)
    columns["significant"] = columns["found_by"] != ""
    table = pd.DataFrame(columns)[list(RANKING_COLUMNS)]
    for column in ("position", "position_low", "position_high", "borda_position"):
        table[column] = table[column].astype("Int64")
    best_first = np.lexsort((-scores.score, np.where(included, scores.position, np.inf)))
    return table.iloc[best_first].reset_index(drop=True)


def found_by(intensity_q: Array, pattern_q: Array, fdr: float) -> Array:
    """For each channel which lists it is on: ``intensity``, ``pattern``, ``both``, or empty. NaN is on none."""
    by_intensity, by_pattern = (np.nan_to_num(q, nan=1.0) <= fdr for q in (intensity_q, pattern_q))
    names: Array = np.select(
        [by_intensity & by_pattern, by_intensity, by_pattern], ["both", "intensity", "pattern"], default=""
    ).astype(object)
    return names


def _test_columns(tests: Mapping[str, Tested], included: Array) -> dict[str, Any]:
    """Effect, p and q of every test, NaN where it was not made."""
    nothing = np.full(len(included), np.nan)
    columns: dict[str, Any] = {}
    for name, effect_column in EFFECT_COLUMNS.items():
        effect, p = (tests[name].effect, tests[name].p) if name in tests else (nothing, nothing)
        columns |= {effect_column: effect, f"{name}_p": p, f"{name}_q": _q_values(p, included)}
    return columns


def _null_columns(null: Null | None, scores: Scores, included: Array) -> dict[str, Array]:
    nothing = np.full(len(included), np.nan)
    columns: dict[str, Array] = {}
    for name in EXACT_STATISTICS:
        alone, largest = (nothing, nothing) if null is None else null.p_values(name, included)
        columns |= {f"{name}_exact_p": alone, f"{name}_max_p": largest}
    low, high = nothing.copy(), nothing.copy()
    if null is not None:
        ranked = ~np.isnan(scores.position)
        place = scores.position[ranked].astype(int) - 1
        low[ranked], high[ranked] = (band[place] for band in null.score_band(included))
    return columns | {"null_score_low": low, "null_score_high": high}


def _patients_with(present: Array, samples: Samples) -> Array:
    """(channel,) patients who have each channel."""
    has = np.zeros((samples.num_patients, present.shape[1]), dtype=bool)
    np.logical_or.at(has, samples.patient, present)
    count: Array = has.sum(axis=0)
    return count


def _q_values(p: Array, included: Array) -> Array:
    return benjamini_hochberg(np.where(included, p, np.nan))


def directions(mean_intensity: Array, samples: Samples) -> tuple[Array, list[str]]:
    """The class in which each channel is brightest, or the half of the patients along the order; and by how much.

    Args:
        mean_intensity: (sample, channel), NaN where a sample lacks the channel; a class without it is left out.

    Returns:
        (channel,) log2 of that class's mean over the mean of the other classes' means, NaN where one of them is
        not above zero; and texts such as ``high +1.3``, the class alone where there is no ratio, and an empty
        text where the classes do not differ.
    """
    names, label = compared_groups(samples)
    means = np.stack([known_mean(mean_intensity[label == k]) for k in range(len(names))])
    known = ~np.isnan(means)
    means = np.where(known, means, -np.inf)
    top, highest = means.argmax(axis=0), means.max(axis=0)
    others = (np.where(known, means, 0.0).sum(axis=0) - highest) / np.maximum(known.sum(axis=0) - 1, 1)
    log2 = np.full(len(highest), np.nan)
    usable = (highest > 0) & (others > 0)
    log2[usable] = np.log2(highest[usable] / others[usable])
    texts = [
        "" if not known[:, c].any() or np.ptp(means[known[:, c], c]) == 0
        else names[top[c]] + (f" {log2[c]:+.1f}" if usable[c] else "")
        for c in range(len(top))
    ]  # fmt: skip
    return log2, texts


def compared_groups(samples: Samples) -> tuple[tuple[str, ...], Array]:
    """Names of the groups that are compared, and which (sample,) each belongs to: classes, or halves of an order."""
    places = samples.places()
    if places is None:
        return samples.outcome.levels, samples.label
    middle = np.median(places)
    is_upper = places > middle if (places > middle).any() else places == middle  # most patients may be at the top
    return samples.outcome.ends, is_upper.astype(int)


def by_class_table(channels: Sequence[str], included: Array, tables: SampleTables, samples: Samples) -> pd.DataFrame:
    """ranking_by_class.csv: ``class, position, channel, score``, for each class best first.

    The score is the mean over all held-out samples and seeds of |importance for the logit of the class − mean
    over the other classes|. With two classes both have the same contrast, hence the same order. Outcomes without
    classes have one contrast. Excluded channels stay out.
    """
    score = known_mean(tables.contrast, (0, 1))
    place = positions(score.T, included)
    rows = [
        (name, int(place[k, c]), channels[c], score[c, k])
        for k, name in enumerate(samples.outcome.contrast_names)
        for c in np.argsort(place[k])
        if included[c]
    ]
    return pd.DataFrame(rows, columns=["class", "position", "channel", "score"])


def importance_per_patient(
    channels: Sequence[str], tables: SampleTables, samples: Samples, r: Array | None
) -> pd.DataFrame:
    """importance_per_patient.parquet: ``patient_id``, the outcome, ``fold, channel, importance, r, mean_intensity``.

    ``site`` stands before ``fold`` where one is known, empty for patients without. There is no row for a channel that
    the patient's images lack.

    Args:
        r: (sample, channel) as :func:`~plexrank.ranking.directed.directed_r` gives it; ``None`` without embedding.
    """
    values = tables.importance.mean(axis=0)
    sample, channel = np.nonzero(~np.isnan(values))
    of_samples = _identity(samples)
    if samples.site is not None:
        sites = [None if site == UNKNOWN_SITE else samples.site_names[site] for site in samples.site]
        of_samples.insert(list(of_samples).index("fold"), "site", sites)
    table = of_samples.loc[sample].reset_index(drop=True)
    return table.assign(
        channel=np.array(channels, dtype=object)[channel],
        importance=values[sample, channel],
        r=np.nan if r is None else r[sample, channel],
        mean_intensity=tables.mean_intensity[sample, channel],
    )


def predictions_table(prediction: Array, baseline: Array, samples: Samples) -> pd.DataFrame:
    """predictions.csv: out-of-fold predictions of the ensemble and of the mean-intensity baseline.

    Columns ``patient_id``, the outcome (``label``; ``time`` and ``event``), ``fold``, the prediction (``predicted``,
    ``probability_<class>…``; ``risk``), and the same of channel means, such as ``mean_intensity_probability_<class>…``.
    """
    columns = samples.outcome.prediction_columns(prediction)
    of_means = samples.outcome.prediction_columns(baseline)
    if len(of_means) > 1:  # the class follows from the probabilities
        of_means.pop("predicted", None)
    return _identity(samples).assign(**columns, **{f"mean_intensity_{name}": own for name, own in of_means.items()})


def _identity(samples: Samples) -> pd.DataFrame:
    columns = {"patient_id": list(samples.patient_ids), **samples.outcome.columns(samples.label), "fold": samples.fold}
    return pd.DataFrame(columns)
