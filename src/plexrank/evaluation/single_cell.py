"""The importance that a table of single cells gives a channel: the ground truth of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from plexrank.errors import MissingInputError, StudyError, naming_damage, naming_input

CELLS_AT_ONCE = 200_000
_SHOWN = 50


def fold_change(class_means: np.ndarray) -> np.ndarray:
    """g = Σ |μ_s − μ_t| over all pairs of classes, over μ of the first class (Abdel Magid et al. 2020, supplement).

    Args:
        class_means: (class, channel), mean intensity over all cells of a class, above 0 in the first class.

    Returns:
        (channel,).
    """
    first, second = np.triu_indices(len(class_means), 1)
    result: np.ndarray = np.abs(class_means[first] - class_means[second]).sum(axis=0) / class_means[0]
    return result


def single_cell_truth(path: Path, label: str, channels: Sequence[str]) -> pd.DataFrame:
    """A truth for :func:`plexrank.evaluation.truth.evaluate` from a table with one row a cell.

    Args:
        path: CSV with the column ``label`` and one column of intensities for each channel; others are ignored. Cells
            without a label are left out; a missing intensity does not count in the mean of its channel. The classes
            are taken in sorted order: the first is the one to compare with.
        label: name of the column with the class of a cell, such as the tumour grade.
        channels: columns to read.

    Returns:
        Columns ``channel`` and ``grade``.

    Raises:
        MissingInputError: there is no such file.
        StudyError: columns are missing or not numbers, there is one class only, a class has no intensity of a channel,
            or a mean to divide by is not above 0.
    """
    with naming_input(str(path)):
        if not path.is_file():
            raise MissingInputError(f"{path}: no such table of single cells")
    with naming_damage(f"{path}: not readable as a table of single cells", "save it as CSV in UTF-8", StudyError):
        total, count = _sums(path, label, list(channels))
    if len(total) < 2:
        raise StudyError(f"{path}: {label} has {len(total)} classes; a change between classes needs two or more")
    empty = [f"{name} in class {value}" for value, row in count.iterrows() for name in channels if not row[name]]
    if empty:
        raise StudyError(f"{path}: no cell has an intensity of {', '.join(empty)}")
    means = (total / count).to_numpy()
    bad = [channel for channel, mean in zip(channels, means[0], strict=True) if not mean > 0]
    if bad:
        raise StudyError(f"{path}: no intensity above 0 in class {total.index[0]} for {', '.join(bad)}")
    return pd.DataFrame({"channel": list(channels), "grade": fold_change(means)})


def _sums(path: Path, label: str, channels: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sum of every channel and number of cells that have it, (class, channel), classes in order."""
    header = list(pd.read_csv(path, nrows=0).columns)
    missing = [name for name in (label, *channels) if name not in header]
    if missing:
        more = f", … ({len(header)} in all)" if len(header) > _SHOWN else ""
        found = ", ".join(header[:_SHOWN]) + more
        raise StudyError(f"{path}: missing columns {', '.join(missing)}; found {found}")
    dtypes = dict.fromkeys(channels, np.float64) | {label: str}
    total, count = pd.DataFrame(columns=channels, dtype=float), pd.DataFrame(columns=channels, dtype=float)
    try:
        with pd.read_csv(path, usecols=[label, *channels], dtype=dtypes, chunksize=CELLS_AT_ONCE) as parts:
            for part in parts:
                grouped = part.groupby(label)[channels]
                total = total.add(grouped.sum(), fill_value=0.0)
                count = count.add(grouped.count(), fill_value=0.0)
    except ValueError as error:
        raise StudyError(f"{path}: an intensity is not a number ({error})") from error
    return total.sort_index(), count.sort_index()
