"""What can go wrong, as one tree; each branch has an exit code.

PlexrankError                 1
├── StudyError               64   study, samplesheet or panel say something wrong
├── ImageDataError           65   an image can be found but not used
├── MissingInputError        66   a file that is named does not exist
├── RunDirError               1   a run directory, store or checkpoint is torn or foreign
├── ReadFailedError           1   memory, the disk, the network or permissions failed while a file was read
└── StoppedEarly             75   stopped on request; the same command goes on

A message names the file, the row or key, what was found, what was expected, and the remedy.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

_OF_THE_MACHINE = """
    EIO EAGAIN EBUSY EINTR EMFILE ENFILE ENODEV ENOMEM ENOBUFS ENOLCK EUCLEAN
    ECOMM EPROTO EREMCHG ETIME
    ESTALE EREMOTEIO ENOLINK ENOTCONN ESHUTDOWN ECONNABORTED ECONNREFUSED ECONNRESET
    ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETDOWN ENETRESET ENETUNREACH
    EACCES EPERM EKEYEXPIRED EKEYREVOKED EKEYREJECTED ENOKEY
"""
_PASSING = frozenset(getattr(errno, name) for name in _OF_THE_MACHINE.split() if hasattr(errno, name))
"""What a disk, a network or a ticket that has expired says; not every system has all."""


class PlexrankError(Exception):
    """Base of all errors that a user can fix; ``str()`` is the whole message."""

    exit_code = 1


class StudyError(PlexrankError):
    """The study, its samplesheet or its panel is wrong."""

    exit_code = 64


class ImageDataError(PlexrankError):
    """An image was found but cannot be used."""

    exit_code = 65


class MissingInputError(PlexrankError):
    """A file that the study names does not exist."""

    exit_code = 66


class RunDirError(PlexrankError):
    """A run directory, a store or a checkpoint in it is torn or belongs to something else."""


class ReadFailedError(PlexrankError):
    """A file could not be read now, of which nothing is to be concluded about the file: it may be whole."""


class StoppedEarly(PlexrankError):
    """The work was stopped on request and goes on with the same command."""

    exit_code = 75


class Problems(PlexrankError):
    """Several problems at once, each a :class:`PlexrankError`.

    The exit code is that of the gravest kind, in the order study, missing input, image data.
    """

    def __init__(self, problems: Sequence[PlexrankError]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The lowest exit code among 64, 66 and 65 that occurs, otherwise that of the first problem."""
        codes = [problem.exit_code for problem in self.problems]
        for code in (StudyError.exit_code, MissingInputError.exit_code, ImageDataError.exit_code):
            if code in codes:
                return code
        return codes[0] if codes else PlexrankError.exit_code


def raise_problems(problems: Sequence[PlexrankError]) -> None:
    """Raise nothing for no problem, the problem itself for one, :class:`Problems` for several."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise Problems(problems)


def problems_of(error: PlexrankError) -> list[PlexrankError]:
    """The single problems behind an error: its parts where it is :class:`Problems`, otherwise itself."""
    return list(error.problems) if isinstance(error, Problems) else [error]


@contextlib.contextmanager
def naming_input(where: str) -> Iterator[None]:
    """Turn what the system says of an input file into an error that begins with ``where``.

    Raises:
        StudyError: no path can be like that (too long, a circle of links).
        MissingInputError: the file is not there, or cannot be read.
        ReadFailedError: as by :func:`refuse_passing`.
    """
    try:
        yield
    except OSError as error:
        refuse_passing(error, where)
        reason = error.strerror or str(error)
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise StudyError(f"{where}: not a usable path ({reason}); correct it") from error
        raise MissingInputError(f"{where}: cannot be read ({reason}); fix the path or its permissions") from error


@contextlib.contextmanager
def naming_damage(where: str, remedy: str, kind: type[PlexrankError]) -> Iterator[None]:
    """The one guard around opening and reading a file: what a library raises becomes an error of ours.

    Libraries that decode files raise nearly every kind of exception for damaged ones, by where the damage is
    (assertions, token errors, running out of memory for announced sizes); so all of them are taken here, and only here.

    Args:
        where: the file, and what of it is being read.
        remedy: what to do about it.
        kind: what is raised.

    Raises:
        PlexrankError: of ``kind``; one of our own passes as it is.
        ReadFailedError: as by :func:`refuse_passing`.
    """
    try:
        yield
    except PlexrankError:
        raise
    except Exception as error:
        first = _first(error)
        if isinstance(first, PlexrankError):
            raise first from error
        refuse_passing(first, where)
        raise kind(f"{where} ({one_line(first)}); {remedy}") from error


def _first(error: Exception) -> Exception:
    """The first of errors that were raised together, as by tasks of asyncio."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def refuse_passing(error: Exception, where: str) -> None:
    """Tell apart what says nothing of the file that was read.

    Raises:
        ReadFailedError: memory, the disk, the network or permissions failed, or the error was made of such a one.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:  # they may name each other
        seen.append(cause)
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in _PASSING):
            raise ReadFailedError(
                f"{where}: could not be read now ({one_line(cause)}); run the same command again, and if that does not "
                "help, see to the permissions, the disk or the memory"
            ) from error
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks and cut to what a message can quote; its kind where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def resolve_input(path: Path, where: str) -> Path:
    """The absolute path of an input, links followed.

    Raises:
        StudyError: no path can be like that, or its name is not UTF-8, which tables and reports could not hold.
        MissingInputError: a folder on the way cannot be read.
    """
    try:
        with naming_input(where):
            resolved = path.resolve()
            _require_no_circle(resolved)
    except (RuntimeError, ValueError) as error:  # a circle of links before Python 3.13; a NUL
        raise StudyError(f"{where}: not a usable path ({error}); correct it") from error
    require_utf8(resolved, where)
    return resolved


def _require_no_circle(path: Path) -> None:
    """Raise OSError where links lead in a circle, which ``Path.resolve`` passes over since Python 3.13."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise


def require_utf8(path: Path, where: str) -> None:
    """Raise :class:`StudyError` for a path that no table and no report could hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise StudyError(f"{where}: {shown} has a name that is not UTF-8; rename that file or folder") from error
