"""What tells a value, a file or a folder from any other."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

_BLOCK_BYTES = 2**20


def digest(value: Json) -> str:
    """SHA-256 of a plain value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksum(path: Path) -> str:
    """CRC-32C of a file's bytes, as 8 hexadecimal digits: finds every accident, and takes a tenth of the time."""
    import google_crc32c  # which status does without

    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
    return f"{checksum:08x}"


def output_digest(path: Path, of_file: Callable[[Path], str] = file_digest) -> str:
    """SHA-256 of a file, or of the names and digests of all files in a folder.

    Args:
        path: the file or folder.
        of_file: what takes the digest of a file, in the place of SHA-256.

    Raises:
        OSError: nothing is there, or it cannot be read.
    """
    if not path.is_dir():
        return of_file(path)
    return digest({file.relative_to(path).as_posix(): of_file(file) for file in files_in(path)})


def files_in(folder: Path) -> Iterator[Path]:
    """All that is in a folder and the folders in it, but for these; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from files_in(Path(entry.path))
            else:
                yield Path(entry.path)


def size_bytes(path: Path) -> int:
    """Bytes in a file, or in all files of a folder; -1 where there is nothing, or a link or the like."""
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            return found.st_size
        return _folder_bytes(path) if stat.S_ISDIR(found.st_mode) else -1
    except (FileNotFoundError, NotADirectoryError):
        return -1


def require_plain_files(folder: Path) -> None:
    """Raise ValueError where something in a folder is neither file nor folder: a pipe would be waited on for ever."""
    if size_bytes(folder) < 0:
        raise ValueError("missing, or it holds a link, a pipe or the like")


def _folder_bytes(path: Path | str) -> int:
    total = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                size = _folder_bytes(entry.path)
            else:
                size = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else -1
            if size < 0:
                return -1
            total += size
    return total
