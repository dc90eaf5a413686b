"""What a command says while it works: bars on a terminal, dated lines elsewhere (Slurm logs), all of it in a log."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from plexrank.machine.processes import job_id
from plexrank.wording import lasting, printable

if TYPE_CHECKING:
    from rich.progress import Progress, Task

SECONDS_BETWEEN_LINES = 30.0
SECONDS_TO_FIRST_SIGN = 8.0
"""After which a stage that has said nothing says that it is at work."""
SECONDS_BETWEEN_BEATS = 1.0
BAR_COLUMNS = 24


class Reporter:
    """Prints messages and progress to standard error, and keeps them for the log of the run.

    Args:
        stream: where to print in the place of standard error.
        quiet: print nothing; the log has it all the same.
        verbose: say details too.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False, verbose: bool = False) -> None:
        self._stream = stream
        self.quiet, self.verbose = quiet, verbose
        self.on_terminal = self.stream.isatty()
        self.shows_bar = False
        self.last_said = time.monotonic()
        self._log: Path | None = None
        self._said_before: list[str] = []
        self._lock = threading.Lock()

    @property
    def stream(self) -> TextIO:
        """Where to print: the given stream, otherwise standard error as it is now (bars redirect it)."""
        return self._stream if self._stream is not None else sys.stderr

    def say(self, message: str) -> None:
        """Print one line, dated where the output is no terminal."""
        self.log(message)
        if not self.quiet:
            stamp = "" if self.on_terminal else f"{_stamp()} "
            print(f"{stamp}{printable(message)}", file=self.stream, flush=True)

    def detail(self, message: str) -> None:
        """Say it where details are asked for."""
        if self.verbose:
            self.say(message)

    def log(self, message: str) -> None:
        """Write a dated line to the log alone; before there is one, it is kept for it."""
        job = job_id()
        line = f"{_stamp()} {f'job {job}: ' if job else ''}{printable(message)}\n"
        with self._lock:
            self.last_said = time.monotonic()
            if self._log is None:
                self._said_before.append(line)
            else:
                _append(self._log, line)

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Append all that is said to a file, what was said before first, and how it ended where it ended badly.

        Lines are appended whole, so that several processes and jobs may write one log.
        """
        with self._lock:
            self._log = path
            with contextlib.suppress(OSError):  # as below
                path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, "".join(self._said_before))
            self._said_before.clear()
        try:
            yield
        except Exception as error:
            for line in str(error).splitlines() or [type(error).__name__]:
                self.log(f"error: {line}")
            raise
        except BaseException:
            self.log("stopped")
            raise
        finally:
            with self._lock:
                self._log = None

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Counting]:
        """Count ``total`` units of work; the yielded object is advanced by the caller."""
        lines = _LineCounting(self, what, total)
        counting = _BarCounting(self, what, total, lines) if self.on_terminal and not self.quiet else lines
        with counting:
            yield counting

    @contextmanager
    def at_work(self, what: str) -> Iterator[None]:
        """Say now and then that it goes on, where nothing else is said."""
        pulse, ended = Pulse(self, what), threading.Event()

        def beat() -> None:
            while not ended.wait(SECONDS_BETWEEN_BEATS):
                pulse.beat(time.monotonic())

        thread = threading.Thread(target=beat, name="plexrank sign of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class Silent(Reporter):
    """Says and keeps nothing: for processes other than the first."""

    def __init__(self) -> None:
        super().__init__(quiet=True)

    def log(self, message: str) -> None:
        """Nothing is kept."""


class Pulse:
    """When to say that something is at work."""

    def __init__(self, reporter: Reporter, what: str) -> None:
        self._reporter, self._what = reporter, what
        self._began = time.monotonic()
        self._has_said = False

    def beat(self, moment: float) -> None:
        """Say so where nothing has been said for long; a bar on a terminal counts by itself."""
        reporter = self._reporter
        patience = SECONDS_BETWEEN_LINES if self._has_said else SECONDS_TO_FIRST_SIGN
        if reporter.shows_bar or moment - max(reporter.last_said, self._began) < patience:
            return
        self._has_said = True
        reporter.say(f"{self._what}: at work for {lasting(moment - self._began)}")


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
        self.say: Callable[[str], None] = reporter.say
        self.done = 0
        self.started = self.last_line = time.monotonic()
        self.has_noted = False

    def advance(self, note: str = "") -> None:
        self.done += 1
        moment = time.monotonic()
        if note or self.done == self.total or self._is_time(moment):
            seconds_left = (moment - self.started) / self.done * (self.total - self.done)
            left = f", about {lasting(seconds_left)} left" if self.done < self.total else ""
            self.say(f"{self.what}: {self.done} of {self.total}{left}{'; ' + note if note else ''}")
            self.last_line = moment

    def note(self, text: str) -> None:
        moment = time.monotonic()
        if not self.has_noted or self._is_time(moment):
            self.say(f"{self.what}: {text}")
            self.last_line, self.has_noted = moment, True

    def _is_time(self, moment: float) -> bool:
        return self.reporter.verbose or moment - self.last_line >= SECONDS_BETWEEN_LINES


class _BarCounting(Counting):
    """Bar, count and times in a line of at most 80 columns, the last note below it; the log gets lines."""

    def __init__(self, reporter: Reporter, what: str, total: int, lines: _LineCounting) -> None:
        self.reporter, self.lines = reporter, lines
        lines.say = reporter.say if reporter.verbose else reporter.log
        self.notes = [""]
        self.bar = _bar(reporter, self.notes)
        self.task = self.bar.add_task(what, total=total, left="")

    def __enter__(self) -> Counting:
        self.reporter.shows_bar = True
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.reporter.shows_bar = False

    def advance(self, note: str = "") -> None:
        self.lines.advance(note)
        self.notes[0] = note or self.notes[0]
        self.bar.update(self.task, advance=1, last=time.monotonic() - self.lines.started)

    def note(self, text: str) -> None:
        self.lines.note(text)
        self.notes[0] = text
        self.bar.refresh()


def _bar(reporter: Reporter, notes: list[str]) -> Progress:
    """A bar whose second line is the only one of ``notes``."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(time_left(task.completed, task.total or 0, task.elapsed or 0.0, task.fields.get("last", 0.0)))

    class TwoLines(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield Text(f"  {printable(notes[0])}", no_wrap=True, overflow="ellipsis")

    return TwoLines(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_COLUMNS),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
        console=Console(file=reporter._stream, stderr=reporter._stream is None),
    )


def time_left(done: float, total: float, elapsed_s: float, last_s: float) -> str:
    """``about 12 min left``, counted down since the last unit was done ``last_s`` after the start."""
    if done >= total:
        return "done"
    if not done:
        return "time left unknown"
    return f"about {lasting(max(0.0, last_s / done * (total - done) - (elapsed_s - last_s)))} left"


def _append(path: Path, text: str) -> None:
    """In one write at the end of the file. A log that cannot be written stops no work."""
    with contextlib.suppress(OSError):
        # A pipe that nobody reads is not waited for.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o666)
        try:
            os.write(descriptor, text.encode("utf-8", errors="replace"))
        finally:
            os.close(descriptor)


def _stamp() -> str:
    return f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
