"""Which tiles the gallery shows, how they look as files, and where links to them lead."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plexrank.report.anchors import channel_anchor
from plexrank.report.gallery import (
    GroupTiles,
    TileToShow,
    channel_pictures,
    choose_tiles,
    contrast_window,
    tiles_an_end,
    top_channels,
)
from plexrank.report.scale_bar import ScaleBar, round_length, scale_bar
from plexrank.report.tile_png import GREYS, outline, tile_png

HOSTILE = (
    "<script>alert(1)</script>",
    '"x" onclick="y',
    "α-SMA",
    "β-SMA",
    "قناة",
    "C" * 80,
    "C" * 79 + "D",
    "",
    "cd3",
    "CD3",
)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def tile(values: np.ndarray, r: float = 0.5, **more: object) -> TileToShow:
    given = {"image_id": "i", "patient_id": "p", "tissue": None, "pixel_size_um": None} | more
    return TileToShow(r=r, pixels=values.astype(np.float64), **given)  # type: ignore[arg-type]


def test_anchors_of_hostile_names_are_plain_and_differ() -> None:
    anchors = [channel_anchor(name) for name in HOSTILE]
    assert len(set(anchors)) == len(HOSTILE)
    for anchor in anchors:
        assert anchor.startswith("channel-")
        assert len(anchor) < 60
        assert set(anchor) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert anchors == [channel_anchor(name) for name in HOSTILE]


def test_found_channels_come_first_then_positions_and_never_controls() -> None:
    ranking = pd.DataFrame(
        {
            "channel": ["A", "B", "C", "D", "E"],
            "position": pd.array([1, 2, 3, 4, None], dtype="Int64"),
            "significant": [False, False, True, True, True],
            "excluded": [False, False, False, False, True],
        }
    )
    assert top_channels(ranking, 10) == ["C", "D", "A", "B"]
    assert top_channels(ranking, 3) == ["C", "D", "A"]


def test_tiles_of_different_patients_are_preferred() -> None:
    r = np.array([9.0, 8.0, 7.0, 6.0, 1.0, 2.0, np.nan, 3.0])
    patient = np.array([0, 0, 0, 1, 2, 3, 4, 2])
    highest, lowest = choose_tiles(r, patient, 2)
    assert highest == [0, 3]
    assert lowest == [4, 5]


def test_one_patient_gives_several_tiles_where_there_is_no_other() -> None:
    highest, lowest = choose_tiles(np.arange(6.0), np.zeros(6, dtype=int), 2)
    assert (highest, lowest) == ([5, 4], [0, 1])


@pytest.mark.parametrize(
    ("r", "highest", "lowest"),
    [([], [], []), ([np.nan], [], []), ([1.0], [0], []), ([1.0, 2.0], [1], [0]), ([3.0, 1.0, 2.0], [0, 2], [1])],
)
def test_no_tile_is_at_both_ends(r: list[float], highest: list[int], lowest: list[int]) -> None:
    assert choose_tiles(np.array(r), np.arange(len(r)), 3) == (highest, lowest)


def test_many_groups_show_fewer_tiles() -> None:
    assert [tiles_an_end(groups) for groups in (2, 4, 5, 12, 40)] == [3, 3, 2, 1, 1]


def test_the_window_is_of_all_tiles_shown() -> None:
    dark, bright = np.zeros((10, 100)), np.linspace(0, 100, 1000).reshape(10, 100)
    assert contrast_window([dark, bright]) == (0.0, pytest.approx(99.0, abs=0.1))
    assert contrast_window([bright - 10])[0] == -10
    sparse = np.zeros((50, 50))
    sparse[0, 0] = 7
    assert contrast_window([sparse]) == (0.0, 7.0)
    assert contrast_window([dark]) == (0.0, 1.0)


def test_a_tile_is_a_small_grey_png_with_its_window() -> None:
    values = np.tile(np.array([0.0, 5.0, 10.0, 20.0]), (4, 1))
    image = opened(tile_png(values, (0.0, 10.0), times=2))
    assert image.size == (8, 8)
    assert image.mode == "P"
    assert np.asarray(image)[0, ::2].tolist() == [0, round(0.5 * (GREYS - 1)), GREYS - 1, GREYS - 1]
    noise = np.random.default_rng(0).uniform(size=(128, 128))
    assert len(tile_png(noise, (0.0, 1.0))) < 14_000


def test_tissue_is_outlined_and_edges_of_the_picture_are_not() -> None:
    tissue = np.zeros((6, 6), dtype=bool)
    tissue[:, :3] = True
    assert np.argwhere(outline(tissue)).tolist() == [[row, 2] for row in range(6)]
    image = opened(tile_png(np.zeros((6, 6)), (0.0, 1.0), tissue))
    assert (np.asarray(image) == GREYS).sum() == 6
    red, green, blue = image.convert("RGB").getpixel((2, 0))  # type: ignore[misc]
    assert red > green > blue


def test_the_scale_bar_has_its_length() -> None:
    plain, with_bar = (np.asarray(opened(tile_png(np.zeros((64, 64)), (0, 1), None, bar, 2))) for bar in (0, 20))
    assert (with_bar == GREYS - 1).any(axis=0).sum() == 40
    assert not plain.any()


def test_bars_are_round_and_in_pixels_where_no_size_is_known() -> None:
    assert [round_length(longest) for longest in (1, 9.9, 10, 49, 0.3)] == [1, 5, 10, 20, pytest.approx(0.2)]
    assert scale_bar([128, 256], [0.5, 0.5]) == ScaleBar(20, in_um=True)
    assert scale_bar([128], [0.5]).pixels(0.5) == 40
    assert scale_bar([64], [None]).text == "20 px (pixel size not known)"
    mixed = scale_bar([64, 64], [None, 1.0])
    assert (mixed.in_um, mixed.pixels(None), mixed.pixels(2.0)) == (True, 0.0, 10.0)


def test_a_channel_says_how_it_is_to_be_read() -> None:
    values = np.arange(64.0).reshape(8, 8)
    half = np.arange(8) < 4
    groups = [
        GroupTiles(
            "<A>", (tile(values, 2.0), tile(values / 2, 1.0)), (tile(values, -1.0, tissue=np.tile(half, (8, 1))),)
        ),
        GroupTiles("B", (tile(values, 0.1, reduced=2),), ()),
    ]
    shown = channel_pictures("CD3", "position 1", groups, ScaleBar(2, in_um=False), (0.0, 63.0))
    assert [(group, end, len(tiles)) for group, end, tiles in shown.rows] == [
        ("<A>", "highest r (dimmer)", 2),
        ("<A>", "lowest r (brighter)", 1),
        ("B", "highest r (dimmer)", 1),
    ]
    for said in ("Black is 0 and white 63", "Bar: 2 px", "edge of the tissue", "up to 2 × 2 stored"):
        assert said in shown.scale
    first = shown.rows[0][2][0]
    assert first.title == "image i, patient p, r +2.00"
    assert first.alt == "CD3, <A>, one of the tiles with the highest r: image i, patient p, r +2.00"
    assert opened(base64.b64decode(first.address.split(",")[1])).size == (128, 128)
    assert shown.anchor == channel_anchor("CD3")
