"""A run as a comparison takes it: its ranking, what its outcome asks, and which way its intensities go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class RankedRun:
    """A run to compare.

    Attributes:
        name: what to call it, different from those of the others.
        path: its directory.
        ranking: the ranking table, with the index that its channels are matched by; excluded channels have no position.
        kind: of its outcome, such as ``survival``.
        outcome: the outcome in words.
        classes: of a nominal outcome, sorted; empty otherwise.
        patients: their ids.
        fdr: rate at which its channels are called significant.
        confounded: nothing was tested, since outcome and site cannot be distinguished.
        stale: why the ranking is not that of the run as it is now; empty where it is.
        order: the grades of an ordinal outcome, the lowest first; empty where they are numbers that rise.
        columns: of the samplesheet that the outcome stands in; survival has two.
        rank_signs: of two classes, with the index of ``ranking``: 1 where the mean rank of the patients' mean
            intensities is higher in the second class, -1 where it is lower, 0 or NaN where neither; None where the run
            does not keep these intensities.
    """

    name: str
    path: str
    ranking: pd.DataFrame
    kind: str
    outcome: str
    classes: tuple[str, ...]
    patients: frozenset[str]
    fdr: float
    confounded: bool = False
    stale: str = ""
    order: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rank_signs: pd.Series | None = None

    @property
    def ranked(self) -> pd.DataFrame:
        """The rows with a position."""
        return self.ranking[self.ranking["position"].notna()]

    @property
    def has_two_classes(self) -> bool:
        """Whether the outcome is one of two classes."""
        return self.kind == "nominal" and len(self.classes) == 2

    @property
    def lacks_signs(self) -> bool:
        """Whether intensities could only go up or down with the outcome, but the run does not keep which."""
        return self.has_two_classes and self.rank_signs is None

    def signed_effects(self) -> pd.Series:
        """ρ, or of two classes ε² with the sign of the difference that its test is of; NaN where there is no sign."""
        effect = self.ranked["mean_intensity_association"].astype(float)
        if self.kind != "nominal":
            return effect
        if self.rank_signs is None:
            return effect * np.nan
        return effect * self.rank_signs.reindex(effect.index).replace(0.0, np.nan)

    def towards(self) -> pd.Series:
        """Which way the intensity of a channel goes: up or down, of more classes the brightest; empty if neither."""
        if self.kind == "nominal" and not self.has_two_classes:
            return self.ranked["direction"].fillna("").astype(str).str.rpartition(" ")[0]
        return pd.Series(np.sign(self.signed_effects()), self.ranked.index).map({1.0: "up", -1.0: "down"}).fillna("")

    def has_the_outcome_of(self, other: RankedRun) -> bool:
        """Whether a direction means the same in both: one kind, the same classes, grades and columns."""
        return not why_outcomes_differ([self, other])

    def shares_signs_with(self, other: RankedRun) -> bool:
        """Whether signed effects can be compared."""
        return not why_no_common_direction([self, other])


def why_no_common_direction(runs: Sequence[RankedRun]) -> str:
    """Why "brighter in both" has no meaning for the intensities of these runs; empty where it has."""
    if differ := why_outcomes_differ(runs):
        return differ
    if runs[0].kind == "nominal" and not runs[0].has_two_classes:
        return "there are more than two classes" if len(runs[0].classes) > 2 else "there are fewer than two classes"
    if names := [run.name for run in runs if run.lacks_signs]:
        return f"{', '.join(names)} of an older version, without the mean intensities of patients and their sites"
    return ""


def why_outcomes_differ(runs: Sequence[RankedRun]) -> str:
    """In what the outcomes of runs differ so that a direction does not mean the same; empty where it does."""
    of_all = (
        ("other kinds", [run.kind for run in runs]),
        ("other classes", [", ".join(run.classes) for run in runs]),
        ("other grades or another order of them", [" < ".join(run.order) or "as numbers" for run in runs]),
        ("other columns", [" and ".join(run.columns) for run in runs]),
    )
    for what, values in of_all:
        if len(set(values)) > 1:
            return f"{what}: {'; '.join(dict.fromkeys(values))}"
    return ""
