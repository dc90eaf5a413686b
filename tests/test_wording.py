"""Numbers in messages."""

from __future__ import annotations

import pytest

from plexrank.wording import counted, lasting


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (counted(1, "image"), "1 image"),
        (counted(0, "image", "has"), "0 images have"),
        (counted(2, "class", "is"), "2 classes are"),
        (counted(1, "image", "is", of=79), "1 of 79 images is"),
        (counted(2, "image", "lacks", of=79), "2 of 79 images lack"),
        (counted(1, "image", "lacks", of=1), "1 of 1 image lacks"),
    ],
)
def test_nouns_and_verbs_agree_with_their_number(words: str, expected: str) -> None:
    assert words == expected


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "0 s"), (47, "47 s"), (119, "119 s"), (120, "2 min")])
def test_little_time_is_given_in_seconds(seconds: float, words: str) -> None:
    assert lasting(seconds) == words
