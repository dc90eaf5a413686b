"""Importances of all units → the ranking of the cohort."""

from __future__ import annotations

import json

import numpy as np

from plexrank.cohorts.bad_images import brightness_warnings
from plexrank.outcome import MEASURE_NAMES
from plexrank.planning.plan import Plan
from plexrank.progress import Reporter
from plexrank.ranking.cohort_ranking import CohortRanking, rank_cohort
from plexrank.ranking.summary import LeftOut
from plexrank.rundir import replacing, write_text
from plexrank.stages.cohort_samples import cohort_samples
from plexrank.stages.tile_table import TileTable
from plexrank.stages.todo import units_to_do
from plexrank.stages.unit_tables import read_null_units, read_unit_tables
from plexrank.statistics.pattern import OWN_ENCODERS, SHARED_ENCODER
from plexrank.tiles.texture import unknown_pixel_sizes
from plexrank.wording import counted


def run(plan: Plan, reporter: Reporter) -> None:
    """Do what is not done of this stage."""
    unit = plan.rank()
    if not units_to_do("rank", [unit], reporter):
        return
    unit.begin()
    table = TileTable(plan)
    result = rank_cohort(
        read_unit_tables(plan, table),
        cohort_samples(plan),
        table.channels,
        plan.study.rank,
        excluded=[name for name in plan.study.cohort.exclude_channels if name not in plan.channels.left_out],
        seed=plan.study.seed,
        left_out=_left_out(plan),
        warnings=[*_warnings(plan, table), *_silent_channels(table)],
        pattern_variance=SHARED_ENCODER if plan.study.model.encoder == "shared" else OWN_ENCODERS,
        statistics=table.statistics,
        null_units=read_null_units(plan),
    )
    _write_ranking(plan, result)
    unit.finish()
    reporter.say(f"rank: {_headline(result)}")


def _headline(result: CohortRanking) -> str:
    """What a run found, in a line; the first channels of the order only where some channel is significant."""
    main, summary = result.summary.held_out.main, result.summary
    measure = MEASURE_NAMES[summary.held_out.headline]
    chance = ", not shown to be better than chance" if summary.at_chance else ""
    chance += ", label and site cannot be distinguished" if summary.confounded else ""
    found = [f"{len(names)} by {kind}" for kind, names in summary.found.items() if names]
    first = f"top channels {', '.join(result.ranking['channel'].head(3))}; " if found else ""
    return (
        f"held-out {measure} {main.value:.2f} ({main.low:.2f} to {main.high:.2f}){chance}, of channel means alone "
        f"{summary.mean_intensity.main.value:.2f}; {first}significant: {', '.join(found) or 'none'}"
    )


def _warnings(plan: Plan, table: TileTable) -> list[str]:
    warnings = [*plan.cohort.warnings, *plan.channels.warnings]
    if plan.cohort.unlabelled:
        warnings.append(
            f"{counted(plan.cohort.unlabelled, 'image', 'is')} left out: "
            f"{' or '.join(plan.study.cohort.outcome_columns)} is empty "
            f"({counted(plan.cohort.unlabelled_patients, 'patient', 'has')} no other image)"
        )
    warnings += brightness_warnings(plan.cohort.images, table.signal)
    if unknown := unknown_pixel_sizes(notes.pixel_size_um for notes in plan.image_notes.values()):
        warnings.append(unknown)
    for image_id, notes in plan.image_notes.items():
        warnings += [f"{image_id}: {warning}" for warning in notes.warnings]
    return warnings


def _left_out(plan: Plan) -> LeftOut:
    return LeftOut(
        background_tiles=sum(notes.n_background for notes in plan.image_notes.values()),
        skipped=tuple((image.image_id, image.reason) for image in plan.skipped),
    )


def _silent_channels(table: TileTable) -> list[str]:
    """A warning that names channels whose pixels are all zero in at least half of the images that have them."""
    images = np.unique(table.image_of_tile)
    means = [table.channel_means[table.image_of_tile == image] for image in images]
    silent = np.sum([(own == 0).all(axis=0) for own in means], axis=0)
    present = np.sum([np.isfinite(own).all(axis=0) for own in means], axis=0)
    named = [
        f"{channel} ({count} of {have})"
        for channel, count, have in zip(table.channels, silent, present, strict=True)
        if 2 * count >= have > 0
    ]
    return [f"channels without signal in half of the images or more: {', '.join(named)}"] if named else []


def _write_ranking(plan: Plan, ranking: CohortRanking) -> None:
    folder = plan.rundir.ranking
    as_csv = {"ranking": ranking.ranking, "ranking_by_class": ranking.by_class, "predictions": ranking.predictions}
    as_csv |= {"baselines": ranking.baselines, "reads": ranking.reads}
    for name, table in as_csv.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    for name, table in (("ranking", ranking.ranking), ("importance_per_patient", ranking.importance_per_patient)):
        with replacing(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    write_text(folder / "summary.json", json.dumps(ranking.summary.to_dict(), indent=1) + "\n")
