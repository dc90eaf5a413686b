"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Mapping

CORES = "PLEXRANK_CORES"
"""Variable of a job: how many cores it asked for, where its scheduler does not keep it to them."""


def usable_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Cores that this process is kept to (not those of the machine), and no more than its job asked for."""
    cores = len(os.sched_getaffinity(0))
    asked = environment.get(CORES, "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) else cores
