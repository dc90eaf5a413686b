"""Cells as discs that do not overlap, on a jittered lattice, and which of them are bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plexrank.simulate.cohort import Generator

_PITCH_PX = 6  # a disc of 5 pixels across and one pixel of jitter
_DISC_RADIUS_PX = 2
_CELLS_A_FOCUS = 256  # about one focus for 96 × 96 pixels


@dataclass(frozen=True)
class Tissue:
    """Cells of an image.

    Attributes:
        index_map: (y, x) int, 0 for background, otherwise the cell's number, counted from 1.
        centers: (cell, 2) y and x, pixels.
    """

    index_map: npt.NDArray[np.intp]
    centers: npt.NDArray[np.intp]

    @property
    def num_bright(self) -> int:
        """How many cells are bright in a channel: one in six."""
        return max(1, len(self.centers) // 6)


def grow_tissue(generator: Generator, size_px: int) -> Tissue:
    """Discs of radius 2 on a lattice of 6 pixels, each moved by 0 or 1 pixel in y and x."""
    starts = _DISC_RADIUS_PX + _PITCH_PX * np.arange(size_px // _PITCH_PX)
    lattice = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    centers = lattice + generator.integers(0, 2, lattice.shape)
    offsets = disc_offsets(_DISC_RADIUS_PX)
    index_map = np.zeros((size_px, size_px), np.intp)
    pixels = centers[:, np.newaxis] + offsets
    index_map[pixels[..., 0], pixels[..., 1]] = np.arange(1, len(centers) + 1)[:, np.newaxis]
    return Tissue(index_map, centers)


def disc_offsets(radius_px: int) -> npt.NDArray[np.intp]:
    """(pixel, 2) offsets in y and x of a disc from its centre."""
    reach = np.arange(-radius_px, radius_px + 1)
    offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    inside: npt.NDArray[np.intp] = offsets[(offsets**2).sum(axis=1) <= radius_px**2 + 1]
    return inside


def scattered(generator: Generator, tissue: Tissue) -> npt.NDArray[np.intp]:
    """Indices of bright cells drawn at random."""
    return generator.choice(len(tissue.centers), tissue.num_bright, replace=False)


def clustered(generator: Generator, tissue: Tissue) -> npt.NDArray[np.intp]:
    """Indices of as many bright cells, those nearest to a few random foci."""
    num_foci = max(1, round(len(tissue.centers) / _CELLS_A_FOCUS))
    foci = tissue.centers[generator.choice(len(tissue.centers), num_foci, replace=False)]
    distances = ((tissue.centers[:, np.newaxis] - foci) ** 2).sum(axis=2).min(axis=1)
    return np.argsort(distances, kind="stable")[: tissue.num_bright]


def partly_clustered(generator: Generator, tissue: Tissue, share: float) -> npt.NDArray[np.intp]:
    """Indices of as many bright cells: ``share`` of them, 0 to 1, nearest to the foci, the rest anywhere else."""
    together = clustered(generator, tissue)[: round(share * tissue.num_bright)]
    elsewhere = np.setdiff1d(np.arange(len(tissue.centers)), together)
    apart = generator.choice(elsewhere, tissue.num_bright - len(together), replace=False)
    return np.concatenate([together, apart])
