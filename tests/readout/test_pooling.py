"""Attention finds the tiles that tell, counts them in, and leaves the mean alone where it does not help."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from plexrank.attribution.store import AttributionBlock
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import aggregate_unit
from plexrank.readout.pooling import AttentionPooling, Bags, fit_attention, make_bags, tile_weights
from plexrank.training.embedding import mean_over_images
from plexrank.training.losses import NominalLoss

LOSS = NominalLoss(Nominal(("a", "b"))).of_images


def bags(seed: int, informative: bool = True, images: int = 40) -> tuple[Bags, np.ndarray]:
    """Images of 12 tiles, two of which channel 0 marks; only in these does channel 1 tell the class."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    r = generator.normal(size=(images, 12, 3)).astype(np.float32)
    r[:, :2, 0] += 4
    if informative:
        r[:, :2, 1] += 4 * labels[:, None] - 2
        r[:, 2:, 1] *= 4
    image = np.repeat(np.arange(images) * 3, 12)
    return make_bags(r.reshape(-1, 3), image, np.repeat(labels, 12), np.zeros(12 * images, dtype=np.int64)), r


def test_attention_turns_to_the_tiles_that_tell() -> None:
    training, _ = bags(0)
    attention = fit_attention(training, bags(1)[0], 2, seed=0, loss=LOSS)
    held_out, r = bags(2)
    weights = tile_weights(attention, r.reshape(-1, 3), np.repeat(np.arange(40), 12)).reshape(40, 12)
    np.testing.assert_allclose(weights.mean(axis=1), 1, rtol=1e-5)
    assert weights[:, :2].mean() > 3 * weights[:, 2:].mean()
    signal = held_out.labels.numpy() * 2 - 1
    by_mean, by_attention = r[:, :, 1].mean(axis=1), (r[:, :, 1] * weights).mean(axis=1)
    assert np.corrcoef(by_attention, signal)[0, 1] > np.corrcoef(by_mean, signal)[0, 1] + 0.1
    again = fit_attention(training, bags(1)[0], 2, seed=0, loss=LOSS)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in attention.state_dict().items())


def test_attention_that_does_not_help_other_patients_stays_close_to_the_mean() -> None:
    attention = fit_attention(bags(0, informative=False)[0], bags(1, informative=False)[0], 2, seed=0, loss=LOSS)
    r = bags(2, informative=False)[1].reshape(-1, 3)
    assert np.abs(tile_weights(attention, r, np.repeat(np.arange(40), 12)) - 1).mean() < 0.2


def test_absent_channels_and_single_tiles_are_taken() -> None:
    torch.manual_seed(0)
    attention = AttentionPooling(3)
    torch.nn.init.normal_(attention.score.weight)
    r = np.array([[0.0, np.nan, 1.0], [2.0, np.nan, -1.0], [5.0, 5.0, 5.0]], dtype=np.float32)
    weights = tile_weights(attention, r, np.array([7, 7, 4]))
    assert weights[2] == 1
    np.testing.assert_allclose(weights[:2].mean(), 1, rtol=1e-6)
    assert weights[0] != weights[1]
    filled = np.nan_to_num(r)
    np.testing.assert_array_equal(weights, tile_weights(attention, filled, np.array([7, 7, 4])))
    _, _, mean = mean_over_images(r, np.array([7, 7, 4]), weights)
    np.testing.assert_allclose(mean[1], (r[:2] * weights[:2, None]).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(tile_weights(None, r, np.array([7, 7, 4])), [1, 1, 1])


def test_weights_count_in_all_that_the_network_says_and_not_in_intensities() -> None:
    generator = np.random.default_rng(0)
    block = AttributionBlock(
        tile_id=np.arange(4),
        embedding=generator.normal(size=(4, 2)),
        logits=generator.normal(size=(4, 2)),
        mean_intensity=generator.normal(size=(4, 2)),
        weight=np.array([0.5, 1.5, 1.0, 1.0]),
        values={"gradient": generator.normal(size=(4, 2, 2))},
    )
    image = np.array([0, 0, 1, 1])
    table = aggregate_unit([block], image, 2, outcome=Nominal(()), fold=0, seed=0, classify=np.asarray)
    alike = aggregate_unit(
        [dataclasses.replace(block, weight=np.ones(4))],
        image,
        2,
        outcome=Nominal(()),
        fold=0,
        seed=0,
        classify=np.asarray,
    )
    share = np.array([0.25, 0.75])
    np.testing.assert_allclose(table.embedding[0], share @ block.embedding[:2])
    np.testing.assert_allclose(table.logits[0], share @ block.logits[:2])
    own = np.abs(block.values["gradient"][[0, 1], :, block.logits[:2].argmax(axis=1)])
    np.testing.assert_allclose(table.importance["gradient"][0], share @ own)
    np.testing.assert_allclose(table.mean_intensity, alike.mean_intensity)
    np.testing.assert_allclose(table.embedding[1], alike.embedding[1])
