"""Opens an image of any format that plexrank reads; what a file holds decides, not only what it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from plexrank.errors import ImageDataError, MissingInputError
from plexrank.images.image_path import split_image_path
from plexrank.images.imc_mcd import open_mcd, why_no_mcd
from plexrank.images.imc_txt import open_txt, why_no_txt
from plexrank.images.lazy import LazyImage
from plexrank.images.ome_zarr import open_ome_zarr, why_no_ome_zarr
from plexrank.images.tiff import open_tiff, why_no_tiff
from plexrank.images.tiff_folder import open_tiff_folder, why_no_tiff_folder


class Reader(NamedTuple):
    """One format: ``why_not`` gives the reason for declining a path, or None; ``open`` reads what it does not decline.

    ``open`` takes the file and the acquisition that the path names, if any.
    """

    name: str
    why_not: Callable[[Path], str | None]
    open: Callable[[Path, int | None], LazyImage]


def _whole(open_file: Callable[[Path], LazyImage]) -> Callable[[Path, int | None], LazyImage]:
    """A reader's ``open`` for a format whose files are one image each."""

    def open_whole(file: Path, acquisition: int | None) -> LazyImage:
        if acquisition is not None:
            raise ImageDataError(f"{file}#{acquisition}: only .mcd files have acquisitions; leave out #{acquisition}")
        return open_file(file)

    return open_whole


READERS = (
    Reader("TIFF", why_no_tiff, _whole(open_tiff)),
    Reader("IMC .mcd", why_no_mcd, open_mcd),
    Reader("IMC .txt", why_no_txt, _whole(open_txt)),
    Reader("OME-Zarr", why_no_ome_zarr, _whole(open_ome_zarr)),
    Reader("folder of TIFFs", why_no_tiff_folder, _whole(open_tiff_folder)),
)


def open_image(path: Path) -> LazyImage:
    """Open an image.

    Args:
        path: a file or a folder, or ``file.mcd#3`` for acquisition 3 of a file.

    Raises:
        MissingInputError: there is no such file or folder.
        ImageDataError: no reader takes it, or it is damaged, or it is no stack of channels.
    """
    file, acquisition = split_image_path(path)
    image = find_reader(file).open(file, acquisition)
    num_planes, height, width = image.pixels.shape
    if image.channel_names is None and num_planes > width and height > width:
        raise ImageDataError(
            f"{path}: {num_planes} planes of {height} × {width} pixels, as if the channels were last; write it "
            "with the channels first, such as pixels.transpose(2, 0, 1) with axes CYX, or name its channels in the file"
        )
    return image


def find_reader(file: Path) -> Reader:
    """The reader that takes a file or folder.

    Raises:
        MissingInputError: there is no such file or folder.
        ImageDataError: none takes it, with the reason of each.
    """
    if not file.exists():
        raise MissingInputError(f"{file}: no such image; fix the path in the samplesheet")
    if not file.is_file() and not file.is_dir():
        raise ImageDataError(f"{file}: neither a file nor a folder (a pipe, socket or device); give the image's file")
    if file.is_file() and file.stat().st_size == 0:
        raise ImageDataError(f"{file}: empty file (0 bytes); copy or export the file again")
    reasons = []
    for reader in READERS:
        reason = reader.why_not(file)
        if reason is None:
            return reader
        reasons.append(f"{reader.name} ({reason})")
    raise ImageDataError(
        f"{file}: no reader can open it: {'; '.join(reasons)}. Convert it to OME-TIFF, for example with bioformats2raw"
        " and raw2ometiff"
    )
