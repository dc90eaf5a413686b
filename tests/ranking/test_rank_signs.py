"""In which class a channel ranks higher, with a few bright patients and with sites."""

from __future__ import annotations

import pandas as pd
import pytest

from plexrank.ranking.rank_signs import rank_signs

LABELS = ["A"] * 4 + ["B"] * 4


def table(values: list[float], sites: list[str | None] | None = None) -> pd.DataFrame:
    """Patients of two classes with one channel."""
    patients = pd.DataFrame({"patient_id": list("abcdefgh"), "label": LABELS, "channel": "CD3"})
    patients["mean_intensity"] = values
    return patients if sites is None else patients.assign(site=sites)


def test_a_bright_patient_does_not_turn_the_sign() -> None:
    values = [1.0, 2.0, 3.0, 100.0, 4.0, 5.0, 6.0, 7.0]  # A has the higher mean, B is higher in 12 of 16 pairs
    assert rank_signs(table(values), "B").to_dict() == {"CD3": 1.0}
    assert rank_signs(table(values), "A").to_dict() == {"CD3": -1.0}


def test_equal_ranks_have_no_sign() -> None:
    assert rank_signs(table([1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0]), "B").to_dict() == {"CD3": 0.0}


@pytest.mark.parametrize("site", ["y", None])
def test_ranks_are_of_what_is_left_within_sites(site: str | None) -> None:
    # B is lower at each site, but has more patients at the bright one
    values = [2.0, 2.2, 2.4, 40.0, 1.0, 20.0, 22.0, 24.0]
    sites = ["x", "x", "x", site, "x", site, site, site]
    assert rank_signs(table(values), "B")["CD3"] == 1.0
    assert rank_signs(table(values, sites), "B")["CD3"] == -1.0


def test_a_patient_without_the_channel_takes_no_part() -> None:
    rows = table([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    other = rows.assign(channel="CD8", mean_intensity=[8.0, 7, 6, 5, 4, 3, 2, 1]).iloc[2:]
    assert rank_signs(pd.concat([rows, other]), "B").to_dict() == {"CD3": 1.0, "CD8": -1.0}
