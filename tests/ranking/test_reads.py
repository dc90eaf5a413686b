"""What the embedding sees, in words."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fitted_cohorts import fitted_cohort
from plexrank.ranking.aggregate import gather_samples
from plexrank.ranking.pattern import arrangement, learned_embedding, log_intensities
from plexrank.ranking.reads import explained_share, reads_table, sentences

CHANNELS = [f"C{i:02d}" for i in range(12)]


def content_of(units: list) -> np.ndarray:
    """(image, channel) log brightness, up to a factor: r of the cohort without its signs."""
    means = np.full_like(units[0].mean_intensity, np.nan)
    for unit in units:
        means = np.where(np.isnan(unit.mean_intensity), means, unit.mean_intensity)
    return np.log(means)


def test_what_makes_r_explains_it_whatever_the_signs() -> None:
    units, samples = fitted_cohort(0, effects=(2.0,), strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    content = content_of(units)
    rng = np.random.default_rng(0)
    r = learned_embedding(units, tables, samples)
    assert explained_share(content, r, samples).min() > 0.99
    assert explained_share(rng.normal(size=content.shape), r, samples).max() < 0.2
    half = explained_share(content / content.std() + rng.normal(size=content.shape), r, samples)
    assert abs(half.mean() - 0.5) < 0.1
    bare = [dataclasses.replace(unit, training_embedding=np.full_like(unit.embedding, np.nan)) for unit in units]
    assert learned_embedding(bare, tables, samples) is None
    assert np.isnan(explained_share(content, None, samples)).all()


def test_an_embedding_that_bends_brightness_has_no_arrangement() -> None:
    units, samples = fitted_cohort(0, effects=(2.0,), strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    logs = log_intensities(tables.mean_intensity, np.arange(len(samples)))
    bent = logs + logs**2 / 2
    of_images = bent[samples.image_sample]
    units = [
        dataclasses.replace(one, training_embedding=np.where(np.isnan(one.training_embedding), np.nan, of_images))
        for one in units
    ]
    rest = arrangement(units, dataclasses.replace(tables, embedding=np.stack([bent] * len(tables.seeds))), samples)
    assert rest is not None
    assert (rest.held_out.std(axis=(0, 1)) < 0.02 * bent.std(axis=0)).all()


def test_the_table_names_the_statistic_and_tests_it() -> None:
    units, samples = fitted_cohort(0, effects=(2.0,), strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    content, rng = content_of(units), np.random.default_rng(0)
    noise = rng.normal(size=content.shape)
    statistics = {"mean": np.exp(np.where(np.arange(12) < 6, content, noise)), "variation": np.exp(noise),
                  "morans_i_20um": np.where(np.arange(12) < 6, noise, content)}  # fmt: skip
    statistics["morans_i_20um"][:, 11] = noise[:, 11]
    included = np.arange(12) != 3
    found = reads_table(statistics, units, tables, samples, CHANNELS, included, 2000, rng)
    assert len(found) == 36
    row = found[(found["channel"] == "C00") & (found["statistic"] == "mean")].iloc[0]
    assert row["q"] < 0.05
    assert row["r2"] > 0.9
    assert found[found["channel"] == "C03"][["p", "q"]].isna().all(axis=None)
    words = sentences(found, CHANNELS)
    assert words[0].startswith("brightness (r² 0.9") or words[0].startswith("brightness (r² 1.0")
    assert words[7].startswith("clustering at 20 µm (r² ")
    assert words[11].startswith("neither brightness nor arrangement (r² at most 0.")


def test_what_stands_beyond_brightness_is_named_beside_it() -> None:
    names = ["mean", "morans_i_10um", "variation"]
    table = pd.DataFrame({"channel": ["A"] * 3 + ["B"] * 3 + ["C"] * 3, "statistic": names * 3,
                          "r2": [0.66, 0.25, 0.26, 0.92, 0.05, 0.6, 0.1, 0.5, 0.52],
                          "r2_beyond_brightness": [0.0, 0.79, 0.0, 0.0, 0.07, 0.1, 0.0, 0.4, 0.0]})  # fmt: skip
    assert sentences(table, ["A", "B", "C"]) == [
        "brightness (r² 0.66) and, beyond it, clustering at 10 µm (r² 0.79)",
        "brightness (r² 0.92)",
        "clustering at 10 µm (r² 0.50)",
    ]


@pytest.mark.parametrize("channels", [[], CHANNELS])
def test_without_statistics_nothing_is_said(channels: list[str]) -> None:
    units, samples = fitted_cohort(0, strength=0.1)
    tables = gather_samples(units, samples, "gradient")
    table = reads_table({}, units, tables, samples, CHANNELS, np.ones(12, bool), 100, np.random.default_rng(0))
    assert list(table.columns) == ["channel", "statistic", "r2", "r2_beyond_brightness", "association", "p", "q"]
    assert sentences(table, channels) == [""] * len(channels)
