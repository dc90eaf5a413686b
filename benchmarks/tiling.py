"""How fast and in how much memory images are tiled and tiles are read: prints one line of JSON.

All ratios compare within this run, on two cores: against the floor (decode every segment of the TIFF once and encode
every chunk once, in plain loops on as many threads) and against the naive way (dask from the TIFF's own Zarr view,
rechunk, to_zarr). Memory is the most that a process of its own held. See README.md in this folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import imagecodecs
import numpy as np
import tifffile
import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec

from plexrank.images.open import open_image
from plexrank.settings import TileSettings
from plexrank.tiles.layout import shard_side, tiling_memory_bytes
from plexrank.tiles.resampling import Resampling
from plexrank.tiles.store import TileStore
from plexrank.tiles.tiling import tile_image

CHANNELS = 40
SEGMENT_PX = 512
TILE_PX = 256
CORES = 2
ROUNDS = 3
NAMES = [f"C{channel:02d}" for channel in range(CHANNELS)]
DTYPE = np.dtype(np.uint16)
TILES_READ = 64
CODEC: dict[str, Any] = {"cname": "zstd", "clevel": 1, "blocksize": 512 * 2**10}  # as the store's


def write_image(path: Path, side_px: int) -> None:
    """A (40, side, side) uint16 OME-TIFF, deflated in tiles of 512 pixels: cells of Poisson counts, by channel."""

    def segment(channel: int) -> bytes:
        rng = np.random.default_rng(channel)
        cells = np.kron(rng.gamma(0.6, 30, (SEGMENT_PX // 16, SEGMENT_PX // 16)), np.ones((16, 16)))
        counts = rng.poisson(cells * (0.2 + 2 * rng.random()) + 0.5).astype(DTYPE)
        return bytes(imagecodecs.zlib_encode(counts, level=6))

    segments = [segment(channel) for channel in range(CHANNELS)]
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as file:
        file.write(
            (segments[channel] for channel in range(CHANNELS) for _ in range((side_px // SEGMENT_PX) ** 2)),
            shape=(CHANNELS, side_px, side_px),
            dtype=DTYPE,
            tile=(SEGMENT_PX, SEGMENT_PX),
            compression="zlib",
            photometric="minisblack",
            metadata={"axes": "CYX", "Channel": {"Name": NAMES}},
        )


def run_ours(image: Path, store: Path) -> None:
    tile_image(open_image(image), range(CHANNELS), NAMES, TileSettings(tile_px=TILE_PX), store)


def run_floor(image: Path, _: Path) -> None:
    codec = Blosc(**CODEC, shuffle=Blosc.BITSHUFFLE)
    with tifffile.TiffFile(image) as file:
        pages, keyframe = list(file.series[0].pages), file.series[0].keyframe

    def transcode(index: int) -> int:
        pixels = np.empty((CHANNELS, SEGMENT_PX, SEGMENT_PX), DTYPE)
        with image.open("rb") as content:
            for channel, page in enumerate(pages):
                content.seek(page.dataoffsets[index])
                pixels[channel] = keyframe.decode(content.read(page.databytecounts[index]), index)[0][0, :, :, 0]
        starts = range(0, SEGMENT_PX, TILE_PX)
        chunks = (pixels[:, y : y + TILE_PX, x : x + TILE_PX] for y in starts for x in starts)
        return sum(len(codec.encode(np.ascontiguousarray(chunk))) for chunk in chunks)

    with ThreadPoolExecutor(CORES) as pool:
        sum(pool.map(transcode, range(len(pages[0].dataoffsets))))


def run_naive(image: Path, store: Path) -> None:
    pixels = da.from_zarr(zarr.open_array(tifffile.imread(image, aszarr=True), mode="r"))
    side = shard_side(pixels.shape, DTYPE, TILE_PX)
    target = zarr.create_array(
        store,
        shape=pixels.shape,
        dtype=DTYPE,
        chunks=(CHANNELS, TILE_PX, TILE_PX),
        shards=(CHANNELS, side, side),
        compressors=BloscCodec(**CODEC, shuffle="bitshuffle"),
    )
    pixels.rechunk((CHANNELS, side, side)).to_zarr(target, scheduler="threads", num_workers=CORES)
    for path in store.rglob("*"):  # ours too ends with everything on the disk
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def seconds(work: Callable[[Path, Path], None], image: Path, folder: Path) -> float:
    store = folder / f"{work.__name__}.ome.zarr"
    shutil.rmtree(store, ignore_errors=True)
    os.sync()  # what was written before is not to be paid for now
    start = time.perf_counter()
    work(image, store)
    return time.perf_counter() - start


def read_seconds(store: TileStore) -> tuple[float, float]:
    """Best time for random tiles of a store, and for decoding the same chunks, held in memory, with numcodecs."""
    tiles = random.Random(0).sample(store.grid.tiles(), TILES_READ)
    codec = Blosc(**CODEC, shuffle=Blosc.BITSHUFFLE)
    chunks = [codec.encode(store.read_tile(tile.row, tile.col)) for tile in tiles]

    def ours() -> None:
        for tile in tiles:
            store.read_tile(tile.row, tile.col)

    def direct() -> None:
        for chunk in chunks:
            np.frombuffer(codec.decode(chunk), DTYPE)

    best = [float("inf"), float("inf")]
    for _ in range(5):
        for place, work in enumerate((ours, direct)):
            start = time.perf_counter()
            work()
            best[place] = min(best[place], time.perf_counter() - start)
    return best[0], best[1]


def peak_mib(image: Path, folder: Path) -> float:
    """The most memory that a process of its own holds while it tiles an image.

    Read from /proc, because ru_maxrss begins with what the parent of a process held.
    """
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import tiling;"
        "tiling.run_ours(Path(sys.argv[2]), Path(sys.argv[3])); print(Path('/proc/self/status').read_text())"
    )
    arguments = [str(Path(__file__).parent), str(image), str(folder / "memory.ome.zarr")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def stated_mib(image: Path) -> float:
    data = open_image(image).data
    return tiling_memory_bytes(data.shape, data.dtype, data.chunks, TILE_PX, Resampling((1, 1)), CORES) / 2**20


def main() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.ome.tif", folder / "large.ome.tif"
        write_image(small, 4096)
        write_image(large, 8192)
        ways = (run_floor, run_ours, run_naive)
        rounds = [[seconds(way, small, folder) for way in ways] for _ in range(ROUNDS)]
        floor_s, ours_s, naive_s = np.median(rounds, axis=0).tolist()
        of_floor = [floor / ours for floor, ours, _ in rounds]
        times_naive = [naive / ours for _, ours, naive in rounds]
        read_s, decode_s = read_seconds(TileStore(folder / "run_ours.ome.zarr"))
        shutil.rmtree(folder / "run_naive.ome.zarr")
        small_mib, large_mib = peak_mib(small, folder), peak_mib(large, folder)
        figures = {
            "cores": CORES,
            "load_average": round(os.getloadavg()[0], 1),
            "floor_s": round(floor_s, 2),
            "ours_s": round(ours_s, 2),
            "naive_s": round(naive_s, 2),
            "throughput_of_floor": round(float(np.median(of_floor)), 2),
            "throughput_of_floor_by_round": [round(ratio, 2) for ratio in of_floor],
            "times_naive": round(float(np.median(times_naive)), 2),
            "times_naive_by_round": [round(ratio, 2) for ratio in times_naive],
            "peak_mib_4096": round(small_mib),
            "peak_mib_8192": round(large_mib),
            "peak_ratio": round(large_mib / small_mib, 3),
            "stated_mib_8192": round(stated_mib(large)),
            "read_ms": round(1000 * read_s / TILES_READ, 2),
            "decode_ms": round(1000 * decode_s / TILES_READ, 2),
            "reading_of_decoding": round(decode_s / read_s, 2),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
