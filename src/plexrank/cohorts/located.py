"""An image of the samplesheet opened, with its channels, its mask and its reduction: what tiling it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from plexrank.cohorts.panel_match import LocatedChannels, locate_channels
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import naming_input
from plexrank.images.lazy import LazyImage
from plexrank.images.mask import LazyMask, open_mask
from plexrank.images.open import open_image
from plexrank.settings import TileSettings
from plexrank.tiles.resampling import Resampling, find_resampling


@dataclass(frozen=True)
class LocatedImage:
    """An opened image and where in it its channels lie."""

    record: ImageRecord
    image: LazyImage
    channels: LocatedChannels

    def open_mask(self) -> LazyMask | None:
        """Where it holds tissue, if the samplesheet says so.

        Raises:
            ImageDataError, MissingInputError: the mask cannot be used.
        """
        if self.record.mask is None:
            return None
        with naming_input(str(self.record.mask)):
            return open_mask(self.record.mask, *self.image.data.shape[1:])

    def find_resampling(self, settings: TileSettings) -> Resampling:
        """How far it is reduced.

        Raises:
            ImageDataError: it cannot be.
        """
        return find_resampling(settings, self.image.data.shape, self.image.pixel_size_um, str(self.record.path))


def locate_image(record: ImageRecord, settings: TileSettings) -> LocatedImage:
    """Open an image and find its channels in it.

    Args:
        settings: with ``image_um_per_px``, the pixel size of an image that does not say it.

    Raises:
        ImageDataError, MissingInputError: the image cannot be opened.
        StudyError: its channels do not fit its panel.
    """
    with naming_input(str(record.path)):
        image = open_image(record.path)
    if image.pixel_size_um is None and settings.image_um_per_px is not None:
        image = replace(image, pixel_size_um=(settings.image_um_per_px, settings.image_um_per_px))
    channels = locate_channels(
        record.panel, image.channel_names, image.data.shape[0], str(record.path), image.channel_ids
    )
    return LocatedImage(record, image, channels)
