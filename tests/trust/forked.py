"""The command line in forks of a process that has loaded the libraries and done nothing else.

Loading torch takes longer than most commands of a tiny run, so that a trial costs a fraction of a second this way. The
process that forks must start no thread: it imports, copies files and waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOADED = (
    *("plexrank.cli", "plexrank.launch.opening", "plexrank.launch.resuming", "plexrank.simulate"),
    *(f"plexrank.stages.{stage}" for stage in ("tile", "train", "attribute", "rank", "report", "pipeline", "todo")),
    *("torch._dynamo", "torch.utils.tensorboard"),  # by the first step of a training
    *("pyarrow.dataset", "pyarrow.parquet", "pydantic.type_adapter", "encodings.utf_8_sig"),
)
SMALLER = {"plexrank.ranking.baselines": {"TREES": 10}, "plexrank.ranking.cohort_ranking": {"READS_DRAWS": 500}}
"""What costs time and has nothing to do with faults, if it is there by this name."""
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
"""Capabilities of root by which it reads what its mode forbids."""
BUG = 70
"""Exit code of what plexrank calls a bug, with a traceback."""


def load() -> None:
    """Import what commands import; before the first fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LOADED:
        importlib.import_module(name)
    for name, values in SMALLER.items():
        module = importlib.import_module(name)
        for constant, value in values.items():
            if hasattr(module, constant):
                setattr(module, constant, value)


@dataclass(frozen=True)
class Ended:
    """How a command ended: ``code`` is ``None`` where it hung, negative where a signal ended it."""

    code: int | None
    text: str
    seconds: float


@dataclass
class Command:
    """A command under way, the leader of its own group of processes."""

    pid: int
    said: Path
    began: float

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, and to what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> Ended:
        """Wait for its end; one that takes longer is killed."""
        descriptor = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([descriptor], [], [], timeout_s)
        finally:
            os.close(descriptor)
        if not ready:
            self.send(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        text = self.said.read_text(encoding="utf-8", errors="replace")
        code = os.waitstatus_to_exitcode(status) if ready else None
        return Ended(code, text, time.monotonic() - self.began)

    def ended(self) -> bool:
        """Whether it has ended, without waiting."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def start(
    words: Sequence[object],
    said: Path,
    *,
    environment: Mapping[str, str | None] | None = None,
    obeys_modes: bool = False,
    umask: int | None = None,
) -> Command:
    """Start ``plexrank WORDS`` with all it says in a file.

    Args:
        words: arguments.
        said: the file.
        environment: variables to set, or for ``None`` to unset.
        obeys_modes: cannot read what a mode forbids, even as root.
        umask: for what it writes.
    """
    began = time.monotonic()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # it did so itself, or has ended
            os.setpgid(pid, pid)
        return Command(pid, said, began)
    code = BUG
    try:
        os.setpgid(0, 0)
        _become(said, environment or {}, obeys_modes, umask)
        code = _run([str(word) for word in words])
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run(words: Sequence[object], said: Path, timeout_s: float = 60.0, **surroundings: object) -> Ended:
    """Run ``plexrank WORDS`` to its end; ``surroundings`` as for :func:`start`."""
    return start(words, said, **surroundings).wait(timeout_s)  # type: ignore[arg-type]


def _become(said: Path, environment: Mapping[str, str | None], obeys_modes: bool, umask: int | None) -> None:
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if umask is not None:
        os.umask(umask)
    if obeys_modes and os.geteuid() == 0:
        _obey_modes()


def _obey_modes() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for index in range(3):  # effective, permitted, inheritable of the first 32
        sets[index] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


def _run(words: list[str]) -> int:
    from plexrank.cli import main

    sys.argv = ["plexrank", *words]
    try:
        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
