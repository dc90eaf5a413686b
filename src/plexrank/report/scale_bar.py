"""Scale bars of a round length."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST_SHARE = 0.35
"""Of the side of a picture that its scale bar takes at most."""


@dataclass(frozen=True)
class ScaleBar:
    """A length that is drawn in all pictures of a kind.

    Attributes:
        length: in micrometres, or in stored pixels where no pixel size is known.
        in_um: which of the two.
    """

    length: float
    in_um: bool

    @property
    def text(self) -> str:
        """Such as ``20 µm``."""
        return f"{self.length:g} {'µm' if self.in_um else 'px (pixel size not known)'}"

    def pixels(self, pixel_size_um: float | None) -> float:
        """How many stored pixels it is long in an image; 0, and so not drawn, where that cannot be known."""
        if not self.in_um:
            return self.length if pixel_size_um is None else 0.0
        return 0.0 if pixel_size_um is None else self.length / pixel_size_um


def scale_bar(sides_px: list[int], pixel_sizes_um: list[float | None]) -> ScaleBar:
    """The bar for pictures of these widths and pixel sizes: 1, 2 or 5 times a power of ten, at most about a third of
    the narrowest. In micrometres where a pixel size is known for one of them or more.
    """
    known = [side * size for side, size in zip(sides_px, pixel_sizes_um, strict=True) if size is not None]
    return ScaleBar(round_length(LARGEST_SHARE * min(known or sides_px)), bool(known))


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … and of 0.5, 0.2, 0.1, … that is not above ``longest``, which is above 0."""
    power = 10.0 ** math.floor(math.log10(longest) + 1e-9)
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))
