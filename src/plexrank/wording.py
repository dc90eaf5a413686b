"""How messages put numbers: one image is, two images are; seconds below two minutes."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

_PLURAL = {"is": "are", "has": "have", "does": "do"}
LONGEST_NAME = 500
_NAMED = 64
_COMPARED = 2000
_LONGEST_COMPARED = 80
FORMULA = re.compile(r"^[\s\x1c-\x1f\x85\ufeff]*[=+\-@\t\r]")
"""How a text begins that a spreadsheet takes for a formula, after blanks of any kind; so too in the page's table.js."""


def counted(number: int, noun: str, verb: str = "", *, of: int | None = None) -> str:
    """``1 image is``, ``3 images are``; with ``of`` ``1 of 79 images is``."""
    total = number if of is None else of
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    words = [str(number), "" if of is None else f"of {of}", noun if total == 1 else plural]
    words.append(verb if number == 1 else _PLURAL.get(verb, verb.removesuffix("s")))
    return " ".join(filter(None, words))


def lasting(seconds: float) -> str:
    """``47 s``, ``12 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def shown(value: object) -> str:
    """A value as Python writes it, shortened where a message would drown in it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def did_you_mean(wanted: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` where a near name exists, otherwise the list of what there is."""
    compared = [name.casefold()[:_LONGEST_COMPARED] for name in known[:_COMPARED]]
    near = difflib.get_close_matches(wanted.casefold()[:_LONGEST_COMPARED], compared, n=1)
    if near:
        return f"; did you mean {shown(known[compared.index(near[0])])}?"
    more = f", … ({len(known)} in all)" if len(known) > _NAMED else ""
    return f"; there are: {', '.join(name[:_LONGEST_COMPARED] for name in known[:_NAMED])}{more}."


def printable(text: str) -> str:
    r"""A text in which nothing steers a terminal: control characters and those that turn the direction are escaped.

    Line feeds and tabs stay; ``\x1b[31m`` is shown as these characters.
    """
    return "".join(character if _is_harmless(character) else _escaped(character) for character in text)


def why_no_name(text: str) -> str | None:
    """What is wrong with a name: more characters than a table can show, or the control character of an escape code."""
    if len(text) > LONGEST_NAME:
        return f"{shown(text)} has {len(text):,} characters; use {LONGEST_NAME} at most"
    if not text.isprintable() and any(
        unicodedata.category(character) == "Cc" and not character.isspace() for character in text
    ):
        return f"{shown(text)} holds a control character; remove it"
    return None


def as_cell(text: str) -> str:
    """A name as a spreadsheet shows it: one that begins like a formula gets an apostrophe in front."""
    return f"'{text}" if FORMULA.match(text) else text


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
