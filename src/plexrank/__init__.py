"""plexrank ranks the protein channels of multiplexed tissue images by how well they separate patient groups.

Importing it loads no torch, zarr or dask: what is behind the public names is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plexrank.ranking.features import rank_features

__version__ = "0.1.0"
__all__ = ["rank_features"]


def __getattr__(name: str) -> Any:
    if name == "rank_features":
        from plexrank.ranking.features import rank_features

        return rank_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
