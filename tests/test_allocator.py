"""Freed memory is kept by the process that is to reuse it."""

from __future__ import annotations

import multiprocessing
import resource
import sys

import numpy as np
import pytest

from plexrank.allocator import keep_freed_memory

BLOCK = 2**25


def faults() -> int:
    """Pages that the system had to provide for ten arrays one after another."""
    keep_freed_memory()
    np.ones(BLOCK, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(BLOCK, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_used_again() -> None:
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        provided = pool.apply(faults)
    assert provided < BLOCK // resource.getpagesize()  # those of one array
