"""How people and spreadsheets spell values: missing ones, one in several ways, and dates that were names.

Only reported, never corrected: which spelling is meant is the user's to say.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

_MISSING = frozenset(
    # what pandas reads as missing, https://pandas.pydata.org/docs/reference/api/pandas.read_csv.html (na_values)
    {"#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "null", "nan"}
    | {"none", "nat", "undefined", "n.a.", "n.a", "n/d", "n.d.", "n.d", "n/k", "tbd", "tba"}
    | {"unknown", "unk", "unspecified", "missing", "not available", "not applicable", "not known", "not determined"}
    | {"not done", "not evaluable", "not reported", "not assessed", "not recorded", "no data", "unavailable"}
    | {"?", "-", ".", "_", "(blank)", "(leer)", "#nv", "#n/d"}
)
_ERROR_OF_SPREADSHEET = re.compile(r"#[¡¿]?[A-ZÄÖÜÁÉÍÓÚ][A-ZÄÖÜÁÉÍÓÚ/0-9_]*[!?]|#GETTING_DATA")
"""``#REF!``, ``#DIV/0!``, ``#NAME?`` and their translations, such as ``#¡VALOR!``."""
_REPEATED_SIGN = re.compile(r"([?.*_-])\1+")

_MONTH = (
    "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|january|february|march|april|june|july|august|september"
    "|october|november|december|mrz|mär|mai|okt|dez"
)
_DATE = re.compile(
    rf"\d{{1,2}}\.?[-/. ]({_MONTH})\.?([-/. ]\d{{2,4}})?|({_MONTH})\.?[-/ ](\d{{1,2}}|\d{{4}})"
    r"|\d{4}-\d{1,2}-\d{1,2}([ T][\d:.]+)?|\d{1,2}[/.]\d{1,2}[/.](\d{2}|\d{4})|4\d{4}",  # the last: days since 1900
    re.IGNORECASE,
)
_SHORTENED = re.compile(r"\d([.,]\d+)?E[+]\d{2,3}", re.IGNORECASE)

_WORDS = {"y": "yes", "n": "no", "t": "true", "f": "false"}
_HYPHENS = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"))
_TOKEN = re.compile(r"\d+|[^\W\d_]+|[+-]+$|[^\w\s./-]", re.UNICODE)


def trimmed(cell: str) -> str:
    """A cell without blanks and invisible characters (zero-width spaces, byte-order marks) at its ends."""
    start, end = 0, len(cell)
    while start < end and _is_invisible(cell[start]):
        start += 1
    while start < end and _is_invisible(cell[end - 1]):
        end -= 1
    return cell[start:end]


def reads_missing(cell: str) -> bool:
    """Whether a cell says that its value is unknown, or is an error of a spreadsheet."""
    folded = _REPEATED_SIGN.sub(r"\1", unicodedata.normalize("NFKC", cell).translate(_HYPHENS).casefold())
    return " ".join(folded.split()) in _MISSING or _ERROR_OF_SPREADSHEET.fullmatch(cell) is not None


def reads_as_number(cell: str) -> bool:
    """Whether a cell is a finite number; ``12_3``, which Python reads as 123, is a name."""
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False


def reads_like_a_date(cell: str) -> bool:
    """Whether a spreadsheet may have made a date of what was typed: ``2-Mar`` of MARCH2, ``Sep-09`` of SEPT9."""
    return _DATE.fullmatch(cell) is not None


def reads_shortened(cell: str) -> bool:
    """Whether a spreadsheet may have cut a long number, as 201903120456 to ``2.01903E+11``."""
    return _SHORTENED.fullmatch(cell) is not None


def fold_spelling(cell: str) -> str:
    """What spellings of one value have in common.

    Case, blanks, hyphens, dots and underscores, invisible characters, composed accents, zeros in front of a number and
    ``.0`` behind it do not count; a sign at the end (``ER+``, ``ER-``) and a separator between two numbers do.
    """
    text = unicodedata.normalize("NFKC", cell).translate(_HYPHENS).casefold()
    text = "".join(character for character in text if not unicodedata.category(character).startswith("C")).strip()
    text = re.sub(r"(?<![\d.])([+-]?\d+)[.,]0+$", r"\1", _WORDS.get(text, text))
    tokens = [token.lstrip("0") or "0" if token.isdecimal() else token for token in _TOKEN.findall(text)]
    sign = "-" if re.match(r"-\d", text) else ""
    folded = "".join(
        f"{' ' if before.isdecimal() and token.isdecimal() else ''}{token}"
        for before, token in zip(["", *tokens], tokens, strict=False)
    )
    return sign + folded


def alike(values: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more different values that are spelled nearly the same, each in the order of appearance."""
    groups: dict[str, list[str]] = {}
    for value in dict.fromkeys(values):
        groups.setdefault(fold_spelling(value), []).append(value)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"
