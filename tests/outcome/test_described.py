"""What an outcome says of itself in a line."""

from __future__ import annotations

from plexrank.outcome import make_outcome


def test_numbers_tell_their_range_and_median() -> None:
    levels = ["3.5", "1.25", "10"]
    assert make_outcome("continuous", levels).describe(levels) == "3 values from 1.25 to 10, median 3.5"


def test_times_tell_events_and_follow_up() -> None:
    levels = ["5 event", "8 censored", "9 censored"]
    assert make_outcome("survival", levels).describe(levels) == (
        "1 event among 3 patients, median follow-up 8 (reverse Kaplan-Meier)"
    )


def test_a_follow_up_whose_median_is_not_reached_is_no_number() -> None:
    levels = ["5 event", "8 event", "2 censored"]
    assert "median follow-up not reached" in make_outcome("survival", levels).describe(levels)
