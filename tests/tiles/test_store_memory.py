"""How images are cut for tiling, and that tiling holds to the memory stated beforehand."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from conftest import Plexrank
from lazy_images import Image, lazy, names
from plexrank.machine.cores import usable_cores
from plexrank.settings import TileSettings
from plexrank.tiles import layout
from plexrank.tiles.layout import Region, region_bytes, regions, shard_side, tiling_memory_bytes
from plexrank.tiles.resampling import Resampling, find_resampling
from plexrank.tiles.tiling import tile_image

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


class Noise:
    """What no codec makes smaller, read slice by slice as images are."""

    ndim = 3
    dtype = UINT16

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        shape = [len(range(*part.indices(side))) for part, side in zip(key, self.shape, strict=True)]
        return np.frombuffer(np.random.default_rng(0).bytes(2 * math.prod(shape)), UINT16).reshape(shape)


@dataclass(frozen=True)
class Held:
    """A mask of tissue alone."""

    path: Path
    data: da.Array


def most_memory() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM:")))


def measure(
    folder: Path,
    shape: tuple[int, int, int],
    chunk: tuple[int, int],
    settings: TileSettings,
    has_mask: bool,
    answer: Connection,
) -> None:
    """What a process of its own does: send the memory that tiling adds to it, and what was stated; bytes.

    Shards and regions are an eighth of what they are otherwise, so that a small image has several.
    """
    for name in ("_SHARD_BYTES", "_REGION_BYTES", "_SMALL_REGION_BYTES"):
        setattr(layout, name, getattr(layout, name) // 8)
    tiny = lazy(np.arange(256, dtype=UINT16).reshape(1, 16, 16))
    tile_image(tiny, [0], ["A"], TileSettings(tile_px=16, min_tissue=0), folder / "warm.ome.zarr")
    before = most_memory()
    meta = np.empty((0, 0, 0), UINT16)
    pixels = da.from_array(Noise(shape), chunks=(1, *chunk), name=False, fancy=False, meta=meta)
    mask = Held(folder, da.ones((1, *shape[1:]), chunks=(1, *chunk), dtype=bool)) if has_mask else None
    image = Image(pixels, (0.5, 0.5))
    tile_image(image, range(shape[0]), names(shape[0]), settings, folder / "a.ome.zarr", mask=mask)
    real = most_memory() - before
    resampling = find_resampling(settings, shape, image.pixel_size_um, "a")
    arguments = (shape, UINT16, pixels.chunks, settings.tile_px, resampling, usable_cores(), has_mask)
    answer.send((real, tiling_memory_bytes(*arguments)))


@pytest.mark.parametrize(
    ("shape", "chunk", "values"),
    [
        ((24, 1024, 1024), (512, 512), {"tile_px": 128}),
        ((24, 1024, 1024), (150, 150), {"tile_px": 112}),
        ((24, 1024, 1024), (32, 1024), {"tile_px": 128}),
        ((12, 1024, 1024), (512, 512), {"tile_px": 64, "downsample": 2}),
        ((12, 1024, 1024), (200, 1024), {"tile_px": 50, "um_per_px": 0.75}),
        ((2, 2048, 2048), (512, 512), {"tile_px": 128, "um_per_px": 0.65}),
    ],
)
def test_the_memory_stated_is_held(
    tmp_path: Path,
    plexrank: Plexrank,
    shape: tuple[int, int, int],
    chunk: tuple[int, int],
    values: dict[str, Any],
) -> None:
    assert plexrank is not None  # its server of processes has loaded what is needed
    settings = TileSettings(min_tissue=0, **values)
    answer, theirs = multiprocessing.Pipe(duplex=False)
    arguments = (tmp_path, shape, chunk, settings, "um_per_px" in values, theirs)
    process = multiprocessing.get_context("forkserver").Process(target=measure, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    real, stated = answer.recv()
    print(f"real {real / MIB:.1f} MiB, stated {stated / MIB:.1f} MiB")
    assert real <= stated  # how much less depends on how many threads hold theirs at once
