"""All pictures of a page, beside the figures of the ranking and of the predictions."""

from __future__ import annotations

from dataclasses import dataclass

from plexrank.report.figure_files import Picture
from plexrank.report.gallery import ChannelPictures
from plexrank.report.patient_figures import SIGN


@dataclass(frozen=True)
class Pictures:
    """What the page shows of channels, patients and trainings.

    Attributes:
        channels: tiles and typical images of the first channels.
        patients: figures whose points are patients, channels or trainings.
        note: what is left out, and why; empty where nothing is.
    """

    channels: tuple[ChannelPictures, ...] = ()
    patients: tuple[Picture, ...] = ()
    note: str = ""

    @property
    def sign(self) -> str:
        """What the sign of r means, as the end of a sentence."""
        return SIGN[0].lower() + SIGN[1:]
