"""Panels: the channels of images as a table beside them gives them, of steinbock or of MCMICRO."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.cohorts.spelling import reads_like_a_date, reads_missing
from plexrank.cohorts.tables import Table, read_table
from plexrank.errors import PlexrankError, StudyError, raise_problems
from plexrank.images.channel_names import count_from, fold_name, place_number
from plexrank.wording import FORMULA, did_you_mean, shown, why_no_name

FALSE_WORDS = frozenset({"0", "0.0", "false", "no", "n"})
TRUE_WORDS = frozenset({"1", "1.0", "true", "yes", "y"})
_SHOWN = 5
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE)
"""Or a sign alone: no spreadsheet runs either."""


@dataclass(frozen=True)
class Channel:
    """One row of a panel: the id in the file, the protein's name, and whether to use it."""

    channel_id: str
    name: str
    keep: bool = True


@dataclass(frozen=True)
class Panel:
    """The channels of images as a sidecar file gives them.

    Attributes:
        channels: in the order of the planes, as far as the file tells it.
        is_ordered: whether it does; not where its numbers leave gaps and stand in another order than they count.
    """

    path: Path
    channels: tuple[Channel, ...]
    is_ordered: bool = True

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the channels to use, in panel order."""
        return tuple(channel.name for channel in self.channels if channel.keep)


def read_panel(path: Path) -> Panel:
    """Read a panel of steinbock or of MCMICRO, by its columns.

    steinbock: ``channel`` (unique), ``name``, optional ``keep`` (0/1). MCMICRO: ``marker_name``, optional
    ``channel_number`` (or ``channel``), ``cycle_number`` (or ``cycle``) and ``remove`` (TRUE/FALSE, 1/0, empty).
    Channels that are numbers, from 0 or 1 on, give the order of the planes whatever the order of the rows; so do
    numbers that start again in every cycle, together with the cycle.

    Raises:
        MissingInputError: there is no such file.
        StudyError: a column is missing, a channel or a kept name is doubled, or a cell is not as expected.
    """
    table = read_table(path)
    if "marker_name" in table.columns and not {"channel", "name"} <= set(table.columns):
        panel, problems = _read_markers(table)
    else:
        panel, problems = _read_steinbock(table)
    problems += _doubled(path, "name", [channel.name for channel in panel.channels if channel.keep])
    problems += _unnamed(path, panel.channels)
    problems += _no_names(path, panel.channels)
    if not any(channel.keep for channel in panel.channels):
        problems.append(StudyError(f"{path}: every channel is left out (keep 0 or remove TRUE); keep those to rank"))
    raise_problems(problems)
    return panel


def _read_steinbock(table: Table) -> tuple[Panel, list[PlexrankError]]:
    missing = [column for column in ("channel", "name") if column not in table.columns]
    if missing:
        raise StudyError(
            f"{table.path}: column {missing[0]!r} is missing{did_you_mean(missing[0], table.columns)} "
            "A panel has the columns channel, name and optionally keep (steinbock), or channel_number, marker_name and "
            "optionally remove (MCMICRO)"
        )
    problems: list[PlexrankError] = []
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        if row.get("keep", "").lower() not in FALSE_WORDS | TRUE_WORDS | {""}:
            problems.append(StudyError(f"{table.path}: line {line}: keep must be 0 or 1, found {row['keep']!r}"))
        if not row["channel"]:
            problems.append(StudyError(f"{table.path}: line {line}: the column channel is empty; name the channel"))
    channels = [
        Channel(row["channel"], row["name"] or row["channel"], row.get("keep", "").lower() not in FALSE_WORDS)
        for row in table.rows
    ]
    ids = [channel.channel_id for channel in channels]
    numbers = [place_number(own) for own in ids]
    known = [number for number in numbers if number is not None]
    if count_from(numbers) is not None:
        channels = [channel for _, channel in sorted(zip(known, channels, strict=True), key=lambda one: one[0])]
    is_ordered = len(known) < len(numbers) or count_from(numbers) is not None or known == sorted(known)
    return Panel(table.path, tuple(channels), is_ordered), [*problems, *_doubled(table.path, "channel", ids)]


def _read_markers(table: Table) -> tuple[Panel, list[PlexrankError]]:
    """The channels in the order of the planes; the name is the id too, as ids that are numbers match by chance."""
    problems: list[PlexrankError] = []
    channels: list[Channel] = []
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        name, remove = row["marker_name"], row.get("remove", "").lower()
        if not name:
            problems.append(StudyError(f"{table.path}: line {line}: the column marker_name is empty; name the channel"))
        if remove not in FALSE_WORDS | TRUE_WORDS | {""}:
            problems.append(
                StudyError(f"{table.path}: line {line}: remove must be TRUE, FALSE or empty, found {row['remove']!r}")
            )
        channels.append(Channel(name, name, remove not in TRUE_WORDS))
    order, order_problems = _marker_order(table)
    return Panel(table.path, tuple(channels[index] for index in order)), [*problems, *order_problems]


def _marker_order(table: Table) -> tuple[list[int], list[PlexrankError]]:
    """The rows in the order of the planes: by number, by cycle and number within it, or as they stand."""
    in_file = list(range(len(table.rows)))
    number_column = next((name for name in ("channel_number", "channel") if name in table.columns), None)
    cycle_column = next((name for name in ("cycle_number", "cycle") if name in table.columns), None)
    problems: list[PlexrankError] = []
    numbers = _whole_numbers(table, number_column, problems)
    cycle_problems: list[PlexrankError] = []
    cycles = _whole_numbers(table, cycle_column, cycle_problems)
    if numbers is not None and not problems and count_from(numbers) is not None:
        order = sorted(in_file, key=numbers.__getitem__)
        if cycles is None or cycle_problems or [cycles[index] for index in order] == sorted(cycles):
            return order, []
        return order, [
            StudyError(
                f"{table.path}: {number_column} and {cycle_column} do not agree: in the order of the numbers the "
                "cycles decrease; correct the numbers, or leave out the cycles"
            )
        ]
    problems += cycle_problems
    if problems:
        return in_file, problems
    if numbers is None:
        if cycles is None or cycles == sorted(cycles):
            return in_file, []
        back = next(index for index, (one, after) in enumerate(itertools.pairwise(cycles), 1) if after < one)
        return in_file, [
            StudyError(
                f"{table.path}: line {table.line_numbers[back]}: {cycle_column} decreases, so that the "
                "rows are not in the order of the planes; sort them, or give each its channel_number"
            )
        ]
    if cycles is not None:
        of_cycle = {cycle: [own for own, one in zip(numbers, cycles, strict=True) if one == cycle] for cycle in cycles}
        if all(count_from(own) is not None for own in of_cycle.values()):
            return sorted(in_file, key=lambda index: (cycles[index], numbers[index])), []
    seen: dict[int, int] = {}
    for line, number in zip(table.line_numbers, numbers, strict=True):
        if number in seen:
            found = f"line {line}: {number_column} {number} is on line {seen[number]} too"
            break
        seen[number] = line
    else:
        absent = next(number for number in itertools.count(1) if number not in seen)
        found = f"{number_column} " + (f"leaves out {absent}" if absent < max(numbers) else f"holds {min(numbers)}")
    return in_file, [
        StudyError(
            f"{table.path}: {found}; {number_column} must count the planes of the image, 1 to {len(numbers)}, each once"
            " (or those of each cycle, with a cycle_number)"
        )
    ]


def _whole_numbers(table: Table, column: str | None, problems: list[PlexrankError]) -> list[int] | None:
    """The numbers of a column, None where there is no such column or it is empty."""
    if column is None or not any(row[column] for row in table.rows):
        return None
    numbers = []
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        match = re.fullmatch(r"(-?[0-9]{1,9})(?:\.0*)?", row[column])
        if match is None:
            problems.append(
                StudyError(f"{table.path}: line {line}: {column} must be a whole number, found {row[column]!r}")
            )
        numbers.append(int(match[1]) if match else 0)
    return numbers


def wrong_exclusions(excluded: Sequence[str], channels: Sequence[str], source: str) -> list[PlexrankError]:
    """Problems of the study's negative controls against the channels that ``source`` has."""
    if channels and set(channels) <= set(excluded):
        return [StudyError(f"cohort.exclude_channels: all channels of {source} are listed; leave out those to rank")]
    return [
        StudyError(f"cohort.exclude_channels: {name!r} is not a kept channel of {source}{did_you_mean(name, channels)}")
        for name in excluded
        if name not in channels
    ]


def notes_on_names(panel: Panel) -> list[str]:
    """Warnings where spreadsheets change the names of kept channels, or would run them."""
    return [*_dates_for_names(panel), *_formulas_for_names(panel)]


def _dates_for_names(panel: Panel) -> list[str]:
    """A warning where kept channels have the names that spreadsheets make of genes such as MARCH1 and SEPT9."""
    dates = [one.name for one in panel.channels if one.keep and reads_like_a_date(one.name)]
    if not dates:
        return []
    return [
        f"{panel.path}: channels named {', '.join(dates)}: spreadsheets make dates of names such as MARCH2 (2-Mar) and "
        "SEPT9 (Sep-09); if that happened here, write the names again, in a column formatted as text"
    ]


def _formulas_for_names(panel: Panel) -> list[str]:
    """A warning where a spreadsheet that opens ``ranking.csv`` would take names of kept channels for formulas."""
    return notes_on_formulas(panel.path, "channels", panel.kept_names)


def notes_on_formulas(path: Path, what: str, names: Iterable[str]) -> list[str]:
    """A warning where a spreadsheet would run names in a file, which the tables of a run hold as they are."""
    found = [name for name in dict.fromkeys(names) if FORMULA.match(name) and not _NUMBER.fullmatch(name)]
    if not found:
        return []
    some = ", ".join(map(shown, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
    return [
        f"{path}: {what} named {some}: spreadsheets take these for formulas and run them, also where they open the "
        "tables of a run; name them otherwise unless you trust their source"
    ]


def _unnamed(path: Path, channels: Sequence[Channel]) -> list[PlexrankError]:
    """Kept channels whose name is a word for a missing value; ``Na`` is sodium, which MIBI measures."""
    found = [
        one.name if one.name == one.channel_id else f"{one.name} ({one.channel_id})"
        for one in channels
        if one.keep and one.name != "Na" and reads_missing(one.name)
    ]
    if not found:
        return []
    return [
        StudyError(
            f"{path}: channels named {', '.join(found)}, which looks like a missing value; name them, or leave them "
            "out (keep 0, remove TRUE)"
        )
    ]


def _no_names(path: Path, channels: Sequence[Channel]) -> list[PlexrankError]:
    """Names that would steer the terminal on which a table is shown, or fill it."""
    found = [
        why for own in channels for text in dict.fromkeys((own.name, own.channel_id)) if (why := why_no_name(text))
    ]
    return [StudyError(f"{path}: channel {why}") for why in found[:_SHOWN]]


def _doubled(path: Path, column: str, values: Sequence[str]) -> list[PlexrankError]:
    spellings: dict[str, list[str]] = {}
    for value in values:
        spellings.setdefault(fold_name(value), []).append(value)
    return [
        StudyError(f"{path}: {column} {same[0]!r} is there {len(same)} times; give each channel its own")
        for folded, same in spellings.items()
        if folded and len(same) > 1
    ]
