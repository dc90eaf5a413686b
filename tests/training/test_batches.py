"""What is drawn for an epoch, and what augmentation makes of tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plexrank.models.build import build_network
from plexrank.outcome.nominal import Nominal
from plexrank.settings import ModelSettings
from plexrank.tiles.intensity import IntensityFit
from plexrank.training.data import Disturbance, TrainingTiles, augment, draw_epoch, held_channels, model_input
from plexrank.training.embedding import mean_over_images


def test_an_epoch_gives_every_image_the_same_weight() -> None:
    image_index = np.repeat([4, 9, 2], [1, 3, 12])
    tiles = np.arange(100, 116)
    batches = draw_epoch(tiles, image_index, np.ones(16), batch_tiles=4, entropy=[0, 0, 0, 0])
    drawn = np.concatenate([batch.tiles for batch in batches])
    weights = np.concatenate([batch.weights for batch in batches])
    assert len(np.unique(drawn)) == len(drawn) == 1 + 3 + 3
    for image in (4, 9, 2):
        assert weights[image_index[drawn - 100] == image].sum() == pytest.approx(1.0)
    again = draw_epoch(tiles, image_index, np.ones(16), batch_tiles=4, entropy=[0, 0, 0, 0])
    np.testing.assert_array_equal(drawn, np.concatenate([batch.tiles for batch in again]))
    later = np.concatenate(
        [b.tiles for e in range(1, 9) for b in draw_epoch(tiles, image_index, np.ones(16), 4, [0, 0, 0, e])]
    )
    assert len(np.unique(later)) > 12


@pytest.mark.parametrize(
    ("n_tiles", "batch_tiles", "sizes"),
    [(63, 32, [32, 31]), (33, 32, [17, 16]), (3, 2, [3]), (5, 2, [3, 2]), (2, 8, [2]), (8, 4, [4, 4])],
)
def test_batches_are_nearly_equal_and_never_of_one_tile(n_tiles: int, batch_tiles: int, sizes: list[int]) -> None:
    batches = draw_epoch(np.arange(n_tiles), np.arange(n_tiles), np.ones(n_tiles), batch_tiles, [1])
    assert [len(batch.tiles) for batch in batches] == sizes


def test_processes_share_a_batch_without_changing_its_draws() -> None:
    batch = draw_epoch(np.arange(7), np.arange(7), np.ones(7), 8, [1])[0]
    shares = [batch.share(rank, 3) for rank in range(3)]
    assert [len(share.tiles) for share in shares] == [3, 2, 2]
    for rank, share in enumerate(shares):
        for name in ("tiles", "weights", "corner", "turns", "flips"):
            np.testing.assert_array_equal(getattr(share, name), getattr(batch, name)[rank::3])


def test_a_process_without_a_tile_of_a_step_passes_an_empty_batch() -> None:
    counts = np.random.default_rng(0).poisson(3.0, (4, 3, 16, 16))
    fit = IntensityFit("arcsinh", 5.0, np.full(3, 2.0, dtype=np.float32))
    ids = np.arange(4)
    tiles = TrainingTiles(
        lambda tile: counts[tile], fit, ids % 2, ids, ids.astype(str), list("abc"), Nominal(("x", "y"))
    )
    batch = draw_epoch(ids, ids, np.ones(4), 4, [1])[0]
    first, none = tiles.batches([batch.share(0, 5).tiles, batch.share(4, 5).tiles])
    assert first.shape == (1, 3, 16, 16)
    moved = model_input(augment(none, batch.share(4, 5), crop_px=12))
    assert moved.shape == (0, 3, 12, 12)
    for architecture in ("channel_embedding", "resnet50", "bsn"):
        settings = ModelSettings.model_validate(
            {"architecture": architecture, "backbone": "shallow", "weights": "none"}
        )
        assert build_network(settings, 3, 2).eval()(moved).shape == (0, 2)


def test_augmentation_moves_all_channels_of_a_tile_together() -> None:
    torch.manual_seed(0)
    first = torch.rand(40, 1, 8, 8)
    tiles = torch.cat([first, first + 1, first + 2], dim=1)
    batch = draw_epoch(np.arange(40), np.arange(40), np.ones(40), 40, [2])[0]
    changed = augment(tiles, batch, crop_px=6)
    assert changed.shape == (40, 3, 6, 6)
    torch.testing.assert_close(changed[:, 1], changed[:, 0] + 1)
    torch.testing.assert_close(changed[:, 2], changed[:, 0] + 2)


def test_augmentation_reaches_all_orientations_and_all_corners() -> None:
    tile = torch.arange(9.0).reshape(1, 1, 3, 3)
    batch = draw_epoch(np.arange(400), np.arange(400), np.ones(400), 400, [3])[0]
    whole = augment(tile.expand(400, 1, 3, 3), batch, crop_px=16)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 8
    crops = augment(tile.expand(400, 1, 3, 3), batch, crop_px=1)
    assert sorted(torch.unique(crops).tolist()) == list(range(9))
    with pytest.raises(ValueError, match="must be square, got 3 × 4"):
        augment(torch.zeros(400, 1, 3, 4), batch, 2)


def test_augmentation_equals_crop_turn_and_flip_tile_by_tile() -> None:
    tiles = torch.rand(50, 2, 9, 9)
    batch = draw_epoch(np.arange(50), np.arange(50), np.ones(50), 50, [4])[0]
    changed = augment(tiles, batch, crop_px=6)
    for tile, found, corner, turns, flip in zip(tiles, changed, batch.corner, batch.turns, batch.flips, strict=True):
        y, x = np.floor(corner * 4).astype(int)
        expected = torch.rot90(tile[:, y : y + 6, x : x + 6], int(turns), dims=(-2, -1))
        assert torch.equal(found, expected.flip(-1) if flip else expected)
    assert augment(tiles[:0], batch.share(50, 60), 6).shape == (0, 2, 6, 6)


def test_jitter_is_one_gain_for_each_channel_of_a_tile_and_ends_at_one() -> None:
    tiles = torch.full((60, 3, 4, 4), 0.5)
    plain = draw_epoch(np.arange(60), np.arange(60), np.ones(60), 60, [5])[0]
    batch = draw_epoch(np.arange(60), np.arange(60), np.ones(60), 60, [5], Disturbance(3, jitter=0.5))[0]
    assert plain.gains is None
    assert batch.gains is not None
    np.testing.assert_array_equal(batch.corner, plain.corner)
    np.testing.assert_array_equal(batch.flips, plain.flips)
    changed = augment(tiles, batch, 4)
    expected = torch.from_numpy(np.minimum(0.5 * batch.gains, 1)).float()
    torch.testing.assert_close(changed, expected[:, :, None, None].expand_as(changed))
    assert 0.4 < np.log(batch.gains).std() < 0.6
    assert (changed == 1).any()


def test_dropped_channels_are_absent_but_never_all_of_them() -> None:
    batch = draw_epoch(np.arange(90), np.arange(90), np.ones(90), 90, [6], Disturbance(3, channel_dropout=0.6))[0]
    present = torch.ones(90, 3, dtype=torch.bool)
    present[:30, 0] = False
    assert batch.kept is not None
    held = held_channels(present, batch.kept)
    assert held is not None
    assert held.any(dim=1).all()
    assert not (held & ~present).any()
    kept = torch.from_numpy(batch.kept)
    some = (present & kept).any(dim=1)
    assert torch.equal(held[some], (present & kept)[some])
    assert torch.equal(held[~some], present[~some])
    assert (~some).any()
    assert 0.3 < batch.kept.mean() < 0.5
    everything = held_channels(None, batch.kept)
    assert everything is not None
    assert torch.equal(everything[kept.any(dim=1)], kept[kept.any(dim=1)])
    assert held_channels(present, None) is present


@pytest.mark.parametrize(
    ("size", "number", "sizes"), [(9, 1, [9]), (9, 2, [4, 5]), (9, 4, [2, 2, 3, 2]), (5, 4, [2, 3]), (2, 3, [2])]
)
def test_parts_of_a_batch_hold_two_tiles_or_more(size: int, number: int, sizes: list[int]) -> None:
    batch = draw_epoch(np.arange(size), np.arange(size), np.ones(size), size, [7])[0]
    parts = batch.parts(number)
    assert sorted(len(part.tiles) for part in parts) == sorted(sizes)
    np.testing.assert_array_equal(np.concatenate([part.tiles for part in parts]), batch.tiles)


def test_the_network_is_fed_as_in_the_paper() -> None:
    assert model_input(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-2.0, 0.0, 2.0]


def test_one_row_a_tile_is_demanded() -> None:
    fit = IntensityFit("linear", 1.0, np.ones(1, dtype=np.float32))
    with pytest.raises(ValueError, match="3 labels, 2 images, 3 patients"):
        TrainingTiles(
            lambda tile: np.zeros((1, 4, 4)),
            fit,
            np.zeros(3),
            np.zeros(2),
            np.array(["a"] * 3),
            ["x"],
            Nominal(("a", "b")),
        )


def test_means_over_images_are_known() -> None:
    values = np.array([[1.0, 0.0], [3.0, np.nan], [5.0, 6.0]])
    images, first, means = mean_over_images(values, np.array([7, 2, 7]))
    assert (images.tolist(), first.tolist()) == ([2, 7], [1, 0])
    np.testing.assert_array_equal(means, [[3.0, np.nan], [3.0, 3.0]])


@pytest.mark.parametrize(("tiles", "share", "batch_tiles"), [(63, 0.2, 16), (40, 0.9, 7), (9, 0.2, 4), (30, 0.0, 8)])
def test_batches_hold_as_many_of_the_tiles_to_be_spread_as_can_be(tiles: int, share: float, batch_tiles: int) -> None:
    spread = np.random.default_rng(0).random(tiles) < share
    index, image = np.arange(100, 100 + tiles), np.arange(tiles)
    free = draw_epoch(index, image, np.ones(tiles), batch_tiles, [1])
    even = draw_epoch(index, image, np.ones(tiles), batch_tiles, [1], spread=spread)
    assert [len(batch.tiles) for batch in even] == [len(batch.tiles) for batch in free]
    for name in ("tiles", "weights"):
        drawn = [np.sort(np.concatenate([getattr(batch, name) for batch in drawn])) for drawn in (free, even)]
        np.testing.assert_array_equal(*drawn)
    counts = [int(spread[batch.tiles - 100].sum()) for batch in even]
    assert max(counts) - min(counts) <= 1
    again = draw_epoch(index, image, np.ones(tiles), batch_tiles, [1], spread=spread)
    assert all(np.array_equal(one.tiles, two.tiles) for one, two in zip(even, again, strict=True))
