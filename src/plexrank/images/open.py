"""Opens an image of any format that plexrank reads."""

from __future__ import annotations

from pathlib import Path

from plexrank.errors import ImageDataError, MissingInputError
from plexrank.images.lazy import LazyImage
from plexrank.images.ome_tiff import open_tiff

_TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")


def open_image(path: Path) -> LazyImage:
    """Open an OME-TIFF or a plain TIFF stack with one page a channel.

    Raises:
        MissingInputError: there is no such file.
        ImageDataError: it is of another format, damaged, or no stack of channels.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such image; mend the path in the samplesheet")
    if not path.is_file():
        raise ImageDataError(f"{path}: a folder, not an image file; give an OME-TIFF or a TIFF stack")
    if not path.name.lower().endswith(_TIFF_SUFFIXES):
        raise ImageDataError(
            f"{path}: not a format that is read ({', '.join(_TIFF_SUFFIXES)}); convert it to OME-TIFF, for example"
            " with bioformats2raw and raw2ometiff"
        )
    return open_tiff(path)
