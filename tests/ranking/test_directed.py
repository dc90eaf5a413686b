"""r of networks with other signs and scales, on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from plexrank.arrays import Array
from plexrank.outcome import Kind, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.ranking.directed import directed_r
from plexrank.ranking.pattern import Learned
from plexrank.ranking.samples import Samples, make_samples

PATIENTS = 12
CONTENT = np.linspace(-1.0, 1.0, PATIENTS)
"""What the channel truly holds; it rises over the patients."""
FOLD = np.arange(PATIENTS) % 3
FACTORS, SHIFTS = np.array([[2.0, -3.0, 0.5], [-1.0, 7.0, -4.0]]), np.array([[0.0, 5.0, -2.0], [1.0, 0.0, 3.0]])
"""Of each network (seed, fold)."""
LEVELS: dict[Kind, list[str]] = {
    "nominal": ["a"] * 6 + ["b"] * 6,
    "ordinal": ["1"] * 4 + ["2"] * 4 + ["3"] * 4,
    "continuous": [f"{value:.2f}" for value in CONTENT],
    "survival": [survival_level(str(20 - k), True) for k in range(PATIENTS)],
}


def samples_of(levels: list[str], kind: Kind) -> Samples:
    outcome = make_outcome(kind, levels, ("1", "2", "3") if kind == "ordinal" else ())
    return make_samples([f"p{k:02d}" for k in range(PATIENTS)], levels, FOLD.tolist(), None, outcome)


def learned(content: Array) -> Learned:
    """What the networks make of content (patient, channel)."""
    held_out = np.empty((2, *content.shape))
    training = []
    for seed, fold in np.ndindex(FACTORS.shape):
        r = FACTORS[seed, fold] * content + SHIFTS[seed, fold]
        held_out[seed, fold == FOLD] = r[fold == FOLD]
        rows = np.flatnonzero(fold != FOLD)
        training.append((seed, fold, rows, r[rows]))
    return Learned(held_out, tuple(training))


def expected(content: Array) -> Array:
    """Content less the mean of the patients of other folds, over their standard deviation."""
    others = [content[fold != FOLD] for fold in FOLD]
    return np.array([(own - other.mean()) / other.std() for own, other in zip(content, others, strict=True)])


@pytest.mark.parametrize("kind", list(LEVELS))
def test_it_rises_with_the_outcome_whatever_sign_and_scale_a_network_has(kind: Kind) -> None:
    samples = samples_of(LEVELS[kind], kind)
    found = directed_r(learned(np.stack([CONTENT, -CONTENT], axis=1)), samples)
    np.testing.assert_allclose(found, np.stack([expected(CONTENT)] * 2, axis=1), atol=1e-12)


def test_of_three_classes_it_rises_along_their_list() -> None:
    samples = samples_of(["c"] * 4 + ["b"] * 4 + ["a"] * 4, "nominal")
    (found,) = directed_r(learned(CONTENT[:, np.newaxis]), samples).T
    np.testing.assert_allclose(found, -expected(CONTENT), atol=1e-12)


@pytest.mark.parametrize("kind", list(LEVELS))
def test_the_outcome_of_who_is_held_out_moves_nothing_of_theirs(kind: Kind) -> None:
    levels = LEVELS[kind]
    other = [levels[-1 - k] if FOLD[k] == 1 else level for k, level in enumerate(levels)]
    content = np.random.default_rng(0).normal(size=(PATIENTS, 200))
    before, after = (directed_r(learned(content), samples_of(own, kind)) for own in (levels, other))
    np.testing.assert_array_equal(after[FOLD == 1], before[FOLD == 1])
    assert (after[FOLD != 1] != before[FOLD != 1]).any()


def test_what_is_absent_stays_so_and_what_does_not_vary_is_0() -> None:
    content = np.stack([CONTENT, np.ones(PATIENTS)], axis=1)
    content[3, 0] = np.nan
    found = directed_r(learned(content), samples_of(LEVELS["continuous"], "continuous"))
    assert np.isnan(found[:, 0]).tolist() == (np.arange(PATIENTS) == 3).tolist()
    assert (found[:, 1] == 0).all()
