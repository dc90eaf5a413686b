"""Seeds from what writes files into a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from fuzzing import Seed


def files_of(*writers: Callable[[Path], object]) -> list[Seed]:
    """A seed of all files that each of the writers leaves in an empty folder."""
    return [seed for writer in writers for seed in _written([writer])]


def _written(writers: Iterable[Callable[[Path], object]]) -> list[Seed]:
    with tempfile.TemporaryDirectory() as scratch:
        for writer in writers:
            writer(Path(scratch))
        found = sorted(path for path in Path(scratch).rglob("*") if path.is_file())
        return [{path.relative_to(scratch).as_posix(): path.read_bytes() for path in found}]
