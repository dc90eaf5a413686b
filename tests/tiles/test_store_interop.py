"""Stores as others read them, and one image tiled by several processes of dask.distributed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr
from distributed import Client, LocalCluster
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from plexrank.errors import ImageDataError
from plexrank.images.open import open_image
from plexrank.rundir import file_digest
from plexrank.settings import TileSettings
from plexrank.tiles import layout
from plexrank.tiles.tiling import tile_image

NAMES = ("CD3", "DNA 1", "α-SMA")
SETTINGS = TileSettings(tile_px=32, min_tissue=0)


def write_image(path: Path, dtype: str = "uint16") -> np.ndarray:
    """An OME-TIFF of (3, 210, 270) and its pixels, whose tiles meet no tile of ours."""
    pixels = np.random.default_rng(7).integers(0, 200, (3, 210, 270)).astype(dtype)
    metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, pixels, ome=True, tile=(48, 48), compression="zlib", metadata=metadata)
    return pixels


def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 2 × 2 tiles, and regions of 2 × 2 shards at most."""
    monkeypatch.setattr(layout, "_SHARD_BYTES", 3 * 64 * 64 * 2)
    monkeypatch.setattr(layout, "_REGION_BYTES", 3 * 128 * 128 * 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_others_read_names_and_pixels(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_shards(monkeypatch)
    pixels = write_image(tmp_path / "a.ome.tif", dtype)
    store = tmp_path / "a.ome.zarr"
    tile_image(open_image(tmp_path / "a.ome.tif"), range(3), NAMES, SETTINGS, store)

    yaozarrs.validate_zarr_store(store)

    location = parse_url(store, mode="r")
    assert location is not None
    (node,) = Reader(location)()
    assert tuple(node.metadata["channel_names"]) == NAMES
    assert node.metadata["contrast_limits"] == [[channel.min(), channel.max()] for channel in pixels]
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "y", "x"]
    np.testing.assert_array_equal(node.data[0].compute(scheduler="sync"), pixels)

    array = zarr.open(store, mode="r")["0"]
    assert array.dtype == pixels.dtype
    np.testing.assert_array_equal(array[:], pixels)
    np.testing.assert_array_equal(da.from_zarr(store / "0").compute(scheduler="sync"), pixels)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def hashes(store: Path) -> dict[str, str]:
    return {str(path.relative_to(store)): file_digest(path) for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("downsample", [1, 2])
def test_several_processes_write_the_bytes_of_one(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch, downsample: int
) -> None:
    small_shards(monkeypatch)
    write_image(tmp_path / "a.ome.tif")
    settings = SETTINGS.model_copy(update={"downsample": downsample})
    image = open_image(tmp_path / "a.ome.tif")
    alone, spread = tmp_path / "alone" / "a.ome.zarr", tmp_path / "spread" / "a.ome.zarr"
    by_threads = tile_image(image, [2, 0], ["C", "A"], settings, alone)
    client.get_task_stream(count=0)
    by_processes = tile_image(image, [2, 0], ["C", "A"], settings, spread, client)
    assert hashes(spread) == hashes(alone)
    assert len(hashes(alone)) > 4
    assert repr(by_processes) == repr(by_threads)
    assert {task["worker"] for task in client.get_task_stream()} == set(client.scheduler_info()["workers"])


def test_an_unreadable_image_is_told_by_the_process_that_read_it(tmp_path: Path, client: Client) -> None:
    path = tmp_path / "a.ome.tif"
    write_image(path)
    image = open_image(path)
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[1].dataoffsets[3], file.pages[1].databytecounts[3]
    with path.open("r+b") as content:
        content.seek(offset)
        content.write(b"\xff" * length)
    with pytest.raises(ImageDataError, match=r"a\.ome\.tif: pixels cannot be decoded"):
        tile_image(image, range(3), NAMES, SETTINGS, tmp_path / "a.ome.zarr", client)
    assert not (tmp_path / "a.ome.zarr").exists()
