"""What a training reports of its epochs: ``history.csv``, TensorBoard events where that is installed, lines to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from plexrank.outcome.base import MEASURE_NAMES
from plexrank.rundir import write_text
from plexrank.wording import lasting

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]
"""One epoch: ``epoch`` from 1, losses, accuracy, the headline measure, learning rate, seconds."""
EVENTS = "events.out.tfevents.*"


class History:
    """The files beside a unit's checkpoints; of one process only.

    Args:
        path: the CSV, ``None`` to write nothing; TensorBoard's events go into the same folder, so that
            ``tensorboard --logdir RUN/train`` shows every unit by its fold and seed.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._events: SummaryWriter | None = None

    def write_table(self, rows: Sequence[Row], devices: Sequence[str]) -> None:
        """Write all epochs to the CSV, each with what it was computed on, where that is known of the last ones only."""
        if self.path is None:
            return
        unknown = [""] * (len(rows) - len(devices))
        write_text(self.path, pd.DataFrame(rows).assign(device=[*unknown, *devices]).to_csv(index=False))

    def write(self, rows: Sequence[Row], devices: Sequence[str]) -> None:
        """Write all epochs to the CSV and the last one to TensorBoard."""
        if self.path is None:
            return
        self.write_table(rows, devices)
        if self._events is None:
            self._events = _open_events(self.path.parent, first_epoch=int(rows[-1]["epoch"]))
        if self._events is not None:
            for name, value in rows[-1].items():
                if name != "epoch":
                    self._events.add_scalar(name, value, int(rows[-1]["epoch"]))
            self._events.flush()

    def close(self) -> None:
        """End TensorBoard's thread."""
        if self._events is not None:
            self._events.close()
            self._events = None


def _open_events(folder: Path, first_epoch: int) -> SummaryWriter | None:
    """``None`` where TensorBoard is not installed; events of these epochs and later ones from before are void."""
    if first_epoch == 1:
        for old in folder.glob(EVENTS):
            old.unlink(missing_ok=True)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_epoch)


def step_line(epoch: int, epochs: int, n_tiles: int, n_left: int, seconds: float) -> str:
    """Where an epoch stands, with tiles a second and the time to its end, from so many tiles in so many seconds."""
    rate = n_tiles / max(seconds, 1e-3)
    return f"epoch {epoch} of up to {epochs}, {rate:.0f} tiles/s, {lasting(n_left / rate)} to the epoch's end"


def score_in_words(headline: str, score: float) -> str:
    """The headline measure of validation images, such as ``validation AUC 0.81``."""
    return f"validation {MEASURE_NAMES[headline]} {score:.2f}"


def progress_line(row: Row, epochs: int, n_tiles: float, headline: str) -> str:
    """An epoch in words, with tiles a second and the time left.

    Args:
        headline: measure of the validation images.
    """
    most = lasting(row["seconds"] * (epochs - row["epoch"]))
    return (
        f"epoch {row['epoch']:.0f} of up to {epochs}, training loss {row['train_loss']:.3f}, "
        f"validation loss {row['validation_loss']:.3f}, {score_in_words(headline, row[f'validation_{headline}'])}, "
        f"{n_tiles / max(row['seconds'], 1e-3):.0f} tiles/s, at most {most} left"
    )
