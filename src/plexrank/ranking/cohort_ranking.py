"""From the units of a cohort to its ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from plexrank.arrays import Array
from plexrank.cohorts.outcomes import order_problems
from plexrank.errors import StudyError, raise_problems
from plexrank.ranking.aggregate import SampleTables, UnitTable, gather_samples
from plexrank.ranking.agreement import measure_agreement
from plexrank.ranking.audit import channel_groups
from plexrank.ranking.baselines import baseline_table, forest_baseline, linear_baseline
from plexrank.ranking.controls import count_called, decoy_reliance_p
from plexrank.ranking.directed import directed_r
from plexrank.ranking.discoveries import Discoveries, find_discoveries
from plexrank.ranking.nulls import Null, NullUnits, measure_null
from plexrank.ranking.panels import measure_faithfulness, smallest_panel
from plexrank.ranking.pattern import learned_embedding
from plexrank.ranking.prediction import Performance, headline_difference, measure_performance
from plexrank.ranking.reads import reads_table, sentences
from plexrank.ranking.refitting import can_refit, refitted_scores
from plexrank.ranking.reliance import can_measure_reliance
from plexrank.ranking.samples import Samples
from plexrank.ranking.sanity import measure_sanity
from plexrank.ranking.scores import TOP, score_channels
from plexrank.ranking.summary import LeftOut, NullSummary, Summary, SummaryFindings, make_summary
from plexrank.ranking.table import (
    ChannelFindings,
    by_class_table,
    importance_per_patient,
    predictions_table,
    ranking_table,
)
from plexrank.settings import RankSettings
from plexrank.statistics.pattern import SHARED_ENCODER

READS_DRAWS = 10_000
"""Labellings behind the p-values of image statistics, which describe and are no list of discoveries."""
NOTHING_LEFT_OUT = LeftOut()
NO_STATISTICS: Mapping[str, Array] = {}


@dataclass(frozen=True)
class CohortRanking:
    """The tables of RUN/ranking and the summary; see :mod:`plexrank.ranking.table` for the columns."""

    ranking: pd.DataFrame
    by_class: pd.DataFrame
    importance_per_patient: pd.DataFrame
    predictions: pd.DataFrame
    baselines: pd.DataFrame
    reads: pd.DataFrame
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
    pattern_variance: float | None = SHARED_ENCODER,
    statistics: Mapping[str, Array] = NO_STATISTICS,
    null_units: NullUnits = (),
) -> CohortRanking:
    """Score, test and order the channels of a cohort.

    Args:
        units: one table for each fold and seed.
        channels: names in the order of the channel axis.
        excluded: negative controls, without a position.
        seed: of bootstrap, permutations and inner folds; equal arguments give equal tables.
        left_out: what the units do not hold, for the summary.
        warnings: to go into the summary behind those that the samples call for.
        pattern_variance: λ of the pattern test where trainings on permuted labels do not measure it; ``None`` where r
            was not learned, so that there is no such test.
        statistics: of images, for what the embedding sees; see :mod:`plexrank.ranking.reads`.
        null_units: units trained on permuted labels.

    Raises:
        StudyError: an excluded channel does not exist, none is left, or the order of the classes is not of these.
        RunDirError: the units do not cover the cohort.
    """
    included = _included(channels, excluded)
    order = _order_of_classes(settings.ordered, samples)
    tables = gather_samples(units, samples, settings.by)
    rng = np.random.default_rng(seed)
    refit = partial(refitted_scores, units, samples, settings.by) if can_refit(units, settings.by) else None
    scores = score_channels(
        tables.importance, tables.unit_importance, samples, included, settings.bootstrap, rng, refit
    )
    linear_model = samples.outcome.linear_model
    models = {
        linear_model: linear_baseline(tables.mean_intensity, samples, seed),
        "forest": forest_baseline(tables.mean_intensity, samples, seed),
    }
    held_out, linear, forest = (
        measure_performance(prediction, samples, settings.bootstrap, settings.permutations, rng)
        for prediction in (tables.prediction, *(model.prediction for model in models.values()))
    )
    null = measure_null(null_units, units, samples, settings.by, rng)
    measured_variance = None if null is None else null.pattern_variance(included)
    variance = pattern_variance if measured_variance is None else measured_variance
    discoveries = find_discoveries(units, tables, samples, order, variance, rng)
    reads = reads_table(statistics, units, tables, samples, channels, included, READS_DRAWS, rng)
    group = channel_groups(units, samples) if tables.classify else np.arange(1, len(channels) + 1)
    learned = learned_embedding(units, tables, samples) if tables.classify else None
    ranking = ranking_table(
        channels,
        included,
        scores,
        ChannelFindings(discoveries.tests, group, sentences(reads, channels), null),
        tables,
        samples,
        fdr=settings.fdr,
    )
    findings = SummaryFindings(
        found=_found(ranking),
        not_tested=discoveries.not_tested,
        pattern_variance=variance,
        null=_null_summary(null, measured_variance is not None),
        **_robustness(units, tables, samples, channels, included, discoveries, settings, held_out, rng),
    )
    return CohortRanking(
        ranking=ranking,
        by_class=by_class_table(channels, included, tables, samples),
        importance_per_patient=importance_per_patient(
            channels, tables, samples, None if learned is None else directed_r(learned, samples)
        ),
        predictions=predictions_table(tables.prediction, models[linear_model].prediction, samples),
        baselines=baseline_table(channels, included, tables.mean_intensity, samples, models),
        reads=reads,
        summary=make_summary(
            held_out, linear, forest,
            headline_difference(tables.prediction, models[linear_model].prediction, samples, settings.bootstrap, rng),
            findings, samples,
            fdr=settings.fdr,
            num_images=tables.n_images,
            num_tiles=tables.n_tiles,
            left_out=left_out,
            warnings=[*_embedding_warning(tables), *_site_warning(ranking, settings.fdr), *warnings],
        ),
    )  # fmt: skip


def _included(channels: Sequence[str], excluded: Collection[str]) -> Array:
    absent = sorted(set(excluded) - set(channels))
    if absent:
        raise StudyError(f"excluded channels {', '.join(absent)} are not among {', '.join(channels)}")
    included = np.array([channel not in excluded for channel in channels])
    if not included.any():
        raise StudyError("every channel is excluded; leave one or more to rank")
    return included


def _embedding_warning(tables: SampleTables) -> list[str]:
    if tables.classify:
        return []
    return ["the network has no channel embedding: only plain mean intensities are tested"]


def _site_warning(ranking: pd.DataFrame, fdr: float) -> list[str]:
    differ = ranking.loc[ranking["site_q"] <= fdr, "channel"]
    if differ.empty:
        return []
    return [f"the embedding differs between sites (q ≤ {fdr:g}) in {len(differ)} channels: {', '.join(differ)}"]


def _order_of_classes(ordered: Sequence[str], samples: Samples) -> Array | None:
    """(class,) place of each class, None where the classes have no order."""
    if not ordered:
        return None
    raise_problems(order_problems("rank.ordered", ordered, samples.outcome.levels))
    return np.array([ordered.index(name) for name in samples.outcome.levels], dtype=np.float64)


def _found(ranking: pd.DataFrame) -> dict[str, list[str]]:
    """The channels on each list, best first."""
    return {
        name: ranking.loc[ranking["found_by"] == name, "channel"].tolist() for name in ("intensity", "pattern", "both")
    }


def _null_summary(null: Null | None, is_variance_measured: bool) -> NullSummary | None:
    if null is None:
        return None
    return NullSummary(len(null), is_variance_measured, float(null.headline.mean()), null.headline_p())


def _robustness(
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    channels: Sequence[str],
    included: Array,
    discoveries: Discoveries,
    settings: RankSettings,
    held_out: Performance,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What says how far to trust the order."""
    one_error = (held_out.main.high - held_out.main.low) / (2 * 1.96)
    decoys = decoy_reliance_p(units, tables, samples, rng) if can_measure_reliance(tables, samples) else None
    return {
        "agreement": measure_agreement(tables.unit_importance[:, included], TOP),
        "controls": count_called(channels, included, discoveries.p_values(), decoys, fdr=settings.fdr),
        "panel": smallest_panel(units, tables, samples, channels, included, one_error),
        "faithfulness": measure_faithfulness(tables, samples, included, rng) if tables.classify else None,
        "sanity": measure_sanity(units, tables, samples, included, rng),
    }
