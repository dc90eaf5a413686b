"""The store that keeps importances."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from plexrank.attribution.store import AttributionStore, UnitAttribution, write_attribution
from plexrank.errors import RunDirError
from plexrank.ranking.aggregate import aggregate_unit

METHODS_KEPT = ("gradient", "occlusion")


def attribution_of(tiles: int) -> UnitAttribution:
    rng = np.random.default_rng(0)
    return UnitAttribution(
        fold=1,
        seed=2,
        channel_names=("CD3", "CD20", "ünï/code"),
        class_names=("low", "high"),
        checkpoint_sha256="ab" * 32,
        tile_id=np.arange(tiles) * 2,
        embedding=rng.normal(size=(tiles, 3)).astype(np.float32),
        logits=rng.normal(size=(tiles, 2)).astype(np.float32),
        mean_intensity=np.zeros((tiles, 3), dtype=np.float32),
        weight=np.ones(tiles, dtype=np.float32),
        values={name: rng.normal(size=(tiles, 3, 2)).astype(np.float32) for name in METHODS_KEPT},
    )


@pytest.mark.parametrize("tiles", [1, 7, 9000])
def test_store_gives_back_what_was_written(tmp_path: Path, tiles: int) -> None:
    written = attribution_of(tiles)
    path = tmp_path / "attribution" / "fold-1-seed-2.zarr"
    write_attribution(path, written)
    store = AttributionStore(path)
    assert (store.fold, store.seed, store.checkpoint_sha256, len(store)) == (1, 2, "ab" * 32, tiles)
    assert (store.channel_names, store.class_names) == (written.channel_names, written.class_names)
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
    write_attribution(path, attribution_of(20))
    write_attribution(path, attribution_of(5))
    assert len(AttributionStore(path)) == 5


def test_a_failed_write_leaves_the_old_store_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "unit.zarr"
    write_attribution(path, attribution_of(5))
    bad = dataclasses.replace(attribution_of(6), checkpoint_sha256=b"not json")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        write_attribution(path, bad)
    assert len(AttributionStore(path)) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["unit.zarr"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": np.zeros((4, 3))}, r"embedding: expected shape \(5, 3\), got \(4, 3\)"),
        ({"values": {"gradient": np.zeros((5, 3))}}, r"gradient: expected shape \(5, 3, 2\)"),
        ({"values": {"logits": np.zeros((5, 3, 2))}}, "a method cannot be called logits"),
        ({"tile_id": np.zeros(0, dtype=int)}, "one tile or more"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        write_attribution(tmp_path / "unit.zarr", dataclasses.replace(attribution_of(5), **change))
    assert not list(tmp_path.iterdir())


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
    write_attribution(path, attribution_of(50))
    damage(path)
    with pytest.raises(RunDirError, match=r"unit\.zarr: .*run the attribute stage again"):
        AttributionStore(path).read()


def test_missing_and_foreign_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"none\.zarr: cannot be opened"):
        AttributionStore(tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(RunDirError, match=r"other\.zarr: is not a store of attributions"):
        AttributionStore(tmp_path / "other.zarr")


def test_blocks_go_into_a_unit_table(tmp_path: Path) -> None:
    written = attribution_of(12)
    write_attribution(tmp_path / "unit.zarr", written)
    image_of_tile = np.repeat(np.arange(6), 4)
    store = AttributionStore(tmp_path / "unit.zarr")
    table = aggregate_unit(store.blocks(5), image_of_tile, 6, fold=store.fold, seed=store.seed, classify=np.asarray)
    assert table.n_tiles.tolist() == [2] * 6
    np.testing.assert_allclose(table.embedding[0], written.embedding[:2].mean(axis=0), rtol=1e-6)
    own = [np.abs(written.values["gradient"][tile, :, written.logits[tile].argmax()]) for tile in (2, 3)]
    expected = np.mean(own, axis=0)
    np.testing.assert_allclose(table.importance["gradient"][1], expected, rtol=1e-6)
