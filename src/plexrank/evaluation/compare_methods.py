"""How a comparison of runs combines p-values, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Methods:
    """Sentences on each method, as they stand in text, JSON and page.

    Attributes:
        found: what is said of the channels that are found in two runs or more.
    """

    agreement: str
    intensity: str
    pattern: str
    replicated: str
    found: str


def methods_of(shares_patients: bool, directed: bool) -> Methods:
    """The methods where runs share patients or not, and where directions of intensities compare or not."""
    cauchy = "Cauchy combination of the runs (Liu & Xie 2020), for p-values that depend on each other"
    fisher = "Fisher's method over the runs, which are independent"
    stouffer = "Stouffer's method over the runs on signed z, weighted by the square root of the patients"
    one_way = ", in one direction" if directed else ""
    others = "Bonferroni, whatever the dependence" if shares_patients else "Fisher's method"
    return Methods(
        agreement="Spearman's ρ over the channels that both rank, with a 95 % interval by Fisher's z (Bonett & Wright "
        "2000) that takes channels as independent",
        intensity=cauchy if shares_patients else stouffer if directed else fisher,
        pattern=cauchy if shares_patients else fisher,
        replicated=f"found in at least two runs by the same test{one_way}: partial conjunction (Benjamini & Heller "
        f"2008), for two runs the larger p-value, for more the others than the smallest by {others}; the smaller of "
        "intensity and pattern, times two; Benjamini–Hochberg over channels",
        found="found in at least two runs, which is no replication where these share patients"
        if shares_patients
        else "found in at least two runs",
    )
