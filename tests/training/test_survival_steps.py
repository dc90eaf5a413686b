"""A step on times to events compares all images of the step, however their tiles are shared out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes

from plexrank.distributed import ProcessInfo, barrier, process_group, unwrap, wrap
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.recomputation import set_recompute
from plexrank.settings import TrainSettings
from plexrank.statistics.cox import partial_likelihood
from plexrank.training.data import Batch, TrainingTiles, draw_epoch
from plexrank.training.losses import SurvivalLoss, make_loss
from plexrank.training.step import Stepper
from tiny_outcomes import PLANTED, outcome_tiles

STEPS = 3
KINDS: dict[str, dict[str, bool | int]] = {
    "whole": {},
    "recomputed": {"recompute": True},
    "parts": {"accumulate": 3},
    "recomputed parts": {"accumulate": 3, "recompute": True},
    "without events": {"without_events": True},
    "parts without events": {"accumulate": 3, "without_events": True},
}


def batches(tiles: TrainingTiles, without_events: bool = False) -> list[Batch]:
    loss = make_loss(tiles.outcome)
    event = loss.spread(tiles.labels)
    assert event is not None
    index = np.flatnonzero(~event) if without_events else np.arange(len(tiles.labels))
    drawn = draw_epoch(index, tiles.image_index[index], np.ones(len(index)), 16, [1], spread=event[index])
    assert all(event[batch.tiles].any() != without_events for batch in drawn)
    return drawn[: 1 if without_events else STEPS]


def stepper(network: nn.Module, tiles: TrainingTiles, info: ProcessInfo, accumulate: int = 1) -> Stepper:
    return Stepper(
        network,
        torch.optim.SGD(network.parameters(), lr=0.05),
        make_loss(tiles.outcome),
        tiles,
        TrainSettings(batch_tiles=16, crop_px=16, accumulate=accumulate),
        info,
        bf16=False,
    )


def steps(
    info: ProcessInfo,
    *,
    accumulate: int = 1,
    recompute: bool = False,
    without_events: bool = False,
    training: bool = True,
) -> dict[str, Tensor]:
    """Gradients of the first step, weights and running statistics after all of them, and their sums."""
    torch.manual_seed(0)
    network = ChannelEmbedding(3, 1, "shallow")
    set_recompute(network, recompute)
    tiles = outcome_tiles("survival", images=40)
    taken = stepper(wrap(network, info).train(training), tiles, info, accumulate)
    found: dict[str, Tensor] = {}
    for batch in batches(tiles, without_events):
        shares = taken.shares(batch)
        sums = taken.step(batch, shares, tiles.batches(share.tiles for share in shares))
        plain = unwrap(taken.wrapped)
        if not found:
            found |= {
                f"grad.{name}": value.grad.clone() for name, value in plain.named_parameters() if value.grad is not None
            }
            found["sums"] = sums
    return found | {name: value.clone() for name, value in plain.state_dict().items()}


def in_a_group(rank: int, folder: Path, processes: int) -> None:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (("PROCID", rank), ("LOCALID", rank), ("STEP_NUM_TASKS", processes), ("JOB_ID", 8)):
            environment.setenv(f"SLURM_{name}", str(value))
        environment.setenv("CUDA_VISIBLE_DEVICES", "")
        torch.set_num_threads(1)
        with process_group(folder / "meetings") as info:
            found = {kind: steps(info, **settings) for kind, settings in KINDS.items()}  # type: ignore[arg-type]
            barrier(info)
            torch.save(found, folder / f"{rank}.pt")


Found = list[dict[str, dict[str, Tensor]]]
"""What each process found, by kind."""


@pytest.fixture(scope="module")
def found_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Found]:
    @functools.cache
    def found(processes: int) -> Found:
        folder = tmp_path_factory.mktemp("group")
        start_processes(in_a_group, args=(folder, processes), nprocs=processes, start_method="forkserver")
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]

    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    return {kind: steps(ProcessInfo(), **settings) for kind, settings in KINDS.items()}  # type: ignore[arg-type]


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    norm = torch.stack([value.norm() for key, value in expected.items() if key.startswith("grad.")]).norm()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.startswith("grad."):
            assert (found[key] - value).norm() <= 1e-5 * norm, key
        elif key != "sums":
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("kind", list(KINDS))
def test_several_processes_take_the_steps_of_one(
    found_by: Callable[[int], Found], alone: dict[str, dict[str, Tensor]], kind: str, processes: int
) -> None:
    found = found_by(processes)
    for process in found:
        assert_close(process[kind], alone[kind])
    sums = torch.stack([process[kind]["sums"] for process in found]).sum(dim=0)
    torch.testing.assert_close(sums, alone[kind]["sums"], rtol=1e-5, atol=1e-6)


def test_recomputation_changes_no_step(alone: dict[str, dict[str, Tensor]]) -> None:
    for kind in ("whole", "parts"):
        for key, value in alone[kind].items():
            assert torch.equal(alone[f"recomputed {kind}" if kind == "parts" else "recomputed"][key], value), key


def test_parts_of_a_step_are_compared_with_each_other() -> None:
    """Without batch norm by the part, the number of parts changes nothing."""
    one, three = (steps(ProcessInfo(), accumulate=accumulate, training=False) for accumulate in (1, 3))
    assert_close(three, one)
    torch.testing.assert_close(three["sums"], one["sums"])


def test_running_statistics_follow_each_part_once(alone: dict[str, dict[str, Tensor]]) -> None:
    for kind, parts in (("whole", 1), ("parts", 3)):
        counts = [value for name, value in alone[kind].items() if name.endswith("num_batches_tracked")]
        assert len(counts) == 4
        assert all(count == STEPS * parts for count in counts)


@pytest.mark.parametrize("kind", ["without events", "parts without events"])
def test_a_step_without_an_event_has_no_gradient(alone: dict[str, dict[str, Tensor]], kind: str) -> None:
    torch.manual_seed(0)
    fresh = dict(ChannelEmbedding(3, 1, "shallow").named_parameters())
    for name, value in fresh.items():
        assert (alone[kind][f"grad.{name}"] == 0).all()
        assert torch.equal(alone[kind][name], value)
    assert alone[kind]["sums"][:2].tolist() == [0, 0]
    assert alone[kind]["sums"][3] > 0


def test_a_step_without_an_event_spends_no_momentum() -> None:
    network, tiles = ChannelEmbedding(3, 1, "shallow"), outcome_tiles("survival", images=40)
    taken = stepper(network, tiles, ProcessInfo())
    taken = replace(taken, optimiser=torch.optim.Adam(network.parameters()))
    moved = []
    for batch in (*batches(tiles)[:1], *batches(tiles, without_events=True)):
        before = [value.clone() for value in network.parameters()]
        shares = taken.shares(batch)
        taken.step(batch, shares, tiles.batches(share.tiles for share in shares))
        moved.append(any((value != old).any() for value, old in zip(network.parameters(), before, strict=True)))
    assert moved == [True, False]


class MeanIntensity(nn.Module):
    """Log hazards that are linear in the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, tiles: Tensor, present: Tensor | None) -> Tensor:
        found: Tensor = self.linear(tiles.mean(dim=(2, 3)))
        return found


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_gradient_is_that_of_coxs_partial_likelihood_of_image_means(accumulate: int) -> None:
    tiles = outcome_tiles("survival", images=40)
    loss = make_loss(tiles.outcome)
    assert isinstance(loss, SurvivalLoss)
    network = MeanIntensity()
    taken = stepper(network, tiles, ProcessInfo(), accumulate)
    whole = np.arange(len(tiles.labels))
    (batch,) = draw_epoch(whole, tiles.image_index, np.ones(len(whole)), len(whole), [1])
    shares, index = taken.shares(batch), np.sort(batch.tiles)
    assert len(shares) == accumulate
    features = torch.cat(list(tiles.batches([index]))).sub(0.5).mul(4).mean(dim=(2, 3)).double().numpy()
    images, first, image = np.unique(tiles.image_index[index], return_index=True, return_inverse=True)
    assert np.bincount(image).max() > 1
    means = np.stack([features[image == one].mean(axis=0) for one in range(len(images))])
    weight = network.linear.weight.detach().double().numpy()[0]
    label = tiles.labels[index][first]
    time, event = np.array([float(tiles.outcome.levels[one].split()[0]) for one in label]), loss.spread(label)
    assert len(np.unique(time)) < len(time)
    value, slope = partial_likelihood(means @ weight, time, event, tiles.stratum[index][first])
    sums = taken.step(batch, shares, tiles.batches(share.tiles for share in shares))
    assert network.linear.weight.grad is not None
    np.testing.assert_allclose(network.linear.weight.grad[0], -slope @ means / event.sum(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sums, [-value, event.sum(), 0, len(index)], rtol=1e-5)
    assert np.abs(slope @ means).argmax() == PLANTED
