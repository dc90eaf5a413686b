"""The run directory: the only owner of its file names, of atomic writes, done-records and provenance.

A unit of work (an image's tiles, a fold × seed, a table) is done when its done-record exists. The
record is written last and holds what the unit depended on and the sizes of what it wrote, so that a
half-written unit is never taken for done and a changed setting redoes only what depends on it.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.errors import MissingInputError, PlexrankError, RunDirError, StudyError, resolve_input
from plexrank.machine.gpus import container_image, driver_version

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` and, if the block ends well, put it in the place of ``path``.

    Works for files and for folders. What is in the way is replaced; after a failure nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _sync(written)
        if temporary.is_dir() and path.exists():
            _remove(path)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        _remove(temporary)


def clear_leftovers(path: Path) -> None:
    """Remove what killed attempts to replace ``path`` left; nobody else may be writing it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove(leftover)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def digest(value: Json) -> str:
    """SHA-256 of a plain value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    @property
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
            return "changed: " + ", ".join(changes(depends, self.depends))
        for output in self.outputs:
            if sizes.get(output.name) != size_bytes(output):
                return f"{output.name} is missing or not as it was written"
        return None

    def begin(self) -> None:
        """Withdraw the done-record before outputs are touched, and clear what a killed attempt left.

        Raises:
            RunDirError: a folder stands where the record belongs.
        """
        if self.record.is_dir():
            raise RunDirError(f"{self.record}: a folder in the place of the done-record of {self.name}; remove it")
        self.record.unlink(missing_ok=True)
        for path in (self.record, *self.outputs):
            clear_leftovers(path)

    def finish(self, digests: Mapping[str, str] | None = None, device: str = "") -> None:
        """Write the done-record.

        Args:
            digests: what else tells the outputs from others, kept in the record.
            device: what it was computed on, kept in the record with the driver and the container of this machine.

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
            **({"digests": digests} if digests else {}),
            **({"device": device, "NVIDIA driver": driver, "container": container_image()} if device else {}),
            "finished": now(),
        }
        write_text(self.record, json.dumps(record, indent=1) + "\n")


class RunDir:
    """Names of everything in a run directory; see the layout in the README."""

    def __init__(self, path: Path) -> None:
        self.path = resolve_input(path, str(path))
        self.lock = self.path / ".run.lock"
        self.study = self.path / "study.yaml"
        self.provenance = self.path / "provenance.json"
        self.tiles_table = self.path / "tiles" / "tiles.parquet"
        self.tile_statistics = self.path / "tiles" / "statistics.parquet"
        self.tiles_record = self.path / "tiles" / "_tiles.done.json"  # no image_id begins with _
        self.channels = self.path / "tiles" / "channels.json"
        self.skipped = self.path / "tiles" / "skipped.json"
        self.null = self.path / "null"
        self.ranking = self.path / "ranking"
        self.ranking_record = self.ranking / "ranking.done.json"
        self.report = self.path / "report"
        self.report_page = self.report / "report.html"
        self.figures = self.report / "figures"
        self.report_record = self.report / "report.done.json"
        self.jobs = self.path / "jobs"
        self.logs = self.path / "logs"
        self.meetings = self.jobs / "meetings"
        self.graph = self.jobs / "graph.json"
        self.idle = self.jobs / "idle"

    def create(self) -> None:
        """Make the directory, readable by its owner only, unless it is there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def require_own(self) -> None:
        """Raise :class:`StudyError` where a new run would take over what is no run directory."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StudyError(f"{self.path}: a file, not a folder; give --out a new folder")
        ours = {self.lock.name, self.provenance.name}
        others = [one.name for one in self.path.iterdir() if one.name not in ours and not _is_temporary(one.name)]
        if others and not self.provenance.is_file():
            raise StudyError(f"{self.path}: not a run directory, but holds other files; give --out a new folder")

    @contextlib.contextmanager
    def locked(self, job: str = "") -> Iterator[None]:
        """Keep other runs out of the directory, which is made if need be, until the block ends.

        The lock of a process that is gone is taken over where that can be told: on the same host, or where a job
        is requeued to another.

        Args:
            job: id of the Slurm job that this process belongs to, if any.

        Raises:
            RunDirError: another run is at work.
        """
        self.create()
        owner = {"host": platform.node(), "pid": os.getpid(), "job": job}
        while True:
            try:
                with self.lock.open("x", encoding="utf-8") as file:
                    json.dump(owner, file)
                break
            except FileExistsError:
                self._break_lock(job)
        try:
            for path in (self.study, self.provenance):
                clear_leftovers(path)
            yield
        finally:
            self.lock.unlink(missing_ok=True)

    def _break_lock(self, job: str) -> None:
        remedy = f"wait for it to end, or delete {self.lock} if it no longer runs"
        try:
            owner = json.loads(self.lock.read_text(encoding="utf-8"))
            host, pid, of_job = str(owner["host"]), int(owner["pid"]), str(owner["job"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirError(f"{self.path}: another run is using this folder; {remedy}") from error
        on_this_host = host == platform.node()
        is_gone_here = on_this_host and (pid == os.getpid() or not _is_alive(pid))
        is_same_job_requeued = not on_this_host and job == of_job != ""
        if not is_gone_here and not is_same_job_requeued:
            raise RunDirError(f"{self.path}: another run is using this folder (process {pid} on {host}); {remedy}")
        self.lock.unlink(missing_ok=True)

    def require(self) -> None:
        """Raise :class:`MissingInputError` where this is no run directory."""
        for file in (self.study, self.provenance):
            if not file.is_file():
                raise MissingInputError(
                    f"{self.path}: not a run directory (no {file.name} in it); start one with plexrank run"
                )

    def tile_store(self, image_id: str) -> Path:
        """The image's tile store."""
        return self.path / "tiles" / f"{image_id}.ome.zarr"

    def image_tiles(self, image_id: str) -> Path:
        """The image's own rows of the tile table, merged into ``tiles.parquet`` when all are done."""
        return self.path / "tiles" / f"{image_id}.tiles.json"

    def image_failure(self, image_id: str) -> Path:
        """Why the image could not be tiled at the last try, for the process that joins what others have tiled."""
        return self.path / "tiles" / f"{image_id}.failed.json"

    def tile_record(self, image_id: str) -> Path:
        """Done-record of the image's tiles."""
        return self.path / "tiles" / f"{image_id}.done.json"

    def training(self, fold: int, seed: int) -> Path:
        """Folder of one training unit, which holds ``best.pt``, ``last.pt`` and ``history.csv``."""
        return self.path / "train" / f"fold-{fold}" / f"seed-{seed}"

    def training_record(self, fold: int, seed: int) -> Path:
        """Done-record of one training unit."""
        return self.training(fold, seed) / "done.json"

    def null_training(self, labelling: int, fold: int) -> Path:
        """Folder of one training on permuted labels, which holds ``unit.npz`` and, until that is there, checkpoints."""
        return self.null / f"labels-{labelling}" / f"fold-{fold}"

    def null_training_record(self, labelling: int, fold: int) -> Path:
        """Done-record of one training on permuted labels."""
        return self.null_training(labelling, fold) / "done.json"

    def attribution(self, fold: int, seed: int) -> Path:
        """Attribution store of one unit."""
        return self.path / "attribution" / f"fold-{fold}-seed-{seed}.zarr"

    def attribution_record(self, fold: int, seed: int) -> Path:
        """Done-record of one unit's attribution."""
        return self.path / "attribution" / f"fold-{fold}-seed-{seed}.done.json"

    def add_provenance(self, entry: Mapping[str, str]) -> None:
        """Append one command's entry to ``provenance.json``."""
        history: list[dict[str, str]] = []
        with contextlib.suppress(RunDirError):
            history = self._commands()
        write_text(self.provenance, json.dumps({"commands": [*history, entry]}, indent=1) + "\n")

    def add_to_last_command(self, **more: str) -> dict[str, str]:
        """Add to the newest entry of ``provenance.json``; the entry.

        Raises:
            RunDirError: the file is missing or damaged.
        """
        *before, last = self._commands()
        write_text(self.provenance, json.dumps({"commands": [*before, last | more]}, indent=1) + "\n")
        return last | more

    def _commands(self) -> list[dict[str, str]]:
        try:
            commands = json.loads(self.provenance.read_text(encoding="utf-8"))["commands"]
            if not commands or not all(isinstance(command, dict) for command in commands):
                raise ValueError("no list of commands")
            return [{str(key): str(value) for key, value in command.items()} for command in commands]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunDirError(
                f"{self.provenance}: missing or damaged; run plexrank run with --out {self.path} again, which writes it"
            ) from error


@contextlib.contextmanager
def reading_output(path: Path) -> Iterator[None]:
    """Turn what libraries raise for a damaged file of a run into an error that names it.

    Raises:
        RunDirError: the file is missing or damaged.
    """
    try:
        yield
    except PlexrankError:
        raise
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:  # the last by parquet's reader
        reason = " ".join(str(error).split())[:200]
        raise RunDirError(f"{path}: missing or damaged ({reason}); delete it and run plexrank run again") from error


def size_bytes(path: Path) -> int:
    """Bytes in a file, or in all files of a folder; -1 where there is nothing."""
    if path.is_dir():
        return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())
    return path.stat().st_size if path.exists() else -1


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


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path, tries: int = 50) -> None:
    """Remove a file or folder; after a stop, threads may still be writing into it for a moment."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or tries == 1:
            raise
        time.sleep(0.1)
        _remove(path, tries - 1)


def _is_temporary(name: str) -> bool:
    """Whether a name is one that :func:`replacing` gives."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", name) is not None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
