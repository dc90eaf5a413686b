"""Patients by class, grade or half along an order, and how each group is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.colors import to_hex

from plexrank.arrays import IntArray
from plexrank.report.figures import BOTH, INTENSITY, OTHER, SIGNIFICANT, as_text

COLOURS = (SIGNIFICANT, INTENSITY, BOTH, OTHER, "#56b4e9", "#009e73", "#cc79a7", "#f0e442")
"""Of groups without an order; those after the fourth by Okabe & Ito (2008), kept apart with colour blindness."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LONGEST_NAME = 28


@dataclass(frozen=True)
class PatientGroups:
    """Which group each patient belongs to.

    Attributes:
        names: of the groups, in their order.
        of_patient: (patient,) int, index of the group.
        is_ordered: whether they are steps of one order, so that their colours are too.
        first_colour: where in :data:`COLOURS` those of the groups begin.
    """

    names: tuple[str, ...]
    of_patient: IntArray
    is_ordered: bool = False
    first_colour: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def colours(self) -> list[str]:
        """One a group, of different lightness for the first four or along an order."""
        if self.is_ordered and len(self) > 2:
            return [to_hex(colormaps["cividis"](0.05 + 0.85 * k / (len(self) - 1))) for k in range(len(self))]
        return [COLOURS[(self.first_colour + k) % len(COLOURS)] for k in range(len(self))]

    @property
    def markers(self) -> list[str]:
        """One a group, so that none is known by its colour alone."""
        return [MARKERS[k % len(MARKERS)] for k in range(len(self))]

    def label(self, group: int) -> str:
        """Name and number of patients, for a legend."""
        return f"{short(self.names[group])} ({int((self.of_patient == group).sum())})"


def short(name: str, longest: int = LONGEST_NAME) -> str:
    """The name as a figure writes it, cut where it would take all the room."""
    return as_text(name if len(name) <= longest else name[: longest - 1] + "…")
