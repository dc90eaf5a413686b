"""Areas between outlines, as GeoJSON has them, drawn where they are asked for."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.images.lazy import CHUNK_PX
from plexrank.limits import NESTING
from plexrank.wording import shown

_FARTHEST_PX = 10**9
_CROSSINGS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Area:
    """A polygon with its holes.

    Attributes:
        edges: (edge, x0 y0 x1 y1) with y0 < y1, pixels; horizontal ones do not matter.
        box: left, top, right and bottom.
    """

    edges: npt.NDArray[np.float64]
    box: tuple[float, float, float, float]

    def draw(self, ys: range, xs: range, out: npt.NDArray[np.bool_]) -> None:
        """Set those pixels of ``out`` (y, x), which shows ``ys`` and ``xs``, whose centre lies inside.

        Inside is what an odd number of edges stands left of; a centre on an edge belongs to the right or lower area.
        """
        x0, y0, x1, y1 = self.edges.T
        left, top, right, bottom = (math.ceil(side - 0.5) for side in self.box)
        left, top, right, bottom = max(xs.start, left), max(ys.start, top), min(xs.stop, right), min(ys.stop, bottom)
        if top >= bottom or left >= right:
            return
        first = np.clip(np.ceil(y0 - 0.5), top, bottom).astype(np.int64)
        counts = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64) - first
        slope = (x1 - x0) / (y1 - y0)
        width = right - left + 1
        crossings = np.zeros((bottom - top) * width, np.int64)
        for edges in _in_parts(counts):
            here = counts[edges]
            edge = np.repeat(np.arange(edges.start, edges.stop), here)
            row = np.arange(edge.size) + np.repeat(first[edges] - np.cumsum(here) + here, here)
            crossing = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
            col = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
            crossings += np.bincount((row - top) * width + col - left, minlength=crossings.size)
        inside = np.cumsum(crossings.reshape(-1, width)[:, :-1], axis=1) % 2 == 1
        out[top - ys.start : bottom - ys.start, left - xs.start : right - xs.start] |= inside


def _in_parts(counts: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Edges in turn, so that those of one part cross no more rows than fit into memory."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        most = (ends[start - 1] if start else 0) + _CROSSINGS_AT_ONCE
        stop = max(int(np.searchsorted(ends, most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True)
class Outlines:
    """Areas as (1, y, x) pixels, true inside of any of them."""

    areas: Sequence[Area]
    shape: tuple[int, int, int]
    dtype = np.dtype(bool)

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(c, y, x) to draw at once."""
        return 1, min(CHUNK_PX, self.shape[1]), min(CHUNK_PX, self.shape[2])

    @functools.cached_property
    def _boxes(self) -> npt.NDArray[np.float64]:
        """(area, left top right bottom)."""
        sides = [
            (a.edges[:, ::2].min(), a.edges[:, 1].min(), a.edges[:, ::2].max(), a.edges[:, 3].max()) for a in self.areas
        ]
        return np.array(sides)

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
        ys, xs = (range(*part.indices(side)) for part, side in zip(key[1:], self.shape[1:], strict=True))
        drawn = np.zeros((1, len(ys), len(xs)), bool)
        left, top, right, bottom = self._boxes.T
        near = (left < xs.stop) & (right > xs.start) & (top < ys.stop) & (bottom > ys.start)
        for index in np.flatnonzero(near).tolist():
            self.areas[index].draw(ys, xs, drawn[0])
        return drawn


def read_outlines(content: Any) -> list[Area]:
    """The polygons of a GeoJSON object, or of a list of such; points and lines have no area and do not count.

    Raises:
        ValueError: there is no polygon, one is malformed, or the content is no GeoJSON.
    """
    try:
        areas = [_area(rings) for geometry in _geometries(content) for rings in _polygons(geometry)]
    except KeyError as error:
        raise ValueError(f"a part of it has no {error.args[0]}") from error
    except (AttributeError, OverflowError, TypeError) as error:
        raise ValueError(f"no GeoJSON: {error}") from error
    if not areas:
        raise ValueError("it holds no polygon")
    return areas


def _geometries(content: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > NESTING.most():
        raise ValueError(f"nested more than {NESTING.most()} levels deep")
    if isinstance(content, list):
        for part in content:
            yield from _geometries(part, depth + 1)
        return
    if not isinstance(content, dict):
        raise TypeError(f"{shown(content)} in the place of an object")
    kind = content["type"]
    if kind == "FeatureCollection":
        yield from _geometries(content["features"], depth + 1)
    elif kind == "Feature":
        yield from _geometries(content["geometry"] or [], depth + 1)
    elif kind == "GeometryCollection":
        yield from _geometries(content["geometries"], depth + 1)
    else:
        yield content


def _polygons(geometry: dict[str, Any]) -> list[Any]:
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        return []
    coordinates = geometry["coordinates"]
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not all(isinstance(rings, list) and rings for rings in polygons):
        raise TypeError("the coordinates of a polygon are no list of outlines")
    return polygons


def _area(rings: list[Any]) -> Area:
    edges = []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 2 or points.shape[1] < 2 or len(points) < 3 or not np.isfinite(points).all():
            raise ValueError("an outline is not a list of three or more points [x, y]")
        if np.abs(points[:, :2]).max() > _FARTHEST_PX:
            raise ValueError(f"an outline has a point more than {_FARTHEST_PX:,} pixels away")
        edges.append(np.hstack([points[:, :2], np.roll(points[:, :2], -1, axis=0)]))
    joined = np.concatenate(edges)
    joined = joined[joined[:, 1] != joined[:, 3]]
    downwards = joined[:, 1] < joined[:, 3]
    joined = np.where(downwards[:, np.newaxis], joined, joined[:, [2, 3, 0, 1]])
    if len(joined) == 0:
        raise ValueError("an outline has no height")
    x, y = joined[:, ::2], joined[:, 1::2]
    return Area(joined, (float(x.min()), float(y.min()), float(x.max()), float(y.max())))
