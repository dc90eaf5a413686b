"""Which protein each plane of an image is: by the names in its file, and by its panel's order only without such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plexrank.cohorts.panel import Channel, Panel
from plexrank.errors import StudyError
from plexrank.images.channel_names import (
    count_from,
    fold_name,
    fold_without_isotopes,
    isotope,
    isotopes_within,
    place_number,
    say_only_places,
)
from plexrank.wording import counted, why_no_name

_SHOWN = 12


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


def locate_channels(
    panel: Panel | None,
    found: Sequence[str] | None,
    count: int,
    source: str,
    found_ids: Sequence[str] | None = None,
) -> LocatedChannels:
    """Which channels an image holds, and where.

    A name in the file beats a place in the panel. A row is the plane that is called like its name or its id, or that
    has its metal, in the file's ids or as a word of its name (``Ag107_Ag107``); kept rows that the image lacks are
    left out. Only where the file gives no names, or such as say no more than a place, are the rows the planes in
    order: all of them, or where the image has as many planes as rows are kept, those. Without a panel, the image's
    own names serve.

    Args:
        panel: the image's sidecar panel, if any.
        found: names that the image file carries, or ``None``.
        count: number of channels in the image.
        source: what to call the image in a message.
        found_ids: ids that the image file carries beside names, such as IMC metals.

    Raises:
        StudyError: counts or names do not fit together: fewer than half of the image's channels are in the panel (or
            of the panel's in the image, where those are fewer), one has two names of the panel, or two have one.
    """
    if panel is None:
        if found is None:
            raise StudyError(f"{source}: the file has no channel names; give a panel.csv as cohort.panel")
        return _by_own_names(found, source)
    if found is None or (found_ids is None and say_only_places(found)):
        return _in_order(panel, found or (), count, source)
    own = _OwnNames(found, found_ids or (), has_numbers=count_from(_numbers(panel)) is not None)
    if _agrees_in_order(panel, found):
        return _kept(panel, list(range(count)), [])
    return _by_name(panel, own, source)


class _OwnNames:
    """The names in an image's file, and the planes of each.

    Args:
        names: one a plane.
        ids: metals or masses, one a plane or none.
        has_numbers: the panel numbers its channels, so that a number among the ids is none of its own.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[str], *, has_numbers: bool) -> None:
        self.names = names
        self._has_numbers = has_numbers
        self._named: dict[str, set[int]] = {}
        self._rest: dict[str, set[int]] = {}
        self._ids: dict[str, set[int]] = {}
        for plane, name in enumerate(names):
            self._named.setdefault(fold_name(name), set()).add(plane)
            metals = isotopes_within(name)
            if metals:
                self._rest.setdefault(fold_without_isotopes(name), set()).add(plane)
            for metal in metals:
                self._ids.setdefault(metal, set()).add(plane)
        for plane, own in enumerate(ids):
            if not (has_numbers and place_number(own) is not None):
                self._ids.setdefault(fold_name(own), set()).add(plane)

    def planes_of(self, row: Channel) -> tuple[set[int], set[int]]:
        """Those that are called like the row, and those that are called like its id or have it for metal or mass."""
        name, own = fold_name(row.name), fold_name(row.channel_id)
        named = self._named.get(name) or self._rest.get(name, set())
        if self._has_numbers and not row.channel_id.isdecimal():  # C3 is a place here, not the protein
            return named, set()
        by_id = self._named.get(own, set()) | self._ids.get(own, set()) | self._ids.get(isotope(row.name) or own, set())
        metals = isotopes_within(row.channel_id)
        if not by_id and len(metals) == 1:
            by_id = self._ids.get(min(metals), set())
        return named, by_id or self._rest.get(own, set())


def _by_name(panel: Panel, own: _OwnNames, source: str) -> LocatedChannels:
    """The panel's rows among the names of an image."""
    planes: list[int | None] = []
    rows_of: dict[int, list[Channel]] = {}
    for row in panel.channels:
        named, by_id = own.planes_of(row)
        if row.keep and named and by_id and not named & by_id:
            one, other = own.names[min(by_id)], own.names[min(named)]
            raise StudyError(
                f"{panel.path}: channel {row.channel_id!r}, called {row.name!r}: in {source} {row.channel_id!r} is "
                f"{one!r}, and {other!r} is another channel; correct the row"
            )
        places = named & by_id or named or by_id
        if row.keep and len(places) > 1:
            raise StudyError(_several(row.name, len(places), source))
        for place in places:
            rows_of.setdefault(place, []).append(row)
        planes.append(min(places) if places else None)
    for place, rows in rows_of.items():
        if len({fold_name(row.name) for row in rows}) > 1 and any(row.keep for row in rows):
            called = " and ".join(repr(row.name) for row in rows)
            raise StudyError(f"{panel.path}: the rows {called} are both {own.names[place]!r} of {source}; correct one")
    known = f"{panel.path} lists: {_some([row.name for row in panel.channels])}"
    if 2 * len(rows_of) < min(len(panel.channels), len(own.names)):
        raise StudyError(
            f"{source}: {counted(len(rows_of), 'channel', 'is', of=len(own.names))} in its panel, fewer than half. "
            f"It has: {_some(own.names)}; {known}. Write the names that the file gives into the panel's column "
            "channel, or name the right panel"
        )
    unlisted = [name for plane, name in enumerate(own.names) if plane not in rows_of]
    located = _kept(panel, planes, unlisted)
    if not located.names:
        raise StudyError(f"{source}: has none of the channels that {panel.path} keeps; it has: {_some(own.names)}")
    return located


def _in_order(panel: Panel, found: Sequence[str], count: int, source: str) -> LocatedChannels:
    """The rows that an image's planes are, one by one; steinbock writes only the planes that are kept."""
    if not panel.is_ordered:
        raise StudyError(
            f"{panel.path}: the numbers in its column channel have gaps and are not in order, so that it is not "
            f"known which row is which plane of {source}, which has no channel names; number the channels from 1"
        )
    kept = [channel for channel in panel.channels if channel.keep]
    rows = next((rows for rows in (list(panel.channels), kept) if len(rows) == count), None)
    if rows is None:
        of_which = f" ({len(kept)} of them kept)" if len(kept) < len(panel.channels) else ""
        raise StudyError(
            f"{panel.path}: {len(panel.channels)} rows{of_which}, but {source} has {count} channels; "
            "give one row for every channel of the image, with keep 0 for those to leave out"
        )
    _refuse_another_order(panel, rows, found, source)
    return _kept(panel, [rows.index(row) if row in rows else None for row in panel.channels], [])


def _refuse_another_order(panel: Panel, rows: Sequence[Channel], found: Sequence[str], source: str) -> None:
    """Dyes that come again in every cycle leave the order to the panel, unless its rows are called like them."""
    if count_from([place_number(name) for name in found]) is not None:
        return
    names = {fold_name(name) for name in found}
    for place, (row, name) in enumerate(zip(rows, found, strict=False), start=1):
        spellings = {fold_name(row.name), fold_name(row.channel_id)}
        if spellings & names and fold_name(name) not in spellings:
            raise StudyError(
                f"{panel.path}: row {place} is {row.name!r}, but channel {place} of {source} is {name!r}; "
                f"the image has: {_some(found)}. Write these names into the panel's column channel"
            )


def _agrees_in_order(panel: Panel, found: Sequence[str]) -> bool:
    """Whether all names stand at their rows' places, so that names that stand twice are no matter."""
    names = [fold_name(row.name) for row in panel.channels]
    return names == [fold_name(name) for name in found]


def _kept(panel: Panel, planes: Sequence[int | None], unlisted: Sequence[str]) -> LocatedChannels:
    pairs = [(row.name, plane) for row, plane in zip(panel.channels, planes, strict=True) if row.keep]
    held = [(name, plane) for name, plane in pairs if plane is not None]
    return LocatedChannels(tuple(name for name, _ in held), tuple(plane for _, plane in held), tuple(unlisted))


def _by_own_names(found: Sequence[str], source: str) -> LocatedChannels:
    spellings: dict[str, list[str]] = {}
    for name in found:
        if why := why_no_name(name):
            raise StudyError(f"{source}: channel {why}, or name the channels by a panel")
        spellings.setdefault(fold_name(name), []).append(name)
    for same in spellings.values():
        if len(same) > 1:
            raise StudyError(_several(same[0], len(same), source))
    return LocatedChannels(tuple(found), tuple(range(len(found))))


def _several(name: str, times: int, source: str) -> str:
    return (
        f"{source}: channel {name!r}: it occurs {times} times in the image; give each channel its own name, in the "
        "file or by a panel"
    )


def _numbers(panel: Panel) -> list[int | None]:
    return [place_number(row.channel_id) for row in panel.channels]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
