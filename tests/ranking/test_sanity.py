"""Orders that the labels made, first channels that suffice, and labels that are confounded with the site."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fitted_cohorts import fitted_cohort
from plexrank.ranking.aggregate import gather_samples
from plexrank.ranking.samples import Samples, make_samples
from plexrank.ranking.sanity import measure_sanity
from plexrank.statistics.rank_tests import rank_test

EVERY = np.ones(12, dtype=bool)


def test_the_order_comes_from_the_labels_and_its_first_channels_suffice() -> None:
    similar = []
    for seed in range(4):
        units, samples = fitted_cohort(seed, effects=(3.0, 0, 0, 3.0), strength=0.1)
        tables = gather_samples(units, samples, "gradient")
        found = measure_sanity(units, tables, samples, EVERY, np.random.default_rng(0))
        assert found is not None
        assert found.random_labels is not None
        similar.append(found.random_labels)
        assert found.sizes == (1, 2, 3, 5, 10)
        assert found.retrained[1] > 0.95
        assert found.retrained_random[1] < found.retrained[1] - 0.15
    assert abs(np.mean(similar)) < 0.2


def test_excluded_channels_take_no_part_in_the_checks() -> None:
    units, samples = fitted_cohort(1, effects=(3.0, 0, 0, 3.0), strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    without = measure_sanity(units, tables, samples, ~np.isin(np.arange(12), [0, 3]), np.random.default_rng(0))
    assert without is not None
    assert max(without.retrained) < 0.75
    assert measure_sanity(units, tables, samples, np.arange(12) < 2, np.random.default_rng(0)) is None
    forgetful = [dataclasses.replace(units[0], training_embedding=np.full((64, 12), np.nan)), *units[1:]]
    assert measure_sanity(forgetful, tables, samples, EVERY, np.random.default_rng(0)) is None


def at_sites(patients: int, tie: float, seed: int) -> Samples:
    """Two sites, of which the second holds the second class with probability 0.5 + tie / 2."""
    rng = np.random.default_rng(seed)
    site = np.arange(patients) % 2
    label = (rng.random(patients) < np.where(site == 1, 0.5 + tie / 2, 0.5 - tie / 2)).astype(int)
    names = [f"p{i:03d}" for i in range(patients)]
    return make_samples(names, ["xy"[k] for k in label], [0] * patients, ["ab"[k] for k in site])


def within_sites(values: np.ndarray, samples: Samples, draws: int = 999) -> np.ndarray:
    return rank_test(values, samples.exchange(), draws, np.random.default_rng(0)).p


def test_a_channel_that_follows_the_site_is_associated_with_the_label_between_sites_only() -> None:
    samples = at_sites(100, 0.6, seed=3)
    values = np.random.default_rng(0).normal(size=(100, 4))
    values[:, 1] += 2 * samples.site
    values[:, 2] += 1.5 * samples.label - 3 * samples.site
    values[:10, 3] = np.nan
    p = within_sites(values, samples)
    regardless = within_sites(values, dataclasses.replace(samples, site=None))
    assert regardless[1] <= 0.001 < 0.05 < p[1]
    assert p[2] == pytest.approx(0.001)
    assert p[[0, 3]].min() > 0.01


def test_within_sites_the_false_positive_rate_is_nominal_though_the_site_shifts_the_values() -> None:
    rejected = []
    for seed in range(30):
        samples = at_sites(60, 0.6, seed)
        values = np.random.default_rng(seed).normal(size=(60, 20)) + 2 * samples.site[:, None]
        rejected.append((within_sites(values, samples, 199) <= 0.05).mean())
    assert 0.025 < np.mean(rejected) < 0.075
