"""What training takes on this machine, measured: a few small steps in a process of its own. Loads no torch itself."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass

from plexrank.cohorts.folds import INNER_FOLDS
from plexrank.machine.cores import usable_cores
from plexrank.settings import PROBE_TILES, Study

SECONDS = 4.0
"""How long the steps of a trial may take; loading the libraries comes on top."""
_TIMEOUT = 180.0
_PIXELS_TILED_A_SECOND = 6 * 10**7  # read, reduced and written by a core
_SECONDS_OF_RANKING = 40.0  # start, importances, intervals and report, which depend little on the study
_BYTES = 4  # of a float32


@dataclass(frozen=True)
class Trial:
    """What a trial measured.

    Attributes:
        start_bytes: memory of a run before its first step.
        steps: (tiles, seconds of a core, most memory so far in bytes) of steps of growing batches.
        look_seconds: of a core, for a tile without a backward pass.
        n_parameters: of the network, those that are trained.
    """

    start_bytes: int
    steps: tuple[tuple[int, float, int], ...]
    look_seconds: float
    n_parameters: int

    def peak_bytes(self, tiles: int) -> int:
        """Most memory of a step of so many tiles."""
        num, _, peak = self.steps[-1]
        return peak + (tiles - num) * max(0, peak - self.start_bytes) // num

    def step_seconds(self, tiles: int) -> float:
        """Of a core, for a step of so many tiles."""
        num, seconds, _ = self.steps[-1]
        return seconds * max(1.0, tiles / num)


def try_training(study: Study, num_channels: int, num_outputs: int) -> Trial | None:
    """Measure training steps of a study; ``None`` where that cannot be, as on a login node without torch."""
    side = min(study.train.crop_px, study.tile.tile_px)
    asked = {
        "model": study.model.model_copy(update={"weights": "none", "first_conv": "fresh"}).model_dump(mode="json"),
        "num_channels": num_channels,
        "num_outputs": num_outputs,
        "ordered": study.cohort.outcome == "ordinal",
        "side_px": side,
        "batch_tiles": -(-study.train.batch_tiles // study.train.accumulate),
        "seconds": SECONDS,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "plexrank.stages.trial"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
        measured = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Trial(**(measured | {"steps": tuple(map(tuple, measured["steps"]))}))


def training_memory_bytes(study: Study, trial: Trial, num_tiles: int, num_channels: int, cache_bytes: int) -> int:
    """Peak of a training: a step, the tiles that are kept, and two batches on their way."""
    tile_bytes = num_channels * study.tile.tile_px**2 * _BYTES
    batch = min(study.train.batch_tiles, num_tiles)
    at_once = -(-batch // study.train.accumulate)
    return trial.peak_bytes(at_once) + min(num_tiles * tile_bytes, cache_bytes) + 2 * batch * tile_bytes


def run_minutes(study: Study, trial: Trial, num_tiles: int, source_pixels: int) -> float:
    """How long a run takes on this machine's cores, to about a factor of two.

    Training stops between ``patience`` epochs and ``epochs``; the geometric mean of both is taken.

    Args:
        num_tiles: of all images.
        source_pixels: of all channels of all images, before they are reduced.
    """
    train = study.train
    seen = num_tiles * (1 - 1 / train.folds)
    trained = seen * (1 - 1 / INNER_FOLDS)
    epochs = math.sqrt(min(train.patience + 1, train.epochs) * train.epochs)
    batch = min(train.batch_tiles, trained)
    an_epoch = trained / batch * trial.step_seconds(math.ceil(batch))
    an_epoch += (seen - trained + min(PROBE_TILES, trained)) * trial.look_seconds
    a_training = epochs * an_epoch + 2 * num_tiles * trial.look_seconds
    core_seconds = train.folds * train.seeds * a_training + source_pixels / _PIXELS_TILED_A_SECOND
    return (core_seconds / min(usable_cores(), 4) + _SECONDS_OF_RANKING) / 60
