"""Finds the images in a folder: files of any format, folders that are one image, and the acquisitions of ``.mcd``."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plexrank.errors import ImageDataError, PlexrankError, naming_input, require_utf8, resolve_input
from plexrank.images.channel_names import say_only_places
from plexrank.images.image_path import join_image_path
from plexrank.images.imc_mcd import list_acquisitions, why_no_mcd
from plexrank.images.ome_zarr import why_no_ome_zarr
from plexrank.images.open import find_reader, open_image
from plexrank.images.rounds import rounds_of_one
from plexrank.images.tiff_folder import round_folders, why_no_tiff_folder
from plexrank.limits import NESTING
from plexrank.wording import counted

_IMAGE_ENDING = re.compile(r"(\.ome)?\.(tiff?|btf|tf8|qptiff|mcd|zarr(\.zip)?|ozx)", re.IGNORECASE)
_ENDING = re.compile(rf"{_IMAGE_ENDING.pattern}$|\.txt$", re.IGNORECASE)
_IMCTOOLS_NAME = re.compile(r"(?P<slide>.+)_s[0-9]+_a(?P<acquisition>[0-9]+)_ac")
_NO_IMAGES = re.compile(
    r"masks?|labels?|segmentations?|(cell|nuclei|nuclear)_?masks?|deepcell(_output)?", re.IGNORECASE
)
_MCMICRO_IMAGES = ("dearray", "background", "registration")  # the last step first
_MCMICRO_STEPS = frozenset({"raw", "illumination", "probability-maps", "segmentation", "quantification", "qc"})
_INNER_FOLDER = "tifs"
_COMPARED_PX = 64
_RUN_FILES = ("study.yaml", "provenance.json")


@dataclass(frozen=True)
class FoundImage:
    """An image that opens.

    Attributes:
        path: as :func:`~plexrank.images.open.open_image` takes it.
        name: that of its file without ending; ``slide_003`` for acquisition 3 of ``slide.mcd``, as steinbock has it.
        other_names: what the same image is called where the instrument or imctools export it.
        reader: the format.
        shape: (c, y, x).
        channel_names, channel_ids: as :class:`~plexrank.images.lazy.LazyImage` has them.
    """

    path: Path
    name: str
    other_names: frozenset[str]
    reader: str
    shape: tuple[int, int, int]
    channel_names: tuple[str, ...] | None
    channel_ids: tuple[str, ...] | None

    @property
    def names_channels(self) -> bool:
        """Whether its file says more of its channels than their places."""
        return self.channel_names is not None and not (self.channel_ids is None and say_only_places(self.channel_names))

    @property
    def names_and_ids(self) -> frozenset[tuple[str, str]]:
        """Which id each name has."""
        return frozenset(zip(self.channel_names or (), self.channel_ids or (), strict=False))


@dataclass(frozen=True)
class FoundImages:
    """What a folder holds: images in the order of their paths, and what was passed over, each with the reason."""

    images: tuple[FoundImage, ...]
    passed_over: tuple[str, ...]


def find_images(root: Path) -> FoundImages:
    """Look through a folder and those below it; hidden ones, masks and run directories do not count.

    Files of other kinds (tables, notes) are passed over in silence, files that are called like images are not, nor what
    cannot be read. Pipes, sockets and devices are counted and never opened.

    Raises:
        StudyError: the folder itself cannot be named or read.
    """
    images: list[FoundImage] = []
    passed_over: list[str] = []
    special: list[Path] = []
    with naming_input(str(root)):
        is_one_image = _is_one_image(root)
    for file in [root] if is_one_image else _walk(root, passed_over, special):
        try:
            with naming_input(str(file)):
                spellings = list(_spellings(root, file))
        except PlexrankError as error:
            if _IMAGE_ENDING.search(file.name):
                passed_over.append(str(error))
            continue
        for path, name, other_names in spellings:
            try:
                with naming_input(str(path)):
                    image = open_image(path)
            except PlexrankError as error:
                passed_over.append(str(error))
                continue
            reader = find_reader(file).name
            shape = (image.data.shape[0], image.data.shape[1], image.data.shape[2])
            images.append(FoundImage(path, name, other_names, reader, shape, image.channel_names, image.channel_ids))
    if special:
        passed_over.append(
            f"skipped {counted(len(special), 'special file')} (a pipe, socket or device), such as {special[0]}"
        )
    return FoundImages(tuple(images), tuple(passed_over))


def show_the_same(first: Path, second: Path) -> bool:
    """Whether two images are copies of one, perhaps rounded or with hot pixels taken out.

    They are of one size, and of the pixels in their middle that are not 0 in both, more than half are equal to 0.001.
    """
    try:
        one, other = open_image(first).data, open_image(second).data
        if one.shape != other.shape:
            return False
        middle = tuple(slice(max(0, side // 2 - _COMPARED_PX), side // 2 + _COMPARED_PX) for side in one.shape[1:])
        pixels, others = (data[(slice(None), *middle)].compute().astype(np.float64) for data in (one, other))
    except PlexrankError:
        return False
    signal = (pixels != 0) | (others != 0)
    return bool(np.isclose(pixels, others, rtol=1e-5, atol=1e-3)[signal].mean() > 0.5) if signal.any() else True


def _walk(folder: Path, passed_over: list[str], special: list[Path], depth: int = 0) -> Iterator[Path]:
    """Files and folders that may be images, in the order of their paths; what cannot be opened is passed over."""
    try:
        with naming_input(str(folder)):
            NESTING.require(depth, str(folder), ImageDataError)
            below = sorted(part for part in folder.iterdir() if not part.name.startswith("."))
            parts = [part for part in below if _can_be_opened(part, passed_over, special)]
            not_final = {**_unjoined_rounds(parts), **_steps_of_mcmicro(parts)}
    except PlexrankError as error:
        passed_over.append(str(error))
        return
    for part in parts:
        if part in not_final:
            passed_over.append(not_final[part])
        elif not part.is_dir():
            yield part
        elif _NO_IMAGES.fullmatch(part.name):
            passed_over.append(f"{part}: taken for masks by its name")
        elif _is_one_image(part):
            yield part
        elif part.is_symlink():
            if not part.resolve().is_relative_to(folder.resolve()):
                passed_over.append(f"{part}: a link to {part.resolve()}; give that folder by --images")
        elif not all((part / name).is_file() for name in _RUN_FILES):
            yield from _walk(part, passed_over, special, depth + 1)


def _can_be_opened(part: Path, passed_over: list[str], special: list[Path]) -> bool:
    """Whether a name may be looked into; if not, it is passed over, or counted where opening it might wait for ever."""
    try:
        require_utf8(part, "passed over")
        mode = part.stat().st_mode
    except PlexrankError as error:
        passed_over.append(str(error))
        return False
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link that leads nowhere, of which the readers tell
            return True
        passed_over.append(f"{part}: cannot be read ({error.strerror})")
        return False
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        special.append(part)
        return False
    if not os.access(part, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        passed_over.append(f"{part}: cannot be read (no permission); if it is an image, allow yourself to read it")
        return False
    return True


def _unjoined_rounds(parts: Sequence[Path]) -> dict[Path, str]:
    """Files or folders that are staining rounds of an image: why they are no images of their own."""
    files = {part.name: part for part in parts if _IMAGE_ENDING.search(part.name) or part.is_dir()}
    return {
        files[
            name
        ]: f"{files[name]}: one of {len(group)} staining rounds of an image ({group[0]} to {group[-1]}); register"
        " and join them, for example with MCMICRO, and draft from the images that come of it"
        for group in rounds_of_one(list(files))
        for name in group
    }


def _steps_of_mcmicro(parts: Sequence[Path]) -> dict[Path, str]:
    """Folders of an MCMICRO project beside that of its last images."""
    folders = {part.name.lower(): part for part in parts if part.is_dir()}
    final = next((folders[name] for name in _MCMICRO_IMAGES if name in folders and any(folders[name].iterdir())), None)
    if final is None or not folders.keys() & _MCMICRO_STEPS:
        return {}
    return {
        part: f"{part}: a step of MCMICRO, whose images are those in {final.name}"
        for name, part in folders.items()
        if name in _MCMICRO_STEPS.union(_MCMICRO_IMAGES) and part != final
    }


def _is_one_image(folder: Path) -> bool:
    """An OME-Zarr; or single-channel TIFFs: in a folder TIFs, in rounds, or two or more without folders beside them."""
    if why_no_ome_zarr(folder) is None:
        return True
    if round_folders(folder):
        return why_no_tiff_folder(folder) is None
    parts = [part for part in folder.iterdir() if not part.name.startswith(".")]
    folders = [part for part in parts if part.is_dir() and not _NO_IMAGES.fullmatch(part.name)]
    if any(part.name.lower() == _INNER_FOLDER for part in folders):
        return why_no_tiff_folder(folder) is None
    return not folders and len(parts) > 1 and why_no_tiff_folder(folder) is None


def _spellings(root: Path, file: Path) -> Iterator[tuple[Path, str, frozenset[str]]]:
    """Path, name and other names of every image in a file."""
    if not resolve_input(file, str(file)).is_relative_to(root.resolve()):
        raise ImageDataError(f"{file}: a link that leads out of {root}; copy the image there")
    find_reader(file)
    stem = _ENDING.sub("", file.name)
    if why_no_mcd(file) is not None:
        match = _IMCTOOLS_NAME.fullmatch(stem)
        yield file, stem, frozenset({f"{match['slide']}_{int(match['acquisition']):03d}"} if match else ())
        return
    for part in list_acquisitions(file):
        names = frozenset({f"{stem}_{part.description}_{part.number}"})
        yield join_image_path(file, part.number), f"{stem}_{part.number:03d}", names
