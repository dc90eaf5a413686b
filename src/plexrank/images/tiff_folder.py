"""A folder with one TIFF a channel, as MIBI pipelines write it: ``fov8/TIFs/CD3.tif`` or ``fov8/CD3.tif``."""

from __future__ import annotations

from pathlib import Path

import dask.array as da

from plexrank.errors import ImageDataError
from plexrank.images.lazy import LazyImage
from plexrank.images.tiff import open_tiff, why_no_tiff

_SUFFIXES = (".tif", ".tiff")
_INNER = "tifs"


def why_no_tiff_folder(path: Path) -> str | None:
    """Why this is no folder of single-channel TIFFs, or None."""
    if not path.is_dir():
        return "a file, not a folder"
    files = _channel_files(path)
    if not files:
        return "holds no .tif or .tiff, nor does a folder TIFs in it"
    for file in files:
        if why_no_tiff(file) is None:
            try:
                num_channels = open_tiff(file).data.shape[0]
            except ImageDataError:
                continue
            if num_channels > 1:
                return f"{file.name} holds {num_channels} channels by itself; name the files in it one by one"
    return None


def open_tiff_folder(path: Path) -> LazyImage:
    """Open a folder; channels are the files in the order of their names, and are called as they without suffix.

    Raises:
        ImageDataError: a file is damaged, lies outside the folder, or differs from the first in size or type.
    """
    files = _channel_files(path)
    images = []
    for file in files:
        if not file.resolve().is_relative_to(path.resolve()):
            raise ImageDataError(f"{file}: a link that leads out of {path}; copy the file there")
        images.append(open_tiff(file))
        first, data = images[0].data, images[-1].data
        if data.shape != first.shape or data.dtype != first.dtype:
            raise ImageDataError(
                f"{path}: {file.name} is {_describe(data)}, but {files[0].name} is {_describe(first)};"
                " the channels of an image must agree in size and type"
            )
    data = da.concatenate([image.data for image in images])  # type: ignore[no-untyped-call]
    return LazyImage(data, tuple(_stem(file) for file in files), images[0].pixel_size_um)


def _channel_files(path: Path) -> list[Path]:
    """TIFFs of the folder, or of TIFs in it; hidden files (such as macOS's ``._CD3.tif``) do not count."""
    inner = [part for part in sorted(path.iterdir()) if part.is_dir() and part.name.lower() == _INNER]
    files = [
        file
        for file in (inner[0] if inner else path).iterdir()
        if file.name.lower().endswith(_SUFFIXES) and not file.name.startswith(".") and file.is_file()
    ]
    return sorted(files, key=lambda file: (file.name.casefold(), file.name))


def _stem(file: Path) -> str:
    stem = file.name[: file.name.rindex(".")]
    return stem.removesuffix(".ome").strip() or stem


def _describe(data: da.Array) -> str:
    num_channels, height, width = data.shape
    return f"{num_channels} × {height} × {width} px {data.dtype}"
