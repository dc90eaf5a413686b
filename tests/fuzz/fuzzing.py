"""Feeds broken inputs to the readers: each must be read, or be refused by an error of our own, in 10 s and 1 GiB.

A module ``fuzz_<reader>.py`` beside this one declares ``TARGETS``, a list of :class:`Target`:

    def seeds() -> list[Seed]:  # valid inputs, small, made in code; a seed is {path below a folder: content}
        return [{"a.csv": b"image_id,path\\n1,a.tiff\\n"}]

    def read(folder: Path) -> object:  # opens and reads all of what lies in the folder, as the stages do
        return read_table(folder / "a.csv")

    TARGETS = [Target("tables", seeds, read, tokens=(b"image_id", b"NaN"))]

``python -m fuzzing --seconds 60`` (with this folder on the path, or ``make fuzz``) runs them all; the same ``--seed``
gives the same inputs, each by its number alone: ``--target tables --input 4711`` reads one again, here, with its
traceback. A reader may be called thousands of times in one process, so it must not leave files open.

``mutating.py`` breaks files, ``reporting.py`` is the command line.

What counts as a finding: any other exception than a :class:`~plexrank.errors.PlexrankError` (or those that a target
lists as ``allowed``), one of our own that stands for a lack of memory, more than 1 GiB, more than 10 s of the processor
(or 60 s of waiting), and the death of the process.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mutating import mutate

from plexrank.errors import PlexrankError

SECONDS = 10.0
MEMORY_BYTES = 2**30
ADDRESS_BYTES = 2**32
"""Decoders reserve what a damaged header says, and do not touch it; others that ask for so much are a finding."""
BATCH = 2000
"""Inputs that one process reads; the next one starts afresh."""

Seed = Mapping[str, bytes]


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: of the reader.
        seeds: valid inputs; called in a process of its own.
        read: opens and reads all of what lies in a folder.
        tokens: words of the format, which mutations put in and take out.
        allowed: other errors than our own that the reader documents.
    """

    name: str
    seeds: Callable[[], list[Seed]]
    read: Callable[[Path], object]
    tokens: Sequence[bytes] = ()
    allowed: tuple[type[Exception], ...] = ()


@dataclass
class Outcome:
    """Counts of one target."""

    name: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    findings: dict[str, list[int]] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: float = 0.0


class Shared:
    """What a worker writes and its parent reads: the input it is at, since when, and what became of those before."""

    def __init__(self) -> None:
        self._numbers = np.frombuffer(mmap.mmap(-1, 40), np.float64)  # each is written at once, struct's are not
        self.set(-1, 0.0, 0, 0, 0.0)

    def set(self, at: int, cpu: float, num_read: int, refused: int, slowest: float) -> None:
        for place, number in reversed(list(enumerate((at, cpu, num_read, refused, slowest)))):
            self._numbers[place] = number

    def get(self) -> tuple[int, float, int, int, float]:
        at, cpu, num_read, refused, slowest = self._numbers.tolist()
        return int(at), cpu, int(num_read), int(refused), slowest


def all_targets() -> list[Target]:
    """The targets of all modules beside this one."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))
    return [target for module in modules for target in importlib.import_module(module).TARGETS]


def make_seeds(target: Target) -> list[Seed]:
    """In another process, so that threads of libraries do not stand still in the workers that are forked later."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            with _leaving():
                pickle.dump([dict(seed) for seed in target.seeds()], file)
                file.flush()
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError(f"{target.name}: no seeds could be made")
        file.seek(0)
        seeds: list[Seed] = pickle.load(file)
    return seeds


def broken(seeds: Sequence[Seed], tokens: Sequence[bytes], name: str, seed: int, number: int) -> tuple[int, Seed]:
    """Input ``number``: which of the seeds, and those of its files that are different."""
    chance = random.Random(f"{name} {seed} {number}")
    which = chance.randrange(len(seeds))
    files = sorted(seeds[which])
    changed = {}
    for path in chance.sample(files, min(len(files), 1 if chance.random() < 0.9 else 2)):
        other = seeds[chance.randrange(len(seeds))]
        donor = other[path] if path in other else other[chance.choice(sorted(other))]
        changed[path] = mutate(chance, seeds[which][path], donor, tokens)
    return which, changed


class Bench:
    """A folder a seed, in memory, of which one input after the other is made."""

    def __init__(self, root: Path, seeds: Sequence[Seed]) -> None:
        self._root, self._seeds = root, seeds
        for number, seed in enumerate(seeds):
            for path, content in seed.items():
                file = root / f"{number}" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

    @contextlib.contextmanager
    def changed(self, which: int, changes: Seed):  # type: ignore[no-untyped-def]
        """The folder of a seed with these files changed, until the ``with`` block ends."""
        folder = self._root / f"{which}"
        for path, content in changes.items():
            (folder / path).write_bytes(content)
        try:
            yield folder
        finally:
            for path in changes:
                (folder / path).write_bytes(self._seeds[which][path])


def judge(target: Target, folder: Path) -> str | None:
    """``None`` where the input is read, ``"refused"``, or what is wrong with the reader."""
    try:
        with warnings.catch_warnings(action="ignore"):
            target.read(folder)
    except (PlexrankError, *target.allowed) as error:
        return "memory" if _is_memory(error) else "refused"
    except BaseException as error:  # noqa: BLE001 - whatever it is
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    return None


def _is_memory(error: BaseException | None) -> bool:
    """Whether memory was missing, other than in a compiled decoder."""
    for _ in range(20):
        if isinstance(error, MemoryError):
            return not traceback.extract_tb(error.__traceback__)[-1].filename.endswith(".pyx")
        error = None if error is None else error.__cause__ or error.__context__
    return False


def limit_memory() -> None:
    """Refuse this process more addresses than it has and so many."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(target: Target, seconds: float, inputs: int, seed: int, save: Path | None) -> Outcome:
    """Read inputs until the time or their number is over, in one process after the other."""
    outcome = Outcome(target.name)
    seeds = make_seeds(target)
    begun = time.monotonic()
    while outcome.inputs < inputs and time.monotonic() - begun < seconds:
        first = outcome.inputs
        numbers = range(first, min(first + BATCH, inputs))
        until = begun + seconds
        shared, problem = Shared(), None
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, tempfile.TemporaryFile() as told:
            pid = os.fork()
            if pid == 0:
                with _leaving():
                    _work(target, seeds, seed, numbers, until, Path(scratch), shared, told)
            problem = _watch(pid, shared)
            told.seek(0)
            for line in told.read().decode(errors="replace").splitlines():
                number, _, what = line.partition("\t")
                outcome.findings.setdefault(what, []).append(int(number))
        at, _, num_read, refused, slowest = shared.get()
        if at < first:
            raise RuntimeError(f"{target.name}: a worker did not start ({problem})")
        if problem:
            outcome.findings.setdefault(problem, []).append(at)
        outcome.inputs, outcome.read, outcome.refused = at + 1, outcome.read + num_read, outcome.refused + refused
        outcome.slowest = max(outcome.slowest, slowest)
    outcome.seconds = time.monotonic() - begun
    if save is not None:
        _save(target, seeds, seed, outcome, save)
    return outcome


def _work(target, seeds, seed, numbers, until, scratch, shared, told) -> None:  # type: ignore[no-untyped-def]
    """In a process of its own: read one input after the other, and tell what is wrong with which."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    bench = Bench(scratch, seeds)
    shared.set(numbers[0], time.process_time(), 0, 0, 0.0)
    for which in range(len(seeds)):  # a valid input, with what libraries load at first
        with bench.changed(which, {}) as folder:
            valid = judge(target, folder)
            if valid is not None:
                told.write(f"{numbers[0]}\tseed {which} is not read: {valid}\n".encode())
    limit_memory()
    num_read = refused = 0
    slowest, held = 0.0, _peak_bytes()
    for number in numbers:
        begun = time.process_time()
        shared.set(number, begun, num_read, refused, slowest)
        which, changes = broken(seeds, target.tokens, target.name, seed, number)
        with bench.changed(which, changes) as folder:
            found = judge(target, folder)
        if _peak_bytes() > held + MEMORY_BYTES:
            found = "memory"
        num_read, refused = num_read + (found is None), refused + (found == "refused")
        if found not in (None, "refused"):
            told.write(f"{number}\t{found}\n".encode())
            told.flush()
        slowest = max(slowest, time.process_time() - begun)
        shared.set(number, time.process_time(), num_read, refused, slowest)
        if time.monotonic() > until or _peak_bytes() > held + MEMORY_BYTES:  # a peak does not go down again
            break
    told.flush()


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _watch(pid: int, shared: Shared) -> str | None:
    """Wait for a worker; what it died of. Time is that of the processor, so that it does not depend on other load."""
    last, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else f"died ({signal.Signals(-code).name if code < 0 else code})"
        at, cpu, *_ = shared.get()
        if at != last:
            last, since = at, time.monotonic()
        waits = time.monotonic() - since
        if at >= 0 and waits > SECONDS and (_cpu_seconds(pid) - cpu > SECONDS or waits > 6 * SECONDS):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"over {SECONDS:.0f} s"
        time.sleep(0.02)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _leaving():  # type: ignore[no-untyped-def]
    """End a forked process after the ``with`` block, whatever happens in it."""
    code = 1
    try:
        yield
        code = 0
    except BaseException:  # noqa: BLE001 - a forked process must not go on
        traceback.print_exc()
    finally:
        os._exit(code)


def _save(target: Target, seeds: Sequence[Seed], seed: int, outcome: Outcome, save: Path) -> None:
    """The first inputs of every finding, as folders that the reader can be given again."""
    for what, numbers in outcome.findings.items():
        for number in numbers[:3]:
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{target.name}-{number}-{what}")[:100]
            shutil.rmtree(save / name, ignore_errors=True)
            which, changes = broken(seeds, target.tokens, target.name, seed, number)
            for path, content in {**seeds[which], **changes}.items():
                (save / name / path).parent.mkdir(parents=True, exist_ok=True)
                (save / name / path).write_bytes(content)


if __name__ == "__main__":
    from reporting import main

    main()
