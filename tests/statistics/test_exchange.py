"""Labellings that are equally likely where the label means nothing."""

from __future__ import annotations

import numpy as np
import pytest

from plexrank.ranking.samples import make_samples
from plexrank.statistics.exchange import Exchange


def plain(label: list[int], stratum: list[int] | None = None, patient: list[int] | None = None) -> Exchange:
    n = len(label)
    return Exchange(
        np.array(label), np.arange(n) if patient is None else np.array(patient), np.array(stratum or [0] * n)
    )


def test_every_labelling_stands_there_once() -> None:
    exchange = plain([0, 1, 0, 2, 1, 0], [0, 0, 0, 0, 1, 1])
    labels = exchange.every()
    assert len(labels) == len(np.unique(labels, axis=0)) == 12 * 2
    assert np.exp(exchange.log_count()) == pytest.approx(24)
    assert (labels == exchange.label).all(axis=1).sum() == 1
    assert (np.sort(labels[:, :4], axis=1) == [0, 0, 1, 2]).all()
    assert (np.sort(labels[:, 4:], axis=1) == [0, 1]).all()


def test_few_labellings_are_gone_through_and_many_are_drawn() -> None:
    few = plain([0, 0, 0, 1, 1, 1]).labellings(1000, np.random.default_rng(0))
    assert sum(len(block) for block in few) == 20
    assert few.p_value(np.array([2.0]), 20)[0] == pytest.approx(0.1)
    many = plain([0, 1] * 20).labellings(1000, np.random.default_rng(0))
    assert sum(len(block) for block in many) == 1000
    assert many.p_value(np.array([0.0]), 1000)[0] == pytest.approx(1 / 1001)


def test_patients_with_several_samples_exchange_them_together() -> None:
    """Patients 0 to 3 have two samples of one label each: only whole pairs change."""
    exchange = plain([0, 0, 0, 0, 1, 1, 1, 1], patient=[0, 0, 1, 1, 2, 2, 3, 3])
    drawn = exchange.draw(200, np.random.default_rng(0))
    assert (drawn[:, ::2] == drawn[:, 1::2]).all()
    assert len(np.unique(drawn, axis=0)) == 6 == round(np.exp(exchange.log_count()))
    assert exchange.labellings(1000, np.random.default_rng(0)).draws == 1000


def test_paired_labels_change_places_within_the_patient_where_the_stratum_allows() -> None:
    paired = plain([0, 1] * 5, patient=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert np.exp(paired.log_count()) == pytest.approx(2**5)
    assert len(np.unique(paired.draw(2000, np.random.default_rng(0)), axis=0)) == 2**5
    at_two_sites = plain([0, 1] * 5, stratum=[0, 1] * 5, patient=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert at_two_sites.log_count() == pytest.approx(0)
    assert (at_two_sites.draw(20, np.random.default_rng(0)) == at_two_sites.label).all()


def test_patients_exchange_only_with_those_of_the_same_strata() -> None:
    ids = ["a", "a", "b", "b", "c", "d", "e"]
    samples = make_samples(ids, ["x", "x", "y", "y", "x", "y", "y"], [0] * 7, ["1", "2", "2", "1", "1", "1", "2"])
    assert samples.site_names == ("1", "1 + 2", "2")
    drawn = samples.exchange().draw(100, np.random.default_rng(0))
    assert (drawn[:, :2].sum(axis=1) == 1).all()
    assert (drawn[:, 2:4].sum(axis=1) == 1).all()
    assert (drawn[:, 4] == 1).all()
    assert samples.image_site.tolist() == [0, 1, 1, 0, 0, 0, 1]


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry a sample"):
        Exchange(np.zeros(3, int), np.zeros(2, int), np.zeros(3, int))
