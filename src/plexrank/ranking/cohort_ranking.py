"""From the units of a cohort to its ranking."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from plexrank.errors import StudyError
from plexrank.ranking.aggregate import UnitTable, gather_samples
from plexrank.ranking.prediction import baseline_probability, measure_performance
from plexrank.ranking.refit import can_refit, refitted_scores
from plexrank.ranking.reliance import measure_reliance
from plexrank.ranking.samples import Samples
from plexrank.ranking.scores import mean_agreement, score_channels
from plexrank.ranking.statistics import OUT_OF_FOLD_VARIANCE, kruskal
from plexrank.ranking.summary import LeftOut, Summary, is_above_chance, make_summary
from plexrank.ranking.table import (
    ChannelTests,
    by_class_table,
    importance_per_patient,
    predictions_table,
    ranking_table,
)
from plexrank.study import RankSettings

NOTHING_LEFT_OUT = LeftOut()


@dataclass(frozen=True)
class CohortRanking:
    """The tables of RUN/ranking and the summary; see :mod:`plexrank.ranking.table` for the columns."""

    ranking: pd.DataFrame
    by_class: pd.DataFrame
    importance_per_patient: pd.DataFrame
    predictions: pd.DataFrame
    summary: Summary


def rank_cohort(
    units: Sequence[UnitTable],
    samples: Samples,
    channels: Sequence[str],
    settings: RankSettings,
    *,
    excluded: Collection[str] = (),
    seed: int = 0,
    left_out: LeftOut = NOTHING_LEFT_OUT,
    warnings: Sequence[str] = (),
) -> CohortRanking:
    """Score, test and order the channels of a cohort.

    Args:
        units: one table for each fold and seed.
        channels: names in the order of the channel axis.
        excluded: negative controls, without a position.
        seed: of bootstrap, permutations and inner folds; equal arguments give equal tables.
        left_out: what the units do not hold, for the summary.
        warnings: to go into the summary behind those that the samples call for.

    Raises:
        StudyError: an excluded channel does not exist, or none is left.
        RunDirError: the units do not cover the cohort.
    """
    absent = sorted(set(excluded) - set(channels))
    if absent:
        raise StudyError(f"excluded channels {', '.join(absent)} are not among {', '.join(channels)}")
    included = np.array([channel not in excluded for channel in channels])
    if not included.any():
        raise StudyError("every channel is excluded; leave one or more to rank")
    tables = gather_samples(units, samples, settings.by)
    rng = np.random.default_rng(seed)
    refit = partial(refitted_scores, units, samples, settings.by) if can_refit(units, settings.by) else None
    scores = score_channels(
        tables.importance, tables.unit_importance, samples, included, settings.bootstrap, rng, refit
    )
    baseline = baseline_probability(tables.mean_intensity, samples, seed)
    held_out, mean_intensity = (
        measure_performance(probability, samples, settings.bootstrap, settings.permutations, rng)
        for probability in (tables.probability, baseline)
    )
    tests = ChannelTests(
        reliance=measure_reliance(tables.embedding, tables.classify, tables.seeds, samples),
        association=kruskal(tables.aligned, samples.label, OUT_OF_FOLD_VARIANCE),
        mean_intensity=kruskal(tables.mean_intensity, samples.label),
    )
    return CohortRanking(
        ranking=ranking_table(
            channels, included, scores, tests, tables, samples,
            fdr=settings.fdr, above_chance=is_above_chance(held_out),
        ),
        by_class=by_class_table(channels, included, tables, samples),
        importance_per_patient=importance_per_patient(channels, tables, samples),
        predictions=predictions_table(tables.probability, baseline, samples),
        summary=make_summary(
            held_out, mean_intensity, samples,
            fdr=settings.fdr,
            num_images=tables.n_images,
            num_tiles=tables.n_tiles,
            agreement=mean_agreement(tables.unit_importance[:, included]),
            left_out=left_out,
            warnings=warnings,
        ),
    )  # fmt: skip
