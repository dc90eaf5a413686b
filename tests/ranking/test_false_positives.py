"""False-positive rates on cohorts without a signal, and power on those with one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fitted_cohorts import fitted_cohort
from plexrank.ranking.aggregate import gather_samples
from plexrank.ranking.pattern import arrangement, differs_in_arrangement
from plexrank.ranking.prediction import prediction_p_value
from plexrank.ranking.reliance import measure_reliance
from plexrank.statistics.means import OUT_OF_FOLD_VARIANCE, balanced_mean_above_zero
from plexrank.statistics.multiple import benjamini_hochberg


def p_values(cohorts: int, variance_factor: float, **kind: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    reliance, pattern, prediction = [], [], []
    for seed in range(cohorts):
        units, samples = fitted_cohort(seed, **kind)  # type: ignore[arg-type]
        tables = gather_samples(units, samples, "gradient")
        measured = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples)
        reliance.append(balanced_mean_above_zero(measured.increase, samples.label, samples.patient, variance_factor)[1])
        rest = arrangement(units, tables, samples)
        rng = np.random.default_rng(seed)
        pattern.append(differs_in_arrangement(rest, samples, variance_factor, 500, rng).p)
        prediction.append(prediction_p_value(tables.prediction, samples, 200, np.random.default_rng(seed)))
    return np.stack(reliance), np.stack(pattern), np.array(prediction)


def upper(level: float, n: int) -> float:
    return level + 2 * np.sqrt(level * (1 - level) / n)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"free_directions": 30},
        {"free_directions": 30, "classes": 3},
        {"free_directions": 30, "patients": 79, "rare": 9},
        {"free_directions": 30, "patients": 16},
    ],
)
def test_false_positives_stay_nominal_though_encoders_learn_the_labels(kind) -> None:
    reliance, pattern, prediction = p_values(60, OUT_OF_FOLD_VARIANCE, **kind)
    for p in (reliance, pattern, prediction):
        for level in (0.05, 0.01):
            assert (p <= level).mean() <= upper(level, p.size)
    discoveries = [benjamini_hochberg(p).min() <= 0.1 for p in reliance]
    assert np.mean(discoveries) <= upper(0.1, 60)


def test_without_the_correction_false_positives_exceed() -> None:
    """Over 200 cohorts: 3 % of the p-values at or below 0.01, a discovery at q ≤ 0.1 in 30 % of the cohorts."""
    reliance, pattern, _ = p_values(60, 1.0, free_directions=30, classes=3)
    for p in (reliance, pattern):
        assert (p <= 0.01).mean() > upper(0.01, p.size)
    discoveries = [benjamini_hochberg(p).min() <= 0.1 for p in reliance]
    assert np.mean(discoveries) > upper(0.1, 60)


@pytest.mark.parametrize("free_directions", [1, 8])
def test_planted_channels_of_auc_09_are_found(free_directions) -> None:
    effect = np.sqrt(2) * stats.norm.ppf(0.9)
    found, false = [], []
    for seed in range(10):
        units, samples = fitted_cohort(seed, effects=(effect,) * 4, free_directions=free_directions)
        tables = gather_samples(units, samples, "gradient")
        measured = measure_reliance(tables.embedding, tables.classify, tables.seeds, samples)
        assert prediction_p_value(tables.prediction, samples, 200, np.random.default_rng(0)) <= 0.01
        q = benjamini_hochberg(measured.p)
        found.append((q[:4] <= 0.1).mean())
        false.append((q[4:] <= 0.1).sum())
    assert np.mean(found) >= 0.8
    assert np.sum(false) <= 0.2 * np.sum(np.array(found) * 4)
