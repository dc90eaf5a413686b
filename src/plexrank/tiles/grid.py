"""The grid of square tiles over an image, and what stands in a tile beyond the image's edge: pure geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tile:
    """One tile: its place in the grid and in the image, and the part of it that lies in the image."""

    row: int
    col: int
    y_px: int
    x_px: int
    height_px: int
    width_px: int


@dataclass(frozen=True)
class TileGrid:
    """Square tiles of side ``tile_px`` from the upper left corner; the last row and column may be partial.

    Raises:
        ValueError: a side is below 1.
    """

    height_px: int
    width_px: int
    tile_px: int

    def __post_init__(self) -> None:
        if min(self.height_px, self.width_px, self.tile_px) < 1:
            raise ValueError(f"sides must be ≥ 1, got {self}")

    @property
    def rows(self) -> int:
        """Rows of tiles, a partial last one included."""
        return -(-self.height_px // self.tile_px)

    @property
    def cols(self) -> int:
        """Columns of tiles, a partial last one included."""
        return -(-self.width_px // self.tile_px)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return self.rows * self.cols

    def tile(self, row: int, col: int) -> Tile:
        """The tile at ``row`` and ``col``.

        Raises:
            IndexError: there is no such tile.
        """
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise IndexError(f"no tile ({row}, {col}) in a grid of {self.rows} × {self.cols}")
        y_px, x_px = row * self.tile_px, col * self.tile_px
        height_px = min(self.tile_px, self.height_px - y_px)
        width_px = min(self.tile_px, self.width_px - x_px)
        return Tile(row, col, y_px, x_px, height_px, width_px)

    def tiles(self) -> list[Tile]:
        """All tiles in row-major order."""
        return [self.tile(row, col) for row in range(self.rows) for col in range(self.cols)]


def mirrored(tile: npt.NDArray[Any], height_px: int, width_px: int) -> npt.NDArray[Any]:
    """A tile whose part beyond the image's edge shows the part within, mirrored as often as it takes.

    Args:
        tile: (..., y, x); what stands beyond the edge does not matter.
        height_px, width_px: size of the part that lies in the image, at the upper left, both ≥ 1.

    Returns:
        An array of the same shape and type, edge pixels repeated (``symmetric`` of :func:`numpy.pad`); the tile itself
        where all of it lies in the image.

    Raises:
        ValueError: that part is empty or larger than the tile.
    """
    side_y, side_x = tile.shape[-2:]
    if not (1 <= height_px <= side_y and 1 <= width_px <= side_x):
        raise ValueError(f"no part of {height_px} × {width_px} pixels lies in a tile of {side_y} × {side_x}")
    if (height_px, width_px) == (side_y, side_x):
        return tile
    beyond = [(0, 0)] * (tile.ndim - 2) + [(0, side_y - height_px), (0, side_x - width_px)]
    return np.pad(tile[..., :height_px, :width_px], beyond, mode="symmetric")
