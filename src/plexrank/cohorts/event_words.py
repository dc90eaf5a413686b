"""What a column of events says: whether the event was seen, in the words of registries and spreadsheets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from plexrank.cohorts.spelling import reads_as_number

EVENT_WORDS: Mapping[str, bool] = {"1": True, "0": False, "true": True, "false": False}
"""What needs no ``cohort.event_values``."""
_COMMON = {
    **EVENT_WORDS,
    **dict.fromkeys(("yes", "event", "dead", "died", "deceased", "death", "relapsed", "recurred", "progressed"), True),
    **dict.fromkeys(("no", "censored", "alive", "living", "no event", "event-free", "disease-free"), False),
}
_NUMBERED = re.compile(r"([01])\s*:.*", re.DOTALL)
"""``0:LIVING`` and ``1:DECEASED`` of cBioPortal, ``1:Recurred/Progressed``."""


def event_word(cell: str) -> str:
    """A cell as it is looked up: without case; ``1.0`` of a spreadsheet is 1."""
    number = float(cell) if reads_as_number(cell) else None
    return str(int(number)) if number is not None and number.is_integer() else cell.casefold()


def meanings(event_values: Mapping[str, int]) -> dict[str, bool]:
    """What each word means, as :func:`event_word` has it: what the study says, or else that 1 is the event."""
    return {event_word(word): bool(value) for word, value in event_values.items()} or dict(EVENT_WORDS)


def words_of_event(event_values: Mapping[str, int]) -> str:
    """Which cells count as the event, to be read."""
    return " and ".join(word for word, value in event_values.items() if value) or "1"


def turned_values(event_values: Mapping[str, int]) -> str:
    """What to set where the words mean the contrary."""
    return written_values({word: not value for word, value in (event_values or {"1": 1, "0": 0}).items()})


def recognise_events(cells: Iterable[str]) -> dict[str, bool] | None:
    """What the words of a column usually mean, by their spelling; ``None`` where one of them is not known."""
    found: dict[str, bool] = {}
    for cell in sorted(set(cells)):
        numbered = _NUMBERED.fullmatch(cell)
        meaning = numbered[1] == "1" if numbered else _COMMON.get(event_word(cell))
        if meaning is None:
            return None
        found[cell] = meaning
    return found or None


def written_values(meaning: Mapping[str, bool]) -> str:
    """Words as the value of ``cohort.event_values``: ``{"0:LIVING": 0, "1:DECEASED": 1}``."""
    return json.dumps({word: int(is_event) for word, is_event in meaning.items()}, ensure_ascii=False)
