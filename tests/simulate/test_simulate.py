"""Simulated cohorts: what is planted is there, nothing else is, and all of it can be read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from plexrank.cli.app import app
from plexrank.errors import StudyError
from plexrank.images.open import open_image
from plexrank.simulate import SCENARIOS, simulate
from plexrank.simulate.cells import clustered, grow_tissue, scattered
from plexrank.simulate.cohort import SimulatedCohort, cohort_of_classes, image_generator
from plexrank.study import load_study
from simulated_cohorts import SMALL, digests, draw_all, rows, write

CLASSES = [name for name, scenario in SCENARIOS.items() if not scenario.maker.startswith("severity.")]


def labels_of(cohort: SimulatedCohort) -> np.ndarray:
    return np.array(cohort.outcome.columns["label"])


def anova_p(cohort: SimulatedCohort, values: np.ndarray, channel: int) -> float:
    labels = labels_of(cohort)
    return float(scipy.stats.f_oneway(*(values[labels == name, channel] for name in np.unique(labels))).pvalue)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_cohort_is_complete_and_its_study_loads(tmp_path: Path, scenario: str) -> None:
    study_path = write(scenario, tmp_path / "cohort")
    images, channels, size_px = SMALL[scenario]
    study = load_study(study_path)
    sheet, truth = rows(study.cohort.samplesheet), rows(tmp_path / "cohort/truth.csv")
    names = tuple(row["channel"] for row in truth)
    image = open_image(tmp_path / "cohort" / sheet[-1]["path"])
    assert study_path == tmp_path / "cohort/study.yaml"
    side_px = size_px // 2 if scenario == "hierarchy" else size_px
    assert (study.tile.tile_px, study.train.crop_px) == (side_px, side_px)
    assert len(sheet) == images
    assert len({row["patient_id"] for row in sheet}) == images // SCENARIOS[scenario].images_a_patient
    assert all(row[column] for row in sheet for column in study.cohort.outcome_columns)
    if study.cohort.outcome == "nominal":
        assert {row["label"] for row in sheet} == set("ABC"[: SCENARIOS[scenario].patients_a_fold])
    assert [row["name"] for row in rows(tmp_path / "cohort/panel.csv")] == list(names)
    assert names[0] == "C01"
    assert len(names) == channels
    assert sum(int(row["informative"]) for row in truth) == SCENARIOS[scenario].num_planted
    assert all(
        (row["informative"] == "0") == (row["class"] == "") == (row["kind"] in ("none", "batch")) for row in truth
    )
    assert image.data.shape == (channels, size_px, size_px)
    assert image.channel_names == names
    assert image.pixel_size_um == (1.0, 1.0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cohort"]


@pytest.mark.parametrize("scenario", [name for name in CLASSES if name != "site"])
def test_labels_are_balanced_and_unrelated_to_the_site(tmp_path: Path, scenario: str) -> None:
    write(scenario, tmp_path / "cohort")
    sheet = rows(tmp_path / "cohort/samplesheet.csv")
    counts = [
        sum((row["label"], row["site"]) == (label, site) for row in sheet)
        for label in "ABC"[: SCENARIOS[scenario].patients_a_fold]
        for site in ("S1", "S2")
    ]
    assert set(counts) == {len(sheet) // len(counts)}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_arguments_write_the_same_bytes_and_another_seed_does_not(tmp_path: Path, scenario: str) -> None:
    for out, seed in (("first", 3), ("second", 3), ("other", 4)):
        write(scenario, tmp_path / out, seed)
    first, second, other = (digests(tmp_path / name) for name in ("first", "second", "other"))
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.startswith("images/"))


def test_the_tables_and_the_study_of_a_seed_stay_as_they_are(tmp_path: Path) -> None:
    write("demo", tmp_path / "cohort")
    found = {name: digest[:16] for name, digest in digests(tmp_path / "cohort").items() if "/" not in name}
    assert found == {
        "panel.csv": "4978291de1c50e06",
        "samplesheet.csv": "ca93ecf8c82209cd",
        "study.yaml": "2e537cbaf8f19106",
        "truth.csv": "ed5212720538039c",
    }


def test_in_spatial_every_histogram_is_exactly_the_same() -> None:
    _, pixels = draw_all("spatial", 12)
    ordered = np.sort(pixels.reshape(12 * 12, -1), axis=1)
    assert np.all(ordered == ordered[0])
    assert ordered[0].std() > 20


def test_in_spatial_planted_channels_are_lumpier_in_their_class_alone() -> None:
    cohort, pixels = draw_all("spatial", 60)
    coarse = pixels[:, :, :60, :60].reshape(60, 12, 5, 12, 5, 12).mean((3, 5))
    lumpiness = coarse.std((2, 3))
    labels = labels_of(cohort)
    for channel, plant in enumerate(cohort.plants):
        if plant is None:
            assert anova_p(cohort, lumpiness, channel) > 1e-4
        else:
            marked = labels == plant.class_name
            assert lumpiness[marked, channel].mean() > 1.5 * lumpiness[~marked, channel].mean()


def test_in_demo_the_mean_sees_the_intensity_channels_alone() -> None:
    cohort, pixels = draw_all("demo", 64)
    means = np.log(pixels.mean((2, 3)))
    found = {
        kind: [
            anova_p(cohort, means, channel)
            for channel, plant in enumerate(cohort.plants)
            if (plant.kind if plant else "none") == kind
        ]
        for kind in ("intensity", "arrangement", "none")
    }
    assert [len(p_values) for p_values in found.values()] == [2, 2, 8]
    assert max(found["intensity"]) < 1e-4
    assert min(found["arrangement"] + found["none"]) > 1e-3
    assert {plant.class_name for plant in cohort.plants if plant and plant.kind == "arrangement"} == {"A", "B"}


def test_in_paper_planted_channels_have_steady_means_in_their_class() -> None:
    cohort, pixels = draw_all("paper", 60)
    labels = labels_of(cohort)
    discs = pixels.max(axis=1) > 100
    level = np.stack([pixels[index][:, discs[index]].mean(axis=1) for index in range(60)])
    assert pixels.dtype == np.uint8
    assert sum(plant is not None for plant in cohort.plants) == 6
    for channel, plant in enumerate(cohort.plants):
        if plant is None:
            assert anova_p(cohort, level, channel) > 1e-4
        else:
            assert anova_p(cohort, level, channel) < 1e-6
            marked = labels == plant.class_name
            assert abs(level[marked, channel].mean() - level[~marked, channel].mean()) > 10


def p_of_kind(cohort: SimulatedCohort, values: np.ndarray) -> dict[str, list[float]]:
    """Per kind of plant the p-values of its channels."""
    found: dict[str, list[float]] = {}
    for channel, plant in enumerate(cohort.plants):
        found.setdefault(plant.kind if plant else "none", []).append(anova_p(cohort, values, channel))
    return found


def test_the_help_says_what_every_scenario_plants() -> None:
    shown = CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).stdout
    for name, scenario in SCENARIOS.items():
        assert f"{name}: {scenario.description}" in shown


def test_in_null_nothing_differs() -> None:
    cohort, pixels = draw_all("null", 40)
    flat = pixels.reshape(40, 12, -1)
    for values in (flat.mean(axis=2), flat.std(axis=2)):
        assert min(p_of_kind(cohort, np.log(values))["none"]) > 0.001
    assert cohort.plants == (None,) * 12


def test_in_gains_brightness_varies_over_images_as_it_does_not_in_paper() -> None:
    spread = {}
    for scenario in ("paper", "gains"):
        cohort, pixels = draw_all(scenario, 24)
        discs = pixels.max(axis=1) > 100
        level = np.log([pixels[index][:, discs[index]].mean(axis=1) for index in range(24)])
        free = [channel for channel, plant in enumerate(cohort.plants) if plant is None]
        spread[scenario] = level[:, free].std(axis=0).mean()
    assert spread["gains"] > 1.5 * spread["paper"]


def test_in_redundant_partners_follow_their_channel_and_nothing_else() -> None:
    cohort, pixels = draw_all("redundant", 6)
    kinds = [plant.kind if plant else "none" for plant in cohort.plants]
    assert [kinds.count(kind) for kind in ("mixture", "copy", "correlated", "none")] == [6, 3, 3, 18]
    discs = pixels.max(axis=1) > 100
    within = np.mean([np.corrcoef(pixels[index][:, discs[index]]) for index in range(6)], axis=0)
    np.fill_diagonal(within, 0)
    for channel, plant in enumerate(cohort.plants):
        if plant and plant.kind in ("copy", "correlated"):
            partner = int(within[channel].argmax())
            assert cohort.plants[partner] == type(plant)("mixture", plant.class_name)
            assert within[channel, partner] > (0.9 if plant.kind == "copy" else 0.55)
    free = np.array([plant is None for plant in cohort.plants])
    assert (within[np.ix_(free, free)] > 0.5).sum() >= 4
    assert within[np.ix_(free, ~free)].max() < 0.3


def test_in_site_the_batch_goes_with_the_label_in_four_of_five_images() -> None:
    cohort, pixels = draw_all("site", 80)
    labels, sites = labels_of(cohort), np.array(cohort.sites)
    assert [(sites[labels == name] == site).mean() for name, site in (("A", "S1"), ("B", "S2"))] == [0.8, 0.8]
    means = np.log(pixels.mean((2, 3)))
    by_site = p_of_kind(cohort_of_classes(cohort.sites, cohort.plants, cohort.draw, {}), means)
    assert max(by_site["batch"]) < 1e-4
    assert min(by_site["none"] + by_site["arrangement"]) > 1e-3
    within = means - np.where(sites == "S2", 1, 0)[:, None] * (
        means[sites == "S2"].mean(axis=0) - means[sites == "S1"].mean(axis=0)
    )
    assert min(p_of_kind(cohort, within)["batch"]) > 1e-3
    assert len(by_site["batch"]) == 6
    assert not any(plant.informative for plant in cohort.plants if plant and plant.kind == "batch")


def test_in_hierarchy_patients_share_as_much_as_they_should() -> None:
    cohort = SCENARIOS["hierarchy"].make(400, 16, 32, 0)
    means = np.log([cohort.draw(index).mean((1, 2)) for index in range(400)]).reshape(100, 4, 16)
    assert cohort.patients == tuple(np.arange(400) // 4)
    between = means.mean(axis=1).var(axis=0, ddof=1)
    within = means.var(axis=1, ddof=1).mean(axis=0)
    icc = (between - within / 4) / (between + within * 3 / 4)
    free = [channel for channel, plant in enumerate(cohort.plants) if plant is None]
    np.testing.assert_allclose(icc[free], np.linspace(0.2, 0.8, 16)[free], atol=0.2)
    assert np.corrcoef(icc[free], free)[0, 1] > 0.8


def test_in_faint_the_gains_fall_to_next_to_nothing() -> None:
    cohort, pixels = draw_all("faint", 96)
    means, labels = np.log(pixels.mean((2, 3))), labels_of(cohort)
    for channel, plant in enumerate(cohort.plants):
        gain = plant.strength if plant and plant.strength else 1.0
        difference = means[labels == "A", channel].mean() - means[labels == "B", channel].mean()
        assert difference == pytest.approx(np.log(gain), abs=0.2)
    assert sorted(plant.strength for plant in cohort.plants if plant) == [1.04, 1.08, 1.15, 1.25, 1.4, 1.6]


def test_in_colocal_only_the_pair_shows_the_class() -> None:
    cohort, pixels = draw_all("colocal", 24)
    first, second = (channel for channel, plant in enumerate(cohort.plants) if plant)
    smooth = pixels[:, [first, second]].astype(float)
    together = np.array([np.corrcoef(*image.reshape(2, -1))[0, 1] for image in smooth])
    own = labels_of(cohort) == "A"
    assert together[own].min() > together[~own].max() + 0.3
    flat = pixels.reshape(24, 12, -1)
    for values in (flat.mean(axis=2), flat.std(axis=2)):
        assert min(p_of_kind(cohort, np.log(values))["colocation"]) > 1e-3


@pytest.mark.parametrize("size_px", [32, 64, 65, 224])
def test_cells_never_overlap_and_bright_ones_are_as_many_when_clustered(size_px: int) -> None:
    generator = image_generator(0, 0)
    tissue = grow_tissue(generator, size_px)
    areas = np.bincount(tissue.index_map.ravel())[1:]
    together, apart = clustered(generator, tissue), scattered(generator, tissue)
    assert len(areas) == len(tissue.centers) == (size_px // 6) ** 2
    assert set(areas) == {21}
    assert len(set(together)) == len(set(apart)) == tissue.num_bright


@pytest.mark.parametrize(
    ("scenario", "sizes", "message"),
    [
        ("nonsense", {}, "choose one of demo, null, site"),
        ("hierarchy", {"images": 31}, "31 images; expected ≥ 32, 2 patients for each of 4 folds"),
        ("demo", {"channels": 3}, "3 channels; expected at least the 4 planted"),
        ("paper", {"channels": 5}, "at least the 6 planted"),
        ("spatial", {"images": 11}, "11 images; expected ≥ 12"),
        ("survival", {"images": 15}, "15 images; expected ≥ 16"),
        ("demo", {"images": -1}, "-1 images"),
        ("demo", {"size_px": 16}, "size of 16 pixels"),
        ("demo", {"size_px": 5000}, "size of 5000 pixels"),
        ("demo", {"seed": -1}, "seed -1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, scenario: str, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        simulate(scenario, tmp_path / "cohort", **sizes)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="not an empty folder"):
        write("demo", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_and_the_remains_of_a_killed_run_are_used(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / ".cohort.0badcafe.tmp/images").mkdir(parents=True)
    assert write("demo", tmp_path / "cohort").is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == ["cohort"]
