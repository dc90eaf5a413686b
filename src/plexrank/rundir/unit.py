"""Units of work: what each depends on, and whether it is done."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import RunDirError
from plexrank.machine.gpus import container_image, driver_version
from plexrank.rundir.atomic import write_text
from plexrank.rundir.directory import reading_output

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


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
        if not self.record.is_file():
            return "its done-record is a folder" if self.record.is_dir() else "not done yet"
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            depends, sizes = dict(record["depends"]), dict(record["outputs"])
        except (OSError, ValueError, KeyError, TypeError):
            return "its done-record is damaged"
        if digest(depends) != self.key:
            changed = changes(depends, self.depends)
            more = f", … ({len(changed)} in all)" if len(changed) > MOST_CHANGES else ""
            return f"changed: {', '.join(changed[:MOST_CHANGES])}{more}"
        for output in self.outputs:
            if sizes.get(output.name) != size_bytes(output):
                return f"{output.name} is missing or not as it was written"
        return None

    def begin(self) -> None:
        """Withdraw the done-record before outputs are touched.

        Raises:
            RunDirError: a folder stands where the record belongs.
        """
        if self.record.is_dir():
            raise RunDirError(f"{self.record}: a folder in the place of the done-record of {self.name}; remove it")
        self.record.unlink(missing_ok=True)

    def finish(self, device: str = "", **more: Json) -> None:
        """Write the done-record.

        Args:
            device: what it was computed on, kept in the record with the driver and the container of this machine.
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
            "outputs": {output.name: size_bytes(output) for output in self.outputs},
            **more,
            **({"device": device, "NVIDIA driver": driver, "container": container_image()} if device else {}),
            "finished": now(),
        }
        write_text(self.record, json.dumps(record, indent=1) + "\n")

    def update_record(self, **more: Json) -> None:
        """Bring the done-record of a finished unit up to date where an output was changed on purpose.

        Args:
            more: what is to be known of the outputs, in the place of what the record has under these names.

        Raises:
            RunDirError: the record is damaged.
        """
        with reading_output(self.record):
            record = {**json.loads(self.record.read_text(encoding="utf-8")), **more}
            record["outputs"] = {output.name: size_bytes(output) for output in self.outputs}
        write_text(self.record, json.dumps(record, indent=1) + "\n")


def digest(value: Json) -> str:
    """SHA-256 of a plain value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_record(record: Path, *keys: str) -> Json:
    """A value in a done-record, ``None`` where there is none."""
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found: Json = value
    return found


def size_bytes(path: Path) -> int:
    """Bytes in a file, or in all files of a folder; -1 where there is nothing."""
    try:
        with os.scandir(path) as entries:
            return sum(
                size_bytes(Path(entry.path)) if entry.is_dir() else entry.stat().st_size if entry.is_file() else 0
                for entry in entries
            )
    except NotADirectoryError:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


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
