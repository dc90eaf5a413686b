"""The tables of a ranking, as product columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from plexrank.ranking.aggregate import SampleTables
from plexrank.ranking.reliance import Reliance
from plexrank.ranking.samples import Array, Samples
from plexrank.ranking.scores import Scores, positions
from plexrank.ranking.statistics import Association, benjamini_hochberg, known_mean

RANKING_COLUMNS = (
    "position",
    "channel",
    "score",
    "score_low",
    "score_high",
    "position_low",
    "position_high",
    "p_top10",
    "reliance",
    "reliance_p",
    "reliance_q",
    "association",
    "association_p",
    "association_q",
    "mean_intensity_association",
    "mean_intensity_q",
    "direction",
    "stability",
    "significant",
    "n_patients",
    "n_images",
    "n_tiles",
    "mean_intensity_p",
    "direction_log2",
    "excluded",
    "borda_position",
    "conditional",
    "conditional_p",
    "conditional_q",
    "trend",
    "trend_p",
    "trend_q",
    "mean_intensity_trend",
    "mean_intensity_trend_p",
    "mean_intensity_trend_q",
    "site_association",
    "site_p",
    "site_q",
    "association_within_site_p",
    "association_within_site_q",
    "mean_intensity_within_site_p",
    "mean_intensity_within_site_q",
    "group",
)
"""Columns of ranking.csv in their order."""


@dataclass(frozen=True)
class ChannelTests:
    """Everything tested per channel; None where there is nothing to test.

    Attributes:
        conditional: reliance on what the other channels do not explain.
        trend, mean_intensity_trend: against labels with an order.
        site: association of the embedding with the site.
        within_site, mean_intensity_within_site: (channel,) p-values of the association among patients of the same site.
        group: (channel,) int, channels that stand for one another share a number.
    """

    reliance: Reliance
    association: Association
    mean_intensity: Association
    conditional: Reliance | None
    trend: Association | None
    mean_intensity_trend: Association | None
    site: Association | None
    within_site: Array | None
    mean_intensity_within_site: Array | None
    group: Array


def ranking_table(
    channels: Sequence[str],
    included: Array,
    scores: Scores,
    tests: ChannelTests,
    tables: SampleTables,
    samples: Samples,
    *,
    fdr: float,
    above_chance: bool,
) -> pd.DataFrame:
    """ranking.csv: one row a channel, best first, excluded channels last.

    A channel is significant if its reliance_q is at most ``fdr`` and prediction is above chance. Excluded
    channels have no position and stand outside of every family of tests: their q-values are missing.

    Args:
        included: (channel,) bool.
    """
    reliance_q = _q_values(tests.reliance.p, included)
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
        "reliance": tests.reliance.mean,
        "reliance_p": tests.reliance.p,
        "reliance_q": reliance_q,
        "association": tests.association.effect,
        "association_p": tests.association.p,
        "association_q": _q_values(tests.association.p, included),
        "mean_intensity_association": tests.mean_intensity.effect,
        "mean_intensity_q": _q_values(tests.mean_intensity.p, included),
        "direction": direction,
        "stability": scores.stability,
        "significant": above_chance & included & (np.nan_to_num(reliance_q, nan=1.0) <= fdr),
        "n_patients": _patients_with(tables.present, samples),
        "n_images": tables.channel_images,
        "n_tiles": tables.channel_tiles,
        "mean_intensity_p": tests.mean_intensity.p,
        "direction_log2": log2,
        "excluded": ~included,
        "borda_position": scores.borda_position,
        **_further_tests(tests, included),
        "group": tests.group,
    }
    table = pd.DataFrame(columns)[list(RANKING_COLUMNS)]
    for column in ("position", "position_low", "position_high", "borda_position"):
        table[column] = table[column].astype("Int64")
    best_first = np.lexsort((-scores.score, np.where(included, scores.position, np.inf)))
    return table.iloc[best_first].reset_index(drop=True)


def _further_tests(tests: ChannelTests, included: Array) -> dict[str, Array]:
    """Effect, p and q of the tests that not every study has, NaN where it has not."""
    nothing = np.full(len(included), np.nan)
    columns: dict[str, Array] = {}
    effects: dict[str, tuple[Array, Array]] = {
        "conditional": (nothing, nothing) if tests.conditional is None
        else (tests.conditional.mean, tests.conditional.p),
        "trend": (nothing, nothing) if tests.trend is None else (tests.trend.effect, tests.trend.p),
        "mean_intensity_trend": (nothing, nothing) if tests.mean_intensity_trend is None
        else (tests.mean_intensity_trend.effect, tests.mean_intensity_trend.p),
        "site": (nothing, nothing) if tests.site is None else (tests.site.effect, tests.site.p),
    }  # fmt: skip
    for name, (effect, p) in effects.items():
        columns |= {"site_association" if name == "site" else name: effect}
        columns |= {f"{name}_p": p, f"{name}_q": _q_values(p, included)}
    for name, of_channel in (
        ("association_within_site", tests.within_site),
        ("mean_intensity_within_site", tests.mean_intensity_within_site),
    ):
        p = nothing if of_channel is None else of_channel
        columns |= {f"{name}_p": p, f"{name}_q": _q_values(p, included)}
    return columns


def _patients_with(present: Array, samples: Samples) -> Array:
    """(channel,) patients who have each channel."""
    has = np.zeros((samples.num_patients, present.shape[1]), dtype=bool)
    np.logical_or.at(has, samples.patient, present)
    count: Array = has.sum(axis=0)
    return count


def _q_values(p: Array, included: Array) -> Array:
    return benjamini_hochberg(np.where(included, p, np.nan))


def directions(mean_intensity: Array, samples: Samples) -> tuple[Array, list[str]]:
    """The class in which each channel is brightest, and by how much.

    Args:
        mean_intensity: (sample, channel), NaN where a sample lacks the channel; a class without it is left out.

    Returns:
        (channel,) log2 of that class's mean over the mean of the other classes' means, NaN where one of them is
        not above zero; and texts such as ``high +1.3``, the class alone where there is no ratio, and an empty
        text where the classes do not differ.
    """
    means = np.stack([known_mean(mean_intensity[samples.label == k]) for k in range(samples.num_classes)])
    known = ~np.isnan(means)
    means = np.where(known, means, -np.inf)
    top, highest = means.argmax(axis=0), means.max(axis=0)
    others = (np.where(known, means, 0.0).sum(axis=0) - highest) / np.maximum(known.sum(axis=0) - 1, 1)
    log2 = np.full(len(highest), np.nan)
    usable = (highest > 0) & (others > 0)
    log2[usable] = np.log2(highest[usable] / others[usable])
    texts = [
        "" if np.ptp(means[known[:, c], c]) == 0
        else samples.class_names[top[c]] + (f" {log2[c]:+.1f}" if usable[c] else "")
        for c in range(len(top))
    ]  # fmt: skip
    return log2, texts


def by_class_table(channels: Sequence[str], included: Array, tables: SampleTables, samples: Samples) -> pd.DataFrame:
    """ranking_by_class.csv: ``class, position, channel, score``, for each class best first.

    The score is the mean over all held-out samples and seeds of |importance for the logit of the class − mean
    over the other classes|. With two classes both have the same contrast, hence the same order. Excluded
    channels stay out.
    """
    score = known_mean(tables.contrast, (0, 1))
    place = positions(score.T, included)
    rows = [
        (name, int(place[k, c]), channels[c], score[c, k])
        for k, name in enumerate(samples.class_names)
        for c in np.argsort(place[k])
        if included[c]
    ]
    return pd.DataFrame(rows, columns=["class", "position", "channel", "score"])


def importance_per_patient(channels: Sequence[str], tables: SampleTables, samples: Samples) -> pd.DataFrame:
    """importance_per_patient.parquet: ``patient_id, label, fold, channel, importance``, mean over seeds.

    There is no row for a channel that the patient's images lack.
    """
    values = tables.importance.mean(axis=0)
    sample, channel = np.nonzero(~np.isnan(values))
    table = _identity(samples).loc[sample].reset_index(drop=True)
    return table.assign(channel=np.array(channels, dtype=object)[channel], importance=values[sample, channel])


def predictions_table(probability: Array, baseline: Array, samples: Samples) -> pd.DataFrame:
    """predictions.csv: out-of-fold predictions of the ensemble and of the mean-intensity baseline.

    Columns ``patient_id, label, fold, predicted, probability_<class>…, mean_intensity_probability_<class>…``.
    """
    table = _identity(samples)
    names = np.array(samples.class_names)
    table["predicted"] = names[probability.argmax(axis=1)]
    for k, name in enumerate(samples.class_names):
        table[f"probability_{name}"] = probability[:, k]
    for k, name in enumerate(samples.class_names):
        table[f"mean_intensity_probability_{name}"] = baseline[:, k]
    return table


def _identity(samples: Samples) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": list(samples.patient_ids),
            "label": [samples.class_names[k] for k in samples.label],
            "fold": samples.fold,
        }
    )
