"""The table for MultiQC; MultiQC itself reads it in tests/peers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from plexrank.ranking.columns import COLUMNS
from plexrank.report.multiqc import SHOWN, multiqc_table

MEANINGS = {column.name: column.meaning for column in COLUMNS}
SUMMARY = {
    "counts": {"patients": 20, "images": 24},
    "outcome": {"headline": "auc"},
    "held_out": {"auc": {"value": 0.75, "low": 0.5, "high": 0.9}, "p_value": 0.0002},
    "found": {"both": [], "intensity": ["<CD3>"], "pattern": []},
    "fdr": 0.1,
}


def ranking() -> pd.DataFrame:
    table = pd.DataFrame({name: [0.25, np.nan, 0.5] for name in SHOWN})
    table["position"] = [1.0, 2.0, np.nan]
    table["found_by"] = ["intensity", "", ""]
    table["reads"] = ["brightness & more", "", ""]
    table.insert(0, "channel", ["<CD3>", "CD8", "DNA"])
    return table


def test_rows_are_the_ranked_channels_with_what_is_known_of_them() -> None:
    table = multiqc_table("a <study>", ranking(), SUMMARY, MEANINGS)
    assert list(table["data"]) == ["&lt;CD3&gt;", "CD8"]
    assert table["data"]["&lt;CD3&gt;"] == {
        name: {"position": 1.0, "found_by": "intensity", "reads": "brightness &amp; more"}.get(name, 0.25)
        for name in SHOWN
    }
    assert table["data"]["CD8"] == {"position": 2.0}
    assert table["section_name"] == "a &lt;study&gt;"
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_the_description_counts_what_was_found() -> None:
    table = multiqc_table("a", ranking(), SUMMARY, MEANINGS)
    assert table["description"] == (
        "20 patients, 24 images. 1 channel found at a false-discovery rate of 0.1. Held-out AUC 0.750 (0.500 to "
        "0.900), permutation p &lt; 0.001."
    )
    undefined = {**SUMMARY, "held_out": {"auc": dict.fromkeys(("value", "low", "high")), "p_value": None}}
    assert (
        "Held-out AUC not defined, permutation p –."
        in multiqc_table("a", ranking(), undefined, MEANINGS)["description"]
    )


def test_studies_of_different_names_are_sections_of_their_own() -> None:
    first, second, again = (multiqc_table(name, ranking(), SUMMARY, MEANINGS)["id"] for name in ("a", "b", "a"))
    assert first == again
    assert first != second
