"""Channels and panels: which protein each plane of an image is. Names, never indices, join images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import PlexrankError, StudyError, raise_problems
from plexrank.spelling import reads_like_a_date, reads_missing
from plexrank.tables import Table, did_you_mean, read_table

FALSE_WORDS = frozenset({"0", "0.0", "false", "no", "n"})
TRUE_WORDS = frozenset({"1", "1.0", "true", "yes", "y"})


@dataclass(frozen=True)
class Channel:
    """One row of a panel: the id in the file, the protein's name, and whether to use it."""

    channel_id: str
    name: str
    keep: bool = True


@dataclass(frozen=True)
class Panel:
    """The ordered channels of images as a sidecar file gives them."""

    path: Path
    channels: tuple[Channel, ...]

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the channels to use, in panel order."""
        return tuple(channel.name for channel in self.channels if channel.keep)


@dataclass(frozen=True)
class LocatedChannels:
    """Which channels of an image to use.

    Attributes:
        names: as the panel, or else the file, spells them.
        indices: the plane of each in the image.
        unlisted: names of further planes, which the panel does not list.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...]
    unlisted: tuple[str, ...] = ()


def read_panel(path: Path) -> Panel:
    """Read a panel of steinbock or of MCMICRO, told by its columns.

    steinbock: ``channel`` (unique), ``name``, optional ``keep`` (0/1). MCMICRO: ``marker_name``, optional
    ``channel_number`` (1 is the first plane, whatever the order of the rows) and ``remove`` (TRUE/FALSE, 1/0, empty).

    Raises:
        MissingInputError: there is no such file.
        StudyError: a column is missing, a channel or a kept name is doubled, or a cell is not as expected.
    """
    table = read_table(path)
    if "marker_name" in table.columns and "channel" not in table.columns:
        channels, problems = _read_markers(table)
    else:
        channels, problems = _read_steinbock(table)
    problems += _doubled(path, "name", [channel.name for channel in channels if channel.keep])
    problems += _unnamed(path, channels)
    if not any(channel.keep for channel in channels):
        problems.append(StudyError(f"{path}: no channel is kept; keep those to rank"))
    raise_problems(problems)
    return Panel(path, tuple(channels))


def _read_steinbock(table: Table) -> tuple[list[Channel], list[PlexrankError]]:
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
    return channels, [*problems, *_doubled(table.path, "channel", [channel.channel_id for channel in channels])]


def _read_markers(table: Table) -> tuple[list[Channel], list[PlexrankError]]:
    """The channels in the order of the planes; the name is the id too, as ids that are numbers match by chance."""
    problems: list[PlexrankError] = []
    numbered: list[tuple[int, Channel]] = []
    for position, (line, row) in enumerate(zip(table.line_numbers, table.rows, strict=True), start=1):
        name, remove = row["marker_name"], row.get("remove", "").lower()
        if not name:
            problems.append(StudyError(f"{table.path}: line {line}: the column marker_name is empty; name the channel"))
        if remove not in FALSE_WORDS | TRUE_WORDS | {""}:
            problems.append(
                StudyError(f"{table.path}: line {line}: remove must be TRUE, FALSE or empty, found {row['remove']!r}")
            )
        number = row.get("channel_number", str(position))
        numbered.append((int(number) if number.isdecimal() else 0, Channel(name, name, remove not in TRUE_WORDS)))
    numbered.sort(key=lambda one: one[0])
    numbers = [number for number, _ in numbered]
    if numbers != list(range(1, len(numbers) + 1)):
        problems.append(
            StudyError(
                f"{table.path}: channel_number must count the planes of the image: 1 to {len(numbers)}, each once"
            )
        )
    return [channel for _, channel in numbered], problems


def locate_channels(
    panel: Panel | None,
    found: Sequence[str] | None,
    count: int,
    source: str,
    found_ids: Sequence[str] | None = None,
) -> LocatedChannels:
    """Which channels an image holds, and where.

    With a panel, its rows are matched (in any order) to the image's own names or ids where most of these are
    the panel's, or to panel ids that stand as a word in its names (``Ag107_Ag107``) where all do; kept rows that
    the image lacks are left out. Where the image has no name of the panel's, or only such as stand at the panel's
    place, the rows are taken in order: all of them, or where the image has as many planes as rows are kept, those.
    Without a panel, the image's own names serve.

    Args:
        panel: the image's sidecar panel, if any.
        found: names that the image file carries, or ``None``.
        count: number of channels in the image.
        source: what to call the image in a message.
        found_ids: ids that the image file carries beside names, such as IMC metals.

    Raises:
        StudyError: counts or names do not fit together.
    """
    if panel is None:
        if found is None:
            raise StudyError(f"{source}: the file names no channels; give a panel.csv under cohort.panel")
        return LocatedChannels(*_by_name(found, found, found, source))
    ids = [channel.channel_id for channel in panel.channels]
    fewer = min(len(ids), count)
    for own in (found or (), found_ids or ()):
        folded = {fold_name(name) for name in own}
        for column in (ids, [channel.name for channel in panel.channels]):
            if 2 * sum(fold_name(name) in folded for name in column) > fewer:
                return _kept_by_name(panel, column, own, source)
    within = _ids_within(found or (), ids)
    if within and (set(ids) <= set(within) or set(within) <= set(ids)):
        return _kept_by_name(panel, ids, within, source)
    rows = _rows_in_order(panel, found, count, source)
    _refuse_another_order(panel, rows, within, source)
    kept = [index for index, channel in enumerate(rows) if channel.keep]
    return LocatedChannels(panel.kept_names, tuple(kept))


def _kept_by_name(panel: Panel, column: Sequence[str], own: Sequence[str], source: str) -> LocatedChannels:
    """The kept rows among an image's names; ``column`` is what the rows are matched by."""
    kept = [(name, row.name) for name, row in zip(column, panel.channels, strict=True) if row.keep]
    names, indices = _by_name([name for name, _ in kept], [spelled for _, spelled in kept], own, source)
    if not names:
        raise StudyError(f"{source}: holds none of the channels that {panel.path} keeps; it holds: {', '.join(own)}")
    listed = {fold_name(name) for name in column}
    return LocatedChannels(names, indices, tuple(name for name in own if fold_name(name) not in listed))


def _rows_in_order(panel: Panel, found: Sequence[str] | None, count: int, source: str) -> list[Channel]:
    """The rows that an image's planes are, one by one; steinbock writes only the planes that are kept."""
    kept = [channel for channel in panel.channels if channel.keep]
    for rows in (list(panel.channels), kept):
        if len(rows) == count:
            return rows
    of_which = f" ({len(kept)} of them kept)" if len(kept) < len(panel.channels) else ""
    named = f", most of them with names that are not in it ({', '.join(found)})" if found else ""
    raise StudyError(
        f"{panel.path}: {len(panel.channels)} rows{of_which}, but {source} has {count} channels{named}; "
        "give one row for every channel of the image, with keep 0 for those to leave out"
    )


def wrong_exclusions(excluded: Sequence[str], channels: Sequence[str], source: str) -> list[PlexrankError]:
    """Problems of the study's negative controls against the channels that ``source`` has."""
    if channels and set(channels) <= set(excluded):
        return [StudyError(f"cohort.exclude_channels: all channels of {source} are listed; leave out those to rank")]
    return [
        StudyError(f"cohort.exclude_channels: {name!r} is no kept channel of {source}{did_you_mean(name, channels)}")
        for name in excluded
        if name not in channels
    ]


def dates_for_names(panel: Panel) -> list[str]:
    """A warning where kept channels have the names that spreadsheets make of genes such as MARCH1 and SEPT9."""
    dates = [one.name for one in panel.channels if one.keep and reads_like_a_date(one.name)]
    if not dates:
        return []
    return [
        f"{panel.path}: channels named {', '.join(dates)}: spreadsheets make dates of names such as MARCH2 (2-Mar) and "
        "SEPT9 (Sep-09); if these are such, write the names again, in a column that is formatted as text"
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
            f"{path}: channels named {', '.join(found)}, which reads like a missing value; name them, or leave them "
            "out (keep 0, remove TRUE)"
        )
    ]


def _doubled(path: Path, column: str, values: Sequence[str]) -> list[PlexrankError]:
    spellings: dict[str, list[str]] = {}
    for value in values:
        spellings.setdefault(fold_name(value), []).append(value)
    return [
        StudyError(f"{path}: {column} {same[0]!r} stands {len(same)} times; give each channel its own")
        for folded, same in spellings.items()
        if folded and len(same) > 1
    ]


def _ids_within(found: Sequence[str], ids: Sequence[str]) -> list[str]:
    """For each name the one id that is a word of it, otherwise the name itself."""
    folded = {fold_name(one): one for one in ids}
    within = []
    for name in found:
        words = {folded[fold_name(word)] for word in re.split(r"[^A-Za-z0-9]+", name) if fold_name(word) in folded}
        within.append(words.pop() if len(words) == 1 else name)
    return within


def _refuse_another_order(panel: Panel, taken: Sequence[Channel], found: Sequence[str], source: str) -> None:
    """Rows are taken in order only where no name of the image says otherwise."""
    rows: dict[str, int] = {}
    places: dict[str, set[int]] = {}
    for row, channel in enumerate(panel.channels, start=1):
        for name in (channel.channel_id, channel.name):
            rows.setdefault(fold_name(name), row)
            places.setdefault(fold_name(name), set()).update(index for index, one in enumerate(taken) if one is channel)
    elsewhere = [
        f"{name!r} (channel {index + 1} of the image, row {rows[fold_name(name)]} of the panel)"
        for index, name in enumerate(found)
        if fold_name(name) in rows and index not in places[fold_name(name)]
    ]
    if elsewhere:
        raise StudyError(
            f"{panel.path}: too few of its channels are names of {source} to match by name, and these stand in "
            f"another order: {', '.join(elsewhere)}. The image has: {', '.join(found)}. Write these names into the "
            "panel's column channel"
        )


def _by_name(
    wanted: Sequence[str], spelled: Sequence[str], found: Sequence[str], source: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Of ``wanted`` those that the image has, each as in ``spelled``, and where it has them."""
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(found):
        positions.setdefault(fold_name(name), []).append(index)
    names, indices = [], []
    for name, spelling in zip(wanted, spelled, strict=True):
        places = positions.get(fold_name(name), [])
        if len(places) > 1:
            raise StudyError(
                f"{source}: channel {name!r}: the image holds it {len(places)} times; give each channel its own name, "
                "in the file or by a panel"
            )
        if places:
            names.append(spelling)
            indices.append(places[0])
    return tuple(names), tuple(indices)


def fold_name(name: str) -> str:
    """Names match after trimming and folding of case and separators; nothing nearer than that is applied."""
    return "".join(character for character in name.strip().casefold() if character not in " _-./")
