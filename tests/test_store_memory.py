"""How images are cut for tiling, and that tiling holds to the memory stated beforehand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from plexrank.tiles import layout
from plexrank.tiles.layout import Region, region_bytes, regions, shard_side, tiling_memory_bytes
from plexrank.tiles.resampling import Resampling

UINT16 = np.dtype(np.uint16)
MIB = 2**20


def even_chunks(total_px: int, side_px: int) -> tuple[int, ...]:
    return tuple(min(side_px, total_px - start) for start in range(0, total_px, side_px))


def source(shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> layout.Chunks:
    c, y, x = (even_chunks(total, side) for total, side in zip(shape, chunk, strict=True))
    return c, y, x


@pytest.mark.parametrize(
    ("shape", "tile_px", "side"),
    [
        ((40, 8192, 8192), 256, 1024),  # at most 128 MiB
        ((40, 8192, 8192), 224, 896),
        ((40, 700, 300), 256, 768),  # all of a small image
        ((40, 100, 100), 256, 256),
        ((1, 8192, 8192), 256, 8192),
        ((400, 8192, 8192), 1024, 1024),  # never less than a tile
    ],
)
def test_a_shard_is_the_image_or_a_power_of_two_of_tiles(shape: tuple[int, int, int], tile_px: int, side: int) -> None:
    assert shard_side(shape, UINT16, tile_px) == side


@pytest.mark.parametrize(
    ("shape", "chunk", "tile_px", "side"),
    [
        ((40, 8192, 8192), (1, 1024, 1024), 256, (1024, 1024)),  # chunks that shards meet: no more than one
        ((40, 8192, 8192), (1, 2048, 2048), 256, (2048, 2048)),  # larger ones: decoded once
        ((40, 8192, 8192), (1, 64, 8192), 256, (1024, 4096)),  # strips: every one decoded twice, not eight times
        ((40, 8192, 8192), (1, 1024, 1024), 224, (1792, 1792)),  # no match: as few as memory allows
        ((40, 4096, 4096), (40, 4096, 4096), 256, (4096, 4096)),  # whole images are in memory anyway
    ],
)
def test_regions_decode_little_twice(
    shape: tuple[int, int, int], chunk: tuple[int, int, int], tile_px: int, side: tuple[int, int]
) -> None:
    first = regions(shape, UINT16, tile_px, source(shape, chunk))[0]
    assert first == Region(0, 0, *side)


@pytest.mark.parametrize("chunk", [(1, 29, 53), (2, 197, 211), (1, 16, 211), (1, 32, 32)])
def test_regions_hold_every_shard_once(chunk: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_SHARD_BYTES", 2 * 32 * 32 * 2)
    monkeypatch.setattr(layout, "_REGION_BYTES", 2 * 96 * 96 * 2)
    shape = (2, 197, 211)
    covered = np.zeros(shape[1:], int)
    for part in regions(shape, UINT16, 16, source(shape, chunk)):
        assert part.y_px % 32 == part.x_px % 32 == 0
        covered[part.y_px : part.y_px + part.height_px, part.x_px : part.x_px + part.width_px] += 1
    assert np.all(covered == 1)


def test_memory_does_not_grow_with_the_image() -> None:
    stated = [
        tiling_memory_bytes(shape, UINT16, source(shape, (1, 1024, 1024)), 256, Resampling((1, 1)), 2)
        for shape in [(40, side, side) for side in (4096, 8192, 65536)]
    ]
    assert stated[0] == stated[1] == stated[2] < 2**30


def test_memory_counts_whole_tiles() -> None:
    assert region_bytes(3, UINT16, 16, Region(0, 0, 17, 16)) == 3 * 32 * 16 * 2


# Noise, which no codec makes smaller, read slice by slice as images are; reports what tiling adds to the process.
PROGRAM = """
import sys
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np

from plexrank.study import TileSettings
from plexrank.tiles.layout import tiling_memory_bytes, usable_cores
from plexrank.tiles.tiling import tile_image


class Noise:
    ndim = 3
    dtype = np.dtype(np.uint16)

    def __init__(self, shape):
        self.shape = shape

    def __getitem__(self, key):
        shape = [len(range(*part.indices(side))) for part, side in zip(key, self.shape)]
        return np.frombuffer(np.random.default_rng(0).bytes(2 * int(np.prod(shape))), np.uint16).reshape(shape)


@dataclass
class Image:
    data: da.Array
    pixel_size_um = None


def most_memory():
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM:")))


channels, side, chunk_y, chunk_x, tile_px, downsample = map(int, sys.argv[2:])
tiny = Image(da.from_array(np.arange(256, dtype=np.uint16).reshape(1, 16, 16)))
tile_image(tiny, [0], ["A"], TileSettings(tile_px=16, min_tissue=0), Path(sys.argv[1]) / "warm.ome.zarr")
before = most_memory()
shape = (channels, side, side)
data = da.from_array(Noise(shape), chunks=(1, chunk_y, chunk_x), name=False, fancy=False, meta=np.empty((0, 0, 0)))
settings = TileSettings(tile_px=tile_px, downsample=downsample, min_tissue=0)
names = [f"C{index}" for index in range(channels)]
tile_image(Image(data), range(channels), names, settings, Path(sys.argv[1]) / "a.ome.zarr")
print(most_memory() - before)
print(tiling_memory_bytes(shape, data.dtype, data.chunks, tile_px, downsample, usable_cores()))
"""


@pytest.mark.parametrize(
    ("channels", "side", "chunk", "tile_px", "downsample"),
    [
        (24, 2048, (1024, 1024), 256, 1),
        (24, 2048, (300, 300), 224, 1),
        (24, 2048, (64, 2048), 256, 1),
        (12, 3072, (1024, 1024), 256, 2),
        (12, 3072, (500, 3072), 100, 3),
    ],
)
def test_the_memory_stated_is_held(
    tmp_path_factory: pytest.TempPathFactory,
    channels: int,
    side: int,
    chunk: tuple[int, int],
    tile_px: int,
    downsample: int,
) -> None:
    folder = tmp_path_factory.mktemp("memory")
    arguments = [str(value) for value in (folder, channels, side, *chunk, tile_px, downsample)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    real, stated = map(int, done.stdout.split())
    print(f"real {real / MIB:.0f} MiB, stated {stated / MIB:.0f} MiB")
    assert stated / 4 < real <= stated
