"""Runs read and compared, as ``plexrank compare`` does, and the files that it writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import pandas as pd

from plexrank.api.opened_run import Run
from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input
from plexrank.evaluation.compare import (
    HOW_PATIENTS_ARE_KNOWN,
    Comparison,
    Patients,
    compare_rankings,
)
from plexrank.evaluation.ranked_run import RankedRun
from plexrank.images.channel_names import fold_name
from plexrank.ranking.rank_signs import rank_signs
from plexrank.rundir import RunDir, read_text, reading_recorded, write_text
from plexrank.study import load_study
from plexrank.wording import as_cell, did_you_mean

LONGEST_REASON = 80
"""Characters of it that are shown."""
FILES = ("compare.csv", "compare.json", "compare.html")


def compare(runs: Sequence[str | PathLike[str] | Run], *, patients: Patients = "by-id") -> Comparison:
    """Rankings side by side: two cohorts, two labels, or two settings.

    Channels are matched by name, in whatever spelling of case and separators (``cd-3`` is CD3).

    >>> found = plexrank.compare(["run-basel", "run-zurich"])
    >>> found.channels[["channel", "replicated_q"]], found.pairs[0].scores, found.replicated

    Args:
        runs: two run directories or more, ranked; or runs that are open.
        patients: whether runs share patients: ``by-id`` where two have an id in common, ``shared``, or ``distinct``
            where equal ids are different people. With shared patients p-values are combined by methods that allow for
            dependence.

    Raises:
        MissingInputError: one is no run, or its ranking is not done.
        PlexrankError: fewer than two, one twice, or two that share no channel.
        RunDirError: a file of a run is damaged.
    """
    if isinstance(runs, (str, PathLike)) or len(runs) < 2:
        raise PlexrankError("compare takes two runs or more: plexrank compare RUN RUN …")
    if patients not in HOW_PATIENTS_ARE_KNOWN:
        raise PlexrankError(f"patients={patients!r}: not known{did_you_mean(patients, HOW_PATIENTS_ARE_KNOWN)}")
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    paths = [run.path for run in opened]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise PlexrankError(f"{twice[0]}: given twice; give different runs")
    names = _names(paths)
    return compare_rankings([_read(run, name) for run, name in zip(opened, names, strict=True)], patients)


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write ``compare.csv``, ``compare.json`` and ``compare.html``; their paths.

    Raises:
        StudyError: ``out`` is a file, or a folder of a run.
    """
    from plexrank.report.compare_page import render_comparison

    if out.exists() and not out.is_dir():
        raise StudyError(f"{out}: a file, not a folder; give --out a folder")
    content = comparison.to_dict()
    table = comparison.channels.copy()
    for column in table.columns:
        if column == "channel" or column.startswith(("direction_", "found_by_")):
            table[column] = [as_cell(cell) if isinstance(cell, str) else cell for cell in table[column]]
    texts = (
        table.to_csv(index=False, float_format="%.6g"),
        json.dumps(content, indent=1) + "\n",
        render_comparison(content),
    )
    with naming_input(str(out)):
        for name, text in zip(FILES, texts, strict=True):
            write_text(out / name, text)
    return [out / name for name in FILES]


def _read(run: Run, name: str) -> RankedRun:
    rundir = RunDir(run.path)
    stale = _why_stale(run, rundir)
    with reading_recorded(rundir.ranking_record, rundir.ranking / "ranking.parquet"):
        ranking = pd.read_parquet(rundir.ranking / "ranking.parquet")
    with reading_recorded(rundir.ranking_record, rundir.ranking / "summary.json"):
        summary = json.loads(read_text(rundir.ranking / "summary.json"))
    rundir.require_study()
    cohort = load_study(rundir.study).cohort
    kind = str(summary.get("outcome", {}).get("kind", "nominal"))
    column = (cohort.time if kind == "survival" else cohort.label) or ""
    counts = summary["counts"]["classes"] if kind == "nominal" else {}
    what = summary.get("outcome", {}).get("described") or ", ".join(f"{key} ({n})" for key, n in counts.items())
    per_patient = _per_patient(rundir)
    if not ranking["position"].notna().any():
        raise MissingInputError(f"{run.path}: ranks no channel; there is nothing to compare")
    channels = [str(one) for one in ranking["channel"]]
    keys = pd.Index(_keys(channels))
    classes = tuple(sorted(map(str, counts)))
    signs = _rank_signs(per_patient, classes, has_sites=summary.get("sites") is not None)
    return RankedRun(
        name=name,
        path=str(run.path),
        ranking=ranking.set_index(keys),
        kind=kind,
        outcome=f"{kind} outcome {column}{': ' if what else ''}{what}",
        classes=classes,
        patients=frozenset(per_patient["patient_id"].astype(str)),
        fdr=float(summary["fdr"]),
        confounded=bool(summary["confounded"]),
        stale=stale,
        order=() if kind != "ordinal" or _rise_as_numbers(cohort.order) else cohort.order,
        columns=cohort.outcome_columns,
        rank_signs=None if signs is None else signs.reindex(channels).set_axis(keys),
    )


def _per_patient(rundir: RunDir) -> pd.DataFrame:
    """The table of patients and channels; of older runs, which have none, the patients alone."""
    path = rundir.ranking / "importance_per_patient.parquet"
    if path.exists():
        with reading_recorded(rundir.ranking_record, path):
            return pd.read_parquet(path)
    path = rundir.ranking / "predictions.csv"
    with reading_recorded(rundir.ranking_record, path):
        return pd.read_csv(path, usecols=["patient_id"], dtype=str, keep_default_na=False)


def _rank_signs(per_patient: pd.DataFrame, classes: tuple[str, ...], *, has_sites: bool) -> pd.Series | None:
    """See ``RankedRun.rank_signs``, by the name of the channel; None where a column for it is missing."""
    needed = {"label", "channel", "mean_intensity"} | ({"site"} if has_sites else set())
    if len(classes) != 2 or not needed <= set(per_patient.columns):
        return None
    return rank_signs(per_patient, classes[1])


def _rise_as_numbers(grades: Sequence[str]) -> bool:
    """Whether grades are numbers, the lowest first, so that it makes no difference which of them occur."""
    try:
        numbers = [float(grade) for grade in grades]
    except ValueError:
        return False
    return numbers == sorted(numbers)


def _why_stale(run: Run, rundir: RunDir) -> str:
    """Why a ranking that is there is not that of the run as it is now; empty where it is.

    Raises:
        MissingInputError: there is none.
    """
    if not rundir.ranking_record.is_file():
        raise MissingInputError(f"{run.path}: the ranking is not done; run plexrank run or plexrank rank first")
    try:
        _ = run.ranking
    except MissingInputError as error:
        why = str(error).removeprefix(f"{run.path}: ").partition(";")[0]
        return why if len(why) <= LONGEST_REASON else f"{why[:LONGEST_REASON]} …)"
    return ""


def _keys(channels: Sequence[str]) -> list[str]:
    """What channels are matched by: names without case and separators, as they are where that makes two one."""
    times = Counter(fold_name(name) for name in channels)
    return [fold_name(name) if times[fold_name(name)] == 1 else name for name in channels]


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as distinguish them."""
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
