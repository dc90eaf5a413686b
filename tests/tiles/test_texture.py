"""Statistics of every channel of every image: closed forms, definitions, and nothing depends on how tiles are dealt."""

from __future__ import annotations

import functools
import itertools
import json
import operator
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import Plexrank, run_arguments, without_digests
from image_files import write_ome
from lazy_images import lazy, names, settings
from plexrank.errors import RunDirError
from plexrank.planning.plan import make_plan
from plexrank.rundir import RunDir
from plexrank.simulate import simulate
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.study import load_study
from plexrank.tiles import layout
from plexrank.tiles.grid import TileGrid
from plexrank.tiles.texture import LENGTHS_UM, STATISTICS, TextureSums, block_sides, sum_texture
from plexrank.tiles.tiling import tile_image

BLOCK_PX = (10, 10)


def sums_of_tiles(pixels: np.ndarray, tile_px: int, block_px: tuple[int, int] = BLOCK_PX) -> list[TextureSums]:
    """Of a (channel, y, x) image."""
    return [
        sum_texture(pixels[:, t.y_px : t.y_px + t.height_px, t.x_px : t.x_px + t.width_px], tile_px, block_px)
        for t in TileGrid(*pixels.shape[1:], tile_px).tiles()
    ]


def statistics(pixels: np.ndarray, tile_px: int, block_px: tuple[int, int] = BLOCK_PX) -> dict[str, float]:
    """Of a (y, x) image."""
    added = functools.reduce(operator.add, sums_of_tiles(pixels[np.newaxis], tile_px, block_px))
    return {name: float(values[0]) for name, values in added.statistics().items()}


def random_blocks(side: int, num_blocks: int, seed: int = 0) -> np.ndarray:
    """Squares of a side, each with a level of its own."""
    levels = np.random.default_rng(seed).integers(0, 200, (num_blocks, num_blocks))
    return np.kron(levels, np.ones((side, side), np.int64)).astype(np.uint16)


# --- closed forms


def test_a_checkerboard_of_the_smallest_blocks_is_all_contrast_of_neighbours() -> None:
    board = np.kron(np.indices((16, 16)).sum(axis=0) % 2, np.ones((10, 10))).astype(np.uint8) * 4
    found = statistics(board, 80)
    assert found["mean"] == 2
    assert found["variation"] == 1
    assert found["positive_share"] == 0.5
    assert found["tail_ratio"] == 2
    assert found["morans_i_10um"] == pytest.approx(-1)
    assert found["granularity_10um"] == pytest.approx(1)
    assert found["granularity_20um"] == pytest.approx(0)
    assert np.isnan([found["morans_i_20um"], found["morans_i_40um"]]).all()  # larger blocks are all alike


@pytest.mark.parametrize("place", [0, 1, 2])
def test_grains_of_a_length_show_there(place: int) -> None:
    side = LENGTHS_UM[place]
    found = statistics(random_blocks(side, 64), 320)
    granularity = [found[f"granularity_{length}um"] for length in LENGTHS_UM]
    expected = [0.75 * 0.25 ** (length - place) if length >= place else 0 for length in range(3)]  # means of four
    assert granularity == pytest.approx(expected, abs=0.02)
    assert found[f"morans_i_{side}um"] == pytest.approx(0, abs=0.03)
    if place:  # half of the pairs lie within a square
        assert found[f"morans_i_{side // 2}um"] == pytest.approx(64 / 126, abs=0.1)


def test_single_pixels_have_no_grain_in_blocks() -> None:
    found = statistics(np.random.default_rng(0).poisson(3, (640, 640)), 320)
    assert found["granularity_10um"] == pytest.approx(0.75 / 100, rel=0.1)
    assert found["granularity_40um"] < 0.001
    assert found["variation"] == pytest.approx(1 / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float32", "float64"])
def test_the_share_of_positive_pixels_of_sparse_counts_is_that_above_zero(dtype: str) -> None:
    generator = np.random.default_rng(1)
    counts = (generator.random((64, 64)) < 0.1) * generator.integers(1, 10, (64, 64))
    found = statistics(counts.astype(dtype), 64)
    assert found["positive_share"] == pytest.approx((counts > 0).mean(), abs=1e-12)


def test_positive_pixels_stand_out_from_an_offset_whatever_the_unit() -> None:
    generator = np.random.default_rng(2)
    bright = generator.random((256, 256)) < 0.2
    pixels = np.clip(np.rint(generator.normal(400, 20, bright.shape) + 3000 * bright), 0, None)
    share = [
        statistics((pixels * unit).astype(dtype), 128)["positive_share"]
        for unit, dtype in ((1, np.uint16), (1e-20, np.float32), (1e9, np.float64))
    ]
    assert share == pytest.approx([bright.mean()] * 3, abs=1e-9)


def test_the_tail_ratio_is_that_of_the_percentile_to_an_eighth_of_an_octave() -> None:
    pixels = np.random.default_rng(3).lognormal(2, 1, (256, 256)).astype(np.float32)
    expected = np.percentile(pixels, 99) / pixels.mean()
    assert statistics(pixels, 128)["tail_ratio"] == pytest.approx(expected, rel=0.02)
    assert statistics(pixels, 256)["tail_ratio"] == pytest.approx(expected, rel=0.1)  # an eighth of the rows


def test_more_light_moves_nothing_but_the_mean() -> None:
    pixels = random_blocks(20, 16)
    one, twice = statistics(pixels, 160), statistics(2 * pixels, 160)
    assert twice.pop("mean") == 2 * one.pop("mean")
    assert twice == pytest.approx(one, nan_ok=True)


# --- definitions


@pytest.mark.parametrize("block_px", [(1, 1), (3, 3), (2, 5), (7, 4)])
def test_every_number_is_that_of_its_definition(block_px: tuple[int, int]) -> None:
    tile_px = 64
    pixels = np.random.default_rng(4).gamma(0.5, 30, (150, 200)) + random_blocks(10, 20)[:150]
    found = statistics(pixels, tile_px, block_px)
    assert found["mean"] == pytest.approx(pixels.mean())
    assert found["variation"] == pytest.approx(pixels.std() / pixels.mean())
    tiles = [pixels[y : y + tile_px, x : x + tile_px] for y in range(0, 150, tile_px) for x in range(0, 200, tile_px)]
    for place, length in enumerate(LENGTHS_UM):
        sides = (block_px[0] << place, block_px[1] << place)
        of_tiles = [block_means(tile, sides) for tile in tiles]
        assert found[f"morans_i_{length}um"] == pytest.approx(morans_i(of_tiles), nan_ok=True)
        twice = [block_means(tile, (2 * sides[0], 2 * sides[1])) for tile in tiles]
        covered = [own[: 2 * len(two), : 2 * two.shape[1]] for own, two in zip(of_tiles, twice, strict=True)]
        expected = (flat(covered).var() - flat(twice).var()) / pixels.var() if flat(twice).size else np.nan
        assert found[f"granularity_{length}um"] == pytest.approx(expected, nan_ok=True)


def flat(of_tiles: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([means.ravel() for means in of_tiles])


def block_means(tile: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    rows, cols = tile.shape[0] // sides[0], tile.shape[1] // sides[1]
    means = [
        tile[y * sides[0] : (y + 1) * sides[0], x * sides[1] : (x + 1) * sides[1]].mean()
        for y, x in itertools.product(range(rows), range(cols))
    ]
    return np.array(means).reshape(rows, cols)


def morans_i(of_tiles: list[np.ndarray]) -> float:
    of_tiles = [means for means in of_tiles if means.size > 1]
    if not of_tiles:
        return np.nan
    center = flat(of_tiles).mean()
    pairs = [
        (means[y, x] - center) * (means[y + down, x + across] - center)
        for means in of_tiles
        for y, x in np.ndindex(*means.shape)
        for down, across in ((1, 0), (0, 1))
        if y + down < len(means) and x + across < means.shape[1]
    ]
    return float(np.mean(pairs) / flat(of_tiles).var())


@pytest.mark.parametrize(
    ("pixel_size_um", "factors", "sides"),
    [
        ((1.0, 1.0), (1.0, 1.0), (10, 10)),
        ((0.5, 0.25), (1.0, 1.0), (20, 40)),
        ((0.65, 0.65), (2.0, 2.0), (8, 8)),
        ((0.3, 0.3), (10 / 3, 10 / 3), (10, 10)),
        ((50.0, 50.0), (1.0, 1.0), (1, 1)),
        (None, (1.0, 1.0), (10, 10)),
        (None, (5.0, 5.0), (2, 2)),
    ],
)
def test_a_block_is_ten_micrometres_of_stored_pixels(
    pixel_size_um: tuple[float, float] | None, factors: tuple[float, float], sides: tuple[int, int]
) -> None:
    assert block_sides(pixel_size_um, factors) == sides


# --- where there is nothing to say


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("value", [0, 7, 0.1])
def test_a_constant_channel_has_a_mean_and_no_structure(dtype: str, value: float) -> None:
    pixels = np.full((200, 200), value).astype(dtype)
    found = statistics(pixels, 80)
    is_zero = pixels[0, 0] == 0
    assert found["mean"] == pytest.approx(pixels[0, 0])
    assert found["positive_share"] == (0 if is_zero else 1)
    for name, expected in (("tail_ratio", 1), ("variation", 0)):
        assert found[name] == pytest.approx(np.nan if is_zero else expected, nan_ok=True)
    assert all(np.isnan(found[name]) for name in STATISTICS if name.startswith(("granularity", "morans")))


def test_rounding_of_float32_is_no_structure() -> None:
    generator = np.random.default_rng(5)
    pixels = np.nextafter(np.full((80, 80), 0.3, np.float32), generator.choice([0, 1], (80, 80)).astype(np.float32))
    assert np.isnan(statistics(pixels, 80)["morans_i_10um"])
    assert statistics(pixels, 80)["variation"] == 0


def test_values_below_zero_leave_ratios_to_the_mean_undefined() -> None:
    found = statistics(random_blocks(20, 8).astype(np.float32) - 300, 80)
    assert found["mean"] < 0
    assert found["positive_share"] == 0
    assert np.isnan([found["tail_ratio"], found["variation"]]).all()
    assert np.isfinite(found["morans_i_10um"])


@pytest.mark.parametrize(
    ("shape", "with_moran", "with_granularity"),
    [
        ((9, 9), [], []),
        ((10, 19), [], []),
        ((10, 20), [10], []),
        ((20, 20), [10], [10]),
        ((40, 79), [10, 20], [10, 20]),
    ],
)
def test_tiles_too_small_for_two_blocks_say_nothing_of_a_length(
    shape: tuple[int, int], with_moran: list[int], with_granularity: list[int]
) -> None:
    found = statistics(np.random.default_rng(6).random(shape), 80)
    for length in LENGTHS_UM:
        assert np.isfinite(found[f"morans_i_{length}um"]) == (length in with_moran)
        assert np.isfinite(found[f"granularity_{length}um"]) == (length in with_granularity)


def test_numbers_beyond_floating_point_are_none() -> None:
    found = statistics(np.random.default_rng(7).random((80, 80)) * 1e200, 80)
    assert found["mean"] == pytest.approx(5e199, rel=0.1)
    assert np.isnan(found["variation"])


# --- however the image is cut


def test_sums_add_up_in_any_order_and_survive_another_process() -> None:
    pixels = np.random.default_rng(8).poisson(np.arange(4)[:, np.newaxis, np.newaxis] / 3, (4, 150, 170))
    tiles = sums_of_tiles(pixels.astype(np.uint16), 50)
    expected = functools.reduce(operator.add, tiles).statistics()
    random.Random(0).shuffle(tiles)
    parts = [functools.reduce(operator.add, tiles[start::3]) for start in range(3)]
    found = functools.reduce(operator.add, pickle.loads(pickle.dumps(parts))).statistics()
    assert tuple(found) == STATISTICS
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12)


def test_channels_do_not_touch_one_another() -> None:
    pixels = np.random.default_rng(9).poisson(2, (70, 130, 130)).astype(np.uint16)  # several groups
    (together,) = sums_of_tiles(pixels, 130)
    (alone,) = sums_of_tiles(pixels[66:67], 130)
    for name, values in together.statistics().items():
        assert values[66] == pytest.approx(alone.statistics()[name][0])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_statistics_of_a_store_are_of_its_kept_tiles_however_it_is_read(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(10).poisson(4, (2, 130, 150)).astype(dtype)
    pixels[:, :64, 64:] = 0
    whole = tile_image(lazy(pixels), [0, 1], names(2), settings(tile_px=64, min_tissue=0.5), tmp_path / "a.ome.zarr")
    kept = [row.tile for row in whole.tiles]
    assert (0, 1) not in [(tile.row, tile.col) for tile in kept]
    area = np.array([tile.height_px * tile.width_px for tile in kept])
    means = np.array([row.channel_mean for row in whole.tiles])
    np.testing.assert_allclose(whole.statistics["mean"], area @ means / area.sum(), rtol=1e-12)
    parts = [pixels[:, t.y_px : t.y_px + t.height_px, t.x_px : t.x_px + t.width_px] for t in kept]
    summed = functools.reduce(operator.add, (sum_texture(part, 64, (20, 40)) for part in parts)).statistics()
    monkeypatch.setattr(layout, "_SHARD_BYTES", 1)
    again = tile_image(
        lazy(pixels, (2, 29, 53)), [0, 1], names(2), settings(tile_px=64, min_tissue=0.5), tmp_path / "b.ome.zarr"
    )
    for name in STATISTICS:
        np.testing.assert_array_equal(whole.statistics[name], summed[name])
        np.testing.assert_array_equal(again.statistics[name], summed[name])


# --- through the command line


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, plexrank: Plexrank) -> Path:
    """A tiled run of images that are large enough for clusters of cells."""
    folder = tmp_path_factory.mktemp("texture")
    study = simulate("demo", folder / "cohort", images=24, channels=5, size_px=96, seed=3)
    done = plexrank(*run_arguments(study, folder / "run"), "--until", "tile")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_clustered_cells_show_in_the_class_that_has_them(demo: Path) -> None:
    table = pd.read_parquet(demo / "tiles" / "statistics.parquet")
    assert list(table) == ["image_id", "channel", *STATISTICS]
    assert len(table) == 24 * 5
    cohort = demo.parent / "cohort"
    labels = pd.read_csv(cohort / "samplesheet.csv", dtype=str).set_index("image_id")["label"]
    truth = pd.read_csv(cohort / "truth.csv")
    planted = truth[truth["kind"] == "arrangement"]
    assert len(planted) == 2
    for channel, class_name in zip(planted["channel"], planted["class"], strict=True):
        own = table[table["channel"] == channel]
        is_clustered = own["image_id"].map(labels) == class_name
        columns = [name for name in STATISTICS if name.startswith(("morans", "granularity"))]
        risen = own.loc[is_clustered, columns].min() > own.loc[~is_clustered, columns].max()
        assert risen.any(), own.groupby(is_clustered)[columns].describe()


def test_they_are_aligned_with_the_cohort(plexrank: Plexrank, tmp_path: Path) -> None:
    study = simulate("demo", tmp_path / "cohort", images=8, channels=4, size_px=32, seed=2)
    for number, channels in ((2, [2, 0, 3]), (5, [0, 1, 2, 3])):  # one lacks a channel, both do not know their scale
        path = tmp_path / "cohort" / "images" / f"image00{number}.ome.tiff"
        write_ome(path, tifffile.imread(path)[channels], [f"C0{channel + 1}" for channel in channels])
    done = plexrank(*run_arguments(study, tmp_path / "run"), "--until", "tile")
    assert done.returncode == 0, done.stderr
    assert "warning: 2 of 8 images do not say how large their pixels are, which are taken for 1 µm" in done.stderr
    plan = make_plan(RunDir(tmp_path / "run"), load_study(study, ["train.folds=2"]))
    cohort = TiledCohort(plan)
    assert tuple(cohort.statistics) == STATISTICS
    table = pd.read_parquet(plan.rundir.tile_statistics).set_index(["image_id", "channel"])
    for name, values in cohort.statistics.items():
        assert values.shape == (8, 4)
        for (image, record), (place, channel) in itertools.product(
            enumerate(plan.cohort.images), enumerate(cohort.channels)
        ):
            expected = np.nan if (image, channel) == (1, "C02") else table.loc[(record.image_id, channel), name]
            assert values[image, place] == pytest.approx(expected, nan_ok=True, abs=0)
    np.testing.assert_allclose(cohort.statistics["mean"], cohort.channel_means, rtol=1e-6)  # each image is one tile
    plan.rundir.tile_statistics.write_bytes(b"PAR1")
    with pytest.raises(RunDirError, match=r"statistics\.parquet: (not what|missing or damaged)"):
        _ = TiledCohort(plan).statistics
    given = plexrank(*run_arguments(study, tmp_path / "given", "tile.image_um_per_px=5"), "--until", "tile")
    assert "how large their pixels are" not in given.stderr
    scaled = pd.read_parquet(tmp_path / "given" / "tiles" / "statistics.parquet").set_index(["image_id", "channel"])
    changed = (scaled["morans_i_10um"] != table["morans_i_10um"]).groupby("image_id").all()
    assert changed[changed].index.tolist() == ["image002", "image005"]  # the others say 1 µm themselves


def test_a_run_without_them_is_tiled_again(demo: Path, plexrank: Plexrank, tmp_path: Path) -> None:
    run = without_digests(shutil.copytree(demo, tmp_path / "run"))
    for path in (run / "tiles").glob("*.ome.zarr/zarr.json"):
        content = json.loads(path.read_text())
        del content["attributes"]["plexrank"]
        path.write_text(json.dumps(content))
    for path in (run / "tiles").glob("*.done.json"):
        record = json.loads(path.read_text())
        record["depends"].pop("statistics", None)
        path.write_text(json.dumps(record))
    (run / "tiles" / "statistics.parquet").unlink()
    done = plexrank(*run_arguments(run / "study.yaml", run), "--until", "tile")
    assert done.returncode == 0, done.stderr
    assert "tile: again, changed: statistics" in done.stderr
    pd.testing.assert_frame_equal(*(pd.read_parquet(one / "tiles" / "statistics.parquet") for one in (demo, run)))
