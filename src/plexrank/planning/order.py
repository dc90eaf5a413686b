"""The stages of a run, declared here and nowhere else, in the order in which each needs the ones before."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

ABOUT_STAGES: Mapping[str, str] = MappingProxyType(
    {
        "tile": "cut the images into tile stores",
        "train": "train every fold and seed, and on permuted labels",
        "attribute": "compute the held-out embedding and importances of every training",
        "rank": "merge the importances into the ranking of the cohort",
        "report": "write the report",
    }
)
"""Every stage by name, with what it does; ``plexrank.stages`` has a module of that name, the command line a verb."""
STAGES = tuple(ABOUT_STAGES)

if TYPE_CHECKING:
    StageName = str
else:  # the same names for whatever reads annotations: command line and schemas
    StageName = Literal[STAGES]
