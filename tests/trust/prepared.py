"""A tiny cohort, and its run stopped at every point where something can be damaged."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trust import forked

OVERRIDES = (
    "train.epochs=3",
    "train.folds=2",
    "train.seeds=1",
    "rank.bootstrap=100",
    "rank.permutations=100",
    "report.pictures=1",
)
NULLS = ("rank.null_trainings=2",)
OLDER = ("train.epochs=2",)
"""What was set in the run whose files are the older ones."""
STAGES = ("tile", "train", "attribute", "rank", "report")


@dataclass(frozen=True)
class State:
    """A point at which a run is stopped.

    Attributes:
        name: what to call it.
        until: the last stage that is done.
        following: the stage that follows, by hand.
        nulls: with trainings on permuted labels.
        in_training: stopped within a training, after its first epoch.
    """

    name: str
    until: str
    following: str
    nulls: bool = False
    in_training: bool = False


STATES = (
    State("after tile", "tile", "train"),
    State("in a training", "tile", "train", in_training=True),
    State("after train", "train", "attribute"),
    State("after attribute", "attribute", "rank"),
    State("after rank", "rank", "report"),
    State("finished", "report", "report"),
    State("after train, nulls", "train", "attribute", nulls=True),
    State("after attribute, nulls", "attribute", "rank", nulls=True),
    State("finished, nulls", "report", "rank", nulls=True),
)


class Prepared:
    """The runs below ``folder``, each made once.

    Args:
        folder: where; best in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.study = folder / "cohort" / "study.yaml"
        self.said = folder / "said"
        if not self.study.is_file():
            self._must("simulate", "spatial", "--out", folder / "making", "--images", 16, "--channels", 6, "--size", 32)
            (folder / "making").rename(self.study.parent)

    def arguments(self, run: Path, until: str = "rank", overrides: Sequence[str] = (), nulls: bool = False) -> list:
        """Of ``plexrank run``."""
        chosen = (*OVERRIDES, *(NULLS if nulls else ()), *overrides)
        sets = [part for one in chosen for part in ("--set", one)]
        return ["run", self.study, "--out", run, "--until", until, *sets]

    def state(self, state: State) -> Path:
        """The run in this state; copy it."""
        return self._made(state.name.replace(", ", "-").replace(" ", "-"), state)

    def older(self, nulls: bool) -> Path:
        """A finished run with other settings."""
        return self._made(f"older{'-nulls' * nulls}", State("older", "report", "report", nulls), OLDER)

    def is_same(self, run: Path, nulls: bool) -> bool:
        """Whether all tables of its ranking have the bytes of a run that nothing disturbed."""
        return tables_of(run) == tables_of(self.undisturbed(nulls))

    def undisturbed(self, nulls: bool) -> Path:
        """A run that nothing disturbed, to the ranking."""
        name = f"undisturbed{'-nulls' * nulls}"
        return self._made(name, State(name, "rank", "report", nulls))

    def make_all(self) -> None:
        """Make all runs."""
        for nulls in (False, True):
            self.undisturbed(nulls)
            self.older(nulls)
        for state in STATES:
            self.state(state)

    def _made(self, name: str, state: State, overrides: Sequence[str] = ()) -> Path:
        path = self.folder / name
        if not path.is_dir():
            making = self.folder / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            self._must(*self.arguments(making, state.until, overrides, state.nulls))
            if state.in_training:
                self._stop_in_training(making, state)
            making.rename(path)
        return path

    def _stop_in_training(self, run: Path, state: State) -> None:
        """Kill the last training when it has saved its first progress."""
        command = forked.start(self.arguments(run, "train", (), state.nulls), self.said)
        folder = run / "train" / "fold-1" / "seed-0"
        while not (folder / "last.pt").is_file() and not command.ended():
            time.sleep(0.0005)
        command.send(signal.SIGKILL)
        command.wait(10)
        if (folder / "done.json").exists():
            raise SystemExit(f"{folder}: the training was over before it could be stopped; try again")

    def _must(self, *words: object) -> None:
        ended = forked.run(words, self.said, timeout_s=600)
        if ended.code != 0:
            raise SystemExit(f"plexrank {' '.join(map(str, words))}: exit {ended.code}\n{ended.text}")


def tables_of(run: Path) -> dict[str, bytes]:
    """The bytes of every table in the ranking of a run, which has them with all digits."""
    paths = [path for path in (run / "ranking").glob("*") if path.suffix in (".csv", ".parquet")]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}
