"""Freed memory is kept by the process that is to reuse it, whichever thread freed it."""

from __future__ import annotations

import multiprocessing
import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from plexrank.machine.allocator import keep_freed_memory

BLOCK = 2**25


def faults() -> int:
    """Pages that the system had to provide for ten arrays one after another."""
    keep_freed_memory()
    np.ones(BLOCK, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(BLOCK, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        provided = pool.apply(faults)
    assert provided < BLOCK // resource.getpagesize()  # those of one array


THREADS = """
import sys, threading
from plexrank.machine.allocator import keep_freed_memory, share_one_arena
if sys.argv[1] == "shared":
    share_one_arena()
keep_freed_memory()
def pages():
    return int(open("/proc/self/statm").read().split()[1])
turns = [threading.Event() for _ in range(5)]
def take(number):
    turns[number].wait()
    _ = len(bytes([1]) * 2**24)
    turns[number + 1].set()
    turns[4].wait()
threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
before = pages()
turns[0].set()
for thread in threads:
    thread.join()
print(pages() - before)
"""
"""Four threads, all alive, take and free a block of 16 MiB one after another."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_threads_reuse_what_others_freed() -> None:
    def grown(arenas: str) -> int:
        done = subprocess.run([sys.executable, "-c", THREADS, arenas], capture_output=True, text=True, check=True)
        return int(done.stdout) * resource.getpagesize()

    assert grown("shared") < BLOCK
    assert grown("apart") > 1.5 * BLOCK
