"""Linear regression with a ridge penalty."""

from __future__ import annotations

import numpy as np

from plexrank.arrays import Array, FloatArray


def fit_ridge(x: Array, y: Array, strength: float, weight: Array | None = None) -> tuple[FloatArray, float]:
    """Minimises C Σ_i weight_i (y_i − x_i coef − intercept)² / 2 + ½ ‖coef‖² (Hoerl & Kennard 1970).

    Args:
        x: (row, column).
        y: (row,).
        strength: C, above 0.
        weight: (row,) how often each row counts; once if absent.

    Returns:
        Weights (column,) and the intercept.
    """
    weight = np.ones(len(y)) if weight is None else weight
    total = weight.sum()
    center_x, center_y = weight @ x / total, float(weight @ y / total)
    x, y = x - center_x, y - center_y
    gram = strength * (x * weight[:, None]).T @ x + np.eye(x.shape[1])
    coef: FloatArray = np.linalg.solve(gram, strength * (x * weight[:, None]).T @ y)
    return coef, center_y - float(center_x @ coef)
