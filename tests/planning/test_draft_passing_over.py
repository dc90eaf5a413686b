"""`plexrank init` where a folder holds what is no file, cannot be read, or has a name that no table can hold."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from image_files import noise, write_ome
from plexrank.errors import ImageDataError, MissingInputError, StudyError
from plexrank.images.find import find_images
from plexrank.images.open import open_image
from plexrank.planning.draft import draft_study


def passed_over(folder: Path) -> list[str]:
    found = find_images(folder)
    assert [image.name for image in found.images] == ["a"]
    return [one.replace(f"{folder}/", "") for one in found.passed_over]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    write_ome(tmp_path / "images" / "a.ome.tiff", noise())
    return tmp_path / "images"


def test_pipes_and_sockets_are_counted_and_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.tif")
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert passed_over(folder) == ["skipped 3 special files (a pipe, socket or device), such as pipe"]
        with pytest.raises(ImageDataError, match=r"pipe\.tif: neither a file nor a folder"):
            open_image(folder / "pipe.tif")


def test_what_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    (folder / "note.txt").write_text("note")
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name not in ("closed", "note.txt") and may(path, mode)
    )
    told = "cannot be read (no permission); if it is an image, allow yourself to read it"
    assert passed_over(folder) == [f"closed: {told}", f"note.txt: {told}"]


def test_links_in_a_circle_and_out_of_the_folder_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "loop.tif").symlink_to("loop.tif")
    (folder / "gone.tif").symlink_to("nowhere.tif")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (tmp_path / "other").mkdir()
    write_ome(tmp_path / "other" / "b.tif", noise())
    (folder / "b.tif").symlink_to(tmp_path / "other" / "b.tif")
    (folder / "other").symlink_to(tmp_path / "other", target_is_directory=True)
    out, gone, loop, folder_out = passed_over(folder)
    assert out == f"b.tif: a link that leads out of {folder}; copy the image there"
    assert gone.startswith("gone.tif: no such image")
    assert loop.startswith("loop.tif: not a usable path")
    assert folder_out == f"other: a link to {tmp_path / 'other'}; give that folder by --images"


def test_folders_without_end_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEXRANK_MAX_NESTING", "5")  # OME-XML has four levels itself
    deep = folder / "1" / "2" / "3" / "4" / "5" / "6"
    deep.mkdir(parents=True)
    assert passed_over(folder)[0].startswith("1/2/3/4/5/6: 6 levels of nesting, more than the limit of 5")


def test_names_that_are_not_utf8_are_passed_over(folder: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"b\xff.ome.tiff")
    write_ome(folder / odd, noise())
    assert passed_over(folder) == [
        "passed over: b\\udcff.ome.tiff has a name that is not UTF-8; rename that file or folder"
    ]
    folder.rename(tmp_path / odd)
    with pytest.raises(StudyError, match="is not UTF-8"):
        draft_study(tmp_path / odd, tmp_path / "out")
    (tmp_path / "fine").mkdir()
    with pytest.raises(StudyError, match=r"--out .* is not UTF-8"):
        draft_study(tmp_path / "fine", tmp_path / odd / "out")


def test_nothing_left_is_refused_with_what_was_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingInputError, match="no image that can be read is in it\nskipped 1 special file"):
        draft_study(tmp_path, tmp_path / "out")
