"""What a drafted study asks of a laptop: resolution, tiles, batches, folds, seeds and epochs that it finishes with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plexrank.cohorts.differences import SAME_SIZE, read_middle
from plexrank.errors import PlexrankError
from plexrank.images.channel_names import are_isotopes
from plexrank.images.find import FoundImage
from plexrank.images.open import open_image

CELL_UM = 10.0
FEWEST_CELL_PX, MOST_CELL_PX = 5, 10
"""A cell is to be so many pixels wide, so that shape and neighbours show; more cost and show little more."""
_USUAL_UM = 0.5  # of MIBI, CODEX and CyCIF, where a file does not say
_IMC_UM = 1.0
_LARGEST_TILE_PX, _SMALLEST_TILE_PX = 128, 16
_LARGEST_BATCH, _SMALLEST_BATCH = 32, 8
_PIXELS_IN_MEMORY = 25 * 10**7  # of all tiles: 1 GB as float32
_PIXELS_A_STEP = 8 * 10**6  # of a batch: 1 GB of activations of the shallow backbone
_CORE_SECONDS = 600.0  # of training
_PIXELS_A_SECOND = 8 * 10**6  # trained on by a core
_SECONDS_A_STEP = 0.3  # beside the pixels
_EFFORTS = ((5, 3, 30), (5, 2, 30), (5, 1, 30), (5, 1, 20), (3, 1, 20), (3, 1, 10))
"""Folds, seeds and epochs, the best first."""
_SAMPLED = 8  # images whose pixels tell the cofactor


@dataclass(frozen=True)
class Sizes:
    """What is drafted of tiles and training.

    Attributes:
        tile_px, downsample, um_per_px, batch_tiles, folds, seeds, epochs: as in a study; one of downsample and
            um_per_px is 1 or None.
        cell_px: width of a cell after the reduction.
        finer: setting with which it keeps the advised pixels, ``None`` where it has them.
        guessed_um, why_guessed: pixel size that was assumed, ``None`` where the images say, and after what.
        num_smaller: images smaller than a tile.
    """

    tile_px: int
    downsample: int
    um_per_px: float | None
    batch_tiles: int
    folds: int
    seeds: int
    epochs: int
    cell_px: float
    finer: str | None
    guessed_um: float | None
    why_guessed: str
    num_smaller: int

    def describe(self) -> list[tuple[str, str]]:
        """Topic and sentence of all that was chosen."""
        notes = []
        if self.guessed_um is not None:
            taken = f"not given by the images: taken for {self.guessed_um:g} µm{self.why_guessed}"
            notes.append(("pixel size", f"{taken}; if not, fix tile.image_um_per_px and tile.downsample"))
        how = f"reduced by {self.downsample}" if self.downsample > 1 else "not reduced"
        if self.um_per_px is not None:
            how = f"brought to {self.um_per_px:g} µm a pixel, since the images differ in that"
        few = f", below the advised {FEWEST_CELL_PX}, for a laptop to finish; {self.finer}" if self.finer else ""
        smaller = f"; images smaller than a tile: {self.num_smaller}" if self.num_smaller else ""
        cell = f"a cell of {CELL_UM:g} µm is {self.cell_px:.3g} px{few}"
        notes.append(("tiles", f"{self.tile_px} px, {how}: {cell}{smaller}"))
        notes.append(
            (
                "training",
                f"{self.folds} folds × {self.seeds} seeds, {self.epochs} epochs at most, for two cores and 4 GB",
            )
        )
        return notes


def choose_sizes(images: Sequence[FoundImage], channel_ids: Sequence[str]) -> Sizes:
    """Sizes for images of one panel: a cell of some 5 to 10 pixels, unless a laptop could not finish that.

    Args:
        images: of one panel.
        channel_ids: what its channels are called in the files, if anything; isotopes are those of IMC.
    """
    given = [_pixel_size(image.path) for image in images]
    guessed, why = _guess([size for size in given if size is not None], images, channel_ids)
    sizes = [guessed if size is None else size for size in given]
    differ = max(sizes) > SAME_SIZE * min(sizes)
    um = max(sizes) if differ else statistics.median(sizes)
    finest = max(1, math.ceil(CELL_UM / MOST_CELL_PX / um / SAME_SIZE))
    coarsest = max(finest, math.floor(CELL_UM / FEWEST_CELL_PX / um * SAME_SIZE))
    downsample, fitted = _reduce(images, [um / size for size in sizes], finest, coarsest)
    tile_px, batch, (folds, seeds, epochs) = fitted
    wanted = f"tile.um_per_px: {coarsest * um:.4g}" if differ else f"tile.downsample: {coarsest}"
    return Sizes(
        tile_px=tile_px,
        downsample=1 if differ else downsample,
        um_per_px=float(f"{downsample * um:.4g}") if differ else None,
        batch_tiles=batch,
        folds=min(folds, max(2, len(images) // 3)),
        seeds=seeds,
        epochs=epochs,
        cell_px=CELL_UM / (downsample * um),
        finer=f"{wanted} keeps {CELL_UM / (coarsest * um):.3g} px" if downsample > coarsest else None,
        guessed_um=guessed if None in given else None,
        why_guessed=why,
        num_smaller=sum(
            min(image.shape[1:]) * size < tile_px * downsample * um for image, size in zip(images, sizes, strict=True)
        ),
    )


def _guess(given: Sequence[float], images: Sequence[FoundImage], channel_ids: Sequence[str]) -> tuple[float, str]:
    """Pixel size of images that do not say it, µm, and what it is taken from."""
    if given:
        return statistics.median(given), ", that of the other images"
    if are_isotopes(channel_ids):
        return _IMC_UM, ", that of IMC, since the channels are isotopes"
    if all(map(_is_imc, images)):
        return _IMC_UM, ", that of IMC"
    return _USUAL_UM, ""


_Fitted = tuple[int, int, tuple[int, int, int]]
"""Side of a tile, tiles a step, and effort."""


def _reduce(images: Sequence[FoundImage], finer: Sequence[float], finest: int, coarsest: int) -> tuple[int, _Fitted]:
    """How far to reduce: as little as allows all effort, as far as a cell keeps its pixels; further if it must be.

    Args:
        finer: of every image how many times its pixels are as fine as those of the coarsest image.
        finest, coarsest: reductions of the coarsest image between which a cell has the pixels that it should have.
    """
    downsample = finest
    while True:
        shapes = [
            (image.shape[0], *(max(1, int(side / (downsample * factor))) for side in image.shape[1:]))
            for image, factor in zip(images, finer, strict=True)
        ]
        fitted = _fit(shapes, _EFFORTS[:1] if downsample < coarsest else _EFFORTS)
        if fitted is not None:
            return downsample, fitted
        if max(max(shape[1:]) for shape in shapes) <= _SMALLEST_TILE_PX:
            return downsample, (_SMALLEST_TILE_PX, _SMALLEST_BATCH, _EFFORTS[-1])
        downsample += 1


def _fit(shapes: Sequence[tuple[int, ...]], efforts: Sequence[tuple[int, int, int]]) -> _Fitted | None:
    """What a laptop finishes with, the best of ``efforts``; ``None`` where there is none."""
    sides = [min(shape[1:]) for shape in shapes]
    channels = shapes[0][0]
    tile_px = _LARGEST_TILE_PX
    while tile_px > _SMALLEST_TILE_PX and (
        tile_px > statistics.median(sides) or _SMALLEST_BATCH * channels * tile_px**2 > _PIXELS_A_STEP
    ):
        tile_px //= 2
    batch = max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _PIXELS_A_STEP // (channels * tile_px**2)))
    num_tiles = sum(-(-height // tile_px) * -(-width // tile_px) for _, height, width in shapes)
    pixels = num_tiles * channels * tile_px**2
    if pixels > _PIXELS_IN_MEMORY:
        return None
    for folds, seeds, epochs in efforts:
        passes = folds * seeds * epochs * 0.8 * (1 - 1 / folds)  # a fifth of what is not held out validates
        if passes * (pixels / _PIXELS_A_SECOND + num_tiles / batch * _SECONDS_A_STEP) <= _CORE_SECONDS:
            return tile_px, batch, (folds, seeds, epochs)
    return None


def choose_cofactor(images: Sequence[FoundImage]) -> float:
    """About the counts at which signal leaves noise, from the pixels: the same for the same data in any format."""
    bright: list[float] = []
    for image in images[:: max(1, len(images) // _SAMPLED)]:
        try:
            middle = read_middle(open_image(image.path).pixels, range(image.shape[0]))
        except PlexrankError:
            continue
        bright += np.nanpercentile(middle.astype(np.float32), 99.5, axis=(1, 2)).tolist()
    usual = statistics.median([value for value in bright if value > 0] or [1.0])
    top = max(bright, default=1.0)
    if top <= 1:
        return 0.02
    return 1 if usual < 50 else 5 if usual <= 255 else 100


def _is_imc(image: FoundImage) -> bool:
    called = (image.channel_names or (), image.channel_ids or ())
    return image.reader.startswith("IMC") or any(map(are_isotopes, called))


def _pixel_size(path: Path) -> float | None:
    size = open_image(path).pixel_size_um
    return None if size is None else max(size)
