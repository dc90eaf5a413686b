"""OME-Zarr (NGFF) up to 0.5: the full resolution of an image group, alone or within bioformats2raw or SpatialData.

https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError, naming_damage
from plexrank.images.axes import refuse_other_axes
from plexrank.images.lazy import CHUNK_PX, REMEDY, ImagePixels, LazyImage, named, require_chunk, require_size
from plexrank.images.zarr_chunks import count_chunks
from plexrank.images.zarr_metadata import check_array, read_json, refuse_link_out
from plexrank.limits import METADATA_BYTES

if TYPE_CHECKING:
    import zarr

_VERSION = re.compile(r"0\.[1-5](?![0-9]).*")  # SpatialData writes 0.4-dev-spatialdata
_IMPLICIT_AXES = re.compile(r"0\.[12](?![0-9]).*")
_UM_PER_UNIT_NAME = {
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
_ZIPPED = (".ozx", ".zarr.zip")


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
    if path.is_file() and path.name.lower().endswith(_ZIPPED):
        return None
    if not path.is_dir():
        return "a file, not a folder"
    if any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray")):
        return None
    return "holds neither zarr.json nor .zgroup"


def open_ome_zarr(path: Path) -> LazyImage:
    """Open the full resolution of an OME-Zarr image.

    Chunks that are missing, which zarr reads as fill values, are counted in the image's ``warnings``.

    Raises:
        ImageDataError: the store is zipped, damaged or holds no pixels; holds several images, time points or focal
            planes; is of another version of the format; uses codecs that are not read.
    """
    if path.is_file():
        raise ImageDataError(f"{path}: a zipped OME-Zarr; unpack it, and name the folder that comes of it")
    with naming_damage(f"{path}: not readable as OME-Zarr", REMEDY, ImageDataError):
        group, attributes = _find_image(path)
        multiscale = attributes["multiscales"][0]
        pixels = _find_pixels(path, group, attributes)
        labels = _labels(attributes)
        size = _pixel_size_um(multiscale)
        stored = pixels.array.shards or pixels.array.chunks
        folder = _array_folder(path, group, multiscale)
        chunks = count_chunks(path, folder, pixels.array.shape, stored, pixels.order[0])
    if labels and len(labels) != pixels.shape[0]:
        raise ImageDataError(
            f"{path}: it describes {len(labels)} channels, its array holds {pixels.shape[0]}; {REMEDY}"
        )
    if not chunks.found:
        raise ImageDataError(f"{path}: its array holds no chunk, every pixel is missing; {REMEDY}")
    warnings = []
    if chunks.found < chunks.expected:
        called = [labels[channel] if labels else f"{channel + 1}" for channel in chunks.empty_channels]
        whole = f", all of channel {', '.join(called)}" if called else ""
        warnings.append(f"{path}: {chunks.expected - chunks.found} of {chunks.expected} chunks are not there{whole}")
    return LazyImage(ImagePixels(path, _open_pixels, pixels), named(labels), size, warnings=tuple(warnings))


def _open_pixels(path: Path) -> _ZarrPixels:
    return _find_pixels(path, *_find_image(path))


def _labels(attributes: dict[str, Any]) -> list[str]:
    """The labels of the channels, which may be numbers; some tools write them into the multiscale.

    Raises:
        ValueError: they are given twice, and differ.
    """
    found = [
        ["" if channel.get("label") is None else str(channel["label"]) for channel in place["omero"]["channels"]]
        for place in (attributes, attributes["multiscales"][0])
        if (place.get("omero") or {}).get("channels")
    ]
    if any(labels != found[0] for labels in found):
        raise ValueError(f"two lists of channels: {', '.join(found[0])} and {', '.join(found[1])}")
    return found[0] if found else []


def _find_image(path: Path) -> tuple[Path, dict[str, Any]]:
    """The image group of a store, and its OME attributes; of a store of one image, that of the image."""
    attributes = _attributes(path, path)
    images = _images_within(path, attributes)
    if images is not None:
        if len(images) != 1:
            such = f"; name one of them, such as {images[0]}" if images else ""
            raise ImageDataError(f"{path}: holds {len(images)} images{such}")
        store, path = path, images[0]
        attributes = _attributes(store, path)
    for key, what in _SEVERAL.items():
        if key in attributes:
            raise ImageDataError(f"{path}: {what.format(path=path)}")
    multiscales = attributes.get("multiscales")
    if not multiscales:
        raise ImageDataError(f"{path}: a zarr store without an image (multiscales) in it; name the image's group")
    if len({one["datasets"][0]["path"] for one in multiscales}) > 1:
        raise ImageDataError(f"{path}: holds {len(multiscales)} images in one group; export the one to use on its own")
    version = _version(attributes)
    if not _VERSION.fullmatch(version):
        raise ImageDataError(
            f"{path}: OME-Zarr of version {version}; versions up to 0.5 are read: write it as 0.5, for example with"
            " ome-zarr or ngff-zarr"
        )
    return path, attributes


def _images_within(path: Path, attributes: dict[str, Any]) -> list[Path] | None:
    """The images of a store that keeps them in groups, as bioformats2raw and SpatialData do; None for others."""
    if "bioformats2raw.layout" in attributes:
        series = _attributes(path, path / "OME").get("series") if (path / "OME").is_dir() else None
        names = series or sorted(part.name for part in path.iterdir() if part.is_dir() and part.name.isdecimal())
        found = [path / str(name) for name in names]
        if any(not image.resolve().is_relative_to(path.resolve()) for image in found):
            raise ImageDataError(f"{path}: an image of it lies outside of it; copy the store as a whole")
        return found
    if "multiscales" not in attributes and (path / "images").is_dir():
        return sorted(part for part in (path / "images").iterdir() if part.is_dir() and not part.name.startswith("."))
    return None


def _version(attributes: dict[str, Any]) -> str:
    return str(attributes.get("version") or attributes["multiscales"][0].get("version") or "0.4")


def _attributes(store: Path, group: Path) -> dict[str, Any]:
    """Those of OME: under ``ome`` from 0.5 on, at the top before; some writers of zarr v3 leave them there."""
    for name in ("zarr.json", ".zattrs"):
        refuse_link_out(store, group / name)
    if (group / "zarr.json").is_file():
        attributes: dict[str, Any] = read_json(group / "zarr.json").get("attributes", {})
    elif (group / ".zattrs").is_file():
        attributes = read_json(group / ".zattrs")
    else:
        return {}
    return {**attributes, **(attributes.get("ome") or {})}


def _array_folder(path: Path, group: Path, multiscale: dict[str, Any]) -> Path:
    folder: Path = group / multiscale["datasets"][0]["path"]
    if not folder.resolve().is_relative_to(path.resolve()):
        raise ImageDataError(f"{path}: its array lies outside of it ({folder}); copy the store as a whole")
    return folder


def _find_pixels(path: Path, group: Path, attributes: dict[str, Any]) -> _ZarrPixels:
    import zarr  # images of other formats do without

    from plexrank.images.zarr_codecs import WithinFilesStore, bound_chunks  # with which zarr decodes from then on

    multiscale = attributes["multiscales"][0]
    folder = _array_folder(path, group, multiscale)
    zarr_format = check_array(folder, path)
    array = zarr.open_array(WithinFilesStore(folder, read_only=True), mode="r", zarr_format=zarr_format)
    if "axes" not in multiscale and _IMPLICIT_AXES.fullmatch(_version(attributes)):
        multiscale["axes"] = list("tczyx")
    names = [_axis(axis)[0] for axis in multiscale["axes"]]
    if not isinstance(array, zarr.Array) or len(names) != array.ndim or 0 in array.shape:
        raise ValueError(f"axes {names} of an array of shape {array.shape}")
    if not {"y", "x"} <= set(names):
        raise ValueError(f"axes {names}; expected channels, y and x")
    sides = dict(zip(names, array.shape, strict=True))
    refuse_other_axes(path, {name.upper(): side for name, side in sides.items()})
    for name, side in sides.items():
        if name not in ("c", "y", "x") and side > 1:
            raise ImageDataError(f"{path}: holds {side} planes along {name}; export one of them, or a projection")
    order = (names.index("c") if "c" in names else None, names.index("y"), names.index("x"))
    _require_chunks(path, array)
    bound_chunks(array)
    pixels = _ZarrPixels(array, order, np.dtype(array.dtype).newbyteorder("="))
    require_size(path, pixels.shape)
    return pixels


def _require_chunks(path: Path, array: zarr.Array[Any]) -> None:
    """Refuse chunks that take too much memory, and shards of too many of them: an entry of 16 bytes for each."""
    dtype = np.dtype(array.dtype)
    require_chunk(path, array.chunks, dtype)
    if array.shards is not None:
        if min(array.shards) < 1:
            raise ValueError(f"shards of shape {array.shards}")
        METADATA_BYTES.require(16 * math.prod(array.shards) // math.prod(array.chunks), str(path), ImageDataError)


def _axis(axis: Any) -> tuple[str, str | None]:
    """Name and unit of an axis; c for that of the type channel. Before 0.4 an axis was its name alone."""
    if isinstance(axis, str):
        return axis.lower(), None
    if axis.get("type") == "channel":
        return "c", None
    return str(axis["name"]).lower(), axis.get("unit")


def _pixel_size_um(multiscale: dict[str, Any]) -> tuple[float, float] | None:
    axes = [_axis(axis) for axis in multiscale["axes"]]
    scale = [1.0] * len(axes)
    transforms = [*multiscale["datasets"][0].get("coordinateTransformations", ())]
    for transform in [*transforms, *multiscale.get("coordinateTransformations", ())]:
        if transform["type"] == "scale" and "output" not in transform:  # SpatialData's lead to other systems
            scale = [own * float(factor) for own, factor in zip(scale, transform["scale"], strict=True)]
    sizes = [_size_um(axes, scale, name) for name in ("y", "x")]
    return None if sizes[0] is None or sizes[1] is None else (sizes[0], sizes[1])


def _size_um(axes: Sequence[tuple[str, str | None]], scale: Sequence[float], name: str) -> float | None:
    index = [axis for axis, _ in axes].index(name)
    um = _UM_PER_UNIT_NAME.get(axes[index][1] or "")
    size = None if um is None else scale[index] * um
    return size if size is not None and math.isfinite(size) and size > 0 else None
