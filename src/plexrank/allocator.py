"""How a process that computes on a CPU gets its memory."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names and values from glibc's ``malloc.h``; see mallopt(3)."""


def keep_freed_memory() -> None:
    """Reuse what was freed instead of giving it back to the system, where the C library is glibc.

    Otherwise every activation of a network is new memory that the system must first fill with zeros, which takes up to
    a third of a training step on a CPU. The process stays as large as it once was.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
