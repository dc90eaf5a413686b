"""Tiles as the network wants them: read, cached, drawn into batches and augmented.

All randomness comes from generators keyed by the unit, the epoch and the batch, never from a global
state, and is drawn for the whole batch before it is shared among processes. A resumed epoch and one on
another number of processes therefore see the same tiles in the same order with the same augmentation.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plexrank.arrays import FloatArray, IntArray
from plexrank.machine.cores import usable_cores
from plexrank.outcome import Outcome
from plexrank.settings import CACHE_BYTES
from plexrank.tiles.intensity import IntensityFit

INPUT_CENTER, INPUT_SPREAD = 0.5, 0.25
"""The network is fed (intensity − 0.5) / 0.25, as in the paper."""


class _TileCache:
    """Intensities of tiles that were read, as many as fit; shared by threads."""

    def __init__(self, num_bytes: int) -> None:
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._free_bytes = num_bytes
        self._lock = Lock()

    def get(self, tile: int) -> NDArray[np.float32] | None:
        return self._kept.get(tile)

    def offer(self, tiles: dict[int, NDArray[np.float32]]) -> None:
        """Keep those of the tiles that fit."""
        with self._lock:
            for tile, values in tiles.items():
                if tile not in self._kept and values.nbytes <= self._free_bytes:
                    self._kept[tile] = values
                    self._free_bytes -= values.nbytes


class TrainingTiles:
    """The tiles of a cohort with what a training unit must know of each.

    Cached tiles are exactly what reading gives (float32), so results do not depend on what fits.

    Args:
        read: tile index → raw counts (channel, y, x), square and of one size; called from threads.
        intensity: what turns counts into intensities in 0–1.
        labels: (tile,) label of the tile's image, its place among the levels of the outcome.
        image_index: (tile,) which image it is from.
        patient_ids: (tile,) whose image it is.
        channel_names: N names, in the order of the channel axis.
        outcome: of the cohort.
        present: (tile, channel) bool, which channels the tile's image holds; all if absent.
        channel_means: (tile, channel) mean counts, NaN where absent; needed where intensities are blended into r.
        stratum: (tile,) int, the site of the tile's image, each with a baseline of its own where the outcome knows one;
            all alike if absent.
        cache_bytes: memory for intensities that are kept.

    Raises:
        ValueError: the arrays differ in length.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray[np.generic]],
        intensity: IntensityFit,
        labels: IntArray,
        image_index: IntArray,
        patient_ids: NDArray[np.str_],
        channel_names: Sequence[str],
        outcome: Outcome,
        present: NDArray[np.bool_] | None = None,
        channel_means: NDArray[np.floating] | None = None,
        stratum: IntArray | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not len(labels) == len(image_index) == len(patient_ids):
            raise ValueError(
                f"one row a tile: {len(labels)} labels, {len(image_index)} images, {len(patient_ids)} patients"
            )
        self.labels = np.asarray(labels, dtype=np.int64)
        self.image_index = np.asarray(image_index, dtype=np.int64)
        self.patient_ids = np.asarray(patient_ids)
        self.channel_names = tuple(channel_names)
        self.outcome = outcome
        self.channel_means = channel_means
        self.stratum = np.zeros(len(labels), np.int64) if stratum is None else np.asarray(stratum, dtype=np.int64)
        self.intensity = intensity
        self._present = None if present is None or present.all() else np.asarray(present, dtype=bool)
        self._read = read
        self._cache = _TileCache(cache_bytes)
        self._shape: tuple[int, ...] | None = None

    def relabelled(self, labels: IntArray) -> TrainingTiles:
        """The same tiles with other labels (tile,); what was read is shared."""
        tiles = copy.copy(self)
        tiles.labels = np.asarray(labels, dtype=np.int64)
        return tiles

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a tile: (channel, y, x); reads one where none was read before."""
        if self._shape is None:
            self._shape = self._read(0).shape
        return self._shape

    def present(self, index: IntArray) -> Tensor | None:
        """Which channels these tiles' images hold, (tile, channel) bool; ``None`` where no image lacks any."""
        return None if self._present is None else torch.from_numpy(self._present[index])

    def batches(self, indices: Iterable[IntArray]) -> Iterator[Tensor]:
        """For each array of tile indices the intensities (tile, channel, y, x) float32, on the CPU.

        Read, where not cached, and put together by one thread a core, one batch ahead of the one that is asked for;
        in memory that a GPU copies from while it computes, where there is one.
        """
        with ThreadPoolExecutor(usable_cores()) as pool:
            ahead: deque[Future[Tensor]] = deque()
            for index in indices:
                parts = [(tile, self._cached_or_read(tile, pool)) for tile in index.tolist()]
                ahead.append(pool.submit(self._stack, parts))  # waits only for what was submitted before it
                if len(ahead) > 1:
                    yield ahead.popleft().result()
            if ahead:
                yield ahead.popleft().result()

    def _cached_or_read(self, tile: int, pool: ThreadPoolExecutor) -> NDArray[np.float32] | Future[NDArray[np.float32]]:
        cached = self._cache.get(tile)
        return pool.submit(self._intensities, tile) if cached is None else cached

    def _intensities(self, tile: int) -> NDArray[np.float32]:
        return self.intensity.apply(self._read(tile))

    def _stack(self, parts: list[tuple[int, NDArray[np.float32] | Future[NDArray[np.float32]]]]) -> Tensor:
        loaded = {tile: part.result() if isinstance(part, Future) else part for tile, part in parts}
        self._cache.offer(loaded)
        if parts:
            self._shape = loaded[parts[0][0]].shape
        stacked = torch.empty(len(parts), *self.shape, pin_memory=torch.cuda.is_available())
        if parts:
            np.stack([loaded[tile] for tile, _ in parts], out=stacked.numpy())
        return stacked


@dataclass(frozen=True)
class Batch:
    """One step's tiles and what is drawn for them, all of length B.

    Attributes:
        tiles: tile indices.
        weights: float64 weight of each tile in the loss.
        corner: in [0, 1), where the crop starts relative to the room there is, (B, 2) y and x.
        turns: quarter turns, 0–3.
        flips: whether x is mirrored; with the turns all eight orientations are equally likely.
        gains: (B, N) factors of the intensities, ``None`` for 1.
        kept: (B, N) bool, which channels are not left out, ``None`` for all.
    """

    tiles: IntArray
    weights: FloatArray
    corner: FloatArray
    turns: IntArray
    flips: NDArray[np.bool_]
    gains: FloatArray | None = None
    kept: NDArray[np.bool_] | None = None

    def share(self, process_rank: int, world_size: int) -> Batch:
        """Every ``world_size``-th tile; possibly none."""
        return self._chosen(slice(process_rank, None, world_size))

    def parts(self, number: int) -> list[Batch]:
        """At most so many parts, as equal as can be and of two tiles or more, as far as there are."""
        number = max(1, min(number, len(self.tiles) // 2))
        edges = np.linspace(0, len(self.tiles), number + 1).round().astype(int)
        return [self._chosen(slice(start, stop)) for start, stop in itertools.pairwise(edges.tolist())]

    def _chosen(self, rows: slice) -> Batch:
        return Batch(
            tiles=self.tiles[rows],
            weights=self.weights[rows],
            corner=self.corner[rows],
            turns=self.turns[rows],
            flips=self.flips[rows],
            gains=None if self.gains is None else self.gains[rows],
            kept=None if self.kept is None else self.kept[rows],
        )


@dataclass(frozen=True)
class Disturbance:
    """What is drawn for every channel of every tile beside flips, turns and crops; nothing by default.

    Attributes:
        num_channels: N.
        jitter: standard deviation of the logarithm of the gains.
        channel_dropout: probability that a channel is left out.
    """

    num_channels: int = 0
    jitter: float = 0.0
    channel_dropout: float = 0.0

    def draw(self, num_tiles: int, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
        """``gains`` and ``kept`` of a :class:`Batch`, as far as they are wanted."""
        drawn: dict[str, NDArray[Any]] = {}
        if self.jitter > 0:
            drawn["gains"] = np.exp(generator.normal(0, self.jitter, (num_tiles, self.num_channels)))
        if self.channel_dropout > 0:
            drawn["kept"] = generator.random((num_tiles, self.num_channels)) >= self.channel_dropout
        return drawn


UNDISTURBED = Disturbance()


def draw_epoch(
    tiles: IntArray,
    image_index: IntArray,
    tile_weights: FloatArray,
    batch_tiles: int,
    entropy: Sequence[int],
    disturbance: Disturbance = UNDISTURBED,
    spread: NDArray[np.bool_] | None = None,
) -> list[Batch]:
    """The batches of one epoch.

    Every image weighs the same: at most the median number of tiles per image is drawn from each, again in
    each epoch, and a tile's weight is divided by how many of its image were drawn. The batches are as
    equal as can be and never of a single tile, since batch norm knows no variance of one.

    Args:
        tiles: (tile,) the tile indices to draw from.
        image_index: (tile,) the image of each.
        tile_weights: (tile,) such as class weights.
        batch_tiles: the most a batch holds (one more where that avoids a single tile).
        entropy: whole numbers that name the unit and the epoch.
        disturbance: what else to draw.
        spread: (tile,) which tiles all batches get as many of as can be, such as those of patients with an event.
    """
    order, weights = _draw_tiles(image_index, tile_weights, np.random.default_rng([*entropy, 0]))
    n_batches = min(-(-len(order) // batch_tiles), max(1, len(order) // 2))
    batches = []
    for number, chosen in enumerate(_cut(order, n_batches, None if spread is None else spread[order])):
        generator = np.random.default_rng([*entropy, 1, number])
        batches.append(
            Batch(
                tiles=tiles[chosen],
                weights=weights[chosen],
                corner=generator.random((len(chosen), 2)),
                turns=generator.integers(0, 4, len(chosen)),
                flips=generator.integers(0, 2, len(chosen)).astype(bool),
                **disturbance.draw(len(chosen), generator),
            )
        )
    return batches


def _draw_tiles(
    image_index: IntArray, tile_weights: FloatArray, generator: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    counts = np.unique(image_index, return_counts=True)[1]
    most = int(np.ceil(np.median(counts)))
    weights = np.array(tile_weights, dtype=np.float64)
    drawn = []
    shuffled = generator.permutation(len(image_index))
    by_image = shuffled[np.argsort(image_index[shuffled], kind="stable")]
    for own in np.split(by_image, np.cumsum(counts)[:-1]):
        kept = own[:most]
        weights[kept] /= len(kept)
        drawn.append(kept)
    return generator.permutation(np.concatenate(drawn)), weights


def _cut(order: IntArray, number: int, spread: NDArray[np.bool_] | None) -> list[IntArray]:
    """So many parts of about equal length, each with about as many of the tiles that are ``spread``, in their order."""
    if spread is None:
        return np.array_split(order, number)
    places, others = np.array_split(np.flatnonzero(spread), number), np.flatnonzero(~spread)
    sizes = [len(part) for part in np.array_split(order, number)]
    rest = np.cumsum([size - len(part) for size, part in zip(sizes, places, strict=True)])[:-1]
    pairs = zip(places, np.split(others, rest), strict=True)
    return [order[np.sort(np.concatenate(pair))] for pair in pairs]


def evenly_spaced(index: IntArray, most: int) -> IntArray:
    """At most ``most`` of the entries (n,), evenly spaced from the first to the last."""
    if len(index) <= most:
        return index
    return index[np.linspace(0, len(index) - 1, most).round().astype(np.int64)]


def augment(tiles: Tensor, batch: Batch, crop_px: int) -> Tensor:
    """Crop, turn, flip and amplify (B, channel, y, x) on the tiles' device.

    Crop and orientation are one draw for all channels of a tile; gains are drawn for each.

    Returns:
        (B, channel, c, c), c the smaller of ``crop_px`` and the tile's side.

    Raises:
        ValueError: the tiles are not square.
    """
    side = tiles.shape[-1]
    if tiles.shape[-2] != side:
        raise ValueError(f"tiles must be square, got {tiles.shape[-2]} × {side} pixels")
    crop = min(crop_px, side)
    source = _source_pixels(batch, side, crop).to(tiles.device)
    flat = tiles.reshape(*tiles.shape[:2], side * side)
    moved = flat.gather(2, source[:, None].expand(-1, tiles.shape[1], -1)).reshape(*tiles.shape[:2], crop, crop)
    if batch.gains is None:
        return moved
    gains = torch.from_numpy(batch.gains).to(moved)
    return (moved * gains[:, :, None, None]).clamp_(max=1)


def _source_pixels(batch: Batch, side: int, crop: int) -> Tensor:
    """(B, c²) int64, which pixel of a tile, row by row, becomes each of the augmented one."""
    corner = np.floor(batch.corner * (side - crop + 1)).astype(np.int64)
    return torch.from_numpy(_orientations(side, crop)[batch.turns + 4 * batch.flips] + (corner @ [side, 1])[:, None])


@functools.lru_cache(maxsize=4)
def _orientations(side: int, crop: int) -> IntArray:
    """(8, c²), the pixels of a tile's first c rows and columns, turned by 0 to 3 quarters, then mirrored so too."""
    index = np.arange(crop)[:, None] * side + np.arange(crop)
    return np.stack([np.rot90(index, turns)[:, ::step].ravel() for step in (1, -1) for turns in range(4)])


def held_channels(present: Tensor | None, kept: NDArray[np.bool_] | None) -> Tensor | None:
    """Which channels the network sees: those ``present`` and ``kept``, all that are present where that is none.

    Args:
        present, kept: (B, N) bool, ``None`` for all.
    """
    if kept is None:
        return present
    left = torch.from_numpy(kept)
    held = torch.ones_like(left) if present is None else present
    return torch.where((held & left).any(dim=1, keepdim=True), held & left, held)


def model_input(intensities: Tensor) -> Tensor:
    """Intensities in 0–1 → what the network is fed, in their place."""
    return intensities.sub_(INPUT_CENTER).mul_(1 / INPUT_SPREAD)
