"""OME-Zarr (NGFF) 0.4 and 0.5: the full resolution of an image group.

https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError
from plexrank.images.lazy import CHUNK_PX, DAMAGE, REMEDY, ImagePixels, LazyImage, named, one_line
from plexrank.images.zarr_metadata import check_array, read_json

if TYPE_CHECKING:
    import zarr

_VERSIONS = ("0.4", "0.5")
_UM_PER_UNIT = {
    "angstrom": 1e-4,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_SEVERAL = {
    "plate": "a plate of several images; name one field in it, such as {path}/A/1/0",
    "well": "a well of several images; name one field in it, such as {path}/0",
}
_DROPPED = {"t": "time points", "z": "focal planes"}


@dataclass(frozen=True)
class _ZarrPixels:
    """``axes`` are those of the array, ``order`` where c (or None), y and x stand in it; the others have length 1."""

    array: zarr.Array[Any]
    order: tuple[int | None, int, int]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        c, y, x = self.order
        return 1 if c is None else self.array.shape[c], self.array.shape[y], self.array.shape[x]

    @property
    def chunks(self) -> tuple[int, int, int]:
        c, y, x = self.order
        stored = self.array.chunks
        height, width = (stored[axis] * max(1, CHUNK_PX // stored[axis]) for axis in (y, x))
        num_channels, *sides = self.shape
        return 1 if c is None else min(stored[c], num_channels), min(height, sides[0]), min(width, sides[1])

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        c, y, x = self.order
        selection: list[slice | int] = [0] * self.array.ndim
        for axis, part in zip(self.order, key, strict=True):
            if axis is not None:
                selection[axis] = part
        pixels = np.asarray(self.array[tuple(selection)])
        if c is None:
            return (pixels if y < x else pixels.T)[np.newaxis][key[0]].astype(self.dtype)
        ranks = sorted((c, y, x))
        return pixels.transpose([ranks.index(axis) for axis in (c, y, x)]).astype(self.dtype)


def why_no_ome_zarr(path: Path) -> str | None:
    """Why this is no zarr group, or None."""
    if not path.is_dir():
        return "a file, not a folder"
    if any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray")):
        return None
    return "holds neither zarr.json nor .zgroup"


def open_ome_zarr(path: Path) -> LazyImage:
    """Open the full resolution of an OME-Zarr image.

    Raises:
        ImageDataError: the store is damaged or holds no pixels; holds several images, time points or focal planes;
            is of another version of the format; uses codecs that are not read.
    """
    try:
        group, attributes = _find_image(path)
        multiscale = attributes["multiscales"][0]
        pixels = _find_pixels(path, group, multiscale)
        labels = [str(channel.get("label") or "") for channel in attributes.get("omero", {}).get("channels", [])]
        size = _pixel_size_um(multiscale)
    except DAMAGE as error:
        raise ImageDataError(f"{path}: not readable as OME-Zarr ({one_line(error)}); {REMEDY}") from error
    if labels and len(labels) != pixels.shape[0]:
        raise ImageDataError(
            f"{path}: it describes {len(labels)} channels, its array holds {pixels.shape[0]}; {REMEDY}"
        )
    return LazyImage(ImagePixels(path, _open_pixels, pixels), named(labels), size)


def _open_pixels(path: Path) -> _ZarrPixels:
    group, attributes = _find_image(path)
    return _find_pixels(path, group, attributes["multiscales"][0])


def _find_image(path: Path) -> tuple[Path, dict[str, Any]]:
    """The image group of a store, and its OME attributes; bioformats2raw puts a single image into the group ``0``."""
    attributes = _attributes(path)
    if "bioformats2raw.layout" in attributes:
        images = sorted(part.name for part in path.iterdir() if part.is_dir() and part.name.isdecimal())
        if len(images) != 1:
            raise ImageDataError(f"{path}: holds {len(images)} images; name one of them, such as {path}/{images[0]}")
        path = path / images[0]
        attributes = _attributes(path)
    for key, what in _SEVERAL.items():
        if key in attributes:
            raise ImageDataError(f"{path}: {what.format(path=path)}")
    if not attributes.get("multiscales"):
        raise ImageDataError(f"{path}: a zarr store without an image (multiscales) in it; name the image's group")
    version = attributes.get("version") or attributes["multiscales"][0].get("version") or "0.4"
    if version not in _VERSIONS:
        raise ImageDataError(f"{path}: OME-Zarr of version {version}; versions {' and '.join(_VERSIONS)} are read")
    return path, attributes


def _attributes(group: Path) -> dict[str, Any]:
    if (group / "zarr.json").is_file():
        attributes: dict[str, Any] = read_json(group / "zarr.json").get("attributes", {})
        ome: dict[str, Any] = attributes.get("ome", {})
        return ome
    return read_json(group / ".zattrs") if (group / ".zattrs").is_file() else {}


def _find_pixels(path: Path, group: Path, multiscale: dict[str, Any]) -> _ZarrPixels:
    import zarr  # images of other formats do without
    from zarr.storage import LocalStore

    folder = group / multiscale["datasets"][0]["path"]
    if not folder.resolve().is_relative_to(path.resolve()):
        raise ImageDataError(f"{path}: its array lies outside of it ({folder}); copy the store as a whole")
    zarr_format = check_array(folder)
    array = zarr.open_array(LocalStore(folder, read_only=True), mode="r", zarr_format=zarr_format)
    names = [_axis(axis)[0] for axis in multiscale["axes"]]
    if not isinstance(array, zarr.Array) or len(names) != array.ndim or 0 in array.shape:
        raise ValueError(f"axes {names} of an array of shape {array.shape}")
    if not {"y", "x"} <= set(names):
        raise ValueError(f"axes {names}; expected channels, y and x")
    for name, side in zip(names, array.shape, strict=True):
        if name not in ("c", "y", "x") and side > 1:
            what = _DROPPED.get(name, f"planes along {name}")
            raise ImageDataError(f"{path}: holds {side} {what}; export one of them, or a projection")
    if not _holds_chunks(folder):
        raise ValueError("its array holds no chunk, every pixel is missing")
    order = (names.index("c") if "c" in names else None, names.index("y"), names.index("x"))
    return _ZarrPixels(array, order, np.dtype(array.dtype).newbyteorder("="))


def _holds_chunks(folder: Path) -> bool:
    """Zarr gives missing chunks as fill values: a store that lost all of them would read as an empty image."""
    return any(
        part.is_file() and not part.name.startswith(".z") and part.name != "zarr.json" for part in folder.rglob("*")
    )


def _axis(axis: Any) -> tuple[str, str | None]:
    """Name and unit of an axis; c for that of the type channel."""
    if axis.get("type") == "channel":
        return "c", None
    return str(axis["name"]), axis.get("unit")


def _pixel_size_um(multiscale: dict[str, Any]) -> tuple[float, float] | None:
    axes = [_axis(axis) for axis in multiscale["axes"]]
    scale = [1.0] * len(axes)
    transforms = [*multiscale["datasets"][0].get("coordinateTransformations", ())]
    for transform in [*transforms, *multiscale.get("coordinateTransformations", ())]:
        if transform["type"] == "scale":
            scale = [own * float(factor) for own, factor in zip(scale, transform["scale"], strict=True)]
    sizes = [_size_um(axes, scale, name) for name in ("y", "x")]
    return None if sizes[0] is None or sizes[1] is None else (sizes[0], sizes[1])


def _size_um(axes: Sequence[tuple[str, str | None]], scale: Sequence[float], name: str) -> float | None:
    index = [axis for axis, _ in axes].index(name)
    um = _UM_PER_UNIT.get(axes[index][1] or "")
    size = None if um is None else scale[index] * um
    return size if size is not None and math.isfinite(size) and size > 0 else None
