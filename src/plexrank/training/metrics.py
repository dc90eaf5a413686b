"""How well predictions fit labels, in numpy; the unit is the image."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from plexrank.arrays import FloatArray, IntArray


def class_weights(labels: IntArray, num_classes: int) -> FloatArray:
    """(class,) n / (K · n_k), so that every class weighs the same and the mean over images is 1.

    Raises:
        ValueError: a class does not occur.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if counts.min() == 0:
        raise ValueError(f"class {int(counts.argmin())} does not occur among the labels")
    return len(labels) / (num_classes * counts)


def weighted_log_loss(labels: IntArray, logits: FloatArray, weights: FloatArray) -> float:
    """Cross-entropy of (image, class) logits, each image weighted by the (class,) weight of its label."""
    top = logits.max(axis=1, keepdims=True)
    log_probability = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    own = weights[labels]
    return float(-(own * log_probability[np.arange(len(labels)), labels]).sum() / own.sum())


def area_under_curve(labels: IntArray, probabilities: FloatArray) -> float:
    """Area under the ROC curve of (image, class) probabilities.

    For more than two classes the mean of each class against the rest, over the classes that occur and are
    not alone (Hand and Till's simpler relative); NaN where there is only one class.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels == 1, probabilities[:, 1]))
    return float(np.mean([roc_auc_score(labels == label, probabilities[:, label]) for label in present]))
