"""In which half of the patients a channel is brighter, where outcomes have an order."""

from __future__ import annotations

import numpy as np
import pytest

from plexrank.outcome import make_outcome
from plexrank.ranking.samples import make_samples
from plexrank.ranking.table import directions


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        (["1", "1", "1", "2", "3"], "high +1.0"),
        (["1", "2", "3", "3", "3"], "high +1.0"),  # the median is the highest grade
        (["1", "1", "2", "3", "3"], "high +1.0"),
    ],
)
def test_the_upper_half_is_never_empty(grades: list[str], expected: str) -> None:
    outcome = make_outcome("ordinal", grades, ("1", "2", "3"))
    samples = make_samples([f"p{k}" for k in range(5)], grades, [0] * 5, outcome=outcome)
    upper = np.array(grades) == "3" if grades.count("3") > 1 else np.array(grades) != "1"
    log2, text = directions(np.where(upper, 4.0, 2.0)[:, None], samples)
    assert text == [expected]
    assert log2 == pytest.approx([1.0])
