"""From the units of a cohort to its ranking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from plexrank.cohort import order_problems
from plexrank.errors import StudyError, raise_problems
from plexrank.ranking.aggregate import SampleTables, UnitTable, gather_samples
from plexrank.ranking.agreement import measure_agreement
from plexrank.ranking.audit import association_within_sites, channel_groups, site_association
from plexrank.ranking.baselines import baseline_table, forest_baseline, logistic_baseline
from plexrank.ranking.conditional import explained_by_others
from plexrank.ranking.controls import count_called, decoy_reliance_p
from plexrank.ranking.panels import measure_faithfulness, smallest_panel
from plexrank.ranking.prediction import Performance, measure_performance
from plexrank.ranking.refit import can_refit, refitted_scores
from plexrank.ranking.reliance import Reliance, measure_reliance
from plexrank.ranking.samples import Array, Samples
from plexrank.ranking.sanity import measure_sanity
from plexrank.ranking.scores import TOP, score_channels
from plexrank.ranking.statistics import OUT_OF_FOLD_VARIANCE, Association, kruskal, trend
from plexrank.ranking.summary import Findings, LeftOut, Summary, is_above_chance, make_summary
from plexrank.ranking.table import (
    ChannelTests,
    by_class_table,
    importance_per_patient,
    predictions_table,
    ranking_table,
)
from plexrank.settings import RankSettings

NOTHING_LEFT_OUT = LeftOut()


@dataclass(frozen=True)
class CohortRanking:
    """The tables of RUN/ranking and the summary; see :mod:`plexrank.ranking.table` for the columns."""

    ranking: pd.DataFrame
    by_class: pd.DataFrame
    importance_per_patient: pd.DataFrame
    predictions: pd.DataFrame
    baselines: pd.DataFrame
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
        StudyError: an excluded channel does not exist, none is left, or the order of the classes is not of these.
        RunDirError: the units do not cover the cohort.
    """
    included = _included(channels, excluded)
    order = _order_of_labels(settings.ordered, samples)
    tables = gather_samples(units, samples, settings.by)
    rng = np.random.default_rng(seed)
    refit = partial(refitted_scores, units, samples, settings.by) if can_refit(units, settings.by) else None
    scores = score_channels(
        tables.importance, tables.unit_importance, samples, included, settings.bootstrap, rng, refit
    )
    models = {
        "logistic": logistic_baseline(tables.mean_intensity, samples, seed),
        "forest": forest_baseline(tables.mean_intensity, samples, seed),
    }
    held_out, logistic, forest = (
        measure_performance(probability, samples, settings.bootstrap, settings.permutations, rng)
        for probability in (tables.probability, *(model.probability for model in models.values()))
    )
    tests = _channel_tests(units, tables, samples, order, partial(_within_sites, samples, settings.permutations, seed))
    ranking = ranking_table(
        channels, included, scores, tests, tables, samples, fdr=settings.fdr, above_chance=is_above_chance(held_out)
    )
    findings = _findings(units, tables, samples, channels, included, tests, ranking, settings, held_out, rng)
    return CohortRanking(
        ranking=ranking,
        by_class=by_class_table(channels, included, tables, samples),
        importance_per_patient=importance_per_patient(channels, tables, samples),
        predictions=predictions_table(tables.probability, models["logistic"].probability, samples),
        baselines=baseline_table(channels, included, tables.mean_intensity, samples, models),
        summary=make_summary(
            held_out, logistic, forest, findings, samples,
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
    return ["the network has no channel embedding: reliance and association are not known, no channel is significant"]


def _site_warning(ranking: pd.DataFrame, fdr: float) -> list[str]:
    differ = ranking.loc[ranking["site_q"] <= fdr, "channel"]
    if differ.empty:
        return []
    return [f"the embedding differs between sites (q ≤ {fdr:g}) in {len(differ)} channels: {', '.join(differ)}"]


def _order_of_labels(ordered: Sequence[str], samples: Samples) -> Array | None:
    """(sample,) place of each sample's label, None where the labels have no order."""
    if not ordered:
        return None
    raise_problems(order_problems(ordered, samples.class_names))
    order: Array = np.array([ordered.index(name) for name in samples.class_names])[samples.label]
    return order


def _channel_tests(
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    order: Array | None,
    within_sites: Callable[..., Array | None],
) -> ChannelTests:
    if not tables.classify:
        return _tests_without_embedding(tables, samples, order, within_sites)
    reliance = partial(measure_reliance, tables.embedding, tables.classify, tables.seeds, samples)
    explained = explained_by_others(units, tables, samples)
    return ChannelTests(
        reliance=reliance(),
        association=kruskal(tables.aligned, samples.label, OUT_OF_FOLD_VARIANCE),
        mean_intensity=kruskal(tables.mean_intensity, samples.label),
        conditional=None if explained is None else reliance(explained=explained),
        trend=None if order is None else trend(tables.aligned, order, OUT_OF_FOLD_VARIANCE),
        mean_intensity_trend=None if order is None else trend(tables.mean_intensity, order),
        site=site_association(tables.aligned, samples),
        within_site=within_sites(tables.aligned, OUT_OF_FOLD_VARIANCE),
        mean_intensity_within_site=within_sites(tables.mean_intensity),
        group=channel_groups(tables.aligned),
    )


def _within_sites(
    samples: Samples, permutations: int, seed: int, values: Array, variance_factor: float = 1.0
) -> Array | None:
    return association_within_sites(values, samples, permutations, np.random.default_rng(seed), variance_factor)


def _tests_without_embedding(
    tables: SampleTables, samples: Samples, order: Array | None, within_sites: Callable[..., Array | None]
) -> ChannelTests:
    """Those of the plain intensities; the others are NaN."""
    shape = tables.mean_intensity.shape
    unknown = Association(*np.full((2, shape[1]), np.nan))
    return ChannelTests(
        reliance=Reliance(np.full(shape, np.nan), *np.full((2, shape[1]), np.nan)),
        association=unknown,
        mean_intensity=kruskal(tables.mean_intensity, samples.label),
        conditional=None,
        trend=None if order is None else unknown,
        mean_intensity_trend=None if order is None else trend(tables.mean_intensity, order),
        site=None,
        within_site=None,
        mean_intensity_within_site=within_sites(tables.mean_intensity),
        group=np.arange(1, shape[1] + 1),
    )


def _findings(
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    channels: Sequence[str],
    included: Array,
    tests: ChannelTests,
    ranking: pd.DataFrame,
    settings: RankSettings,
    held_out: Performance,
    rng: np.random.Generator,
) -> Findings:
    significant = ranking.set_index("channel").loc[list(channels), "significant"].to_numpy(dtype=bool)
    one_error = (held_out.auc.high - held_out.auc.low) / (2 * 1.96)
    return Findings(
        agreement=measure_agreement(tables.unit_importance[:, included], TOP),
        controls=count_called(
            channels, included, significant, tests.reliance.p, decoy_reliance_p(units, tables, samples, rng),
            fdr=settings.fdr,
        ),
        panel=smallest_panel(units, tables, samples, channels, included, one_error),
        faithfulness=measure_faithfulness(tables, samples, included, rng) if tables.classify else None,
        sanity=measure_sanity(units, tables, samples, included, rng),
    )  # fmt: skip
