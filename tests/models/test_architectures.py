"""Every architecture: which channels matter to what, importances with known answers, and recomputation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from plexrank.errors import PlexrankError
from plexrank.models.baselines import Baseline, Bsn, WholeTileBaseline
from plexrank.models.build import Network, build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.encoders import Independent
from plexrank.models.recomputation import set_recompute
from plexrank.settings import ModelSettings
from plexrank.training.memory import activation_bytes, naming_what_embeds, naming_what_fits, should_recompute

EMBEDDINGS = [
    {"backbone": backbone, "encoder": encoder}
    for backbone in ("resnet18", "resnet3d18", "shallow")
    for encoder in ("shared", "independent")
]
BASELINES = [{"architecture": name} for name in ("resnet50", "resnet3d18", "bsn")]
ALL = [*EMBEDDINGS, *BASELINES]


def build(chosen: dict[str, str], seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network(ModelSettings.model_validate({"weights": "none", **chosen}), 3, 2)


def lacking(tiles: int = 4) -> tuple[Tensor, Tensor]:
    """Tiles (B, 3, 32, 32), and presence in which tile 1 lacks channel 2 and the last one channel 0."""
    present = torch.ones(tiles, 3, dtype=torch.bool)
    present[1, 2] = present[-1, 0] = False
    return torch.randn(tiles, 3, 32, 32, generator=torch.Generator().manual_seed(3)), present


@pytest.mark.parametrize("chosen", ALL, ids=str)
def test_presence_is_respected_by_every_network(chosen: dict[str, str]) -> None:
    tiles, present = lacking()
    model = build(chosen).eval()
    garbage = torch.where(present[:, :, None, None], tiles, torch.nan)
    with torch.no_grad():
        expected = model(tiles, present)
        assert expected.shape == (4, 2)
        assert torch.equal(model(garbage, present), expected)
        everything = torch.ones_like(present)
        torch.testing.assert_close(model(tiles, everything), model(tiles), atol=1e-5, rtol=1e-5)
    model.train()(garbage, present).sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    with pytest.raises(ValueError, match="expected tiles of 3 channels, got 4"):
        model(torch.zeros(1, 4, 32, 32))


@pytest.mark.parametrize("chosen", [c for c in EMBEDDINGS if c["encoder"] == "independent"], ids=str)
def test_an_independent_encoder_belongs_to_its_channel(chosen: dict[str, str]) -> None:
    tiles, present = lacking()
    model = build(chosen).eval()
    assert isinstance(model, ChannelEmbedding)
    assert isinstance(model.encoder.embedding, Independent)
    with torch.no_grad():
        before, some_before = model.embed(tiles), model.embed(tiles, present)
        for parameter in model.encoder.embedding.of_channel[1].parameters():
            parameter.add_(0.01)
        after, some_after = model.embed(tiles), model.embed(tiles, present)
    assert (before != after).any(dim=0).tolist() == [False, True, False]
    whole = present.all(dim=1)
    torch.testing.assert_close(some_after[whole], after[whole], rtol=1e-4, atol=1e-5)
    assert torch.equal(some_before.isnan(), ~present)


def test_the_volume_backbone_lets_neighbouring_channels_meet() -> None:
    model, tiles = build({"backbone": "resnet3d18"}).eval(), lacking()[0]
    assert isinstance(model, ChannelEmbedding)
    changed = tiles.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        moved = (model.embed(tiles) - model.embed(changed)).abs().amax(dim=0) > 1e-6
    assert moved.tolist() == [True, True, True]


@pytest.mark.parametrize("chosen", BASELINES[:2], ids=str)
def test_the_own_importance_is_the_magnitude_of_the_input_gradient(chosen: dict[str, str]) -> None:
    model, (tiles, present) = build(chosen).eval(), lacking(2)
    assert isinstance(model, WholeTileBaseline)
    present[:] = torch.tensor([True, True, False])
    values = model.importances(tiles, present)
    leaf = tiles.requires_grad_()
    expected = torch.autograd.grad(model(leaf, present)[:, 1].sum(), leaf)[0].abs().mean(dim=(2, 3))
    assert values[:, 2].isnan().all()
    assert (values[:, :2] > 0).all()
    torch.testing.assert_close(values[:, :2, 1], expected[:, :2], rtol=1e-4, atol=1e-8)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_grad_cam_agrees_with_its_definition() -> None:
    model, (tiles, present) = build({"architecture": "bsn"}).eval(), lacking(2)
    assert isinstance(model, Bsn)
    features = model.trunk(tiles[0, 1][None, None]).detach().requires_grad_()
    for label in range(2):
        score = model.fc(features.mean(dim=(2, 3)))[0, label]
        weights = torch.autograd.grad(score, features)[0].mean(dim=(2, 3), keepdim=True)
        expected = (weights * features).sum(dim=1).relu().mean()
        torch.testing.assert_close(model.importances(tiles)[0, 1, label], expected)
    assert torch.equal(model.importances(tiles, present).isnan().all(dim=2), ~present)


def test_bsn_averages_the_scores_of_the_channels_that_are_there() -> None:
    model, (tiles, present) = build({"architecture": "bsn"}).eval(), lacking()
    with torch.no_grad():
        alone = torch.stack([model.fc(model.trunk(tiles[:, [c]]).mean(dim=(2, 3))) for c in range(3)], dim=1)
        torch.testing.assert_close(model(tiles), alone.mean(dim=1), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(tiles, present)[1], alone[1, :2].mean(dim=0), atol=1e-5, rtol=1e-4)


def gradients(model: nn.Module, recompute: bool) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Of one training step: the gradients, the state afterwards, and the bytes kept for the backward pass."""
    tiles, present = lacking(3)
    set_recompute(model, recompute)
    model.train()
    kept: dict[int, int] = {}

    def keep(values: Tensor) -> Tensor:
        kept[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        loss = nn.functional.cross_entropy(model(tiles, present), torch.tensor([0, 1, 0]))
    loss.backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return found, dict(model.state_dict()), sum(kept.values())


@pytest.mark.parametrize("chosen", [*EMBEDDINGS, BASELINES[2]], ids=str)
def test_recomputed_gradients_and_statistics_are_the_plain_ones(chosen: dict[str, str]) -> None:
    plain, plain_state, much = gradients(build(chosen), recompute=False)
    again, state, little = gradients(build(chosen), recompute=True)
    norm = torch.stack([value.norm() for value in plain.values()]).norm()
    assert list(plain) == list(again)
    assert all((again[name] - value).norm() / norm < 1e-5 for name, value in plain.items())
    for name, value in plain_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6, msg=name)
    assert little < (0.7 if chosen.get("backbone") != "shallow" else 0.9) * much


def test_activations_are_measured_without_a_trace() -> None:
    model = build({"backbone": "shallow"}).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bytes_kept = activation_bytes(model, 3, 32, torch.device("cpu"), bf16=False)
    first_layer = 3 * 16 * 16 * 16 * 4
    assert 2 * first_layer < bytes_kept < 12 * first_layer
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert activation_bytes(model, 3, 64, torch.device("cpu"), bf16=False) > 3 * bytes_kept


@pytest.mark.parametrize(
    ("wanted", "free_bytes", "expected"),
    [(True, None, True), (False, 1, False), ("auto", None, False), ("auto", 1000, True), ("auto", 10_000, False)],
)
def test_recomputation_is_for_gpus_that_would_be_too_small(wanted, free_bytes, expected: bool) -> None:
    assert should_recompute(wanted, 1000, free_bytes) is expected


def out_of_memory() -> Iterator[None]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


@pytest.mark.parametrize(("recompute", "remedy"), [(False, "set train.recompute: true, or raise"), (True, "; raise")])
def test_out_of_memory_is_one_message_with_the_setting(recompute: bool, remedy: str) -> None:
    with (
        pytest.raises(PlexrankError, match=rf"out of GPU memory: 8 tiles at once keep 16\.0 GiB.*{remedy} train\.acc"),
        naming_what_fits(8, 2 * 2**30, recompute, torch.device("cpu")),
    ):
        out_of_memory()


def test_out_of_memory_on_whole_tiles_names_their_size() -> None:
    expected = r"out of GPU memory: 3 whole tiles of 40 channels, 512 × 512 px, at once without.*lower tile.tile_px"
    with pytest.raises(PlexrankError, match=expected), naming_what_embeds(3, (40, 512, 512)):
        out_of_memory()


def test_baselines_are_of_one_kind() -> None:
    assert all(isinstance(build(chosen), Baseline) for chosen in BASELINES)
