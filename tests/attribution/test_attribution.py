"""The store that keeps importances."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from plexrank.attribution import store as store_module
from plexrank.attribution.store import (
    PLAIN_ARRAYS,
    AttributionBlock,
    AttributionStore,
    ExplainedUnit,
    writing_attribution,
)
from plexrank.errors import RunDirError
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import aggregate_unit

METHODS_KEPT = ("gradient", "occlusion")


UNIT = ExplainedUnit(1, 2, ("CD3", "CD20", "ünï/code"), ("low", "high"), "ab" * 32, METHODS_KEPT)


def block_of(tiles: int) -> AttributionBlock:
    rng = np.random.default_rng(0)
    return AttributionBlock(
        tile_id=np.arange(tiles) * 2,
        embedding=rng.normal(size=(tiles, 3)).astype(np.float32),
        logits=rng.normal(size=(tiles, 2)).astype(np.float32),
        mean_intensity=np.zeros((tiles, 3), dtype=np.float32),
        weight=np.ones(tiles, dtype=np.float32),
        values={name: rng.normal(size=(tiles, 3, 2)).astype(np.float32) for name in METHODS_KEPT},
    )


def part_of(block: AttributionBlock, start: int, stop: int) -> AttributionBlock:
    arrays = {name: values[start:stop] for name, values in block.arrays().items()}
    return AttributionBlock(
        **{name: arrays[name] for name in PLAIN_ARRAYS}, values={m: arrays[m] for m in block.values}
    )


def write(path: Path, block: AttributionBlock, unit: ExplainedUnit = UNIT, at_once: int = 10**6) -> None:
    tiles = len(block.tile_id)
    with writing_attribution(path, unit, tiles) as write_block:
        for start in range(0, tiles, at_once):
            write_block(part_of(block, start, start + at_once))


@pytest.mark.parametrize("tiles", [1, 7, 9000])
def test_store_gives_back_what_was_written(tmp_path: Path, tiles: int) -> None:
    written = block_of(tiles)
    path = tmp_path / "attribution" / "fold-1-seed-2.zarr"
    write(path, written)
    store = AttributionStore(path)
    assert (store.fold, store.seed, store.checkpoint_sha256, len(store)) == (1, 2, "ab" * 32, tiles)
    assert (store.channel_names, store.class_names) == (UNIT.channel_names, UNIT.class_names)
    assert store.methods == METHODS_KEPT
    whole = store.read()
    for name in ("tile_id", "embedding", "logits", "mean_intensity", "weight"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(written, name))
    blocks = list(store.blocks(4096))
    assert [len(block.tile_id) for block in blocks] == [min(4096, tiles - s) for s in range(0, tiles, 4096)]
    assert list(store.read(methods=["occlusion"]).values) == ["occlusion"]
    for name in METHODS_KEPT:
        joined = np.concatenate([block.values[name] for block in blocks])
        np.testing.assert_array_equal(joined, written.values[name])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "unit.zarr"
    write(path, block_of(20))
    write(path, block_of(5))
    assert len(AttributionStore(path)) == 5


def test_a_failed_write_leaves_the_old_store_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "unit.zarr"
    write(path, block_of(5))
    bad = dataclasses.replace(UNIT, checkpoint_sha256=b"not json")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write(path, block_of(6), bad)
    assert len(AttributionStore(path)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["unit.zarr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": np.zeros((4, 3))}, r"embedding: expected shape \(5, 3\), got \(4, 3\)"),
        ({"values": {"gradient": np.zeros((5, 3))}}, r"gradient: expected shape \(5, 3, 2\)"),
        ({"values": {"gradient": np.zeros((5, 3, 2))}}, r"occlusion: expected shape \(5, 3, 2\), got nothing"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change, message) -> None:
    bad = dataclasses.replace(block_of(5), **change)
    with (
        pytest.raises(ValueError, match=message),
        writing_attribution(tmp_path / "unit.zarr", UNIT, 5) as write_block,
    ):
        write_block(bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("unit", "tiles", "message"),
    [
        (dataclasses.replace(UNIT, methods=("logits",)), 5, "a method cannot be called logits"),
        (UNIT, 0, "one tile or more"),
        (UNIT, 6, "5 tiles were written of 6"),
    ],
)
def test_what_is_no_attribution_is_refused(tmp_path: Path, unit: ExplainedUnit, tiles: int, message: str) -> None:
    with (
        pytest.raises(ValueError, match=message),
        writing_attribution(tmp_path / "unit.zarr", unit, tiles) as write_block,
    ):
        write_block(block_of(5))
    assert not list(tmp_path.iterdir())


def test_blocks_of_any_size_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHUNK_TILES", 8)
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 16 * 4 * 27)  # two chunks of tiles of 27 numbers
    assert UNIT.tiles_at_once() == 16
    written = block_of(53)
    for at_once in (53, 16, 7, 20):
        write(tmp_path / f"{at_once}.zarr", written, at_once=at_once)
    files = [file.relative_to(tmp_path / "53.zarr") for file in (tmp_path / "53.zarr").rglob("*") if file.is_file()]
    assert len(files) == 1 + 7 * (1 + 4)  # of every array its metadata and shards of 16 tiles
    for at_once in (16, 7, 20):
        assert all(
            (tmp_path / f"{at_once}.zarr" / file).read_bytes() == (tmp_path / "53.zarr" / file).read_bytes()
            for file in files
        )
    np.testing.assert_array_equal(AttributionStore(tmp_path / "7.zarr").read().embedding, written.embedding)


def shard_of(path: Path, array: str) -> Path:
    return next(file for file in (path / array / "c").rglob("*") if file.is_file())


def remove_metadata(path: Path) -> None:
    (path / "zarr.json").unlink()


def remove_array(path: Path) -> None:
    (path / "embedding" / "zarr.json").unlink()


def remove_shard(path: Path) -> None:
    shard_of(path, "gradient").unlink()


def garble_metadata(path: Path) -> None:
    (path / "logits" / "zarr.json").write_text("{")


def forget_the_layout(path: Path) -> None:
    content = json.loads((path / "zarr.json").read_text())
    del content["attributes"]["plexrank_attribution"]
    (path / "zarr.json").write_text(json.dumps(content))


def rename_classes(path: Path) -> None:
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["class_names"] = ["a", "b", "c"]
    (path / "zarr.json").write_text(json.dumps(content))


def truncate_shard(path: Path) -> None:
    shard = shard_of(path, "embedding")
    shard.write_bytes(shard.read_bytes()[:-9])


def flip_bytes(path: Path) -> None:
    shard = shard_of(path, "embedding")
    content = bytearray(shard.read_bytes())
    content[: len(content) // 2] = b"\xff" * (len(content) // 2)
    shard.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        remove_metadata,
        remove_array,
        remove_shard,
        garble_metadata,
        forget_the_layout,
        rename_classes,
        truncate_shard,
        flip_bytes,
    ],
)
def test_torn_stores_are_refused_by_name(tmp_path: Path, damage) -> None:
    path = tmp_path / "unit.zarr"
    write(path, block_of(50))
    damage(path)
    with pytest.raises(RunDirError, match=r"unit\.zarr: .*run the attribute stage again"):
        AttributionStore(path).read()


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unit.zarr"
    write(path, block_of(50))
    digests, whole = AttributionStore(path).digests(), AttributionStore(path).read().arrays()
    rng, noticed = np.random.default_rng(0), 0
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for number in range(12 * len(files)):
        file = files[number % len(files)]
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        try:
            store = AttributionStore(path)
            store.require(digests)
            for name, values in store.read().arrays().items():
                np.testing.assert_array_equal(values, whole[name])
        except RunDirError:
            noticed += 1
        file.write_bytes(content)
    assert noticed == 12 * len(files)
    AttributionStore(path).require(digests)


def test_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    own, other = tmp_path / "own.zarr", tmp_path / "other.zarr"
    write(own, block_of(50))
    write(other, dataclasses.replace(block_of(50), logits=np.ones((50, 2), dtype=np.float32)))
    digests = AttributionStore(own).digests()
    shutil.copy(shard_of(other, "logits"), shard_of(own, "logits"))
    AttributionStore(own).read()
    with pytest.raises(RunDirError, match=r"own\.zarr: logits/c/0/0 is not what the attribute stage wrote"):
        AttributionStore(own).require(digests)


def test_missing_and_foreign_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"none\.zarr: cannot be opened"):
        AttributionStore(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(RunDirError, match=r"other\.zarr: is not a store of attributions"):
        AttributionStore(tmp_path / "other.zarr")


def test_blocks_go_into_a_unit_table(tmp_path: Path) -> None:
    written = block_of(12)
    write(tmp_path / "unit.zarr", written)
    image_of_tile = np.repeat(np.arange(6), 4)
    store = AttributionStore(tmp_path / "unit.zarr")
    of_unit = {"fold": store.fold, "seed": store.seed, "classify": np.asarray, "outcome": Nominal(("low", "high"))}
    table = aggregate_unit(store.blocks(5), image_of_tile, 6, **of_unit)
    assert table.n_tiles.tolist() == [2] * 6
    np.testing.assert_allclose(table.embedding[0], written.embedding[:2].mean(axis=0), rtol=1e-6)
    own = [np.abs(written.values["gradient"][tile, :, written.logits[tile].argmax()]) for tile in (2, 3)]
    expected = np.mean(own, axis=0)
    np.testing.assert_allclose(table.importance["gradient"][1], expected, rtol=1e-6)
