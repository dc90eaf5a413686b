"""Units of work: what each depends on, and whether it is done."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import RunDirError
from plexrank.machine.gpus import container_image, driver_version
from plexrank.rundir.atomic import make_way
from plexrank.rundir.digests import Json, digest, file_digest, size_bytes
from plexrank.rundir.record import (
    blaming,
    is_of_another,
    load_record,
    reading_recorded,
    recorded_digest,
    require_recorded,
    write_record,
)

MOST_CHANGES = 4
"""That are shown."""


@dataclass(frozen=True)
class Unit:
    """One piece of resumable work.

    Attributes:
        name: what to call it in messages, such as ``train fold 1 seed 0``.
        record: path of its done-record.
        outputs: files or folders that it writes.
        depends: plain settings and input digests that decide its result.
    """

    name: str
    record: Path
    outputs: tuple[Path, ...]
    depends: Mapping[str, Json]

    @functools.cached_property
    def key(self) -> str:
        """Digest of all that the unit depends on."""
        return digest(self.depends)

    def why_not_done(self) -> str | None:
        """``None`` for a finished unit, otherwise why it must be worked on, in a few words."""
        if self.record.is_symlink():
            return "its done-record is a link"
        if not self.record.is_file():
            return "its done-record is a folder" if self.record.is_dir() else "not done yet"
        record = load_record(self.record) or {}
        try:
            depends, sizes = dict(record["depends"]), dict(record["outputs"])
        except (ValueError, KeyError, TypeError):
            return "its done-record is damaged"
        if is_of_another(record, self.name):
            return f"its done-record is that of {record['unit']}"
        if digest(depends) != self.key:
            changed = changes(depends, self.depends)
            more = f", … ({len(changed)} in all)" if len(changed) > MOST_CHANGES else ""
            return f"changed: {', '.join(changed[:MOST_CHANGES])}{more}"
        for output in self.outputs:
            if sizes.get(output.name) != size_bytes(output):
                what = "a link" if output.is_symlink() else "missing or not as it was written"
                return f"{output.name} is {what}"
        return None

    def require_intact(self, *outputs: Path, thoroughly: bool = False) -> None:
        """Hold outputs, all of them if none is named, against the done-record.

        Args:
            outputs: of this unit.
            thoroughly: by SHA-256, in the place of the checksum that every reader can afford.

        Raises:
            DamagedOutputError: one is not what the unit wrote.
        """
        for output in outputs or self.outputs:
            require_recorded(self.record, output, thoroughly=thoroughly)

    def reading(self, output: Path) -> contextlib.AbstractContextManager[bool]:
        """A block that reads an output: see :func:`~plexrank.rundir.reading_recorded`."""
        return reading_recorded(self.record, output)

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        """A block whose errors are of this unit's outputs: see :func:`~plexrank.rundir.blaming`."""
        return blaming(self.record)

    def digest_of(self, output: Path) -> str:
        """SHA-256 of an output as it was written; of a unit that was done before digests were recorded, as it is.

        Raises:
            DamagedOutputError: of the latter it is missing.
        """
        if recorded := recorded_digest(self.record, output):
            return recorded
        with self.reading(output):
            return file_digest(output)

    def begin(self) -> None:
        """Withdraw the done-record before outputs are touched."""
        make_way(self.record)

    def finish(self, device: str = "", digests: Mapping[str, str] | None = None, **more: Json) -> None:
        """Write the done-record.

        Args:
            device: what it was computed on, kept in the record with the driver and the container of this machine.
            digests: what tells apart outputs that carry checksums of their own, kept in the record in the place of
                digests of all their bytes.
            more: what else is to be known of the outputs without opening them, kept in the record.

        Raises:
            RunDirError: an output is missing.
        """
        missing = [output for output in self.outputs if not output.exists()]
        if missing:
            raise RunDirError(f"{missing[0]}: {self.name} ended without writing it; run the same command again")
        driver = driver_version() if device != "CPU" else ""
        record = {
            "unit": self.name,
            "key": self.key,
            "depends": self.depends,
            **more,
            **({"digests": digests} if digests is not None else {}),
            **({"device": device, "NVIDIA driver": driver, "container": container_image()} if device else {}),
            "finished": now(),
        }
        write_record(self.record, record, self.outputs, hashed=digests is None)

    def update_record(self, digests: Mapping[str, str]) -> None:
        """Bring the done-record of a finished unit up to date where an output was changed on purpose.

        Args:
            digests: as for :meth:`finish`.

        Raises:
            RunDirError: the record is damaged.
        """
        record = load_record(self.record)
        if record is None:
            raise RunDirError(f"{self.record}: missing or damaged; delete it and run plexrank run again")
        write_record(self.record, {**record, "digests": digests}, self.outputs, hashed=False)


def now() -> str:
    """The present time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


_KNOWN_BY = frozenset({"key", "finished", "bytes", "mtime_ns"})


def changes(old: Mapping[str, Json], new: Mapping[str, Json], prefix: str = "") -> list[str]:
    """What differs between two sets of settings, by dotted key, with both values where they are short.

    Of what another unit or a file is known by, only its name.
    """
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += changes(before, after, f"{prefix}{key}.")
        elif key in _KNOWN_BY and prefix:
            found += [prefix.removesuffix(".")] * (prefix.removesuffix(".") not in found)
        elif max(len(str(before)), len(str(after))) <= 24:
            found.append(f"{prefix}{key} {before} → {after}")
        else:
            found.append(f"{prefix}{key}")
    return found
