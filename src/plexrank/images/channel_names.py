"""What a channel's name means: when two spellings are one, and which names say no more than a place."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

_SEPARATORS = r"[\s_./\-\u2010-\u2015\u2212]+"
_BETWEEN_DIGITS = re.compile(rf"(?<=[0-9]){_SEPARATORS}(?=[0-9])")
_SEPARATOR = re.compile(_SEPARATORS)
_WORD = re.compile(r"[A-Za-z0-9]+")
_ISOTOPE = re.compile(
    r"(?:(?P<element>[A-Za-z]{1,2})[\s_\-(]*(?P<mass>[0-9]{2,3})\)?|(?P<mass_first>[0-9]{2,3})[\s_-]*(?P<symbol>[A-Za-z]{1,2}))"
    r"(?:D[id])?"
)
_WEIGHTS = {
    **{"as": 75, "se": 79, "br": 80, "kr": 84, "rb": 85, "sr": 88, "y": 89, "zr": 91, "nb": 93, "mo": 96, "ru": 101},
    **{"rh": 103, "pd": 106, "ag": 108, "cd": 112, "in": 115, "sn": 119, "sb": 122, "te": 128, "i": 127, "xe": 131},
    **{"cs": 133, "ba": 137, "la": 139, "ce": 140, "pr": 141, "nd": 144, "sm": 150, "eu": 152, "gd": 157, "tb": 159},
    **{"dy": 162, "ho": 165, "er": 167, "tm": 169, "yb": 173, "lu": 175, "hf": 178, "ta": 181, "w": 184, "re": 186},
    **{"os": 190, "ir": 192, "pt": 195, "au": 197, "hg": 201, "tl": 204, "pb": 207, "bi": 209, "th": 232, "u": 238},
}
_FURTHEST_ISOTOPE = 12  # from the atomic weight
_COUNTER = re.compile(
    r"(?:unnamed|channels?|chan|ch|c|images?|img|planes?|pages?|slices?|series|markers?)?[\s_:#.\-]*(?:[0-9]+:)?"
    r"(?P<number>[0-9]{1,6})(?:\.0+)?",
    re.IGNORECASE,
)
_DYE = re.compile(
    r"(?:dapi|hoechst|fitc|tritc|gfp|rfp|yfp|cfp|mcherry|texasred|pe|apc|cy|af|alexa|alexafluor|atto|opal|draq|sytox"
    r"|autofluorescence|background|blank|empty)[0-9.]*"
)


@functools.lru_cache(maxsize=10_000)
def fold_name(name: str) -> str:
    """What names are compared by: case and separators do not count, nor the order of element and mass.

    ``cd-3`` is CD3; Pr141, 141Pr and Pr141Di are one. Digits that a separator keeps apart stay apart: CD3_1 is not
    CD31. Nothing nearer than that is applied.
    """
    own = unicodedata.normalize("NFC", name).strip()
    metal = isotope(own)
    if metal is not None:
        return metal
    return _SEPARATOR.sub("", _BETWEEN_DIGITS.sub("\0", own.casefold())).replace("\0", ".") or own


def isotope(name: str) -> str | None:
    """``141pr`` where a name is an isotope of an element heavier than 70 u, in any spelling.

    Cadmium before its mass is distinguished from the proteins CD106 to CD116 by its spelling, Cd.
    """
    match = _ISOTOPE.fullmatch(name.strip())
    if match is None:
        return None
    symbol = match["element"] or match["symbol"]
    mass = match["mass"] or match["mass_first"]
    weight = _WEIGHTS.get(symbol.lower())
    if weight is None or abs(weight - int(mass)) > _FURTHEST_ISOTOPE:
        return None
    if match["element"] and symbol.lower() == "cd" and symbol != "Cd":
        return None
    return mass + symbol.lower()


def isotopes_within(name: str) -> frozenset[str]:
    """The isotopes that stand as words in a name: that of ``141Pr-CD3(Pr141Di)``."""
    whole = isotope(name)
    words = _WORD.findall(name)
    return frozenset({metal for metal in (whole, *map(isotope, words)) if metal is not None})


def are_isotopes(names: Sequence[str]) -> bool:
    """Whether most channels are called by an isotope, alone or beside a protein, as those of IMC are."""
    return 2 * sum(bool(isotopes_within(name)) for name in names) > len(names)


def fold_without_isotopes(name: str) -> str:
    """As :func:`fold_name`, of what is left of a name without its isotopes, brackets and ends; empty for none."""
    rest = _WORD.sub(lambda word: "" if isotope(word[0]) else word[0], name)
    rest = re.sub(r"\(\s*\)|\[\s*\]", "", rest).strip(" _-./")
    return fold_name(rest) if rest else ""


def place_number(name: str) -> int | None:
    """The number of a name that only counts: 3 of ``3``, ``3.0``, ``Channel 3``, ``C3`` or ``Channel:0:3``."""
    match = _COUNTER.fullmatch(name.strip())
    return None if match is None else int(match["number"])


def count_from(numbers: Sequence[int | None]) -> int | None:
    """0 or 1 where numbers are a full count from there, in any order; otherwise None."""
    known = sorted(number for number in numbers if number is not None)
    if not known or len(known) < len(numbers) or known[0] not in (0, 1):
        return None
    return known[0] if known == list(range(known[0], known[0] + len(known))) else None


def say_only_places(names: Sequence[str]) -> bool:
    """Whether names tell channels by their place alone.

    They count in order (``Channel 1``, ``Channel 2``), or repeat themselves and are dyes alone, as those of a filter
    set that comes again in every cycle.
    """
    numbers = [place_number(name) for name in names]
    start = count_from(numbers)
    if start is not None and numbers == list(range(start, start + len(numbers))):
        return True
    folded = [fold_name(name) for name in names]
    return len(set(folded)) < len(folded) and all(map(is_dye, names))


def is_dye(name: str) -> bool:
    """Whether a name is that of a dye or filter, which may stain any protein."""
    return _DYE.fullmatch(fold_name(name)) is not None
