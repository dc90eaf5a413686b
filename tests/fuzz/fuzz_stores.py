"""Our own stores, as the stages read them: tiles, what is noted of an image, attributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzzing import Seed, Target
from seed_files import files_of

from lazy_images import lazy, names, noise, settings
from plexrank.attribution.store import AttributionBlock, AttributionStore, ExplainedUnit, writing_attribution
from plexrank.tiles.store import TileStore
from plexrank.tiles.stored_image import read_stored_image
from plexrank.tiles.tiling import tile_image

TOKENS = (
    *(b"shape", b"chunk_shape", b"data_type", b"codecs", b"sharding_indexed", b"index_location", b"omero", b"label"),
    *(b"1000000000", b"plexrank", b"tiles", b"statistics", b"channel_mean", b"n_background", b"pixel_size_um"),
    *(b"methods", b"fold", b"channel_names", b"checkpoint_sha256", b"plexrank_attribution", b"float32", b"|O"),
)
UNIT = ExplainedUnit(0, 1, ("CD3", "CD20"), ("low", "high"), "ab" * 32, ("occlusion",))


def tile_stores() -> list[Seed]:
    return files_of(
        lambda folder: tile_image(
            lazy(noise((2, 40, 50), "uint16")), [0, 1], names(2), settings(), folder / "a.ome.zarr"
        ),
        lambda folder: tile_image(lazy(noise((2, 9, 7), "float32")), [1], names(1), settings(), folder / "a.ome.zarr"),
    )


def read_tiles(folder: Path) -> None:
    """Every tile of a small grid, what tells the store from others, and what is noted of it."""
    read_stored_image(folder / "a.ome.zarr")
    store = TileStore(folder / "a.ome.zarr")
    store.digests()
    for row in range(min(store.grid.rows, 4)):
        for col in range(min(store.grid.cols, 4)):
            store.read_tile(row, col)


def write_attribution(folder: Path) -> None:
    chance = np.random.default_rng(0)
    with writing_attribution(folder / "fold-0-seed-1.zarr", UNIT, 5) as write:
        shapes = UNIT.shapes(5)
        values = {name: chance.random(shape, np.float32) for name, shape in shapes.items() if name != "tile_id"}
        write(AttributionBlock(tile_id=np.arange(5), values={"occlusion": values.pop("occlusion")}, **values))


def read_attribution(folder: Path) -> None:
    """All tiles, as ranking does."""
    for _ in AttributionStore(folder / "fold-0-seed-1.zarr").blocks():
        pass


TARGETS = [
    Target("tile store", tile_stores, read_tiles, TOKENS),
    Target("attribution store", lambda: files_of(write_attribution), read_attribution, TOKENS),
]
