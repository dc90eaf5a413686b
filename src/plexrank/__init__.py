"""plexrank ranks the protein channels of multiplexed tissue images by how well they separate patient groups.

Importing it loads no torch, zarr or dask: what is behind the public names is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plexrank.api.commands import check, run, verify
    from plexrank.api.comparison import compare
    from plexrank.api.opened_run import Run, open_run
    from plexrank.errors import PlexrankError
    from plexrank.ranking.features import rank_features

__version__ = "0.1.0"
__all__ = ["PlexrankError", "Run", "check", "compare", "open_run", "rank_features", "run", "verify"]

_HOMES = {
    "PlexrankError": "plexrank.errors",
    "Run": "plexrank.api.opened_run",
    "check": "plexrank.api.commands",
    "compare": "plexrank.api.comparison",
    "open_run": "plexrank.api.opened_run",
    "rank_features": "plexrank.ranking.features",
    "run": "plexrank.api.commands",
    "verify": "plexrank.api.commands",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
