"""How a command ends that is stopped, short of memory, or without anywhere to speak to."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import command

HALF_MADE = """
from plexrank.cli import ending
from plexrank.cli.app import StopRequestedError

class HalfMade:
    def __del__(self):
        self.never_set

async def never_awaited(): pass

def app(**_):
    half_made = HalfMade()
    coroutine = never_awaited()
    raise StopRequestedError

ending.app = app
ending.main()
"""


def test_a_stop_says_nothing_of_what_was_half_made() -> None:
    done = subprocess.run([sys.executable, "-c", HALF_MADE], capture_output=True, text=True)
    assert done.returncode == 75
    assert done.stderr == "error: stopped; run the same command again to continue\n"


ENDING = """
from plexrank.cli import ending

def app(**_):
    {}

ending.app = app
ending.main()
"""


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("raise MemoryError", 1, "error: there is not enough memory; allow more, then run the same command again"),
        (
            "raise ImportError('libtorch_cpu.so: failed to map segment from shared object')",
            1,
            "error: a library cannot be loaded (libtorch_cpu.so: failed to map segment from shared object); allow more",
        ),
        ("raise ImportError('a.so: failed to map segment from shared object: Operation not permitted')", 70, "Trace"),
        ("raise ImportError('no module')", 70, "Traceback"),
    ],
)
def test_too_little_memory_is_no_bug(raised: str, code: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING.format(raised)], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr.startswith(said)


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_change_nothing_else(tiny_run: Path, closed: str) -> None:
    words = f"{shlex.join(command('verify', tiny_run))} {closed}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("intact: ") == ("1>" not in closed)
    assert ("verify: " in done.stderr) == ("2>" not in closed)


def test_closed_streams_lead_to_the_null_device() -> None:
    code = (
        "import os, sys; from plexrank.cli import ending\n"
        "ending._open_what_is_closed()\n"
        "links = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        "sys.exit(links != [os.devnull] * 3 or None in (sys.stdin, sys.stdout, sys.stderr))"
    )
    words = shlex.join([sys.executable, "-c", code])
    assert subprocess.run(["bash", "-c", f"{words} 0<&- 1>&- 2>&-"]).returncode == 0
