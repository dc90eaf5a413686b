"""Outcomes that follow a severity: what they hold, and which channels follow it in what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import yaml

from plexrank.evaluation.truth import evaluate
from plexrank.simulate import SCENARIOS
from plexrank.simulate.cells import clustered, grow_tissue, partly_clustered
from plexrank.simulate.cohort import Outcome, image_generator
from plexrank.simulate.severity import (
    LOG_GAIN,
    LOG_HAZARD_RATIO,
    SEVERITY_PLANTS,
    continuous_outcome,
    ordinal_outcome,
    severity_draw,
    survival_outcome,
)
from simulated_cohorts import SMALL, rows, write

PLANTED = ("survival", "ordinal", "continuous")
NULLS = ("null_survival", "null_ordinal", "null_continuous")
KEYS: dict[str, dict[str, Any]] = {
    "survival": {"outcome": "survival", "time": "time", "event": "event"},
    "ordinal": {"label": "label", "outcome": "ordinal", "order": ["1", "2", "3", "4"]},
    "continuous": {"label": "label", "outcome": "continuous"},
}


def severities(patients: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(patients)


def numbers(outcome: Outcome, column: str) -> np.ndarray:
    return np.array(outcome.columns[column], dtype=float)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Severity of 250 patients, (image,), and their pixels, (image, channel, y, x): every plant and a free channel."""
    severity = severities(250)  # the part of every channel
    draw = severity_draw(0, 48, np.tile(severity[:, None], 5), [*SEVERITY_PLANTS, None])
    return severity, np.stack([draw(image) for image in range(250)])


@pytest.mark.parametrize("scenario", PLANTED + NULLS)
def test_the_files_name_the_outcome_and_its_columns(tmp_path: Path, scenario: str) -> None:
    study = yaml.safe_load(write(scenario, tmp_path / "cohort").read_text(encoding="utf-8"))
    images, channels, size_px = SMALL[scenario]
    keys = KEYS[scenario.removeprefix("null_")]
    sheet = rows(tmp_path / "cohort/samplesheet.csv")
    files = {"samplesheet": "samplesheet.csv", "panel": "panel.csv", "truth": "truth.csv"}
    columns = [keys[key] for key in ("label", "time", "event") if key in keys]
    assert study["cohort"] == files | keys
    assert (study["tile"]["tile_px"], study["train"]["epochs"], study["model"]["backbone"]) == (size_px, 15, "shallow")
    assert list(sheet[0]) == ["image_id", "path", "patient_id", *columns, "site"]
    assert len({row["patient_id"] for row in sheet}) == len(sheet) == images
    assert [row["site"] for row in sheet].count("S1") == images // 2
    assert len(rows(tmp_path / "cohort/truth.csv")) == channels


@pytest.mark.parametrize("scenario", PLANTED)
def test_the_truth_says_what_rises_and_what_falls_and_can_be_evaluated(tmp_path: Path, scenario: str) -> None:
    write(scenario, tmp_path / "cohort")
    truth = pd.read_csv(tmp_path / "cohort/truth.csv", keep_default_na=False)
    planted = truth[truth["informative"] == 1]
    assert sorted(zip(planted["kind"], planted["class"], strict=True)) == [
        ("arrangement", "high"), ("arrangement", "low"), ("intensity", "high"), ("intensity", "low"),
    ]  # fmt: skip
    ranking = truth.sort_values("informative", ascending=False)[["channel"]]
    ranking = ranking.assign(position=range(1, len(ranking) + 1), score=range(len(ranking), 0, -1))
    assert evaluate(ranking, truth).average_precision == 1.0


@pytest.mark.parametrize("scenario", NULLS)
def test_in_nulls_nothing_is_planted(tmp_path: Path, scenario: str) -> None:
    write(scenario, tmp_path / "cohort")
    assert {tuple(row.values())[1:] for row in rows(tmp_path / "cohort/truth.csv")} == {("0", "", "none")}


def test_the_outcomes_of_one_seed_share_their_images() -> None:
    first, *others = (SCENARIOS[scenario].make(16, 5, 48, 2) for scenario in PLANTED)
    assert all(other.plants == first.plants for other in others)
    assert all(np.array_equal(other.draw(7), first.draw(7)) for other in others)


def test_the_mean_follows_severity_in_intensity_channels_alone(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    severity, pixels = drawn
    means = np.log(pixels.mean((2, 3)))
    slopes = [scipy.stats.linregress(severity, means[:, channel]).slope for channel in range(5)]
    correlations = [scipy.stats.spearmanr(severity, means[:, channel]) for channel in range(5)]
    assert slopes[:2] == pytest.approx([LOG_GAIN, -LOG_GAIN], abs=0.05)
    assert all(abs(found.statistic) > 0.7 for found in correlations[:2])
    assert all(found.pvalue > 0.01 for found in correlations[2:])


def test_the_arrangement_follows_severity_in_arrangement_channels_alone(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    severity, pixels = drawn
    coarse = pixels.reshape(250, 5, 4, 12, 4, 12).mean((3, 5))
    lumpiness = coarse.std((2, 3)) / coarse.mean((2, 3))
    correlations = [scipy.stats.spearmanr(severity, lumpiness[:, channel]) for channel in range(5)]
    assert correlations[2].statistic > 0.7
    assert correlations[3].statistic < -0.7
    assert all(correlations[channel].pvalue > 0.01 for channel in (0, 1, 4))


def test_as_many_cells_are_bright_whatever_share_is_clustered() -> None:
    generator = image_generator(0, 0)
    tissue = grow_tissue(generator, 64)
    for share in (0.0, 0.3, 1.0):
        assert len(set(partly_clustered(generator, tissue, share))) == tissue.num_bright
    whole = partly_clustered(image_generator(0, 1), tissue, 1.0)
    np.testing.assert_array_equal(whole, clustered(image_generator(0, 1), tissue))


@pytest.mark.parametrize("patients", [60, 96, 120])
def test_nearly_half_are_censored(patients: int) -> None:
    outcomes = [survival_outcome(np.random.default_rng(seed), severities(patients, 50 + seed)) for seed in range(40)]
    censored = np.array([1 - numbers(outcome, "event").mean() for outcome in outcomes])
    assert censored.mean() == pytest.approx(0.46, abs=0.03)
    assert np.all((censored >= 0.3) & (censored < 0.7))


def test_the_hazard_is_that_of_the_severity() -> None:
    severity = severities(4000)
    outcome = survival_outcome(np.random.default_rng(1), severity)
    time, event = numbers(outcome, "time"), numbers(outcome, "event")
    order = np.argsort(-time)
    slope = scipy.optimize.minimize_scalar(
        lambda b: -np.sum(event[order] * (b * severity[order] - np.log(np.cumsum(np.exp(b * severity[order]))))),
        bounds=(0, 3),
        method="bounded",
    ).x  # of Cox's partial likelihood
    assert slope == pytest.approx(LOG_HAZARD_RATIO, abs=0.06)
    assert set(event) == {0, 1}
    assert time.min() >= 0.1
    assert all(text == f"{months:.1f}" for text, months in zip(outcome.columns["time"], time, strict=True))


def test_grades_are_equal_parts_of_the_order_of_severity() -> None:
    severity = severities(96)
    grade = numbers(ordinal_outcome(np.random.default_rng(0), severity), "label")
    assert [(grade == number).sum() for number in (1, 2, 3, 4)] == [24] * 4
    assert all(severity[grade == number].max() < severity[grade == number + 1].min() for number in (1, 2, 3))


def test_four_fifths_of_the_variance_of_the_number_are_severity() -> None:
    severity = severities(4000)
    outcome = continuous_outcome(np.random.default_rng(1), severity)
    value = numbers(outcome, "label")
    assert np.corrcoef(severity, value)[0, 1] ** 2 == pytest.approx(0.8, abs=0.02)
    assert (value.mean(), value.std()) == pytest.approx((50, 11.2), abs=0.5)
    assert all(len(text.partition(".")[2]) == 2 for text in outcome.columns["label"])
