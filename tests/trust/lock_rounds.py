"""Rounds of processes that all want one lock at once: how often are two of them inside?

    python tests/trust/lock_rounds.py --rounds 1000

A process is a fork, so that a round takes milliseconds. Prints a line of JSON for each kind of lock.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from plexrank.errors import RunDirError
from plexrank.rundir import RunDir, lock

PROCESSES = 4
IN_MEMORY = Path("/dev/shm")
ALREADY_OLD_S = 10 * lock.LEASE_S
OF_JOB = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
_forking = multiprocessing.get_context("fork")


def fresh(path: Path) -> None:
    """No lock is there."""


def stale(path: Path) -> None:
    """The owner is a process of this host that has ended."""
    path.write_text(json.dumps(_owner() | {"pid": _ended_process()}))


def of_before(path: Path) -> None:
    """A lock as older versions wrote it, without a token, of a process that has ended."""
    path.write_text(json.dumps({"host": platform.node(), "pid": _ended_process(), "job": ""}))


def elsewhere(path: Path) -> None:
    """The owner was on another host, and gives no sign of life."""
    path.write_text(json.dumps(_owner() | {"host": "elsewhere", "machine": "another"}))
    _make_old(path)


def requeued(path: Path) -> None:
    """The owner was the same Slurm job on another host, before it was requeued."""
    os.environ.update(OF_JOB)
    path.write_text(json.dumps(_owner() | {"host": "elsewhere", "machine": "another", "job": OF_JOB["SLURM_JOB_ID"]}))


def garbage(path: Path) -> None:
    """Nobody can say whose it was."""
    path.write_bytes(b"\xff\x00{")
    _make_old(path)


def claimed(path: Path) -> None:
    """Two processes were about to take it over, one after the other, and ended in the middle of that."""
    stale(path)
    for token, following in (("a" * 32, "b" * 32), ("b" * 32, "c" * 32)):
        claim = path.with_name(f"{path.name}.after-{token}")
        claim.write_text(json.dumps(_owner() | {"token": following, "pid": _ended_process()}))


KINDS: dict[str, Callable[[Path], None]] = {
    kind.__name__: kind for kind in (fresh, stale, of_before, elsewhere, requeued, garbage, claimed)
}


def _owner() -> dict[str, object]:
    return {"token": "a" * 32, "host": platform.node(), "job": "", "pid": 1, "machine": lock._machine(), "process": "7"}


@functools.cache
def _ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid


def _make_old(path: Path) -> None:
    then = time.time() - ALREADY_OLD_S
    os.utime(path, (then, then))


def _want(folder: Path, gate: Synchronized[int], inside: Synchronized[int], most: Synchronized[int]) -> None:
    """Try once to get in, when all are ready."""
    with gate.get_lock():
        gate.value += 1
    while gate.value < PROCESSES:
        os.sched_yield()
    try:
        with RunDir(folder).locked(os.environ.get("SLURM_JOB_ID", "")):
            with inside.get_lock():
                inside.value += 1
                most.value = max(most.value, inside.value)
            time.sleep(0.001)
            with inside.get_lock():
                inside.value -= 1
    except RunDirError:
        os._exit(1)
    os._exit(0)


def one_round(folder: Path, kind: str) -> tuple[int, int]:
    """Most processes inside at the same time, and how many got in one after the other."""
    folder.mkdir()
    KINDS[kind](folder / ".run.lock")
    gate, inside, most = (_forking.Value("i", 0) for _ in range(3))
    processes = [_forking.Process(target=_want, args=(folder, gate, inside, most)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for name in OF_JOB:
        os.environ.pop(name, None)
    entered = sum(process.exitcode == 0 for process in processes)
    left = sorted(path.name for path in folder.iterdir())
    assert not left, f"{kind}: left behind {left}"
    folder.rmdir()
    return most.value, entered


def rounds(kind: str, number: int, folder: Path) -> dict[str, object]:
    """What came of so many rounds."""
    began = time.monotonic()
    found = [one_round(folder / f"{kind}-{index}", kind) for index in range(number)]
    return {
        "kind": kind,
        "rounds": number,
        "two inside": sum(most > 1 for most, _ in found),
        "none got in": sum(entered == 0 for _, entered in found),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> int:
    """Every kind so many times; 1 where two were inside, or nobody got in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    bad = False
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
        for kind in arguments.kinds:
            found = rounds(kind, arguments.rounds, Path(folder))
            bad = bad or bool(found["two inside"]) or bool(found["none got in"])
            print(json.dumps(found), flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
