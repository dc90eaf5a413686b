"""Files are found below the root, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from plexrank.cohorts.root import Root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for file in (root / "own.tif", root / "slide.mcd", root / "folder" / "own.tif", tmp_path / "outside" / "other.tif"):
        file.touch()
    (root / "link.tif").symlink_to(tmp_path / "outside" / "other.tif")
    (root / "link.mcd").symlink_to(tmp_path / "outside" / "other.tif")
    (root / "alias.tif").symlink_to(root / "own.tif")
    (root / "way").symlink_to(tmp_path / "outside")
    (root / "circle").symlink_to(root / "circle")
    return root


@pytest.mark.parametrize(
    ("spelling", "lies"),
    [
        ("own.tif", "own.tif"),
        ("folder/own.tif", "folder/own.tif"),
        ("folder/../own.tif", "own.tif"),
        ("alias.tif", "own.tif"),
        ("nowhere/../alias.tif", "own.tif"),
        ("own.tif/../alias.tif", "own.tif"),
        ("slide.mcd#3", "slide.mcd#3"),
        ("folder/../slide.mcd#3", "slide.mcd#3"),
    ],
)
def test_aliases_of_a_file_are_that_file(root: Path, spelling: str, lies: str) -> None:
    for _ in range(2):
        assert Root(root).find(spelling, "path", "line 2", need_image=False) == (root / lies, None)


@pytest.mark.parametrize(
    "spelling",
    [
        *("link.tif", "way/other.tif", "../outside/other.tif", "nowhere/../link.tif", "own.tif/../link.tif"),
        *("folder/../link.tif", "link.mcd#3", "nowhere/../link.mcd#3", "way/../outside/other.tif"),
    ],
)
def test_no_link_leads_out_of_the_root(root: Path, spelling: str) -> None:
    found = Root(root)
    found.find("own.tif", "path", "line 1", need_image=True)
    error = found.find(spelling, "path", "line 2", need_image=True)[1]
    assert error is not None
    assert "outside" in str(error)


@pytest.mark.parametrize("spelling", ["circle/own.tif", "a\0b", "n" * 300, "circle/../../outside/other.tif"])
def test_no_path_is_an_error_that_names_the_line(root: Path, spelling: str) -> None:
    error = Root(root).find(spelling, "path", "line 2", need_image=True)[1]
    assert error is not None
    assert str(error).startswith("line 2") or str(root) in str(error)
