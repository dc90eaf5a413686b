"""Channels and panels: which protein each plane of an image is. Names, never indices, join images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import PlexrankError, StudyError, raise_problems
from plexrank.tables import Table, did_you_mean, read_table

FALSE_WORDS = frozenset({"0", "false", "no"})
TRUE_WORDS = frozenset({"1", "true", "yes", ""})


@dataclass(frozen=True)
class Channel:
    """One row of a panel: the id in the file, the protein's name, and whether to use it."""

    channel_id: str
    name: str
    keep: bool = True


@dataclass(frozen=True)
class Panel:
    """The ordered channels of a cohort as its sidecar file gives them."""

    path: Path
    channels: tuple[Channel, ...]

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the channels to use, in panel order."""
        return tuple(channel.name for channel in self.channels if channel.keep)


def read_panel(path: Path) -> Panel:
    """Read a steinbock panel: columns ``channel`` (unique), ``name``, optional ``keep`` (0/1).

    Raises:
        MissingInputError: there is no such file.
        StudyError: a column is missing, a channel or a kept name is doubled, or ``keep`` is no 0/1.
    """
    table = read_table(path)
    missing = [column for column in ("channel", "name") if column not in table.columns]
    if missing:
        raise StudyError(
            f"{path}: column {missing[0]!r} is missing{did_you_mean(missing[0], table.columns)} "
            "A panel has the columns channel, name and optionally keep"
        )
    problems = _bad_cells(table)
    channels = tuple(
        Channel(row["channel"], row["name"] or row["channel"], row.get("keep", "").lower() not in FALSE_WORDS)
        for row in table.rows
    )
    problems += _doubled(path, "channel", [channel.channel_id for channel in channels])
    problems += _doubled(path, "name", [channel.name for channel in channels if channel.keep])
    if not any(channel.keep for channel in channels):
        problems.append(StudyError(f"{path}: no channel is kept; set keep to 1 for those to rank"))
    raise_problems(problems)
    return Panel(path, channels)


def locate_channels(
    panel: Panel | None,
    wanted: Sequence[str] | None,
    found: Sequence[str] | None,
    count: int,
    source: str,
    found_ids: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Where an image holds the cohort's channels.

    With a panel, its rows are matched (in any order) to the image's own names or ids where most of these are
    the panel's, or to panel ids that stand as a word in its names (``Ag107_Ag107``) where all do. Where the
    image has no name of the panel's, or only such as stand at the panel's place, the rows are taken in
    order. Without a panel, the image's own names serve.

    Args:
        panel: the cohort's sidecar panel, if any.
        wanted: channel names that earlier images of the cohort settled; ``None`` for the first.
        found: names that the image file carries, or ``None``.
        count: number of channels in the image.
        source: what to call the image in a message.
        found_ids: ids that the image file carries beside names, such as IMC metals.

    Returns:
        Names to use, and the index of each in the image.

    Raises:
        StudyError: counts or names do not fit together.
    """
    if panel is None:
        if found is None:
            raise StudyError(f"{source}: the file names no channels; give a panel.csv under cohort.panel")
        names = tuple(found) if wanted is None else tuple(wanted)
        return names, _by_name(names, found, source)
    if len(panel.channels) != count:
        raise StudyError(
            f"{panel.path}: {len(panel.channels)} rows, but {source} has {count} channels; "
            "give one row for every channel of the image, with keep 0 for those to leave out"
        )
    kept = [index for index, channel in enumerate(panel.channels) if channel.keep]
    ids = [channel.channel_id for channel in panel.channels]
    for own in (found or (), found_ids or ()):
        folded = {_fold(name) for name in own}
        for column in (ids, [channel.name for channel in panel.channels]):
            if 2 * sum(_fold(name) in folded for name in column) > count:
                return panel.kept_names, _by_name([column[index] for index in kept], own, source)
    within = _ids_within(found or (), ids)
    if set(ids) <= set(within):
        return panel.kept_names, tuple(within.index(ids[index]) for index in kept)
    _refuse_another_order(panel, within, source)
    return panel.kept_names, tuple(kept)


def wrong_exclusions(excluded: Sequence[str], channels: Sequence[str], source: str) -> list[PlexrankError]:
    """Problems of the study's negative controls against the channels that ``source`` has."""
    if channels and set(channels) <= set(excluded):
        return [StudyError(f"cohort.exclude_channels: all channels of {source} are listed; leave out those to rank")]
    return [
        StudyError(f"cohort.exclude_channels: {name!r} is no kept channel of {source}{did_you_mean(name, channels)}")
        for name in excluded
        if name not in channels
    ]


def _bad_cells(table: Table) -> list[PlexrankError]:
    problems: list[PlexrankError] = []
    for line, row in zip(table.line_numbers, table.rows, strict=True):
        if row.get("keep", "").lower() not in FALSE_WORDS | TRUE_WORDS:
            problems.append(StudyError(f"{table.path}: line {line}: keep must be 0 or 1, found {row['keep']!r}"))
        if not row["channel"]:
            problems.append(StudyError(f"{table.path}: line {line}: the column channel is empty; name the channel"))
    return problems


def _doubled(path: Path, column: str, values: Sequence[str]) -> list[PlexrankError]:
    spellings: dict[str, list[str]] = {}
    for value in values:
        spellings.setdefault(_fold(value), []).append(value)
    return [
        StudyError(f"{path}: {column} {same[0]!r} stands {len(same)} times; give each channel its own")
        for folded, same in spellings.items()
        if folded and len(same) > 1
    ]


def _ids_within(found: Sequence[str], ids: Sequence[str]) -> list[str]:
    """For each name the one id that is a word of it, otherwise the name itself."""
    folded = {_fold(one): one for one in ids}
    within = []
    for name in found:
        words = {folded[_fold(word)] for word in re.split(r"[^A-Za-z0-9]+", name) if _fold(word) in folded}
        within.append(words.pop() if len(words) == 1 else name)
    return within


def _refuse_another_order(panel: Panel, found: Sequence[str], source: str) -> None:
    """Rows are taken in order only where no name of the image says otherwise."""
    rows: dict[str, set[int]] = {}
    for index, channel in enumerate(panel.channels):
        for name in (channel.channel_id, channel.name):
            rows.setdefault(_fold(name), set()).add(index)
    elsewhere = [
        f"{name!r} (channel {index + 1} of the image, row {min(rows[_fold(name)]) + 1} of the panel)"
        for index, name in enumerate(found)
        if _fold(name) in rows and index not in rows[_fold(name)]
    ]
    if elsewhere:
        raise StudyError(
            f"{panel.path}: too few of its channels are names of {source} to match by name, and these stand in "
            f"another order: {', '.join(elsewhere)}. The image has: {', '.join(found)}. Write these names into the "
            "panel's column channel"
        )


def _by_name(names: Sequence[str], found: Sequence[str], source: str) -> tuple[int, ...]:
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(found):
        positions.setdefault(_fold(name), []).append(index)
    for name in names:
        places = positions.get(_fold(name), [])
        if len(places) != 1:
            problem = f"holds it {len(places)} times" if places else f"lacks it{did_you_mean(name, found)}"
            raise StudyError(f"{source}: channel {name!r}: the image {problem} All images must hold the same channels")
    return tuple(positions[_fold(name)][0] for name in names)


def _fold(name: str) -> str:
    """Names match after trimming and folding of case and separators; nothing nearer than that is applied."""
    return "".join(character for character in name.strip().casefold() if character not in " _-./")
