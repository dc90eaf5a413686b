"""How messages put numbers: one image is, two images are; seconds below two minutes."""

from __future__ import annotations

_PLURAL = {"is": "are", "has": "have", "does": "do"}


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
