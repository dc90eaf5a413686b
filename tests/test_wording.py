"""Numbers in messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import plexrank
from plexrank.wording import FORMULA, as_cell, counted, lasting


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


@pytest.mark.parametrize(
    "text", ["=1+1", "@x", "-", "+1", " =cmd", "\u00a0\n@x", "\ufeff=1", "\x1c=1", "\x85=1", "\tx", " \rx"]
)
def test_what_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["CD3", "", " CD3", "a=b", "\nCD3", "'=1"])
def test_other_words_stay_as_they_are(text: str) -> None:
    assert as_cell(text) == text


def test_the_table_of_the_page_has_the_same_rule() -> None:
    script = Path(plexrank.__file__).parent / "report" / "templates" / "table.js"
    assert re.findall(r"isWords && /(.+?)/\.test", script.read_text()) == [FORMULA.pattern]
