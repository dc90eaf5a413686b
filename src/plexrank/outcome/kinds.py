"""From the kind of an outcome and the patients' levels to the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from plexrank.outcome.base import Outcome
from plexrank.outcome.continuous import Continuous
from plexrank.outcome.nominal import Nominal
from plexrank.outcome.ordinal import Ordinal
from plexrank.outcome.survival import Survival
from plexrank.statistics.survival import cumulative_hazard
from plexrank.statistics.survival_metrics import horizon

Kind = Literal["nominal", "ordinal", "continuous", "survival"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def make_outcome(kind: Kind, levels: Sequence[str], order: Sequence[str] = ()) -> Outcome:
    """The outcome of a cohort.

    Args:
        kind: of it.
        levels: one entry a patient (and level): classes, numbers, or what
            :func:`~plexrank.outcome.survival.survival_level` writes.
        order: of ordinal levels, the lowest first.
    """
    different = set(levels)
    match kind:
        case "nominal":
            return Nominal(tuple(sorted(different)))
        case "ordinal":
            return Ordinal(tuple(order))
        case "continuous":
            values = np.array([float(level) for level in levels])
            spread = float(values.std()) if len(values) else 0.0
            center = float(values.mean()) if len(values) else 0.0
            return Continuous(tuple(sorted(different, key=lambda level: (float(level), level))), center, spread or 1.0)
        case "survival":
            return _survival(levels)


def _survival(levels: Sequence[str]) -> Survival:
    if not levels:
        return Survival((), np.empty(0), np.nan)
    parts = [level.split() for level in levels]
    time = np.array([float(part[0]) for part in parts])
    event = np.array([part[1] == "event" for part in parts], dtype=bool)
    places = sorted(set(levels), key=lambda level: (float(level.split()[0]), level.split()[1] != "event", level))
    at = np.array([float(level.split()[0]) for level in places])
    return Survival(tuple(places), cumulative_hazard(time, event).at(at), horizon(time, event))
