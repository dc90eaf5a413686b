"""The ranking as MultiQC shows it: ``ranking_mqc.json``, a table of its custom content."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from plexrank.outcome import MEASURE_NAMES
from plexrank.report.wording import p_value
from plexrank.wording import counted

SHOWN = {
    "position": {"title": "Position", "format": "{:,.0f}", "scale": False},
    "score": {"title": "Score", "format": "{:,.3f}", "scale": "Blues", "min": 0},
    "found_by": {"title": "Found by", "scale": False},
    "mean_intensity_association": {"title": "Intensity", "format": "{:,.2f}", "scale": False},
    "intensity_q": {"title": "Intensity q", "format": "{:,.3f}", "scale": "YlGn-rev", "min": 0, "max": 1},
    "pattern_association": {"title": "Pattern", "format": "{:,.2f}", "scale": False},
    "pattern_q": {"title": "Pattern q", "format": "{:,.3f}", "scale": "YlGn-rev", "min": 0, "max": 1},
    "reliance": {"title": "Reliance", "format": "{:,.3f}", "scale": False},
    "reliance_q": {"title": "Reliance q", "format": "{:,.3f}", "scale": "YlGn-rev", "min": 0, "max": 1},
    "reads": {"title": "Reads", "scale": False},
}
"""Columns of the ranking table that are shown, in this order, and how."""


def multiqc_table(
    study_name: str, ranking: pd.DataFrame, summary: Mapping[str, Any], meanings: Mapping[str, str]
) -> dict[str, Any]:
    """The content of ``ranking_mqc.json``: one section, whose rows are the ranked channels.

    Reports of several studies in one folder become sections of their own. Names are escaped, since MultiQC shows them
    as HTML.

    Args:
        study_name: of the study.
        ranking: the ranking table, best channel first.
        summary: content of ``summary.json``.
        meanings: what each of the columns ``SHOWN`` says of a channel.
    """
    ranked = ranking[ranking["position"].notna()]
    anchor = f"plexrank_{hashlib.sha256(study_name.encode()).hexdigest()[:8]}"
    headers = {
        name: {
            "description": html.escape(meanings[name].replace("`", "")),
            "namespace": "plexrank",
            "placement": 10 * place,
            **shown,
        }
        for place, (name, shown) in enumerate(SHOWN.items())
    }
    rows = {_row_name(str(row["channel"])): _cells(row) for row in ranked.to_dict("records")}
    return {
        "id": anchor,
        "parent_id": "plexrank",
        "parent_name": "plexrank",
        "parent_description": "ranks the protein channels of multiplexed tissue images by how well they separate "
        "patients, with intervals and false-discovery rates.",
        "section_name": html.escape(study_name),
        "description": _description(summary),
        "plot_type": "table",
        "pconfig": {
            "id": f"{anchor}_table",
            "title": f"plexrank: {html.escape(study_name)}",
            "namespace": "plexrank",
            "col1_header": "Channel",
            "no_violin": True,
            "sort_rows": False,
        },
        "headers": headers,
        "data": rows,
    }


def _row_name(channel: str) -> str:
    """The name as HTML; MultiQC takes rows for files, and would cut what stands before a slash."""
    return html.escape(channel).replace("/", "&#47;")


def _cells(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """The cells of a channel that are known."""
    return {
        name: html.escape(row[name]) if isinstance(row[name], str) else row[name]
        for name in SHOWN
        if not pd.isna(row[name]) and row[name] != ""
    }


def _description(summary: Mapping[str, Any]) -> str:
    counts, headline = summary["counts"], summary["outcome"]["headline"]
    main = summary["held_out"][headline]
    found = sum(len(names) for names in summary["found"].values())
    interval = "" if main["low"] is None or main["high"] is None else f" ({main['low']:.3f} to {main['high']:.3f})"
    value = "not defined" if main["value"] is None else f"{main['value']:.3f}{interval}"
    p = html.escape(p_value(summary["held_out"]["p_value"]))
    return (
        f"{counted(counts['patients'], 'patient')}, {counted(counts['images'], 'image')}. {counted(found, 'channel')} "
        f"found at a false-discovery rate of {summary['fdr']}. Held-out {MEASURE_NAMES[headline]} {value}, "
        f"permutation p {p}."
    )
