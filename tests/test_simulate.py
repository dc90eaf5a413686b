"""Simulated cohorts: what is planted is there, nothing else is, and all of it can be read back."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from plexrank.errors import StudyError
from plexrank.images.open import open_image
from plexrank.simulate import SCENARIOS, simulate
from plexrank.simulate.cells import clustered, grow_tissue, scattered
from plexrank.simulate.cohort import SimulatedCohort, image_generator
from plexrank.study import load_study

SMALL = {"demo": (16, 5, 48), "paper": (12, 7, 140), "spatial": (12, 7, 48)}


def write(scenario: str, out: Path, seed: int = 3) -> Path:
    images, channels, size_px = SMALL[scenario]
    return simulate(scenario, out, images=images, channels=channels, size_px=size_px, seed=seed)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def draw_all(scenario: str, images: int, seed: int = 0) -> tuple[SimulatedCohort, np.ndarray]:
    chosen = SCENARIOS[scenario]
    cohort = chosen.make(images, chosen.channels, chosen.size_px, seed)
    return cohort, np.stack([cohort.draw(index) for index in range(images)])


def anova_p(cohort: SimulatedCohort, values: np.ndarray, channel: int) -> float:
    labels = np.array(cohort.labels)
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
    assert (study.tile.tile_px, study.train.crop_px) == (size_px, size_px)
    assert len(sheet) == len({row["patient_id"] for row in sheet}) == images
    assert {row["label"] for row in sheet} == set(SCENARIOS[scenario].class_names)
    assert [row["name"] for row in rows(tmp_path / "cohort/panel.csv")] == list(names)
    assert names[0] == "C01"
    assert len(names) == channels
    assert sum(int(row["informative"]) for row in truth) == SCENARIOS[scenario].num_planted
    assert all((row["kind"] == "none") == (row["informative"] == "0") == (row["class"] == "") for row in truth)
    assert image.data.shape == (channels, size_px, size_px)
    assert image.channel_names == names
    assert image.pixel_size_um == (1.0, 1.0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cohort"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_labels_are_balanced_and_unrelated_to_the_site(tmp_path: Path, scenario: str) -> None:
    write(scenario, tmp_path / "cohort")
    sheet = rows(tmp_path / "cohort/samplesheet.csv")
    counts = [
        sum((row["label"], row["site"]) == (label, site) for row in sheet)
        for label in SCENARIOS[scenario].class_names
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


def test_in_spatial_every_histogram_is_exactly_the_same() -> None:
    _, pixels = draw_all("spatial", 12)
    ordered = np.sort(pixels.reshape(12 * 12, -1), axis=1)
    assert np.all(ordered == ordered[0])
    assert ordered[0].std() > 20


def test_in_spatial_planted_channels_are_lumpier_in_their_class_alone() -> None:
    cohort, pixels = draw_all("spatial", 60)
    coarse = pixels[:, :, :60, :60].reshape(60, 12, 5, 12, 5, 12).mean((3, 5))
    lumpiness = coarse.std((2, 3))
    labels = np.array(cohort.labels)
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
    labels = np.array(cohort.labels)
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
        ("nonsense", {}, "choose one of demo, paper, spatial"),
        ("demo", {"channels": 3}, "3 channels; expected at least the 4 planted"),
        ("paper", {"channels": 5}, "at least the 6 planted"),
        ("spatial", {"images": 11}, "11 images; expected ≥ 12"),
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
