"""What a command says while it works: bars on a terminal, dated lines elsewhere (Slurm logs)."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from plexrank.wording import lasting

SECONDS_BETWEEN_LINES = 30.0


class Reporter:
    """Prints messages and progress to standard error; ``quiet`` says nothing (processes other than the first)."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._stream = stream
        self.quiet = quiet
        self.on_terminal = self.stream.isatty()

    @property
    def stream(self) -> TextIO:
        """Where to print: the given stream, otherwise standard error as it is now (bars redirect it)."""
        return self._stream if self._stream is not None else sys.stderr

    def say(self, message: str) -> None:
        """Print one line, dated where the output is no terminal."""
        if self.quiet:
            return
        stamp = "" if self.on_terminal else f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} "
        print(f"{stamp}{message}", file=self.stream, flush=True)

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Counting]:
        """Count ``total`` units of work; the yielded object is advanced by the caller."""
        counting = (
            _BarCounting(what, total) if self.on_terminal and not self.quiet else _LineCounting(self, what, total)
        )
        with counting:
            yield counting


class Counting:
    """A count of finished units."""

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, note: str = "") -> None:
        """One more unit is done; ``note`` may say what it was."""

    def note(self, text: str) -> None:
        """What the present unit is at; shown now and then."""


class _LineCounting(Counting):
    def __init__(self, reporter: Reporter, what: str, total: int) -> None:
        self.reporter, self.what, self.total = reporter, what, total
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self.has_noted = False

    def advance(self, note: str = "") -> None:
        self.done += 1
        moment = time.monotonic()
        if note or self.done == self.total or moment - self.last_line >= SECONDS_BETWEEN_LINES:
            seconds_left = (moment - self.started) / self.done * (self.total - self.done)
            left = f", about {lasting(seconds_left)} left" if self.done < self.total else ""
            self.reporter.say(f"{self.what}: {self.done} of {self.total}{left}{'; ' + note if note else ''}")
            self.last_line = moment

    def note(self, text: str) -> None:
        moment = time.monotonic()
        if not self.has_noted or moment - self.last_line >= SECONDS_BETWEEN_LINES:
            self.reporter.say(f"{self.what}: {text}")
            self.last_line, self.has_noted = moment, True


class _BarCounting(Counting):
    def __init__(self, what: str, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.task = self.bar.add_task(what, total=total, note="")

    def __enter__(self) -> Counting:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, note: str = "") -> None:
        self.bar.update(self.task, advance=1, note=note)

    def note(self, text: str) -> None:
        self.bar.update(self.task, note=text)
