"""A folder with one TIFF a channel: ``fov8/TIFs/CD3.tif``, ``fov8/CD3.tif``, or such files in a folder a round."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from plexrank.arrays import Key
from plexrank.errors import ImageDataError
from plexrank.images.channel_names import fold_name, is_dye, say_only_places
from plexrank.images.lazy import LazyImage, Pixels, PixelsInPieces
from plexrank.images.rounds import rounds_of_one, samples_in, split_round
from plexrank.images.tiff import open_tiff, why_no_tiff

_SUFFIXES = (".tif", ".tiff")
_INNER = "tifs"


@dataclass(frozen=True, eq=False)
class _StackedPixels:
    """The channels of images of one size and type, one after the other."""

    parts: Sequence[PixelsInPieces]

    @property
    def shape(self) -> tuple[int, int, int]:
        return sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def chunks(self) -> tuple[int, int, int]:
        return self.parts[0].chunks

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        channels = range(*key[0].indices(self.shape[0]))
        return np.concatenate([part[own, *key[1:]] for part, own, _ in self._within(channels)])

    def pieces(self, key: Key) -> Iterator[tuple[Key, npt.NDArray[Any]]]:
        for part, own, first in self._within(range(key[0].start, key[0].stop)):
            for (channels, ys, xs), piece in part.pieces((own, *key[1:])):
                yield (slice(channels.start + first, channels.stop + first), ys, xs), piece

    def _within(self, channels: range) -> Iterator[tuple[PixelsInPieces, slice, int]]:
        """Those of the parts that hold some of the channels, which of their own these are, and their first's number."""
        first = 0
        for part in self.parts:
            low, high = max(channels.start - first, 0), min(channels.stop - first, part.shape[0])
            if low < high:
                yield part, slice(low, high), first
            first += part.shape[0]


def why_no_tiff_folder(path: Path) -> str | None:
    """Why this is no folder of single-channel TIFFs, or None."""
    if not path.is_dir():
        return "a file, not a folder"
    files = channel_files(path)
    if not files:
        return "holds no .tif or .tiff, nor does a folder TIFs or a folder for each staining round in it"
    for file in files:
        if why_no_tiff(file) is None:
            try:
                num_channels = open_tiff(file).data.shape[0]
            except ImageDataError:
                continue
            if num_channels > 1:
                return f"{file.name} holds {num_channels} channels by itself; name it, or the files in it one by one"
    return None


def open_tiff_folder(path: Path) -> LazyImage:
    """Open a folder; channels are the files in the order of their names, round by round where it holds rounds.

    They are called as each file names its channel where these names are those of the files too, or as the files
    without suffix. A name that comes again in several rounds has the number of its round behind it.

    Raises:
        ImageDataError: a file is damaged, lies outside the folder, or differs from the first in size or type; the
            folder is one of several rounds, or its files are of several samples; a file's name and that in it differ.
    """
    _refuse_one_round(path)
    files = channel_files(path)
    samples = samples_in([_stem(file) for file in files])
    if samples and not round_folders(path):
        raise ImageDataError(
            f"{path}: its {len(files)} files look like those of {len(samples)} samples ({', '.join(samples[:6])}"
            f"{', …' if len(samples) > 6 else ''}) with the same channels; put the files of each into its own folder"
        )
    for file in {file.parent for file in files}:
        _refuse_lost(file)
    images = []
    for file in files:
        if not file.resolve().is_relative_to(path.resolve()):
            raise ImageDataError(f"{file}: a link that leads out of {path}; copy the file there")
        images.append(open_tiff(file))
        first, pixels = images[0].pixels, images[-1].pixels
        if pixels.shape != first.shape or pixels.dtype != first.dtype:
            raise ImageDataError(
                f"{path}: {file.name} is {_describe(pixels)}, but {files[0].name} is {_describe(first)};"
                " the channels of an image must agree in size and type"
            )
    pixels = _StackedPixels([image.pixels for image in images])
    names = _choose_names(path, files, [image.channel_names[0] if image.channel_names else None for image in images])
    return LazyImage(pixels, names, images[0].pixel_size_um)


def channel_files(path: Path) -> list[Path]:
    """TIFFs of the folder, of TIFs in it, or of the rounds in it; hidden ones (macOS's ``._CD3.tif``) do not count."""
    rounds = round_folders(path)
    if rounds:
        return [file for folder in rounds for file in _tiffs(folder)]
    inner = [part for part in sorted(path.iterdir()) if part.is_dir() and part.name.lower() == _INNER]
    return _tiffs(inner[0] if inner else path)


def round_folders(path: Path) -> list[Path]:
    """The folders of staining rounds in a folder without TIFFs of its own: ``1_Cycle1``, ``2_Cycle2``, …."""
    if not path.is_dir() or _tiffs(path):
        return []
    parts = {part.name: part for part in path.iterdir() if part.is_dir() and not part.name.startswith(".")}
    groups = rounds_of_one(list(parts))
    if len(groups) != 1 or not all(_tiffs(parts[name]) for name in groups[0]):
        return []
    return [parts[name] for name in groups[0]]


def _refuse_one_round(path: Path) -> None:
    others = round_folders(path.parent) if split_round(path.name) else []
    if path.name in [other.name for other in others]:
        raise ImageDataError(
            f"{path}: one of {len(others)} staining rounds of an image; name the folder that holds them, {path.parent}"
        )


def _tiffs(folder: Path) -> list[Path]:
    files = [file for file in folder.iterdir() if _is_called_tiff(file) and file.is_file()]
    return sorted(files, key=lambda file: (file.name.casefold(), file.name))


def _refuse_lost(folder: Path) -> None:
    """Refuse what is called like a channel and is no file: a link that leads nowhere, a pipe."""
    for file in folder.iterdir():
        if _is_called_tiff(file) and not file.is_file() and not file.is_dir():
            what = f"a link to {file.readlink()}, where nothing lies" if file.is_symlink() else "a pipe or device"
            raise ImageDataError(f"{file}: {what}, not a file; copy the channel there")


def _is_called_tiff(file: Path) -> bool:
    return file.name.lower().endswith(_SUFFIXES) and not file.name.startswith(".")


def _choose_names(path: Path, files: Sequence[Path], inner: Sequence[str | None]) -> tuple[str, ...]:
    """The names in the files where they tell channels apart, which no file's name may contradict; else the files'."""
    stems = [_stem(file) for file in files]
    usable = [None if name is None or is_dye(name) or say_only_places([name]) else name for name in inner]
    for file, stem, name in zip(files, stems, usable, strict=True):
        if name is not None and not say_only_places(stems) and not (_is_part(name, stem) or _is_part(stem, name)):
            raise ImageDataError(
                f"{path}: the channel in {file.name} is called {name!r}; give the file that name, or the channel that "
                "of the file"
            )
    any_usable = any(name is not None for name in usable)
    names = stems
    if any_usable:
        names = [
            own if own and _is_part(own, stem) else name or stem
            for own, stem, name in zip(inner, stems, usable, strict=True)
        ]
    names = _with_rounds(path, files, names)
    if len(set(map(fold_name, names))) < len(names):
        names = _with_rounds(path, files, stems)
    return tuple(names)


def _with_rounds(path: Path, files: Sequence[Path], names: Sequence[str]) -> list[str]:
    if not round_folders(path):
        return list(names)
    counts = Counter(map(fold_name, names))
    rounds = [split_round(file.parent.name) for file in files]
    return [
        f"{name} ({own[1]})" if own is not None and counts[fold_name(name)] > 1 else name
        for name, own in zip(names, rounds, strict=True)
    ]


def _is_part(name: str, text: str) -> bool:
    """Whether a name stands in a text between separators: CD3 in ``C-001_A-CD3_C-clone``, and not in ``CD31``."""
    plain, within = (re.sub(r"[\s_./\-]+", " ", own.casefold()).strip() for own in (name, text))
    return re.search(rf"(?<![a-z0-9]){re.escape(plain)}(?![a-z0-9])", within) is not None


def _stem(file: Path) -> str:
    stem = file.name[: file.name.rindex(".")]
    return stem.removesuffix(".ome").strip() or stem


def _describe(pixels: Pixels) -> str:
    num_channels, height, width = pixels.shape
    return f"{num_channels} × {height} × {width} px {pixels.dtype}"
