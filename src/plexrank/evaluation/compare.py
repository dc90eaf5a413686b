"""Rankings of several runs side by side: how far they agree, and what is found in more than one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from plexrank.arrays import Array
from plexrank.errors import PlexrankError
from plexrank.evaluation.compare_methods import Methods, methods_of
from plexrank.evaluation.ranked_run import RankedRun, why_no_common_direction
from plexrank.statistics.multiple import benjamini_hochberg
from plexrank.statistics.replication import (
    combine_dependent,
    combine_directed,
    combine_independent,
    directed_partial_conjunction,
    overlap_of_tops,
    partial_conjunction,
    spearman_interval,
)
from plexrank.wording import counted

TOP = 10
"""First positions whose overlap is counted; half of the shared channels where they are fewer than twice as many."""
TESTS = ("intensity", "pattern")
OF_EACH_RUN = ("position", "score", "intensity_p", "pattern_p", "found_by", "direction", "n_patients")
"""Columns of a ranking that stand in ``compare.csv`` as ``<column>_<run>``."""
Patients = Literal["by-id", "shared", "distinct"]
HOW_PATIENTS_ARE_KNOWN = get_args(Patients)


@dataclass(frozen=True)
class Agreement:
    """A rank correlation over shared channels with its 95 % interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SharedDiscovery:
    """A channel that is significant in both runs of a pair.

    Attributes:
        channel: as the first run spells it.
        by: what found it in the first and in the second run.
        same_direction: whether its mean intensity goes the same way; None where that is no part of both discoveries,
            or has no common meaning.
    """

    channel: str
    by: tuple[str, str]
    same_direction: bool | None


@dataclass(frozen=True)
class PairOfRuns:
    """Two runs.

    Attributes:
        first, second: their names.
        channels: ranked in both.
        shared_patients: how many ids are in both.
        scores: rank correlation of the scores.
        effects: that of the signed effects of the mean intensity; None where signs do not compare.
        top, top_shared, top_by_chance, top_p: how many of the first ``top`` they share, the number expected of
            unrelated orders, and the probability of as many or more (hypergeometric).
        found_in_both: channels that are significant in both.
    """

    first: str
    second: str
    channels: int
    shared_patients: int
    scores: Agreement
    effects: Agreement | None
    top: int
    top_shared: int
    top_by_chance: float
    top_p: float
    found_in_both: tuple[SharedDiscovery, ...]


@dataclass(frozen=True)
class Comparison:
    """Several rankings side by side.

    Attributes:
        runs: in the order given.
        pairs: every two of them.
        channels: ``compare.csv``: a row for each channel that two runs or more rank, the best replicated first;
            docs/tables.md has its columns.
        only_in: of every run the channels that no other ranks.
        fdr: the strictest of the runs.
        methods: how p-values are combined.
        notes: what to know when reading it.
    """

    runs: tuple[RankedRun, ...]
    pairs: tuple[PairOfRuns, ...]
    channels: pd.DataFrame
    only_in: Mapping[str, tuple[str, ...]]
    fdr: float
    methods: Methods
    notes: tuple[str, ...]

    @property
    def replicated(self) -> list[str]:
        """Channels found in at least two runs: ``replicated_q`` at most ``fdr``."""
        return list(self.channels.loc[self.channels["replicated_q"] <= self.fdr, "channel"])

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; None where there is no value."""
        rows = self.channels.astype(object).where(self.channels.notna(), None)
        return {
            "runs": [
                {
                    "name": run.name,
                    "path": run.path,
                    "outcome": run.kind,
                    "outcome_in_words": run.outcome,
                    "patients": len(run.patients),
                    "channels": len(run.ranked),
                    "found": list(run.ranked.loc[run.ranked["significant"].astype(bool), "channel"]),
                    "fdr": run.fdr,
                }
                for run in self.runs
            ],
            "pairs": [asdict(pair) for pair in self.pairs],
            "channels": [{str(key): _plain(value) for key, value in row.items()} for row in rows.to_dict("records")],
            "replicated": self.replicated,
            "only_in": {name: list(channels) for name, channels in self.only_in.items()},
            "fdr": self.fdr,
            "methods": asdict(self.methods),
            "notes": list(self.notes),
        }


def compare_rankings(runs: Sequence[RankedRun], patients: Patients = "by-id") -> Comparison:
    """Compare rankings over the channels that they share.

    Args:
        runs: two or more, whose channels are matched by the index of their tables.
        patients: whether runs share patients: ``by-id`` where two have an id in common, or as the user knows.

    Raises:
        PlexrankError: two runs share no ranked channel, or are the same.
    """
    for first, second in itertools.combinations(runs, 2):
        _refuse_the_same(first, second)
        if not len(first.ranked.index.intersection(second.ranked.index)):
            raise PlexrankError(
                f"{first.path} and {second.path} rank no channel of the same name; the first has {_some(first)}; the "
                f"second {_some(second)}; name them alike by the panels"
            )
    pairs = tuple(_pair(first, second, patients) for first, second in itertools.combinations(runs, 2))
    shares = any(pair.shared_patients for pair in pairs) if patients == "by-id" else patients == "shared"
    why_undirected = why_no_common_direction(runs)
    directed = not why_undirected
    number = pd.concat([pd.Series(1, run.ranked.index) for run in runs]).groupby(level=0).sum()
    shared = number.index[number > 1]
    only_in = {
        run.name: tuple(str(name) for name in run.ranked.loc[~run.ranked.index.isin(shared), "channel"]) for run in runs
    }
    return Comparison(
        runs=tuple(runs),
        pairs=pairs,
        channels=_channels(runs, shared, shares, directed),
        only_in=only_in,
        fdr=min(run.fdr for run in runs),
        methods=methods_of(shares, directed),
        notes=tuple(_notes(runs, pairs, patients, why_undirected)),
    )


def _refuse_the_same(first: RankedRun, second: RankedRun) -> None:
    columns = ["channel", "score", "mean_intensity_association", "intensity_p", "pattern_p"]
    if first.path == second.path:
        raise PlexrankError(f"{first.path}: given twice; give different runs")
    if first.ranking[columns].equals(second.ranking[columns]):
        raise PlexrankError(f"{second.path}: holds the ranking of {first.path}, perhaps a copy; give different runs")


def _pair(first: RankedRun, second: RankedRun, patients: Patients) -> PairOfRuns:
    keys = first.ranked.index.intersection(second.ranked.index, sort=False)
    tables = [run.ranked.loc[keys] for run in (first, second)]
    places = [stats.rankdata(table["position"].to_numpy(dtype=float)) for table in tables]
    top = min(TOP, max(1, len(keys) // 2))
    shared, by_chance, p = overlap_of_tops(places[0], places[1], top)
    effects = None
    if first.shares_signs_with(second):
        effects = _agreement(*(run.signed_effects().loc[keys].to_numpy() for run in (first, second)))
    return PairOfRuns(
        first=first.name,
        second=second.name,
        channels=len(keys),
        shared_patients=0 if patients == "distinct" else len(first.patients & second.patients),
        scores=_agreement(*(table["score"].to_numpy(dtype=float) for table in tables)),
        effects=effects,
        top=top,
        top_shared=shared,
        top_by_chance=by_chance,
        top_p=p,
        found_in_both=tuple(_found_in_both(first, second, keys)),
    )


def _agreement(one: Array, other: Array) -> Agreement:
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < 2 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return Agreement(None, None, None)
    rho = float(stats.spearmanr(one[known], other[known]).statistic)
    low, high = spearman_interval(rho, int(known.sum()))
    return Agreement(rho, *(None if np.isnan(end) else end for end in (low, high)))


def _found_in_both(first: RankedRun, second: RankedRun, keys: pd.Index) -> list[SharedDiscovery]:
    compares = first.has_the_outcome_of(second)
    one, other = first.towards(), second.towards()
    found = []
    for key in keys:
        rows = [run.ranked.loc[key] for run in (first, second)]
        if not all(row["significant"] for row in rows):
            continue
        by = (str(rows[0]["found_by"]), str(rows[1]["found_by"]))
        is_directed = compares and "pattern" not in by and bool(one[key]) and bool(other[key])
        found.append(
            SharedDiscovery(str(rows[0]["channel"]), by, bool(one[key] == other[key]) if is_directed else None)
        )
    return found


def _channels(runs: Sequence[RankedRun], keys: pd.Index, shares: bool, directed: bool) -> pd.DataFrame:
    """See ``Comparison.channels``."""
    rows = [run.ranked.reindex(keys) for run in runs]
    spelled = pd.concat([table["channel"] for table in rows], axis=1).bfill(axis=1).iloc[:, 0]
    table = pd.DataFrame({"channel": spelled.astype(str), "n_runs": sum(own["position"].notna() for own in rows)})
    p = {test: np.stack([own[f"{test}_p"].to_numpy(dtype=float) for own in rows]) for test in TESTS}
    replicated = {test: partial_conjunction(p[test], independent=not shares) for test in TESTS}
    combined = {test: (combine_dependent if shares else combine_independent)(p[test]) for test in TESTS}
    if directed:
        sign = np.nan_to_num(np.sign(np.stack([run.signed_effects().reindex(keys).to_numpy() for run in runs])))
        replicated["intensity"] = directed_partial_conjunction(p["intensity"], sign, independent=not shares)
        patients = np.stack([own["n_patients"].to_numpy(dtype=float) for own in rows])
        if not shares:
            combined["intensity"] = combine_directed(p["intensity"], sign, np.nan_to_num(patients))
    for test in TESTS:
        table[f"{test}_p"], table[f"{test}_q"] = combined[test], benjamini_hochberg(combined[test])
        table[f"{test}_replicated_p"] = replicated[test]
        table[f"{test}_replicated_q"] = benjamini_hochberg(replicated[test])
    both = np.stack([replicated[test] for test in TESTS])
    known = np.isfinite(both).sum(axis=0)
    least = np.fmin(*both) * known
    table["replicated_p"] = np.minimum(1.0, least)
    table["replicated_q"] = benjamini_hochberg(table["replicated_p"].to_numpy())
    for run, own in zip(runs, rows, strict=True):
        for column in OF_EACH_RUN:
            table[f"{column}_{run.name}"] = own[column]
    order = table["replicated_p"].fillna(2.0), np.nanmean([own["position"].astype(float) for own in rows], axis=0)
    return table.iloc[np.lexsort((order[1], order[0]))].reset_index(drop=True)


def _notes(
    runs: Sequence[RankedRun], pairs: Sequence[PairOfRuns], patients: Patients, why_undirected: str
) -> list[str]:
    notes = []
    shared = [pair for pair in pairs if pair.shared_patients]
    if shared and patients == "by-id":
        of_pairs = "; ".join(
            f"{pair.first} and {pair.second} have {counted(pair.shared_patients, 'patient id')} in common"
            for pair in shared
        )
        notes.append(
            f"{of_pairs}. They count as shared patients: results of one patient in two runs are no replication. Where "
            "these are different people, give --patients distinct."
        )
    if patients == "shared":
        notes.append("The runs share patients, as given: results of one patient in two runs are no replication.")
    if shared or patients == "shared":
        notes.append("The intervals of ρ do not account for patients that runs share.")
    if why_undirected:
        notes.append(
            f"The runs have no common direction ({why_undirected}): intensities that go opposite ways count as "
            "agreeing."
        )
    notes += [
        f"{run.name}: nothing is tested; outcome and site cannot be distinguished." for run in runs if run.confounded
    ]
    notes += [f"{run.name}: {run.stale}." for run in runs if run.stale]
    if len({run.fdr for run in runs}) > 1:
        notes.append(
            f"The runs have different rates rank.fdr; the strictest serves here, {min(r.fdr for r in runs):g}."
        )
    return notes


def _some(run: RankedRun, most: int = 6) -> str:
    names = [str(name) for name in run.ranked["channel"]]
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
