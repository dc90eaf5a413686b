"""Writes that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ASIDE = ".found-"
"""Between the name of a file and a random one, where a folder stood in the place of the file."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` and, if the block ends well, put it in the place of ``path``.

    Works for files and for folders. What is in the way is replaced, a link itself and not what it leads to. A folder in
    the way of a file is moved aside; so is one in the way of a folder, where the two have no entry in common. After a
    failure nothing is left behind.

    Raises:
        OSError: of the block or the disk; ``path`` is its file where it names none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _sync(written)
        if temporary.is_dir() and _may_be_ours(path, temporary):
            _remove(path)
        else:
            _move_folder_aside(path)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    finally:
        _remove(temporary)


def make_way(path: Path) -> None:
    """Leave nothing where a file of ours belongs; a folder there, which is not ours, is moved aside."""
    _move_folder_aside(path)
    path.unlink(missing_ok=True)


def _may_be_ours(path: Path, new: Path) -> bool:
    """Whether what is in the way of a folder is no folder, an empty one, or one with entries of the new one."""
    if path.is_symlink() or not path.is_dir():
        return True
    names = {entry.name for entry in path.iterdir()}
    return not names or bool(names & {entry.name for entry in new.iterdir()})


def _move_folder_aside(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}{ASIDE}{secrets.token_hex(4)}"))


def clear_leftovers(paths: Iterable[Path]) -> None:
    """Remove what killed attempts to replace these paths left; nobody else may be writing them.

    Every folder is listed once, however many of the paths lie in it.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        for leftover in _temporaries(folder):
            if name_replaced(leftover) in own:
                _remove(folder / leftover)


def name_replaced(name: str) -> str | None:
    """Whether a name is one that :func:`replacing` gives: the name that it stands for, or ``None``."""
    match = _TEMPORARY.fullmatch(name)
    return match["name"] if match else None


def _temporaries(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_text(path: Path) -> str:
    """The text of a file; OSError where something else stands there, since a pipe would be waited on for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "no file", str(path))
    return path.read_text(encoding="utf-8")


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path, tries: int = 50) -> None:
    """Remove a file or folder; after a stop, threads may still be writing into it for a moment."""
    if path.is_symlink() or not path.is_dir():  # what a link leads to is not ours to remove
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or tries == 1:
            raise OSError(error.errno, error.strerror, str(path)) from error  # rmtree's names a part of it alone
        time.sleep(0.1)
        _remove(path, tries - 1)
