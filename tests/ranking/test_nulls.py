"""What trainings on permuted labels say: λ, exact p-values and bands."""

from __future__ import annotations

import numpy as np
import pytest

from fitted_cohorts import fitted_cohort
from plexrank.ranking.aggregate import UnitTable
from plexrank.ranking.cohort_ranking import rank_cohort
from plexrank.ranking.nulls import Null, Statistics, measure_null
from plexrank.ranking.samples import Samples
from plexrank.settings import RankSettings

CHANNELS = [f"C{i:02d}" for i in range(12)]
EVERY = np.ones(3, dtype=bool)


def null_of(labellings: int, observed: list[float]) -> Null:
    """Statistics 0, 1, 2, … of every channel beside the observed ones."""
    drawn = np.tile(np.arange(labellings, dtype=float)[:, None], (1, 3))
    values = np.array(observed)
    return Null(
        drawn, drawn, np.full_like(drawn, np.nan), drawn[:, 0], Statistics(values, values, values * np.nan, 5.0)
    )


def test_exact_p_values_count_the_observed_labels_among_all() -> None:
    alone, largest = null_of(399, [398.0, 1000.0, -1.0]).p_values("score", EVERY)
    np.testing.assert_allclose(alone, [2 / 400, 1 / 400, 1.0])
    np.testing.assert_allclose(largest, alone)
    assert np.isnan(null_of(399, [1.0, 2.0, 3.0]).p_values("reliance", EVERY)).all()
    assert np.isnan(null_of(199, [1.0, 2.0, 3.0]).p_values("score", EVERY)).all()
    assert null_of(199, [0.0] * 3).headline_p() is None
    assert null_of(399, [0.0] * 3).headline_p() == pytest.approx(395 / 400)


def test_a_labelling_whose_networks_say_nothing_of_a_channel_counts_as_zero() -> None:
    null = null_of(399, [398.0, 1000.0, -1.0])
    null.pattern[:200, 0] = np.nan
    null.pattern[:, 1] = np.nan
    alone, largest = null.p_values("pattern", EVERY)
    np.testing.assert_allclose(alone, [2 / 400, np.nan, 1.0])
    np.testing.assert_array_equal(np.isnan(largest), [False, True, False])


def test_the_largest_of_all_channels_is_a_harder_measure_and_excluded_ones_stay_out() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(999, 3))
    observed = np.array([2.0, 2.0, 2.0])
    null = Null(drawn, drawn, drawn, drawn[:, 0], Statistics(observed, observed, observed, 0.0))
    alone, largest = null.p_values("pattern", np.array([True, True, False]))
    np.testing.assert_allclose(alone, 0.023, atol=0.01)
    np.testing.assert_allclose(largest[:2], 1 - 0.977**2, atol=0.015)
    assert np.isnan(largest[2])


def test_lambda_is_the_variance_of_the_standardised_statistic_and_not_below_one() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 3)) * np.sqrt(1.7)
    z[:, 2] = 30.0
    ranked = np.array([True, True, False])
    null = Null(z, z, z, z[:, 0], Statistics(z[0], z[0], z[0], 0.5))
    assert null.pattern_variance(ranked) == pytest.approx(1.7, abs=0.2)
    timid = Null(z, z / 10, z, z[:, 0], Statistics(z[0], z[0], z[0], 0.5))
    assert timid.pattern_variance(ranked) == 1.0
    few = Null(z[:40], z[:40], z[:40], z[:40, 0], Statistics(z[0], z[0], z[0], 0.5))
    assert few.pattern_variance(ranked) is None


def test_the_band_is_of_the_scores_in_their_order() -> None:
    low, high = null_of(101, [0.0] * 3).score_band(EVERY)
    np.testing.assert_allclose(low, 2.5)
    np.testing.assert_allclose(high, 97.5)
    rng = np.random.default_rng(0)
    null = Null(rng.uniform(size=(500, 3)), *[rng.uniform(size=(500, 3))] * 2, rng.uniform(size=500),
                Statistics(*np.zeros((3, 3)), 0.0))  # fmt: skip
    low, high = null.score_band(EVERY)
    assert (np.diff(low) < 0).all()
    assert (np.diff(high) < 0).all()


def permuted_units(samples: Samples, labellings: int) -> list[tuple[np.ndarray, list[UnitTable]]]:
    """Units of other cohorts, whose content has nothing to do with these labels, in the same folds."""
    found = []
    for number in range(labellings):
        units, others = fitted_cohort(1000 + number, seeds=1, free_directions=8, strength=0.1)
        order = np.empty(len(samples), dtype=int)
        for fold in range(4):
            order[np.flatnonzero(samples.fold == fold)] = np.flatnonzero(others.fold == fold)
        found.append((others.label[order], [_reordered(unit, order) for unit in units]))
    return found


def _reordered(unit: UnitTable, order: np.ndarray) -> UnitTable:
    return UnitTable(
        fold=unit.fold, seed=0, classify=unit.classify, n_tiles=unit.n_tiles[order], embedding=unit.embedding[order],
        logits=unit.logits[order], mean_intensity=unit.mean_intensity[order],
        importance={"gradient": unit.importance["gradient"][order]},
        contrast={"gradient": unit.contrast["gradient"][order]},
        training_embedding=unit.training_embedding[order], linear=unit.linear,
        importance_by_class={"gradient": unit.importance_by_class["gradient"][order]},
    )  # fmt: skip


def test_null_trainings_reach_the_table_and_the_summary() -> None:
    units, samples = fitted_cohort(0, effects=(2.5, 2.5), free_directions=8, strength=0.1)
    nulls = permuted_units(samples, 12)
    result = rank_cohort(
        units, samples, CHANNELS, RankSettings(bootstrap=100, permutations=100), excluded=["C11"], null_units=nulls
    )
    null = result.summary.null
    assert null is not None
    assert (null.labellings, null.is_variance_measured, null.p) == (12, True, None)
    assert 0.3 < null.headline < 0.7
    assert result.summary.pattern_variance >= 1
    table = result.ranking
    ranked = table[~table["excluded"]]
    assert (ranked["null_score_low"] < ranked["null_score_high"]).all()
    assert table[["pattern_exact_p", "score_max_p"]].isna().all(axis=None)
    assert (ranked["score"] > ranked["null_score_high"])[:2].all()


def test_labels_of_images_become_labels_of_samples() -> None:
    units, samples = fitted_cohort(0, seeds=1, strength=0.1)
    same = measure_null([(samples.label[samples.image_sample], units)], units, samples, "gradient",
                        np.random.default_rng(0))  # fmt: skip
    assert same is not None
    np.testing.assert_allclose(same.score[0], same.observed.score)
    assert same.headline[0] == same.observed.headline
    assert measure_null([], units, samples, "gradient", np.random.default_rng(0)) is None
