"""The tile grid, the pass that fills the tile store, and the tissue that it finds."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import yaozarrs
import zarr

from lazy_images import Image, lazy, names, noise, settings, whole_image
from plexrank.errors import ImageDataError
from plexrank.tiles import layout
from plexrank.tiles.grid import Tile, TileGrid, mirrored
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image
from plexrank.tiles.tissue import find_tissue, summarise_tile, tissue_of_tile

# --- grid


def test_a_partial_grid_covers_every_pixel_once() -> None:
    grid = TileGrid(35, 48, 16)
    covered = np.zeros((35, 48), int)
    for tile in grid.tiles():
        covered[tile.y_px : tile.y_px + tile.height_px, tile.x_px : tile.x_px + tile.width_px] += 1
    assert (grid.rows, grid.cols) == (3, 3)
    assert np.all(covered == 1)
    assert grid.tiles()[1] == Tile(row=0, col=1, y_px=0, x_px=16, height_px=16, width_px=16)
    assert grid.tiles()[-1] == Tile(row=2, col=2, y_px=32, x_px=32, height_px=3, width_px=16)


@pytest.mark.parametrize(("row", "col"), [(-1, 0), (3, 0), (0, 3)])
def test_a_tile_outside_the_grid_is_refused(row: int, col: int) -> None:
    with pytest.raises(IndexError, match="no tile"):
        TileGrid(35, 48, 16).tile(row, col)


@pytest.mark.parametrize("sides", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_grid_without_extent_is_refused(sides: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="≥ 1"):
        TileGrid(*sides)


def test_a_tile_goes_on_mirrored_beyond_the_edge() -> None:
    tile = np.zeros((2, 4, 8), np.uint8)
    tile[:, :3, :3] = np.arange(18).reshape(2, 3, 3)
    assert mirrored(tile, 3, 3)[0].tolist() == [  # the width less than half: mirrored twice and a bit
        [0, 1, 2, 2, 1, 0, 0, 1],
        [3, 4, 5, 5, 4, 3, 3, 4],
        [6, 7, 8, 8, 7, 6, 6, 7],
        [6, 7, 8, 8, 7, 6, 6, 7],
    ]
    assert np.all(mirrored(tile, 1, 1)[1] == 9)
    assert mirrored(tile, 4, 8) is tile


@pytest.mark.parametrize("part", [(0, 3), (3, 0), (5, 3), (3, 9)])
def test_no_tile_is_mirrored_at_an_edge_outside_of_it(part: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="lies in a tile of 4 × 8"):
        mirrored(np.zeros((2, 4, 8)), *part)


# --- writing


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "int64", "float32", "float64"])
def test_untouched_pixels_come_back_exactly_in_their_type(tmp_path: Path, dtype: str) -> None:
    pixels = noise((3, 70, 83), dtype)
    tile_image(lazy(pixels), [0, 1, 2], names(3), settings(), tmp_path / "a.ome.zarr")
    store = TileStore(tmp_path / "a.ome.zarr")
    read = whole_image(store)
    assert store.shape == (3, 70, 83)
    assert store.tile_px == 16
    assert read.shape == (3, 80, 96)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read[:, :70, :83], pixels)
    assert not read[:, 70:].any()
    assert not read[:, :, 83:].any()


def test_many_shards_from_ill_fitting_chunks_lose_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_SHARD_BYTES", 2 * 16 * 16 * 2 * 4)  # shards of 2 × 2 tiles
    pixels = noise((2, 197, 211), "uint16")
    tile_image(lazy(pixels, (1, 29, 53)), [0, 1], names(2), settings(), tmp_path / "a.ome.zarr")
    shards = [*(tmp_path / "a.ome.zarr" / "0").glob("c.*")]
    assert len(shards) == 7 * 7
    np.testing.assert_array_equal(whole_image(TileStore(tmp_path / "a.ome.zarr"))[:, :197, :211], pixels)


def test_channels_are_selected_and_named_in_the_order_asked_for(tmp_path: Path) -> None:
    pixels = noise((4, 20, 20), "uint8")
    tile_image(lazy(pixels), [2, 0], ["SMA", "CD 3/ε"], settings(), tmp_path / "a.ome.zarr")
    store = TileStore(tmp_path / "a.ome.zarr")
    assert store.channel_names == ("SMA", "CD 3/ε")
    np.testing.assert_array_equal(whole_image(store)[:, :20, :20], pixels[[2, 0]])


def test_an_empty_part_of_an_image_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_SHARD_BYTES", 16 * 16)  # one tile a shard
    pixels = np.zeros((1, 32, 32), np.uint8)
    pixels[0, :4, :4] = 9
    tile_image(lazy(pixels), [0], ["A"], settings(), tmp_path / "a.ome.zarr")
    assert (tmp_path / "a.ome.zarr/0/c.0.1.1").stat().st_size > 0
    np.testing.assert_array_equal(TileStore(tmp_path / "a.ome.zarr").read_tile(1, 1), np.zeros((1, 16, 16)))


@pytest.mark.parametrize(
    ("pixel_size_um", "unit", "scale"),
    [((0.5, 0.25), "micrometer", [1.0, 1.0, 0.5]), (None, None, [1.0, 2.0, 2.0])],
)
def test_the_metadata_is_valid_ngff(
    tmp_path: Path, pixel_size_um: tuple[float, float] | None, unit: str | None, scale: list[float]
) -> None:
    pixels = noise((2, 40, 50), "uint8")
    image = Image(da.from_array(pixels), pixel_size_um)
    tile_image(image, [0, 1], ["A", "B"], settings(downsample=2), tmp_path / "a.ome.zarr")
    yaozarrs.validate_zarr_store(tmp_path / "a.ome.zarr")
    ome = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_text())["attributes"]["ome"]
    multiscale = ome["multiscales"][0]
    means = pixels.reshape(2, 20, 2, 25, 2).mean(axis=(2, 4))
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, unit, unit]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": scale}]
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["A", "B"]
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["00FFFF", "FF00FF"]
    assert ome["omero"]["channels"][1]["window"]["max"] == means[1].max()
    assert zarr.open_array(tmp_path / "a.ome.zarr/0").metadata.dimension_names == ("c", "y", "x")


def test_an_existing_store_is_replaced_only_by_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    first, second = noise((1, 20, 20), "uint8", 1), noise((1, 16, 16), "uint16", 2)
    tile_image(lazy(first), [0], ["A"], settings(), path)
    with pytest.raises(ImageDataError):
        tile_image(lazy(np.zeros((1, 16, 16))), [0], ["A"], settings(), path)
    assert TileStore(path).shape == (1, 20, 20)
    tile_image(lazy(second), [0], ["A"], settings(), path)
    np.testing.assert_array_equal(TileStore(path).read_tile(0, 0), second)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ome.zarr"]


# --- refusals while tiling


@pytest.mark.parametrize("downsample", [1, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_named_and_counted(tmp_path: Path, bad: float, downsample: int) -> None:
    pixels = noise((3, 40, 40), "float32")
    pixels[1, 3, 4:7] = bad
    with pytest.raises(ImageDataError, match=r"^a: NaN or infinite pixels in B \(3\); "):
        tile_image(lazy(pixels), [0, 1], ["A", "B"], settings(downsample=downsample), tmp_path / "a.ome.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_without_signal_is_refused(tmp_path: Path, value: int) -> None:
    with pytest.raises(ImageDataError, match="no signal"):
        tile_image(lazy(np.full((2, 40, 40), value, "uint8")), [0, 1], names(2), settings(), tmp_path / "a.ome.zarr")
    assert not list(tmp_path.iterdir())


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match="complex64"):
        tile_image(lazy(noise((1, 20, 20), "complex64")), [0], ["A"], settings(), tmp_path / "a.ome.zarr")


# --- tissue


def test_tissue_is_found_and_background_left_out_and_counted(tmp_path: Path) -> None:
    pixels = np.zeros((2, 32, 40), np.uint8)
    pixels[:, :16, :16] = 10  # tile (0, 0) whole
    pixels[0, 16:24, 16:24] = 10  # one block of four in tile (1, 1)
    pixels[1, 24:32, 32:40] = 10  # one block of two in the narrow tile (1, 2)
    tiled = tile_image(lazy(pixels), [0, 1], names(2), settings(min_tissue=0.1), tmp_path / "a.ome.zarr")
    assert [(row.tile.row, row.tile.col, row.tissue_fraction) for row in tiled.tiles] == [
        (0, 0, 1.0),
        (1, 1, 0.25),
        (1, 2, 0.5),
    ]
    assert tiled.n_background == 3
    assert not tiled.warnings


def test_a_partial_block_at_the_edge_is_judged_by_its_mean(tmp_path: Path) -> None:
    pixels = np.full((1, 16, 17), 10, np.uint8)
    pixels[:, :8, :8] = 0
    tiled = tile_image(lazy(pixels), [0], ["A"], settings(), tmp_path / "a.ome.zarr")
    assert [row.tissue_fraction for row in tiled.tiles] == [0.75, 1.0]


def test_an_image_never_loses_its_last_tile(tmp_path: Path) -> None:
    pixels = np.zeros((1, 32, 32), np.uint8)
    pixels[0, 20, 20] = 5
    tiled = tile_image(lazy(pixels), [0], ["A"], settings(min_tissue=0.9), tmp_path / "a.ome.zarr")
    assert [(row.tile.row, row.tile.col) for row in tiled.tiles] == [(1, 1)]
    assert tiled.n_background == 3
    assert "all 4 tiles are below min_tissue 0.9" in tiled.warnings[0]


def test_the_tissue_of_a_tile_is_what_tiling_took_for_it() -> None:
    pixels = np.random.default_rng(0).poisson(2.0, (3, 40, 44)).astype(np.uint16)
    pixels[:, :, 20:] += 20
    tile = TileGrid(40, 44, 48).tile(0, 0)
    chunk = np.pad(pixels, ((0, 0), (0, 8), (0, 4)))
    summary = summarise_tile(tile, chunk, (10, 10), None)
    fraction = find_tissue([summary], 0.0).tiles[0].tissue_fraction
    least = summary.signal.min()
    threshold = least + 0.05 * (np.percentile(summary.signal, 99) - least)
    expected = (summary.signal > threshold).reshape(5, 6).repeat(8, axis=0).repeat(8, axis=1)[:40, :44]
    np.testing.assert_array_equal(tissue_of_tile(pixels, fraction), expected)
    assert tissue_of_tile(pixels, 1.0).all()
    assert not tissue_of_tile(pixels, 0.0).any()
