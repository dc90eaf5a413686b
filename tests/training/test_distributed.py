"""Two gloo processes compute what one process computes."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes

from plexrank.distributed import (
    ProcessInfo,
    all_reduce_sum,
    any_process,
    barrier,
    from_first,
    process_group,
    unwrap,
    wrap,
)
from plexrank.errors import PlexrankError
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.models.recomputation import set_recompute
from plexrank.models.shared_batch_norm import SharedBatchNorm
from plexrank.outcome.nominal import Nominal
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.tiles.intensity import IntensityFit
from plexrank.training import loop
from plexrank.training.checkpoint import read_unit
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import embed_tiles, mean_over_images
from plexrank.training.loop import UnitTraining, train_unit
from plexrank.training.unit import TrainingUnit, UnitPaths, UnitResult

PROCESSES = 2
SHARES = {"uneven": ((0, 1, 2, 3, 4), (5, 6)), "one_idle": ((0, 1, 2, 3, 4, 5, 6), ())}
LACKING = [False, True]
KINDS = {"plain": {}, "independent": {"independent": True}, "recomputed": {"recompute": True}}


def network(independent: bool = False, recompute: bool = False) -> ChannelEmbedding:
    torch.manual_seed(0)
    model = ChannelEmbedding(5, 3, "shallow", independent=independent)
    set_recompute(model, recompute)
    return model


def tiles() -> Tensor:
    return torch.rand(7, 5, 32, 32, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    return torch.tensor([0, 1, 2, 0, 1, 2, 0])


def present() -> Tensor:
    """Tiles 0, 3 and 6 lack a channel or two, those of the smaller share among them."""
    held = torch.ones(7, 5, dtype=torch.bool)
    held[0, 1] = held[3, 0] = held[6, 1] = held[6, 4] = False
    return held


def step(model: nn.Module, rows: tuple[int, ...], info: ProcessInfo, lacking: bool) -> dict[str, Tensor]:
    """One training step on a share of the batch; the gradients and the state afterwards."""
    model.train()
    chosen = list(rows)
    logits = model(tiles()[chosen], present()[chosen] if lacking else None)
    loss = nn.functional.cross_entropy(logits, labels()[chosen], reduction="sum")
    (loss * info.world_size / len(tiles())).backward()
    plain = unwrap(model)
    gradients = {f"grad.{name}": p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}
    return gradients | {name: value.clone() for name, value in plain.state_dict().items()}


def cohort() -> TrainingTiles:
    """15 images of one or two tiles and 4 channels, of which the third differs between the classes."""
    raw = np.random.default_rng(0).poisson(3.0, size=(22, 4, 16, 16))
    images = np.array([*range(15), *range(7)])
    raw[images % 2 == 1, 2] += 4
    fit = IntensityFit("arcsinh", 5.0, np.full(4, 2.0, dtype=np.float32))
    patients = np.array([f"p{image}" for image in images])
    held = np.ones((22, 4), dtype=bool)
    held[images % 4 == 3, 1] = held[images == 2, 0] = False
    names = (list("abcd"), Nominal(("x", "y")))
    means = raw.mean(axis=(2, 3))
    return TrainingTiles(lambda tile: raw[tile], fit, images % 2, images, patients, *names, held, means)


def train(folder: Path, info: ProcessInfo, **settings: object) -> UnitResult:
    tiles = cohort()
    seen = tiles.image_index < 10
    return train_unit(
        tiles,
        TrainingUnit(0, 0, 0, np.flatnonzero(seen), np.flatnonzero(~seen)),
        ModelSettings(backbone="shallow", weights="none"),
        TrainSettings.model_validate({"epochs": 3, "batch_tiles": 5, "crop_px": 16, "learning_rate": 1e-3, **settings}),
        info=info,
        paths=UnitPaths(folder / "last.pt", folder / "best.pt", folder / "history.csv"),
        key="k",
        report=lambda line: None,
    )


def recomputes(rank: int, folder: Path, info: ProcessInfo) -> bool:
    """Whether a process computes activations anew where the memory of the second one alone is short."""
    train, paths = TrainSettings(crop_px=16), UnitPaths(*(folder / name for name in ("last.pt", "best.pt", "h.csv")))
    model = ModelSettings(backbone="shallow", weights="none")
    unit = TrainingUnit(0, 0, 0, np.arange(10), np.arange(10, 15))
    training = UnitTraining(cohort(), unit, model, train, info, paths, "k", lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "free_bytes", lambda device: None if rank == 0 else -1)
        training.start_or_resume()
    return training.recompute


def saves_of(folder: Path, info: ProcessInfo) -> int:
    """How often an epoch is saved on its way where each look at the clock takes an eighth of the time between saves."""
    saved = []
    with pytest.MonkeyPatch.context() as patch:
        clock = itertools.count(step=loop.SECONDS_BETWEEN_SAVES / 8)
        write = loop.write_progress
        patch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        patch.setattr(loop, "write_progress", lambda path, now: (saved.append(now.batch), write(path, now)))
        train(folder, info, epochs=1, batch_tiles=2)
    return sum(batch > 0 for batch in saved)


def in_a_group(rank: int, folder: Path) -> None:
    """What srun starts; the processes meet in a folder."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (("PROCID", rank), ("LOCALID", rank), ("STEP_NUM_TASKS", PROCESSES), ("JOB_ID", 7)):
            environment.setenv(f"SLURM_{name}", str(value))
        environment.setenv("CUDA_VISIBLE_DEVICES", "")
        with process_group(folder / "meetings") as info:
            found: dict[str, object] = {
                f"{kind} {name} {lacking}": step(wrap(network(**settings), info), shares[rank], info, lacking)
                for kind, settings in KINDS.items()
                for name, shares in SHARES.items()
                for lacking in LACKING
            }
            for accumulate in (1, 2):
                settings = {"sync_batch_norm": False, "accumulate": accumulate}
                found[f"parts {accumulate}"] = train(folder / f"parts {accumulate}", info, **settings).validation_loss
            found["recompute"] = recomputes(rank, folder / "unequal", info)
            mine = torch.tensor([rank, 10.0])
            found["sum"] = all_reduce_sum(mine, info).tolist()
            found["untouched"] = mine.tolist()
            found["any"] = any_process((rank == 1, False), info)
            found["first"] = from_first({"from": rank, "tensor": torch.tensor([rank])}, info)
            found["who"] = (info.process_rank, info.is_first, info.world_size)
            result = train(folder, info)
            found["unit"] = (result.epochs, result.best_epoch, result.validation_loss)
            trained = read_unit(folder / "best.pt").network(info.device)
            assert isinstance(trained, ChannelEmbedding)
            found["embedding"] = torch.from_numpy(embed_tiles(trained, cohort(), np.arange(22), info))
            found["saves"] = saves_of(folder / "often", info)
            barrier(info)
            torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("group")


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict]:
    start_processes(in_a_group, args=(folder,), nprocs=PROCESSES, start_method="forkserver")
    assert not list((folder / "meetings").iterdir())
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", list(SHARES))
@pytest.mark.parametrize("lacking", LACKING)
@pytest.mark.parametrize("kind", list(KINDS))
def test_two_processes_give_the_gradient_and_statistics_of_one(
    found: list[dict], name: str, lacking: bool, kind: str
) -> None:
    alone = step(network(independent=kind == "independent"), tuple(range(7)), ProcessInfo(), lacking)
    norm = torch.stack([value.norm() for key, value in alone.items() if key.startswith("grad.")]).norm()
    for process in found:
        together = process[f"{kind} {name} {lacking}"]
        assert list(together) == list(alone)
        for key, value in alone.items():
            if key.startswith("grad."):
                assert (together[key] - value).norm() / norm < 1e-5, key
            else:
                torch.testing.assert_close(together[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_the_processes_agree(found: list[dict]) -> None:
    assert [process["sum"] for process in found] == [[1.0, 20.0]] * 2
    assert [process["untouched"] for process in found] == [[0.0, 10.0], [1.0, 10.0]]
    assert [process["any"] for process in found] == [[True, False]] * 2
    assert [process["first"] for process in found] == [{"from": 0, "tensor": torch.tensor([0])}] * 2
    assert [process["who"] for process in found] == [(0, True, 2), (1, False, 2)]


def test_all_processes_count_the_time_since_they_saved(found: list[dict]) -> None:
    assert [process["saves"] for process in found] == [1, 0]


def test_two_processes_train_the_unit_that_one_trains(found: list[dict], folder: Path, tmp_path: Path) -> None:
    alone = train(tmp_path, ProcessInfo())
    assert found[0]["unit"] == found[1]["unit"]
    assert found[0]["unit"][:2] == (alone.epochs, alone.best_epoch)
    assert found[0]["unit"][2] == pytest.approx(alone.validation_loss, rel=1e-3)
    one, two = read_unit(tmp_path / "best.pt"), read_unit(folder / "best.pt")
    assert list(one.model_state) == list(two.model_state)
    np.testing.assert_allclose(one.embedding_mean, two.embedding_mean, atol=0.01)
    np.testing.assert_array_equal(one.embedding_images, two.embedding_images)
    assert one.classifier is not None
    assert two.classifier is not None
    order = one.classifier.coef.abs().sum(dim=0).argsort()
    assert torch.equal(order, two.classifier.coef.abs().sum(dim=0).argsort())


@pytest.mark.parametrize("name", ["parts 1", "parts 2"])
def test_without_shared_batch_norm_what_is_stored_belongs_to_the_stored_weights(
    found: list[dict], folder: Path, name: str
) -> None:
    assert found[0][name] == found[1][name]
    assert np.isfinite(found[0][name])
    trained = read_unit(folder / name / "best.pt")
    model, tiles = trained.network(torch.device("cpu")), cohort()
    assert isinstance(model, ChannelEmbedding)
    assert trained.blend is not None
    assert tiles.channel_means is not None
    r = trained.blend.apply(embed_tiles(model, tiles, np.arange(22), ProcessInfo()), tiles.channel_means)
    images, _, mean = mean_over_images(r, tiles.image_index)
    np.testing.assert_array_equal(images, trained.embedding_images)
    np.testing.assert_allclose(mean, trained.embedding_mean, atol=1e-4)


def test_all_processes_recompute_where_one_must(found: list[dict]) -> None:
    assert [process["recompute"] for process in found] == [True, True]


def test_processes_share_the_embedding_of_tiles(found: list[dict], folder: Path) -> None:
    torch.testing.assert_close(found[0]["embedding"], found[1]["embedding"], rtol=0, atol=0, equal_nan=True)
    assert found[0]["embedding"].isnan().sum() == 4 + 2
    trained = read_unit(folder / "best.pt").network(torch.device("cpu"))
    assert isinstance(trained, ChannelEmbedding)
    alone = embed_tiles(trained, cohort(), np.arange(22), ProcessInfo())
    np.testing.assert_allclose(found[0]["embedding"].numpy(), alone, atol=1e-5)


def test_one_process_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model, value = network(), torch.ones(2)
    with process_group(tmp_path) as info:
        assert (info.process_rank, info.world_size, info.is_first) == (0, 1, True)
        assert wrap(model, info) is model
        assert unwrap(model) is model
        assert all_reduce_sum(value, info) is value
        assert any_process((True, False), info) == [True, False]
        assert from_first("x", info) == "x"


BAD_ENVIRONMENTS = [
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE: expected a whole number"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE: expected a whole number"),
    ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK: expected a whole number in the environment, found absent"),
    ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "RANK=2 is not below WORLD_SIZE=2"),
    ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR is not set"),
    ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT is not set"),
]


@pytest.mark.parametrize(("environment", "message"), BAD_ENVIRONMENTS)
def test_an_incomplete_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PlexrankError, match=message), process_group(tmp_path):
        pass


def test_shared_batch_norm_evaluates_like_torch() -> None:
    values = torch.rand(4, 3, 2, 2)
    plain = nn.BatchNorm2d(3).eval()
    shared = SharedBatchNorm(plain, lambda sums: sums)
    assert torch.equal(shared(values), plain(values))


def test_shared_batch_norm_learns_nothing_where_no_process_has_a_sample() -> None:
    shared = SharedBatchNorm(nn.BatchNorm2d(3), lambda sums: sums)
    assert shared(torch.rand(0, 3, 2, 2)).shape == (0, 3, 2, 2)
    assert torch.equal(shared.running_mean, torch.zeros(3))
    assert torch.equal(shared.running_var, torch.ones(3))
    assert shared.num_batches_tracked == 0


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_batch_norm_trains_like_torch(affine: bool, dtype: torch.dtype) -> None:
    values = (3 + torch.rand(64, 3, 5, 5, generator=torch.Generator().manual_seed(0))).to(dtype)
    plain = nn.BatchNorm2d(3, affine=affine)
    shared = SharedBatchNorm(nn.BatchNorm2d(3, affine=affine), lambda sums: sums)
    factors = torch.arange(25.0).reshape(5, 5).to(dtype)
    found = []
    for norm in (plain, shared):
        leaf = values.clone().requires_grad_()
        (norm(leaf) * factors).sum().backward()
        found.append((leaf.grad, norm.running_mean, norm.running_var, *(p.grad for p in norm.parameters())))
    for expected, got in zip(*found, strict=True):
        assert expected is not None
        tolerance = 1e-5 if expected.dtype == torch.float32 else 2e-2
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))
