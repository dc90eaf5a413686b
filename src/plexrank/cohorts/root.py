"""The folder in which the images of a cohort lie, and out of which no path and no link leads."""

from __future__ import annotations

from pathlib import Path

from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input, resolve_input
from plexrank.images.image_path import backslash_hint, join_image_path, split_image_path


class Root:
    """Finds files below a folder; the folders on the way are resolved once.

    Args:
        path: where the paths of a samplesheet start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._resolved = path.resolve()
        self._folders: dict[Path, Path] = {}

    def find(self, spelling: str, column: str, where: str, need_image: bool) -> tuple[Path, PlexrankError | None]:
        """Where an image or its mask lies, and why it cannot be used.

        Links are followed, so that none leads out of the root unseen.

        Args:
            spelling: as the samplesheet has it, in ``column``, on the line that ``where`` names.
            need_image: it is to exist.
        """
        place = f"{where}: {column} {shorten(spelling)}"
        path = self.path / spelling
        try:
            with naming_input(place):
                file, acquisition = split_image_path(path)
                target = self._resolve(file, place)
                path = join_image_path(target, acquisition)
                if not target.is_relative_to(self._resolved):
                    raise StudyError(f"{where}: {path}: {_why_outside(self.path, file, target)}")
                if need_image and not target.exists():
                    what, other = ("mask", "empty the cell") if column == "mask" else ("image", "leave the row out")
                    hint = backslash_hint(spelling) or f"; fix the path or {other}"
                    raise MissingInputError(f"{where}: {target}: no such {what}{hint}")
        except PlexrankError as error:
            return path, error
        return path, None

    def _resolve(self, file: Path, place: str) -> Path:
        if ".." in file.parts or not file.name or "\0" in file.name:
            return resolve_input(file, place)
        if file.parent not in self._folders:
            self._folders[file.parent] = resolve_input(file.parent, place)
        target = self._folders[file.parent] / file.name
        return resolve_input(target, place) if target.is_symlink() else target


def _why_outside(root: Path, file: Path, target: Path) -> str:
    """That a file lies outside the root, by which link, and a root that holds it; the same words for a whole folder.

    Args:
        root: where the paths start.
        file: as the samplesheet has it, below the root or absolute.
        target: where that leads.
    """
    below = [part for part in (*reversed(file.parents), file) if part.is_relative_to(root) and part != root]
    link = next((part for part in below if not resolve_input(part, str(part)).is_relative_to(root.resolve())), file)
    why, home = "", target.parent
    if link == file and link.is_symlink():
        why = f", since it is a link into {home}"
    elif link.is_symlink():
        home = link.resolve()
        why = f", since {link} is a link to {home}"
    change = ""
    if file.is_relative_to(root):
        spelled = file.relative_to(root).parts
        if target.parts[-len(spelled) :] == spelled:
            home = target.parents[len(spelled) - 1]
        else:
            change = ", and begin the paths there"
    if not target.exists():
        why += ", where nothing lies"
    return (
        f"outside {root}{why}; set cohort.root to a folder that holds all images and masks, as {home} does this{change}"
        f", or move the files below {root}"
    )


def shorten(spelling: str) -> str:
    """A path as messages quote it."""
    return repr(spelling if len(spelling) <= 80 else f"{spelling[:77]}…")
