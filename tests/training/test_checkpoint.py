"""Checkpoints survive a round trip, and damage is named."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from plexrank.errors import MissingInputError, RunDirError
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.readout.blending import IntensityBlend
from plexrank.readout.linear import LinearClassifier
from plexrank.settings import ModelSettings
from plexrank.tiles.intensity import IntensityFit
from plexrank.training.checkpoint import (
    Progress,
    TrainedUnit,
    load,
    previous_path,
    read_progress,
    read_unit,
    save,
    write_progress,
    write_unit,
)

SHALLOW = ModelSettings(backbone="shallow", weights="none")
CPU = torch.device("cpu")


def trained_unit(classifier: LinearClassifier | None) -> TrainedUnit:
    torch.manual_seed(0)
    return TrainedUnit(
        key="abc",
        fold=1,
        seed=2,
        epoch=7,
        channel_names=("CD3", "CD8", "DNA"),
        output_names=("high", "low"),
        intensity=IntensityFit("arcsinh", 5.0, np.array([0.1, 2.5, 1.0], dtype=np.float32)),
        settings=SHALLOW,
        model_state=build_network(SHALLOW, 3, 2).state_dict(),
        classifier=classifier,
        embedding_images=np.array([3, 5]),
        embedding_mean=np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32),
        blend=None if classifier is None else IntensityBlend(*np.arange(12.0).reshape(4, 3)),
    )


def test_a_trained_unit_comes_back_as_it_was(tmp_path: Path) -> None:
    classifier = LinearClassifier(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), torch.tensor([0.0, 0.5]))
    unit = trained_unit(classifier)
    write_unit(tmp_path / "best.pt", unit)
    found = read_unit(tmp_path / "best.pt")
    assert (found.key, found.fold, found.seed, found.epoch) == ("abc", 1, 2, 7)
    assert (found.channel_names, found.output_names) == (unit.channel_names, unit.output_names)
    assert found.settings == SHALLOW
    assert (found.intensity.transform, found.intensity.cofactor) == ("arcsinh", 5.0)
    np.testing.assert_array_equal(found.intensity.scale, unit.intensity.scale)
    np.testing.assert_array_equal(found.embedding_images, [3, 5])
    np.testing.assert_array_equal(found.embedding_mean, unit.embedding_mean)
    assert found.blend is not None
    np.testing.assert_array_equal(list(vars(found.blend).values()), np.arange(12.0).reshape(4, 3))
    tiles = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        network, written = found.network(CPU), unit.network(CPU)
        assert isinstance(network, ChannelEmbedding)
        assert isinstance(written, ChannelEmbedding)
        assert torch.equal(network.embed(tiles), written.embed(tiles))
        assert found.classify(network)(torch.tensor([[2.0, 3.0, 4.0]])).tolist() == [[2.0, 3.5]]


def test_without_a_refit_the_network_classifies(tmp_path: Path) -> None:
    write_unit(tmp_path / "best.pt", trained_unit(None))
    found = read_unit(tmp_path / "best.pt")
    network, r = found.network(CPU), torch.rand(4, 3)
    assert isinstance(network, ChannelEmbedding)
    with torch.no_grad():
        assert torch.equal(found.classify(network)(r), network.classifier(r))


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    last = tmp_path / "last.pt"
    for epoch in (1, 2):
        write_progress(last, Progress("k", epoch=epoch, model={"w": torch.ones(2)}))
    newest = read_progress(last)
    assert newest is not None
    assert newest.epoch == 2
    last.write_bytes(last.read_bytes()[:-60])
    with caplog.at_level(logging.WARNING):
        before = read_progress(last)
    assert before is not None
    assert before.epoch == 1
    assert torch.equal(before.model["w"], torch.ones(2))
    assert "last.pt: damaged checkpoint" in caplog.text
    assert "last.pt.prev" in caplog.text


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    last = tmp_path / "last.pt"
    write_progress(last, Progress("k", epoch=3))
    last.rename(previous_path(last))
    found = read_progress(last)
    assert found is not None
    assert found.epoch == 3


def test_no_progress_is_none(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "none.pt") is None


def test_where_all_are_damaged_training_begins_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "last.pt"
    last.write_bytes(b"")
    previous_path(last).write_bytes(b"no")
    with caplog.at_level(logging.WARNING):
        assert read_progress(last) is None
    assert "last.pt.prev: damaged checkpoint" in caplog.text
    assert "training from the start" in caplog.text


def test_a_progress_that_is_refused_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "last.pt"
    for epoch, key in ((1, "own"), (2, "foreign")):
        write_progress(last, Progress(key, epoch=epoch))
    with caplog.at_level(logging.WARNING):
        found = read_progress(last, lambda progress: None if progress.key == "own" else f"of {progress.key}")
    assert found is not None
    assert found.epoch == 1
    assert "last.pt: of foreign; looking at last.pt.prev instead" in caplog.text


def test_folders_in_the_places_of_checkpoints_are_moved_aside(tmp_path: Path) -> None:
    last = tmp_path / "last.pt"
    last.mkdir()
    write_progress(last, Progress("k", epoch=1))
    previous_path(last).mkdir()
    write_progress(last, Progress("k", epoch=2))
    newest, before = read_progress(last), read_progress(previous_path(last))
    assert (newest and newest.epoch, before and before.epoch) == (2, 1)


def test_a_flipped_bit_anywhere_is_noticed_or_leaves_every_weight(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    weights = torch.linspace(0, 1, 40)
    save(path, {"key": "k", "weights": weights})
    whole, generator, noticed = path.read_bytes(), np.random.default_rng(1), 0
    for place in generator.choice(len(whole), 600, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
        try:
            state = load(path)
        except RunDirError:
            noticed += 1
        else:
            assert state["key"] == "k", place
            assert torch.equal(state["weights"], weights), place
    assert noticed > 200


def test_whatever_the_damage_it_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_progress(path, Progress("k", model={"w": torch.ones(2)}, history=[{"epoch": 1.0}]))
    whole, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        torn = bytearray(whole[: int(generator.integers(1, len(whole)))] if generator.random() < 0.3 else whole)
        for place in generator.integers(len(torn), size=int(generator.integers(1, 20))):
            torn[place] = int(generator.integers(256))
        path.write_bytes(torn)
        try:
            load(path)
        except RunDirError:
            refused += 1
    assert refused > 100


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


def write_foreign(path: Path, kind: str) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "code":
        path.write_bytes(pickle.dumps(Malicious()))
    elif kind == "torch code":
        torch.save({"format": Malicious()}, path)
    elif kind == "foreign":
        torch.save({"model": torch.zeros(1)}, path)
    else:
        torch.save([1, 2], path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["empty", "text", "code", "torch code", "foreign", "list"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "best.pt"
    write_foreign(path, kind)
    with pytest.raises(RunDirError, match=r"best\.pt: .*delete it and train again"):
        load(path)


def test_a_missing_checkpoint_and_a_wrong_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"best\.pt: no such checkpoint"):
        read_unit(tmp_path / "best.pt")
    save(tmp_path / "x.pt", {"key": "k"})
    with pytest.raises(RunDirError, match="no trained unit"):
        read_unit(tmp_path / "x.pt")
    write_progress(tmp_path / "last.pt", Progress("k"))
    with pytest.raises(RunDirError, match="no trained unit"):
        read_unit(tmp_path / "last.pt")
    write_unit(tmp_path / "best.pt", trained_unit(None))
    assert read_progress(tmp_path / "best.pt") is None


def test_saving_leaves_no_temporary_file(tmp_path: Path) -> None:
    for _ in range(3):
        write_progress(tmp_path / "last.pt", Progress("k"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "last.pt.prev"]


def test_a_full_disk_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: torch_save(state, "/dev/full"))
    progress = Progress("k", model={"weight": torch.zeros(10**6)})
    with pytest.raises(OSError, match=r"could not be written .*last\.pt"):
        write_progress(tmp_path / "last.pt", progress)
