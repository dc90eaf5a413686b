"""The demonstration: a ranking beside the truth of the cohort it was made from."""

from __future__ import annotations

import pandas as pd

COLUMNS = {
    "position": "position",
    "channel": "channel",
    "score": "score",
    "reliance_q": "reliance q",
    "association_q": "association q",
    "mean_intensity_q": "mean intensity q",
    "significant": "significant",
}


def beside_truth(ranking: pd.DataFrame, truth: pd.DataFrame, fdr: float) -> str:
    """The ranking as text with what was planted in each channel, and what that shows in a sentence.

    Args:
        ranking: the ranking table.
        truth: columns ``channel``, ``informative`` (0/1) and ``kind``.
        fdr: q above which mean intensity does not show a channel.
    """
    kinds = truth.set_index("channel")["kind"].where(truth.set_index("channel")["informative"].astype(int) == 1, "")
    table = ranking[list(COLUMNS)].rename(columns=COLUMNS)
    table.insert(2, "planted", ranking["channel"].map(kinds).fillna(""))
    planted = set(kinds.index[kinds != ""])
    found = ranking[ranking["channel"].isin(planted) & ranking["significant"]]
    hidden = found[found["mean_intensity_q"] > fdr]["channel"].tolist()
    first = ranking["channel"].head(len(planted)).isin(planted).sum()
    lines = [
        table.to_string(index=False, float_format=lambda value: f"{value:.3f}"),
        "",
        f"{first} of the {len(planted)} planted channels fill the first {len(planted)} positions;"
        f" {len(found)} are significant.",
    ]
    if hidden:
        lines.append(
            f"Plain mean intensity does not show {', '.join(hidden)} (q > {fdr:g}); the channel embedding does."
        )
    return "\n".join(lines)
