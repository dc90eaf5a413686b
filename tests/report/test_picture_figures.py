"""Figures of images, patients, channels and trainings: known numbers, and what must not break them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from plexrank.report.figure_files import DPI, LARGEST_SVG, embedded, new_figure, save_figure
from plexrank.report.heat_maps import clustered, correlation_figure, heat_map_figure, rank_correlations
from plexrank.report.image_map import MappedImage, map_figure
from plexrank.report.patient_figures import ReadStatistic, dots_figure, reads_figure, relative_intensity
from plexrank.report.patient_groups import PatientGroups, short
from plexrank.report.prediction_figures import GRID, positions, roc_band, roc_curves, roc_figure, stability_figure
from plexrank.report.scale_bar import ScaleBar

GROUPS = PatientGroups(("$a$", "b"), np.array([0, 0, 1, 1, 1, 0]))
NAMES = ["<b>", "$x_1$", "C" * 80]


def some_r(patients: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(patients, channels))


def texts(figure: Figure) -> str:
    return "\n".join(
        text.get_text() for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)
    )


def test_figures_are_written_in_both_formats_and_the_same_each_time(tmp_path: Path) -> None:
    for number in range(2):
        figure = new_figure(2, 1)
        figure.subplots().plot([0, 1], label="a")
        save_figure(figure, tmp_path / f"{number}.png")
    for ending in ("png", "svg"):
        first, second = ((tmp_path / f"{number}.{ending}").read_bytes() for number in range(2))
        assert first == second
    assert b"<text" not in (tmp_path / "0.svg").read_bytes()
    assert embedded(tmp_path / "0.png").startswith("data:image/svg+xml;base64,")
    (tmp_path / "0.svg").write_bytes(b" " * (LARGEST_SVG + 1))
    assert embedded(tmp_path / "0.png").startswith("data:image/png;base64,")
    (tmp_path / "0.svg").unlink()
    assert embedded(tmp_path / "0.png").startswith("data:image/png;base64,")


def test_dense_figures_can_be_written_in_few_colours(tmp_path: Path) -> None:
    for colours in (None, 32):
        figure = new_figure(3, 3)
        figure.subplots().imshow(some_r(100, 100), cmap="cividis", interpolation="nearest")
        save_figure(figure, tmp_path / f"{colours}.png", colours=colours)
    assert (tmp_path / "32.png").stat().st_size < 0.6 * (tmp_path / "None.png").stat().st_size


def test_intensities_compare_between_channels() -> None:
    values = np.array([[1.0, np.nan], [2.0, 0.0], [4.0, 0.0]])
    found = relative_intensity(values)
    offset = 0.01 * 7 / 3
    np.testing.assert_allclose(found[:, 0], np.log2((values[:, 0] + offset) / (2 + offset)))
    assert np.isnan(found[0, 1])
    assert found[1:, 1].tolist() == [0.0, 0.0]


def test_dots_stand_for_every_patient_who_has_the_channel() -> None:
    r, intensity = some_r(), np.exp(some_r())
    r[0, 1] = intensity[0, 1] = np.nan
    drawn = dots_figure(NAMES, r, intensity, GROUPS)
    drawn.figure.draw_without_rendering()
    left, right = drawn.figure.axes
    for axes in (left, right):
        marks = [line for line in axes.lines if line.get_marker() in ("o", "^")]
        assert [np.isfinite(line.get_xdata()).sum() for line in marks] == [8, 9]  # type: ignore[arg-type]
        assert all(line.get_rasterized() for line in marks)
    assert [label.get_text() for label in left.get_yticklabels()] == ["<b>", r"\$x_1\$", "C" * 27 + "…"]
    assert "6 patients in 3 channels" in drawn.alt


def test_without_an_embedding_only_intensities_are_drawn() -> None:
    drawn = dots_figure(NAMES, np.full((6, 3), np.nan), np.exp(some_r()), GROUPS)
    assert len(drawn.figure.axes) == 1
    assert "sign of r" not in drawn.caption


def test_what_the_embedding_reads_has_its_r2(tmp_path: Path) -> None:
    values = np.array([0.0, 1.0, 10.0, 100.0, np.nan, 5.0])
    reads = [ReadStatistic("a", "brightness", 0.915, values), ReadStatistic("b", "clustering at 20 µm", 0.3, -values)]
    drawn = reads_figure(reads, some_r(6, 2), GROUPS)
    save_figure(drawn.figure, tmp_path / "reads.png")
    assert [axes.get_xscale() for axes in drawn.figure.axes] == ["log", "linear"]
    assert "a: brightness, r² 0.92" in drawn.alt or "a: brightness, r² 0.91" in drawn.alt
    assert "clustering at 20 µm" in texts(drawn.figure)


def test_patients_alike_stand_together() -> None:
    values = np.array([[0.0, 0.0], [9.0, 9.0], [0.1, np.nan], [9.1, 9.0]])
    order, tree = clustered(values)
    assert abs(order.tolist().index(0) - order.tolist().index(2)) == 1
    assert abs(order.tolist().index(1) - order.tolist().index(3)) == 1
    assert tree is not None
    assert clustered(values[:1])[1] is None


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_maps_bear_absent_channels_and_many_sites(channels: int, tmp_path: Path) -> None:
    r = some_r(6, channels)
    r[1:3, 0] = np.nan
    sites = PatientGroups(tuple(f"site {k}" for k in range(12)), np.array([0, 1, 2, 11, -1, 5]), first_colour=4)
    drawn = heat_map_figure(NAMES[:channels], r, GROUPS, sites)
    save_figure(drawn.figure, tmp_path / "heat.png")
    assert f"6 patients × {channels} channels" in drawn.alt


def test_correlations_are_of_ranks_and_groups_stand_together() -> None:
    first = np.arange(8.0)
    values = np.stack([first, -np.exp(first), np.zeros(8), np.where(first < 5, np.nan, first)], axis=1)
    found = rank_correlations(values)
    assert found[0, 1] == pytest.approx(-1)
    assert np.isnan(found[0, 2])
    assert np.isnan(found[0, 3])
    drawn = correlation_figure(["a", "b", "c", "d"], values, [7, 2, 7, 3])
    assert [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()] == ["a", "c", "b", "d"]
    assert "1 groups" in drawn.alt or "1 group" in drawn.alt
    assert len(drawn.figure.axes[0].patches) == 1


def a_map(tiles: int, **more: object) -> MappedImage:
    given = {
        "group": "<a>", "image_id": "img $1$", "patient_id": "p", "r": 0.5, "pixels": np.ones((20, 30)),
        "size_px": (40, 60), "tiles": np.array([[0, 20 * k, 20, 20] for k in range(tiles)]),
        "importance": np.linspace(0, 1, tiles), "tile_r": np.full(tiles, np.nan), "pixel_size_um": None,
    }  # fmt: skip
    return MappedImage(**(given | more))  # type: ignore[arg-type]


def test_maps_have_a_square_for_each_tile_with_a_value(tmp_path: Path) -> None:
    images = [a_map(3, importance=np.array([0.1, np.nan, 0.3])), a_map(1, size_px=(20, 20), pixels=np.ones((20, 20)))]
    drawn = map_figure("CD3", images, "gradient", ScaleBar(10, in_um=False), (0.0, 1.0))
    save_figure(drawn.figure, tmp_path / "map.png", colours=128)
    squares = [sum(len(found.get_paths()) for found in axes.collections) for axes in drawn.figure.axes[:6]]
    assert squares == [0, 0, 2, 1, 0, 0]
    assert "img $1$ (<a>, patient p)" in drawn.alt
    assert "10 px (pixel size not known)" in drawn.caption


def test_images_of_one_tile_have_no_map_within(tmp_path: Path) -> None:
    drawn = map_figure("CD3", [a_map(1), a_map(1)], "gradient", ScaleBar(10, in_um=False), (0.0, 1.0))
    assert len(drawn.figure.axes) == 2
    assert "no map within it" in drawn.caption


def test_roc_curves_of_known_probabilities() -> None:
    is_class, probability = np.array([1, 0, 1, 0], dtype=bool), np.array([0.9, 0.8, 0.8, 0.1])
    false, true = roc_curves(is_class, probability, np.array([[1.0, 1, 1, 1], [2.0, 1, 0, 1]]))
    assert false.tolist() == [[0, 0, 0.5, 1]] * 2
    assert true.tolist() == [[0, 0.5, 1, 1], [0, 1, 1, 1]]
    low, high = roc_band(np.arange(20) < 10, np.linspace(1, 0, 20), np.arange(20), 50)
    assert low.tolist() == high.tolist() == [1.0] * len(GRID)


def predictions(**probabilities: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({f"probability_{name}": values for name, values in probabilities.items()})
    return table.assign(patient_id=[f"p{k}" for k in range(len(table))], label=["a", "a", "b", "b"])


def test_two_classes_have_one_curve_and_more_have_one_each() -> None:
    two = roc_figure(predictions(a=[0.9, 0.4, 0.6, 0.2], b=[0.1, 0.6, 0.4, 0.8]).astype(str), draws=20)
    assert two is not None
    assert len(two.figure.axes) == 1
    assert "b against a: AUC 0.75" in two.alt
    three = roc_figure(predictions(a=[0.9, 0.4, 0.6, 0.2], b=[0.1, 0.6, 0.4, 0.8], c=[0.0] * 4), draws=20)
    assert three is not None
    assert [axes.get_title(loc="left").split("\n")[0] for axes in three.figure.axes] == [
        "a against the others",
        "b against the others",
    ]
    assert roc_figure(predictions(a=[1.0] * 4).assign(label="a"), draws=20) is None


def test_positions_of_every_training() -> None:
    importance = np.array([[0.5, 0.1, 0.4], [0.2, 0.2, np.nan]])
    found = positions(importance)
    assert found[0].tolist() == [1, 3, 2]
    assert found[1, :2].tolist() == [1.5, 1.5]
    assert np.isnan(found[1, 2])
    drawn = stability_figure(NAMES, found, [(0, 0), (1, 0)], of=3)
    assert "3 channels in 2 trainings (2 folds × 1 seed)" in drawn.alt
    assert [line.get_label() for line in drawn.figure.axes[0].lines[:2]] == ["fold 0", "fold 1"]


def test_groups_differ_in_colour_and_mark() -> None:
    for ordered in (False, True):
        groups = PatientGroups(tuple("abcdefgh"), np.zeros(1, dtype=int), is_ordered=ordered)
        assert len(set(groups.colours)) == len(set(groups.markers)) == 8
    assert short("x" * 30, 10) == "x" * 9 + "…"


def test_a_hundred_channels_and_three_hundred_patients_stay_small(tmp_path: Path) -> None:
    names = [f"channel {k}" for k in range(100)]
    r = some_r(300, 100)
    groups = PatientGroups(("a", "b", "c"), np.arange(300) % 3)
    for name, drawn in (
        ("patients", dots_figure(names, r, np.exp(r), groups)),
        ("heat-map", heat_map_figure(names, r, groups)),
    ):
        path = tmp_path / f"{name}.png"
        drawn.figure.savefig(path, dpi=DPI)
        assert path.stat().st_size < 1_500_000
