"""Types of numpy arrays; what their axes are stands where they are used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = np.ndarray
"""Of any type, where the docstring says which."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

Key = tuple[slice, slice, slice]
"""A part of a (c, y, x) image, slices of step 1 with both ends."""
