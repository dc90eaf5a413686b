"""Means over patients, their tests, and what out-of-fold values do to their variance."""

from __future__ import annotations

import numpy as np
import scipy

from plexrank.arrays import Array, FloatArray

INTERVAL = (2.5, 97.5)
"""Percentiles of resamplings between which an interval of 95 % lies."""
OUT_OF_FOLD_VARIANCE = 2.0
"""Null variance of a mean over out-of-fold values, relative to independent values.

Let A_k be the association between label and image content in fold k, and let the unit of fold k learn the
direction Σ_{l≠k} A_l. Its held-out association is A_k · Σ_{l≠k} A_l; the sum over K folds is Σ_{k≠l} A_k · A_l, in
which every product stands twice. Without a signal two folds therefore correlate with ρ = 1/(K − 1) and the variance
of the sum is 1 + (K − 1)ρ = 2 times the one that independent folds would have, whatever K. That no estimate from
the folds themselves can show this: Bengio & Grandvalet (2004). The factor 1 + K/(K − 1) of Nadeau & Bengio (2003)
takes ρ = 1/K as a guess and is a little larger. Where learning leaves r as it is the factor errs on the safe side.
"""


def class_balanced_mean(values: Array, label: Array) -> Array:
    """Mean over classes of the mean within each class: (sample, ...) → (...); NaN takes no part."""
    return known_mean(np.stack([known_mean(values[label == k]) for k in np.unique(label)]))


def known_mean(values: Array, axis: int | tuple[int, ...] = 0) -> Array:
    """Mean along axes of what is not NaN; NaN where all of it is."""
    known = ~np.isnan(values)
    if known.all():
        complete: Array = values.mean(axis=axis)
        return complete
    total, count = np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis)
    mean: Array = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean


def known_moments(values: Array) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (column,) over what is not NaN; 0 where all is: (row, column)."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    center = np.where(known, values, 0.0).sum(axis=0, dtype=np.float64) / count
    return center, np.sqrt(np.square(np.where(known, values - center, 0.0)).sum(axis=0) / count)


def balanced_mean_above_zero(
    values: Array, label: Array, patient: Array, variance_factor: float = 1.0
) -> tuple[Array, Array]:
    """Class-balanced mean of every column and the one-sided p-value that it is above zero.

    A t-test whose standard error sums the influence of each patient, so that several samples of one patient
    do not count as independent. The degrees of freedom are those of Welch (1947) and Satterthwaite (1946) from the
    share of each class in the variance: where one class is small its few patients carry most of it.

    Args:
        values: (sample, channel), NaN where a sample lacks the channel: it takes no part there.
        label, patient: (sample,) int.
        variance_factor: by how much the variance of the mean exceeds that of independent values.

    Returns:
        mean (channel,), p (channel,); p is 1 where a class has one sample only or nothing varies.
    """
    known = ~np.isnan(values)
    counts = np.stack([known[label == k].sum(axis=0) for k in np.unique(label)])
    classes = np.maximum((counts > 0).sum(axis=0), 1)
    mean = class_balanced_mean(values, label)
    influence = np.zeros_like(values, dtype=np.float64)
    for k, count in zip(np.unique(label), counts, strict=True):
        rows = label == k
        spread = np.sqrt(count / np.maximum(count - 1, 1))
        deviation = np.where(known[rows], values[rows] - known_mean(values[rows]), 0.0)
        influence[rows] = deviation * spread / (classes * np.maximum(count, 1))
    error = np.sqrt(variance_factor * _variance_over_patients(influence, patient))
    t = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    testable = (error > 0) & ~(counts == 1).any(axis=0)
    return mean, np.where(testable, scipy.stats.t.sf(t, _degrees_of_freedom(influence, known, label, patient)), 1.0)


def _variance_over_patients(influence: Array, patient: Array) -> Array:
    per_patient = np.zeros((patient.max() + 1, influence.shape[1]))
    np.add.at(per_patient, patient, influence)
    variance: Array = (per_patient**2).sum(axis=0)
    return variance


def _degrees_of_freedom(influence: Array, known: Array, label: Array, patient: Array) -> Array:
    total = np.zeros(influence.shape[1])
    squares = np.zeros_like(total)
    for k in np.unique(label):
        rows = label == k
        of_class = _variance_over_patients(influence[rows], patient[rows])
        total += of_class
        seen = np.zeros((patient.max() + 1, known.shape[1]), dtype=bool)
        np.logical_or.at(seen, patient[rows], known[rows])
        squares += of_class**2 / np.maximum(seen.sum(axis=0) - 1, 1)
    degrees: Array = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
    return degrees
