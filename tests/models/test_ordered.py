"""Outputs of grades fall, whatever is learned."""

from __future__ import annotations

import pytest
import torch

from plexrank.models.baselines import Bsn
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.ordered import LEAST_GAP, OrderedLinear, last_layer
from plexrank.settings import ModelSettings


@pytest.mark.parametrize("grades", [2, 3, 5, 40])
def test_all_grades_are_equally_likely_before_training(grades: int) -> None:
    layer = OrderedLinear(4, grades - 1)
    above = torch.cat([torch.ones(1), layer.thresholds.sigmoid(), torch.zeros(1)])
    torch.testing.assert_close(-above.diff(), torch.full((grades,), 1 / grades), atol=1e-5, rtol=0)
    outputs = layer(torch.rand(6, 4))
    torch.testing.assert_close(outputs - outputs[:, :1], (layer.thresholds - layer.thresholds[0]).expand(6, -1))


def test_thresholds_stay_in_order_whatever_is_learned() -> None:
    torch.manual_seed(0)
    layer = OrderedLinear(3, 4)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.5)
    for _ in range(200):
        optimiser.zero_grad()
        layer(torch.randn(8, 3)).diff(dim=1).neg().sum().backward()  # asks for thresholds that rise
        optimiser.step()
        assert (layer.thresholds.diff() < 0).all()
    assert (-layer.thresholds.diff() < 2 * LEAST_GAP).all()


def test_a_layer_without_order_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(3, 2)
    torch.manual_seed(0)
    made = last_layer(3, 2, ordered=False)
    assert type(made) is torch.nn.Linear
    assert torch.equal(made.weight, plain.weight)


@pytest.mark.parametrize("chosen", [{"backbone": "shallow"}, {"architecture": "bsn"}], ids=str)
@pytest.mark.parametrize(("outputs", "ordered"), [(1, False), (3, True)])
def test_networks_have_as_many_outputs_as_are_wanted(chosen: dict[str, str], outputs: int, ordered: bool) -> None:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate({"weights": "none", **chosen})
    network = build_network(settings, 2, outputs, ordered).eval()
    tiles = torch.rand(2, 2, 32, 32)
    with torch.no_grad():
        found = network(tiles)
    assert found.shape == (2, outputs)
    assert network.num_outputs == outputs
    if ordered:
        assert (found.diff(dim=1) < 0).all()
    if isinstance(network, Bsn):
        importances = network.importances(tiles)
        assert importances.shape == (2, 2, outputs)
        torch.testing.assert_close(importances, importances[..., :1].expand(-1, -1, outputs))
    else:
        assert isinstance(network, ChannelEmbedding)
        assert network.classify(torch.zeros(2, 2)).shape == (2, outputs)
