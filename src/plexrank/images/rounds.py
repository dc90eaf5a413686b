"""Names of files and folders that say which round of staining they are, and which of several samples."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ROUND = re.compile(
    r"(?<![A-Za-z])(?:cycle|cyc|(?:imaging[\s_-]*)?round|rnd)[\s_-]*0*(?P<number>[0-9]+)", re.IGNORECASE
)
_TOKENS = re.compile(r"[\s_]+")
_MOST_OF_GRID = 0.75


def split_round(name: str) -> tuple[str, int] | None:
    """What is left of a name without its round, and the round's number; None where it names none.

    ``1_Cycle1`` and ``2_Cycle2`` are rounds of one thing, as are ``a_round1_x`` and ``a_round2_x``.
    """
    match = _ROUND.search(name)
    if match is None:
        return None
    number = int(match["number"])
    rest = name[: match.start()] + name[match.end() :]
    tokens = [token for token in _TOKENS.split(rest) if token and not (token.isdecimal() and int(token) == number)]
    return "_".join(tokens).casefold(), number


def rounds_of_one(names: Sequence[str]) -> list[list[str]]:
    """The names that differ in their round alone, two or more together, each group in the order of its rounds."""
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        split = split_round(name)
        if split is not None:
            groups.setdefault(split[0], {}).setdefault(split[1], name)
    return [[group[number] for number in sorted(group)] for group in groups.values() if len(group) > 1]


def samples_in(names: Sequence[str]) -> list[str]:
    """The samples of which names tell the same channels: sample0 and sample1 of ``sample0_CD3``, ``sample1_CD3``, ….

    Names are taken apart at their first or last separator, or in all their parts: a part is a sample's where the
    names that share it differ in what the names of every other sample differ in too. Empty where there is none.
    """
    for parts in _ways_apart(names):
        groups: dict[str, set[tuple[str, ...]]] = {}
        for sample, rest in parts:
            groups.setdefault(sample, set()).add(rest)
        varying = [_varying(sorted(group)) for group in groups.values()]
        channels = set().union(*varying)
        held = sum(map(len, varying))
        if len(groups) > 1 and len(channels) > 1 and held >= _MOST_OF_GRID * len(groups) * len(channels):
            return sorted(groups)
    return []


def _ways_apart(names: Sequence[str]) -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """(sample, the rest in parts) of every name, for every way to take all of them apart."""
    if len(names) < 4:
        return
    tokens = [tuple(_TOKENS.split(name)) for name in names]
    if len({len(own) for own in tokens}) == 1 and len(tokens[0]) > 1:
        for place in range(len(tokens[0])):
            yield [(own[place], own[:place] + own[place + 1 :]) for own in tokens]
    for separator in "_ -.":
        if all(separator in name for name in names):
            yield [(one, (other,)) for one, other in (name.split(separator, 1) for name in names)]
            yield [(other, (one,)) for one, other in (name.rsplit(separator, 1) for name in names)]


def _varying(group: Sequence[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The parts in which names of a group differ; of a single name, all."""
    places = [place for place, parts in enumerate(zip(*group, strict=True)) if len(set(parts)) > 1 or len(parts) == 1]
    return {tuple(own[place] for place in places) for own in group}
