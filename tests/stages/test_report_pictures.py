"""What the report reads of a run for its pictures: the right tiles, on the scale of the tables, and no more."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from plexrank.outcome import Kind, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.planning.plan import Plan, make_plan
from plexrank.ranking.samples import make_samples
from plexrank.report.anchors import channel_anchor
from plexrank.report.gallery import top_channels
from plexrank.rundir import RunDir
from plexrank.stages import report_pictures
from plexrank.stages.channel_pictures import ShownRun, gallery_tiles, map_figures
from plexrank.stages.cohort_samples import cohort_samples
from plexrank.stages.report_pictures import NO_EMBEDDING, draw_pictures, patient_groups
from plexrank.stages.shown_pixels import ShownPixels
from plexrank.stages.tile_table import TileTable
from plexrank.stages.tile_values import HeldOutValues, read_held_out
from plexrank.study import load_study
from plexrank.tiles.store import TileStore


@pytest.fixture(scope="module")
def plan(tiny_run: Path) -> Plan:
    return make_plan(RunDir(tiny_run), load_study(tiny_run / "study.yaml"))


@pytest.fixture(scope="module")
def run(plan: Plan) -> ShownRun:
    table, samples = TileTable(plan), cohort_samples(plan)
    top = [3, 0]
    values = read_held_out(plan, table, samples, top)
    return ShownRun(table, samples, patient_groups(samples, "label"), values, top)


def test_r_of_patients_and_tiles_is_that_of_the_tables(plan: Plan, run: ShownRun) -> None:
    stored = pd.read_parquet(plan.rundir.ranking / "importance_per_patient.parquet")
    stored = stored.set_index(["patient_id", "channel"])
    for place, channel in enumerate(run.top):
        name = run.table.channels[channel]
        for sample, patient in enumerate(run.samples.patient_ids):
            own = stored.loc[(patient, name)]
            assert run.values.r[sample, channel] == pytest.approx(own["r"], abs=1e-5)
            tiles = np.flatnonzero(run.samples.image_sample[run.table.image_of_tile] == sample)
            assert run.values.tile_r[tiles, place].mean() == pytest.approx(own["r"], abs=1e-3)
            assert run.values.tile_importance[tiles, place].mean() == pytest.approx(own["importance"], abs=1e-4)


def test_only_the_tiles_that_are_shown_are_read(plan: Plan, run: ShownRun, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[Path, int, int]] = []
    whole = TileStore.read_tile

    def counted(store: TileStore, row: int, col: int) -> np.ndarray:
        read.append((store.path, row, col))
        return whole(store, row, col)

    monkeypatch.setattr(TileStore, "read_tile", counted)
    tiles, bar = gallery_tiles(run, ShownPixels(plan, run.table))
    shown = [tile for of_channel in tiles for group in of_channel for _, end in group.ends() for tile in end]
    assert len(shown) == 2 * 2 * 6
    assert len(read) == len(set(read)) == len({tile.image_id for tile in shown})
    assert bar.in_um


def test_the_highest_and_lowest_tiles_of_each_group_are_shown(plan: Plan, run: ShownRun) -> None:
    tiles, _ = gallery_tiles(run, ShownPixels(plan, run.table))
    image_r = pd.Series(run.values.tile_r[:, 0], [plan.cohort.images[k].image_id for k in run.table.image_of_tile])
    label = {image.image_id: image.label for image in plan.cohort.images}
    for group, level in zip(tiles[0], ("A", "B"), strict=True):
        own = image_r[[image_id for image_id in image_r.index if label[image_id] == level]]
        assert [tile.image_id for tile in group.highest] == own.nlargest(3).index.tolist()
        assert [tile.image_id for tile in group.lowest] == own.nsmallest(3).index.tolist()
        store = TileStore(plan.rundir.tile_store(group.highest[0].image_id))
        np.testing.assert_array_equal(group.highest[0].pixels, store.read_tile(0, 0)[3])


@pytest.mark.parametrize("side_px", [400, 32, 7, 1])
def test_whole_images_are_reduced_by_means(plan: Plan, run: ShownRun, side_px: int) -> None:
    pixels = ShownPixels(plan, run.table)
    planes, is_coarse = pixels.whole(0, [3], side_px)
    plane = TileStore(plan.rundir.tile_store(plan.cohort.images[0].image_id)).read_tile(0, 0)[3].astype(float)
    assert plane.shape == pixels.size_px(0, in_whole_tiles=False) == (32, 32)
    assert not is_coarse
    assert max(planes[3].shape) <= side_px
    step = -(-32 // side_px)
    assert planes[3][0, 0] == pytest.approx(plane[:step, :step].mean())
    last = (planes[3].shape[0] - 1) * step
    assert planes[3][-1, -1] == pytest.approx(plane[last:, last:].mean())


def test_images_that_are_too_large_are_shown_by_means_of_tiles(
    plan: Plan, run: ShownRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plexrank.stages.shown_pixels.WHOLE_IMAGE_BYTES", 0)
    pixels = ShownPixels(plan, run.table)
    planes, is_coarse = pixels.whole(0, [3], 400)
    assert is_coarse
    assert planes[3].shape == (1, 1)
    assert planes[3][0, 0] == pytest.approx(run.table.channel_means[0, 3])
    drawn = [one for one, _ in map_figures(run, pixels, ["C03", "C00"], "gradient", [[], []])]
    assert all(one is not None and "by the means of their tiles" in one.caption for one in drawn)


@pytest.mark.parametrize(
    ("kind", "levels", "names", "first"),
    [
        ("nominal", ["tumor", "healthy", "tumor", "healthy"], ("healthy", "tumor"), [1, 0, 1, 0]),
        ("nominal", ["1", "2", "1", "2"], ("stage 1", "stage 2"), [0, 1, 0, 1]),
        ("ordinal", ["1", "3", "2", "3"], ("grade 1", "grade 2", "grade 3"), [0, 2, 1, 2]),
        ("continuous", ["1.5", "9", "2.5", "8"], ("low values", "high values"), [0, 1, 0, 1]),
        ("survival", ["1 e", "9 c", "2 e", "8 c"], ("late events", "early events"), [1, 0, 1, 0]),
    ],
)
def test_groups_are_classes_grades_or_the_halves_of_the_direction(
    kind: Kind, levels: list[str], names: tuple[str, ...], first: list[int]
) -> None:
    if kind == "survival":
        levels = [survival_level(level.split()[0], level.endswith("e")) for level in levels]
    outcome = make_outcome(kind, levels, ("1", "2", "3"))
    samples = make_samples(["p0", "p1", "p2", "p3"], levels, [0, 0, 1, 1], outcome=outcome)
    groups = patient_groups(samples, "stage")
    assert groups.names == names
    assert groups.of_patient.tolist() == first


def test_without_an_embedding_a_sentence_stands_in_the_place_of_r(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def without_r(*arguments: object) -> HeldOutValues:
        values = read_held_out(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(values, r=np.full_like(values.r, np.nan), tile_r=np.full_like(values.tile_r, np.nan))

    monkeypatch.setattr(report_pictures, "read_held_out", without_r)
    ranking = pd.read_parquet(plan.rundir.ranking / "ranking.parquet")
    pictures = draw_pictures(plan, ranking, pd.read_csv(plan.rundir.ranking / "reads.csv"), tmp_path)
    assert pictures.channels == ()
    assert pictures.note == NO_EMBEDDING
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{ending}" for name in ("patients", "stability") for ending in ("png", "svg")
    }


def test_the_page_has_all_pictures_and_no_other_file(plan: Plan, run: ShownRun) -> None:
    page = plan.rundir.report_page.read_text()
    assert len(page) < 4_000_000
    assert 'id="pictures"' in page
    shown = top_channels(pd.read_parquet(plan.rundir.ranking / "ranking.parquet"), plan.study.report.pictures)
    assert len(shown) == 1
    assert re.findall(r'<section class="gallery-channel" id="([^"]+)"', page) == list(map(channel_anchor, shown))
    assert not re.search(r'src="(?!data:)', page)
    tiles = re.findall(r'<img alt="([^"]+)" title="(image [^"]+, patient [^"]+, r [+-][0-9.]+)"', page)
    assert len(tiles) == 1 * 2 * 6
    files = {path.name for path in plan.rundir.figures.iterdir()}
    for name in ("ranking", "roc", "prediction", "patients", "reads", "heat-map", "correlations", "stability"):
        assert {f"{name}.png", f"{name}.svg"} <= files
    assert all(path.with_suffix(".svg").name in files for path in plan.rundir.figures.glob("*.png"))


def test_a_mask_of_the_user_is_outlined_where_it_can_still_be_read(plan: Plan, run: ShownRun, tmp_path: Path) -> None:
    mask = tmp_path / "mask.tiff"
    left = np.zeros((32, 32), np.uint8)
    left[:, :16] = 1
    tifffile.imwrite(mask, left)
    images = [dataclasses.replace(image, mask=path) for image, path in zip(
        plan.cohort.images, (mask, tmp_path / "moved.tiff", *[None] * 30), strict=True)]  # fmt: skip
    masked = dataclasses.replace(plan, cohort=dataclasses.replace(plan.cohort, images=tuple(images)))
    half = copy.copy(run.table)
    half.rows = run.table.rows.assign(tissue_fraction=0.5)
    pixels = ShownPixels(masked, half)
    pixels._store = ShownPixels(plan, run.table)._store  # type: ignore[method-assign]  # tiled without
    shown = pixels.tiles([(0, 3, 0.1), (1, 3, 0.2), (2, 3, 0.3)])
    assert shown[0, 3].tissue is not None
    np.testing.assert_array_equal(shown[0, 3].tissue, left > 0)
    assert shown[1, 3].tissue is None
    assert shown[2, 3].tissue is not None
    assert shown[2, 3].tissue.mean() == pytest.approx(0.5)


def test_images_that_lack_a_channel_are_not_shown_for_it(plan: Plan, run: ShownRun) -> None:
    values = dataclasses.replace(run.values, r=run.values.r.copy(), tile_r=run.values.tile_r.copy())
    is_a = np.array([image.label == "A" for image in plan.cohort.images])
    values.tile_r[is_a[run.table.image_of_tile], 0] = np.nan
    values.r[run.samples.label == 0, run.top[0]] = np.nan
    values.tile_r[:, 1] = np.nan
    values.r[:, run.top[1]] = np.nan
    lacking = dataclasses.replace(run, values=values)
    pixels = ShownPixels(plan, run.table)
    tiles, _ = gallery_tiles(lacking, pixels)
    assert [[group.group for group in of_channel] for of_channel in tiles] == [[run.groups.names[1]], []]
    (first, _), (second, _) = map_figures(lacking, pixels, ["C03", "C00"], "gradient", tiles)
    assert first is not None
    assert len(first.figure.axes) == 1
    assert second is None
