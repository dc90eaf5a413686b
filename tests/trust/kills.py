"""Commands killed or stopped at random times, then gone on with."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trust import forked
from trust.prepared import STATES, Prepared, State

STOPPED = 75
TIMEOUT_S = 120.0
BEGIN = State("nothing", "", "tile")
IN_STAGES = (BEGIN, *(state for state in STATES if state.until in ("tile", "train", "attribute")))


@dataclass(frozen=True)
class Kill:
    """One of many alike: a signal at random times, in a whole run or in the stage that follows a state."""

    state: State | None
    number: int
    signal: signal.Signals

    @property
    def name(self) -> str:
        where = "whole run" if self.state is None else f"{self.state.following} ({self.state.name})"
        return f"{self.signal.name} | {where} | {self.number}"


def kills(whole: int, stages: int) -> Iterator[Kill]:
    """So many trials in whole runs and in single stages; every fourth is asked to stop instead."""
    for number in range(max(whole, stages)):
        sent = signal.SIGTERM if number % 4 == 3 else signal.SIGKILL
        if number < whole:
            yield Kill(None, number, sent)
        if number < stages:
            yield Kill(IN_STAGES[number % len(IN_STAGES)], number, sent)


class Killing:
    """Does such trials."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared, self._folder = prepared, prepared.folder
        self._lasts: dict[str, float] = {}

    def attempt(self, kill: Kill, folder: Path) -> dict[str, object]:
        """Do it in ``folder``; the outcome, and how many signals were sent to a process that was at work."""
        self._folder = folder
        chance = random.Random(kill.name)
        nulls = kill.state is not None and kill.state.nulls
        run = self._begin(kill.state)
        words = self._words(kill.state, run, nulls)
        lasts = self._time_of(kill, words, run)
        sent, seconds, problem = 0, 0.0, ""
        for _ in range(3 if kill.state is None else 1):
            ended = self._interrupted(words, chance.uniform(0, lasts), kill.signal)
            seconds += ended.seconds
            sent += ended.code in (-kill.signal, STOPPED)
            if ended.code not in (0, -kill.signal, STOPPED) or "Traceback" in ended.text:
                problem = f"{kill.signal.name}: exit {ended.code}\n{ended.text[-1500:]}"
                break
            if ended.code == 0:
                break
        after = forked.run(self._prepared.arguments(run, nulls=nulls), self._said, TIMEOUT_S)
        outcome = "SAME"
        if problem:
            outcome = "TRACEBACK"
        elif after.code is None:
            outcome = "HANG"
        elif after.code != 0:
            outcome, problem = "NO-RECOVERY", f"exit {after.code}\n{after.text[-1500:]}"
        elif not self._prepared.is_same(run, nulls):
            outcome = "SILENT-DIFFERENT"
        elif left := sorted(path.name for path in run.glob(".run.lock*")):
            outcome, problem = "NO-RECOVERY", f"left behind: {left}"
        found = {"trial": kill.name, "outcome": outcome, "signals": sent, "seconds": round(seconds + after.seconds, 2)}
        return found | ({"said": problem} if problem else {})

    @property
    def _said(self) -> Path:
        return self._folder / "said"

    def _begin(self, state: State | None) -> Path:
        run = self._folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        if state is not None and state is not BEGIN:
            shutil.copytree(self._prepared.state(state), run, symlinks=True)
        return run

    def _words(self, state: State | None, run: Path, nulls: bool) -> list:
        if state is None:
            return self._prepared.arguments(run)
        if state is BEGIN:
            return self._prepared.arguments(run, "tile")
        return [state.following, run]

    def _time_of(self, kill: Kill, words: list, run: Path) -> float:
        """How long the command takes when it is left alone; measured once."""
        name = "whole run" if kill.state is None else kill.state.name
        if name not in self._lasts:
            self._lasts[name] = forked.run(words, self._said, TIMEOUT_S).seconds
            self._begin(kill.state)
        return self._lasts[name]

    def _interrupted(self, words: list, after_s: float, number: signal.Signals) -> forked.Ended:
        command = forked.start(words, self._said)
        time.sleep(after_s)
        command.send(number)
        return command.wait(TIMEOUT_S)
