"""In what the images of a cohort differ that would pass for biology: number type, bit depth, pixel size, brightness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from plexrank.cohorts.bad_images import brightness_warnings, find_empty
from plexrank.cohorts.located import LocatedImage
from plexrank.cohorts.samplesheet import BadImage
from plexrank.errors import PlexrankError
from plexrank.images.lazy import Pixels
from plexrank.settings import TileSettings
from plexrank.wording import counted

SAME_SIZE = 1.02
"""Pixel sizes that differ by less come from one instrument, rounded."""
FULL_SCALES = (1, 255, 1023, 4095, 16383, 65535)
"""What a pixel holds at most, in 0–1 and at 8, 10, 12, 14 and 16 bit."""
_SATURATED = 3  # pixels at the largest value, which is then that of the bit depth and not of the tissue
_MIDDLE_PX = 512
_PIXELS_TO_READ = 3 * 10**8  # of all images together: some seconds
_SHOWN = 3


def image_differences(tile: TileSettings, located: Sequence[LocatedImage]) -> list[str]:
    """Warnings about images that differ from others of the cohort, each with what that would do.

    Number types and pixel sizes are those of the headers; bit depth and brightness come from a part in the middle of
    each image, as far as that is read within seconds, otherwise of images spread over the samplesheet.
    """
    notes = [_different_types(located), _different_sizes(tile, located)]
    middles, errors = _read_middles(located)
    notes += [_not_read(errors), _different_depths(middles)]
    images = [image.record for image in middles]
    signal = {
        image.record.image_id: dict(
            zip(image.channels.names, middle.mean(axis=(1, 2), dtype=np.float64).tolist(), strict=True)
        )
        for image, middle in middles.items()
    }
    notes += [*brightness_warnings(images, signal, of_middles=True), _empty_middles(find_empty(images, signal))]
    return [note for note in notes if note]


def _not_read(errors: Sequence[PlexrankError]) -> str:
    if not errors:
        return ""
    example = "for example " if len(errors) > 1 else ""
    return (
        f"the middle of {counted(len(errors), 'image')} cannot be read: {example}{errors[0]}. A run reads all pixels "
        "of all images and names each that cannot be read; --skip-bad leaves them out"
    )


def _empty_middles(images: Sequence[BadImage]) -> str:
    if not images:
        return ""
    shown = ", ".join(image.record.image_id for image in images[:_SHOWN]) + (", …" if len(images) > _SHOWN else "")
    return (
        f"{counted(len(images), 'image', 'has')} next to no signal in the middle, compared with the others: {shown}. "
        "A run reads all pixels and refuses images that are empty; --skip-bad leaves them out"
    )


def _different_types(located: Sequence[LocatedImage]) -> str:
    types = {image: str(image.image.data.dtype.newbyteorder("=")) for image in located}
    if len(set(types.values())) < 2:
        return ""
    return (
        f"images differ in number type: {_describe(types)}. The same staining may then have other numbers (16 bit "
        "beside 8 bit: 257 times; a fraction of 1 in floats), and channels that differ by that alone rank high; export "
        "all images alike, unless their numbers mean the same"
    )


def _different_depths(middles: Mapping[LocatedImage, npt.NDArray[np.generic]]) -> str:
    scales: dict[LocatedImage, str] = {}
    for image, middle in middles.items():
        top = middle.max()
        if top in FULL_SCALES and np.count_nonzero(middle == top) >= _SATURATED:
            scales[image] = f"{top:g}"
    if len(set(scales.values())) < 2:
        return ""
    return (
        f"images are saturated at different values, as bit depths differ: {_describe(scales)}. The same staining has "
        "other numbers in them; export all images at one bit depth"
    )


def _different_sizes(tile: TileSettings, located: Sequence[LocatedImage]) -> str:
    if tile.um_per_px is not None:
        return ""  # brings all to one, and refuses those that do not say
    sizes = {image: max(image.image.pixel_size_um) for image in located if image.image.pixel_size_um is not None}
    if not sizes or max(sizes.values()) < SAME_SIZE * min(sizes.values()):
        return ""
    named = {image: f"{sizes[image]:.3g} µm" if image in sizes else "not given" for image in located}
    return (
        f"images differ in pixel size: {_describe(named)}. A cell is then up to "
        f"{max(sizes.values()) / min(sizes.values()):.2g} times as many pixels wide in some, which looks like "
        f"a pattern of tissue; set tile.um_per_px: {max(sizes.values()):.3g} instead of tile.downsample, which brings "
        "all to that size"
    )


def _describe(values: Mapping[LocatedImage, str]) -> str:
    """``uint8 (9 images: a0, a1, …), uint16 (3 images: …)``, the most frequent first; and whether classes differ."""
    groups: dict[str, list[LocatedImage]] = {}
    for image, value in values.items():
        groups.setdefault(value, []).append(image)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    parts = []
    for value, images in ordered:
        ids = ", ".join(image.record.image_id for image in images[:_SHOWN])
        parts.append(f"{value} ({len(images)} images: {ids}{', …' if len(images) > _SHOWN else ''})")
    labels = {value: {image.record.label for image in images} for value, images in ordered}
    alone = [f"{next(iter(own))!r} ({value})" for value, own in labels.items() if len(own) == 1]
    if len(alone) == len(groups) and len(set().union(*labels.values())) > 1:
        parts[-1] += f"; this difference separates the classes: {', '.join(alone)}"
    return ", ".join(parts)


def _read_middles(
    located: Sequence[LocatedImage],
) -> tuple[dict[LocatedImage, npt.NDArray[np.generic]], list[PlexrankError]]:
    """(channel, y, x) pixels from the middle of images, the chunk that lies there at most; why others have none."""
    num_pixels = [
        image.image.pixels.chunks[1] * image.image.pixels.chunks[2] * image.image.pixels.shape[0] for image in located
    ]
    step = max(1, -(-sum(num_pixels) // _PIXELS_TO_READ))
    middles, errors = {}, []
    for image in located[::step]:
        try:
            middle = read_middle(image.image.pixels, image.channels.indices)
        except PlexrankError as error:
            errors.append(error)
            continue
        if middle.dtype.kind in "biuf" and np.isfinite(middle).all():
            middles[image] = middle
    return middles, errors


def read_middle(pixels: Pixels, channels: Sequence[int]) -> npt.NDArray[np.generic]:
    """(channel, y, x) pixels from the middle of an image, of the chunk that lies there at most.

    Raises:
        ImageDataError: they cannot be decoded.
    """
    y, x = (_middle(side, chunk) for side, chunk in zip(pixels.shape[1:], pixels.chunks[1:], strict=True))
    return np.stack([pixels[slice(channel, channel + 1), y, x][0] for channel in channels])


def _middle(side: int, chunk: int) -> slice:
    start = side // 2 // chunk * chunk
    room = min(side, start + chunk) - start
    start += max(0, room - _MIDDLE_PX) // 2
    return slice(start, start + min(room, _MIDDLE_PX))
