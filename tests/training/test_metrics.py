"""Weights, losses and areas under the curve with known values."""

from __future__ import annotations

import numpy as np
import pytest

from plexrank.training.metrics import area_under_curve, class_weights, weighted_log_loss


def test_metrics_have_known_values() -> None:
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(class_weights(labels, 2), [4 / 6, 2.0])
    with pytest.raises(ValueError, match="class 2 does not occur"):
        class_weights(labels, 3)
    logits = np.log([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25]])
    expected = (np.log(2) + np.log(4) + np.log(2) + 3 * np.log(4)) / 6
    assert weighted_log_loss(labels, logits, np.array([1.0, 3.0])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "scores", "auc"),
    [
        ([0, 1, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]], 0.75),
        ([0, 1, 2], [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]], 1.0),
        ([0, 0, 1], [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.4, 0.5, 0.1]], 0.5),
    ],
)
def test_area_under_the_curve(labels: list[int], scores: list[list[float]], auc: float) -> None:
    assert area_under_curve(np.array(labels), np.array(scores)) == pytest.approx(auc)


def test_one_class_has_no_area_under_the_curve() -> None:
    assert np.isnan(area_under_curve(np.array([1, 1]), np.array([[0.5, 0.5], [0.1, 0.9]])))
