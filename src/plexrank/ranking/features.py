"""The ranking and its tests for a table of patients × features made elsewhere: single-cell means, another network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plexrank.arrays import Array
from plexrank.cohorts.folds import deal_folds
from plexrank.cohorts.outcomes import why_measured
from plexrank.cohorts.spelling import reads_as_number
from plexrank.errors import StudyError
from plexrank.outcome import Kind, Outcome, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.ranking.aggregate import UnitTable, gather_samples
from plexrank.ranking.audit import channel_groups
from plexrank.ranking.baselines import MeansTraining, best_strength
from plexrank.ranking.discoveries import find_discoveries
from plexrank.ranking.refitting import refitted_scores
from plexrank.ranking.samples import Samples, make_samples
from plexrank.ranking.scores import score_channels
from plexrank.ranking.summary import sample_warnings
from plexrank.ranking.table import ChannelFindings, ranking_table
from plexrank.statistics.means import known_mean
from plexrank.wording import counted

METHOD = "gradient"


def rank_features(
    values: pd.DataFrame | npt.ArrayLike,
    outcome: Sequence[object] | pd.Series | pd.DataFrame,
    patient: Sequence[object] | pd.Series,
    site: Sequence[object] | pd.Series | None = None,
    *,
    kind: Kind = "nominal",
    order: Sequence[object] = (),
    features: Sequence[str] | None = None,
    folds: int = 5,
    fdr: float = 0.1,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which features of patients differ between groups, or follow an outcome, and on which a held-out model relies.

    The tests and columns are those of ``ranking.csv`` (docs/columns.md): ``channel`` holds the feature's name,
    ``intensity_*`` the exact permutation test of the feature, within sites where these are given; ``reliance`` and
    ``adds`` are measured on a linear model (logistic, proportional odds, ridge or Cox regression) that is fitted in
    each fold to the other patients. Columns of trained embeddings (``pattern_*``, ``reads``) are empty. Rows are
    matched by place; pandas objects with an index of names must have the same one.

    Args:
        values: (patient, feature) real numbers, NaN where unknown. The columns of a DataFrame name the features.
        outcome: (patient,) class, grade or number of each patient, or for survival (patient, 2) the time and 1 for the
            event, 0 for censored; patients without one (None, NaN, empty) are left out.
        patient: (patient,) ids, each once.
        site: (patient,) where each patient comes from; None, NaN or empty is unknown.
        kind: of the outcome.
        order: of ordinal grades, the lowest first; grades that are numbers need none.
        features: names, where ``values`` has none.
        folds: into how many parts patients are dealt, fewer where a class has fewer patients.
        fdr: false-discovery rate of ``significant``.
        bootstrap: resamplings behind the intervals.
        seed: equal arguments give equal tables.

    Returns:
        One row a feature, best first. ``table.attrs`` holds ``warnings`` (what a reader must know) and ``not_tested``
        (why columns are empty, by the name of the test).

    Raises:
        StudyError: the table does not fit together: naming the row or column, what was found and what to do.
    """
    _check_numbers(folds, fdr, bootstrap, seed)
    names, table = _checked_values(values, features)
    given: dict[str, Any] = {"outcome": outcome, "patient": patient, **({} if site is None else {"site": site})}
    _check_indices({"values": values, **given})
    if kind == "survival":
        given["outcome"] = _survival_levels(outcome)
    patients, labels, sites = _checked_rows(len(table), given)
    kept = np.array([label is not None for label in labels])
    chosen = np.array(
        sorted(np.flatnonzero(kept), key=lambda row: patients[row]), dtype=int
    )  # rows may come in any order
    labels_kept = [str(labels[row]) for row in chosen]
    ids = [patients[row] for row in chosen]
    places = None if sites is None else [sites[row] for row in chosen]
    of_kind = _outcome(kind, labels_kept, [str(grade) for grade in order])
    strata = {one: (stratum, (places[row] or "") if places else "")
              for row, (one, stratum) in enumerate(zip(ids, of_kind.strata(labels_kept), strict=True))}  # fmt: skip
    most_folds, odd = _most_folds(of_kind, labels_kept)
    dealt = deal_folds(strata, min(folds, most_folds), seed)
    samples = make_samples(ids, labels_kept, [dealt[one] for one in ids], places, of_kind)
    alone, doubtful = of_kind.lonely(labels_kept, [one or "" for one in places] if places else [""] * len(ids))
    if alone:
        raise StudyError(f"{'outcome' if sites is None else 'site'}: {alone[0]}")
    ranking, not_tested = _rank(_units(table[chosen], samples, seed), samples, names, fdr, bootstrap, seed)
    left_out = int((~kept).sum())
    warnings = [*sample_warnings(samples), *odd, *doubtful]
    if left_out:
        warnings.append(f"{counted(left_out, 'patient', 'is')} left out: the outcome is empty")
    ranking.attrs = {"warnings": warnings, "not_tested": not_tested}
    return ranking


def _rank(
    units: Sequence[UnitTable], samples: Samples, names: Sequence[str], fdr: float, bootstrap: int, seed: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The ranking of channels without what belongs to images and networks; and why columns are empty."""
    tables = gather_samples(units, samples, METHOD)
    everything = np.ones(len(names), dtype=bool)
    rng = np.random.default_rng(seed)
    refit = partial(refitted_scores, units, samples, METHOD)
    scores = score_channels(tables.importance, tables.unit_importance, samples, everything, bootstrap, rng, refit)
    found = find_discoveries(units, tables, samples, None, None, rng)
    findings = ChannelFindings(found.tests, channel_groups(units, samples), [""] * len(names))
    return ranking_table(names, everything, scores, findings, tables, samples, fdr=fdr), found.not_tested


def _checked_values(values: pd.DataFrame | npt.ArrayLike, features: Sequence[str] | None) -> tuple[list[str], Array]:
    if isinstance(values, pd.DataFrame):
        odd = [str(name) for name, kind in values.dtypes.items() if not _is_real(kind)]
        if odd:
            raise StudyError(f"values: column {odd[0]!r} holds no numbers; leave it out or convert it")
        names = [str(name) for name in values.columns] if features is None else [str(name) for name in features]
        table = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        try:
            if np.iscomplexobj(values):
                raise StudyError("values: complex numbers; give real ones")
            table = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise StudyError(f"values: not a table of numbers ({error})") from error
        if table.ndim != 2:
            raise StudyError(f"values: expected patients × features, got an array of shape {table.shape}")
        names = [f"feature {number + 1}" for number in range(table.shape[1])] if features is None else list(features)
    if len(names) != table.shape[1]:
        raise StudyError(f"features: {len(names)} names for {table.shape[1]} columns of values; give one each")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise StudyError(f"values: two columns are called {twice!r}; give each feature a name of its own")
    if not table.shape[1]:
        raise StudyError("values: no column; give one feature or more")
    infinite = np.argwhere(np.isinf(table))
    if len(infinite):
        row, column = infinite[0]
        raise StudyError(f"values: row {row}, column {names[column]!r} is infinite; give a number, or NaN if unknown")
    return names, table


def _check_numbers(folds: int, fdr: float, bootstrap: int, seed: int) -> None:
    for name, value, fits, expected in (
        ("folds", folds, folds >= 2, "2 or more"),
        ("fdr", fdr, 0 < fdr < 1, "a number between 0 and 1"),
        ("bootstrap", bootstrap, bootstrap >= 100, "100 or more"),
        ("seed", seed, seed >= 0, "0 or more"),
    ):
        if not fits:
            raise StudyError(f"{name}: found {value}; give {expected}")


def _check_indices(given: Mapping[str, object]) -> None:
    """Refuse pandas objects whose own row names differ: rows are matched by place."""
    named = {
        name: one.index
        for name, one in given.items()
        if isinstance(one, (pd.DataFrame, pd.Series)) and not isinstance(one.index, pd.RangeIndex)
    }
    for name, index in list(named.items())[1:]:
        first = next(iter(named))
        if not index.equals(named[first]):
            raise StudyError(
                f"{name}: its index differs from that of {first}, and rows are matched by place; reindex it, or pass "
                f"{name}.to_numpy()"
            )


def _checked_rows(
    rows: int, given: Mapping[str, Sequence[object] | pd.Series]
) -> tuple[list[str], list[str | None], list[str | None] | None]:
    odd = next((name for name, column in given.items() if not isinstance(column, Collection)), None)
    if odd is not None:
        raise StudyError(f"{odd}: found {given[odd]!r}; give one entry a row of values")
    texts = {name: [_text(value) for value in column] for name, column in given.items()}
    for name, column in texts.items():
        if len(column) != rows:
            raise StudyError(f"{name}: {len(column)} entries for {rows} rows of values; give one each")
    seen: dict[str, int] = {}
    for row, one in enumerate(texts["patient"]):
        if one is None:
            raise StudyError(f"patient: row {row} is empty; name the patient")
        if one in seen:
            raise StudyError(
                f"patient: {one!r} stands in rows {seen[one]} and {row}; give one row a patient, such as the mean of "
                "the images"
            )
        seen[one] = row
    return list(seen), texts["outcome"], texts.get("site")


def _is_real(kind: Any) -> bool:
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)


def _text(value: Any) -> str | None:
    """A label as text, None where it is missing."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return str(value).strip() or None


def _survival_levels(outcome: Any) -> list[str | None]:
    """Of rows of time and event (1 or 0); None where one is missing."""
    rows = outcome.to_numpy().tolist() if isinstance(outcome, pd.DataFrame) else [*outcome]
    levels: list[str | None] = []
    for row, entry in enumerate(rows):
        try:
            time, event = entry
        except (TypeError, ValueError):
            raise StudyError(f"outcome: row {row} is {entry!r}; give the time, and 1 for the event or 0") from None
        if pd.isna(time) or pd.isna(event):
            levels.append(None)
        elif event not in (0, 1) or not float(time) > 0:
            raise StudyError(
                f"outcome: row {row} has time {time!r} and event {event!r}; give a time above 0, and 1 for the "
                "event or 0 for censored"
            )
        else:
            levels.append(survival_level(str(float(time)), bool(event)))
    return levels


def _outcome(kind: Kind, labels: Sequence[str], order: Sequence[str]) -> Outcome:
    if kind in ("ordinal", "continuous") and not order:
        odd = next((label for label in labels if not reads_as_number(label)), None)
        if odd is not None:
            remedy = "give order, the lowest grade first" if kind == "ordinal" else "give numbers"
            raise StudyError(f"outcome: {odd!r} is no number; {remedy}")
        order = sorted(set(labels), key=float)
    unknown = sorted(set(labels) - set(order)) if kind == "ordinal" else []
    if unknown:
        raise StudyError(f"order: {unknown[0]!r} is missing; name every grade, the lowest first")
    if len(set(labels)) < 2:
        raise StudyError(f"outcome: found only {', '.join(set(labels)) or 'empty entries'}; give two groups or more")
    if kind == "nominal" and (measured := why_measured(Counter(labels))) is not None:
        raise StudyError(f"outcome: {measured}; give kind='continuous', or divide them into groups")
    return make_outcome(kind, labels, [grade for grade in order if grade in labels])


def _most_folds(outcome: Outcome, labels: Sequence[str]) -> tuple[int, list[str]]:
    """How many folds can each hold out patients of every group that they must, and what makes the outcome doubtful."""
    counts = np.bincount(outcome.group_of(outcome.labels(labels)), minlength=len(outcome.groups))
    few, odd = outcome.shortcomings(counts.tolist()), outcome.oddities(labels)
    if problems := [*few[0], *odd[0]]:
        raise StudyError(f"outcome: {problems[0]}")
    most = {
        group.name: int(count) // group.least_held_out
        for group, count in zip(outcome.groups, counts, strict=True)
        if group.least_held_out
    }
    rare = min(most, key=lambda name: most[name])
    if most[rare] < 2:
        raise StudyError(
            f"outcome: {rare!r} has one patient, and a held-out prediction takes two; leave that patient out or join "
            "groups"
            if outcome.has_classes
            else f"outcome: {len(labels)} patients are too few for a held-out prediction"
        )
    return most[rare], [*few[1], *odd[1]]


def _units(values: Array, samples: Samples, seed: int) -> list[UnitTable]:
    """A linear model for each fold; rows of values are images, one a patient."""
    return [_unit(values, samples, int(fold), seed) for fold in np.unique(samples.fold)]


def _unit(values: Array, samples: Samples, held: int, seed: int) -> UnitTable:
    outcome, sample = samples.outcome, samples.image_sample
    label, stratum = samples.label[sample], samples.stratum[sample]
    held_out = samples.fold[sample] == held
    train = np.flatnonzero(~held_out)
    center = np.nan_to_num(known_mean(values[train]))
    spread = np.nan_to_num(np.sqrt(known_mean((values[train] - center) ** 2)))
    r = (values - center) / np.where(spread > 1e-12 * (1 + np.abs(center)), spread, np.inf)
    filled = np.nan_to_num(r)
    training = MeansTraining(filled[train], label[train], train, stratum[train], outcome)
    weights = outcome.fit(filled[train], label[train], best_strength(training, seed), stratum[train])
    outputs = weights.outputs(r)
    gradient = np.where(np.isnan(r)[..., None], np.nan, weights.coef.T[None])
    shown = outcome.shown_output(outputs)
    by_class = np.abs(np.take_along_axis(gradient, shown[:, None, None], axis=2))
    by_class = by_class * np.eye(outputs.shape[1])[shown][:, None]

    def kept(table: Array, rows: Array) -> Array:
        return np.where(rows.reshape(-1, *[1] * (table.ndim - 1)), table, np.nan)

    return UnitTable(
        fold=held,
        seed=0,
        classify=weights.outputs,
        n_tiles=held_out.astype(int),
        embedding=kept(r, held_out),
        logits=kept(outputs, held_out),
        mean_intensity=kept(values, held_out),
        importance={METHOD: kept(by_class.sum(axis=2), held_out)},
        contrast={METHOD: kept(outcome.contrasts(gradient.copy()), held_out)},
        training_embedding=kept(r, ~held_out),
        linear=weights,
        importance_by_class={METHOD: kept(by_class, held_out)},
    )
