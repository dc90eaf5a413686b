"""The table that the demonstration prints."""

import pandas as pd

from plexrank.evaluation.beside_truth import beside_truth


def test_planted_channels_are_named_and_counted() -> None:
    ranking = pd.DataFrame(
        {
            "position": [1, 2, 3],
            "channel": ["A", "B", "C"],
            "score": [0.5, 0.3, 0.2],
            "intensity_q": [0.01, 0.7, 0.9],
            "pattern_q": [0.01, 0.02, 0.9],
            "found_by": ["both", "pattern", ""],
            "reads": ["brightness (r² 0.80)", "clustering at 20 µm (r² 0.71)", ""],
            "significant": [True, True, False],
        }
    )
    truth = pd.DataFrame(
        {"channel": ["C", "B", "A"], "informative": ["0", "1", "1"], "kind": ["", "spatial", "intensity"]}
    )
    text = beside_truth(ranking, truth, 0.1)
    assert "2 of the 2 planted channels are found, and 0 of the others." in text
    assert "Plain mean intensity does not show B (q > 0.1)" in text
    assert "does not show A" not in text
