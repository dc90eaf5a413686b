"""In which of two classes the intensity of a channel ranks higher: the direction of what the intensity test finds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from plexrank.ranking.pattern import amounts
from plexrank.statistics.rank_tests import aligned_ranks

NO_SITE = ""
SAME = 1e-9
"""Difference of mean ranks, as a share of their number, that is rounding."""


def rank_signs(per_patient: pd.DataFrame, second: str) -> pd.Series:
    """The sign of the difference of mean ranks of the patients' mean intensity between two classes.

    The ranks are those of the intensity test: of the logarithms less the mean of their site where there are sites (the
    aligned ranks of Hodges & Lehmann 1962), about the mean in each site. So a few bright patients do not turn it.

    Args:
        per_patient: ``importance_per_patient.parquet`` of two classes: ``patient_id, label, channel, mean_intensity``,
            and ``site`` where there are sites; patients without one are a site.
        second: the class that a channel with sign 1 ranks higher in.

    Returns:
        (channel,) float by the name of the channel: 1, -1, or 0 where mean ranks are equal.
    """
    sites = per_patient["site"].fillna(NO_SITE) if "site" in per_patient else NO_SITE
    wide = per_patient.assign(site=sites).pivot(
        index=["patient_id", "label", "site"], columns="channel", values="mean_intensity"
    )
    values = wide.to_numpy(dtype=np.float64)
    _, stratum = np.unique(wide.index.get_level_values("site").to_numpy(dtype=str), return_inverse=True)
    ranks = aligned_ranks(amounts(values), stratum)
    is_second = wide.index.get_level_values("label").astype(str) == second
    known = ~np.isnan(values)
    means = [
        (ranks * own).sum(axis=0) / np.maximum(own.sum(axis=0), 1)
        for own in (known & is_second[:, None], known & ~is_second[:, None])
    ]
    difference = means[0] - means[1]
    return pd.Series(np.where(np.abs(difference) > SAME, np.sign(difference), 0.0), wide.columns)
