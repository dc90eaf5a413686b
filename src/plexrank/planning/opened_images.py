"""What the headers of a cohort's images tell, before any is tiled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from plexrank.cohorts.bad_images import SHOWN
from plexrank.cohorts.differences import image_differences
from plexrank.cohorts.located import LocatedImage, locate_image
from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.errors import PlexrankError, naming_input
from plexrank.images.open import open_image
from plexrank.settings import TileSettings
from plexrank.tiles.texture import unknown_pixel_sizes
from plexrank.wording import counted


@dataclass(frozen=True)
class OpenedImages:
    """Of some images of a cohort.

    Attributes:
        located: the images that were opened and fit.
        bad: images that cannot be used.
        warnings: what is worth one.
    """

    located: list[LocatedImage]
    bad: list[BadImage]
    warnings: list[str]


def open_images(images: Sequence[ImageRecord], settings: TileSettings) -> OpenedImages:
    """Open images as tiling would, and find where they differ."""
    located: list[LocatedImage] = []
    bad: list[BadImage] = []
    num_small = 0
    for record in images:
        try:
            part = locate_image(record, settings)
            height, width = part.find_resampling(settings).shape(part.image.data.shape)[1:]
            part.open_mask()
        except PlexrankError as error:
            bad.append(BadImage(record, error))
            continue
        num_small += 2 * min(height, width) < settings.tile_px
        located.append(part)
    return OpenedImages(located, bad, [*_warnings(located, settings, num_small)])


def unreadable_images(images: Sequence[ImageRecord]) -> list[BadImage]:
    """Images that cannot be opened at all, where no panel says which channels to look for."""
    bad = []
    for record in images:
        try:
            with naming_input(str(record.path)):
                open_image(record.path)
        except PlexrankError as error:
            bad.append(BadImage(record, error))
    return bad


def _warnings(located: Sequence[LocatedImage], settings: TileSettings, num_small: int) -> list[str]:
    warnings = []
    unlisted = Counter(name for part in located for name in part.channels.unlisted)
    if unlisted:
        named = ", ".join(f"{name} (in {count})" for name, count in unlisted.items())
        warnings.append(f"channels that are not used, since the panel does not list them: {named}")
    doubtful = [warning for part in located for warning in part.image.warnings]
    if doubtful:
        shown = "; ".join(doubtful[:SHOWN]) + ("; …" if len(doubtful) > SHOWN else "")
        warnings.append(
            f"{counted(len(doubtful), 'image', 'lacks')} chunks, which are read as zeros: unless those parts have no "
            f"signal, the copy is incomplete: {shown}"
        )
    if num_small:
        warnings.append(
            f"{counted(num_small, 'image', 'is')} less than half as high or wide as a tile of {settings.tile_px} px: "
            "what lies beyond the edges is mirrored; lower tile.tile_px"
        )
    if unknown := unknown_pixel_sizes(part.image.pixel_size_um for part in located):
        warnings.append(unknown)
    return [*warnings, *image_differences(settings, located)]
