"""The demonstration: a ranking beside the truth of the cohort it was made from."""

from __future__ import annotations

import pandas as pd

SHOWN_COLUMNS = {
    "position": "position",
    "channel": "channel",
    "score": "score",
    "intensity_q": "intensity q",
    "pattern_q": "pattern q",
    "found_by": "found by",
    "reads": "reads",
}


def beside_truth(ranking: pd.DataFrame, truth: pd.DataFrame, fdr: float) -> str:
    """The ranking as text with what was planted in each channel, and what that shows in a sentence.

    Args:
        ranking: the ranking table.
        truth: columns ``channel``, ``informative`` (0/1) and ``kind``.
        fdr: q above which mean intensity does not show a channel.
    """
    kinds = truth.set_index("channel")["kind"].where(truth.set_index("channel")["informative"].astype(int) == 1, "")
    table = ranking[list(SHOWN_COLUMNS)].rename(columns=SHOWN_COLUMNS)
    table.insert(2, "planted", ranking["channel"].map(kinds).fillna(""))
    planted = set(kinds.index[kinds != ""])
    called = ranking[ranking["significant"]]
    found = called[called["channel"].isin(planted)]
    hidden = found[found["intensity_q"] > fdr]["channel"].tolist()
    lines = [
        table.to_string(index=False, float_format=lambda value: f"{value:.3f}"),
        "",
        f"{len(found)} of the {len(planted)} planted channels are found, and {len(called) - len(found)} of the others.",
    ]
    if hidden:
        lines.append(
            f"Plain mean intensity does not show {', '.join(hidden)} (q > {fdr:g}); the channel embedding does."
        )
    return "\n".join(lines)
