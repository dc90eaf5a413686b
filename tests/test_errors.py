"""Which errors say something of the file that was read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from plexrank.errors import ImageDataError, ReadFailedError, StudyError, naming_damage, resolve_input

STALE = OSError(errno.ESTALE, "Stale file handle")


def raised(error: Exception, cause: Exception | None = None) -> None:
    if cause is None:
        raise error
    raise error from cause


def in_a_handler() -> None:
    try:
        raise STALE
    except OSError:
        raise ValueError("no TIFF")  # noqa: B904 - as libraries do


def in_a_group() -> None:
    raise ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("", [STALE]), ValueError()])


def in_a_circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__ = second
    raise second from first


@pytest.mark.parametrize(
    "fail",
    [
        lambda: raised(STALE),
        lambda: raised(ValueError(), STALE),
        lambda: raised(MemoryError()),
        in_a_handler,
        in_a_group,
    ],
)
def test_what_says_nothing_of_the_file(fail: Callable[[], None]) -> None:
    with (
        pytest.raises(ReadFailedError, match="a: could not be read now"),
        naming_damage("a", "copy it", ImageDataError),
    ):
        fail()


@pytest.mark.parametrize("fail", [lambda: raised(OSError(errno.EINVAL, "no file")), in_a_circle])
def test_what_is_damage(fail: Callable[[], None]) -> None:
    with pytest.raises(ImageDataError, match="; copy it"), naming_damage("a", "copy it", ImageDataError):
        fail()


def test_circles_of_links_are_named_on_every_python(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("there")
    (tmp_path / "there").symlink_to("here")
    for path in (tmp_path / "here", tmp_path / "there" / "a.tif"):
        with pytest.raises(StudyError, match=r"row 2: not a usable path \(.*; correct it"):
            resolve_input(path, "row 2")
    (tmp_path / "gone").symlink_to("nowhere")
    assert resolve_input(tmp_path / "gone", "row 2") == tmp_path / "nowhere"
