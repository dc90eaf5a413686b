"""What is refused because it is larger than any file of its kind has a reason to be; each limit can be set.

A limit is held against what a file announces, before memory is taken for it. The environment variable of the same name
with ``PLEXRANK_`` before it, such as ``PLEXRANK_MAX_IMAGE_PIXELS=1e12``, sets another one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from plexrank.errors import StudyError
from plexrank.wording import did_you_mean


@dataclass(frozen=True)
class Limit:
    """The most of something that is read.

    Attributes:
        name: as in the environment, without ``PLEXRANK_``.
        default: the most, where the environment does not set it.
        unit: what is counted, in the plural.
        reason: why no file in use comes near it.
    """

    name: str
    default: int
    unit: str
    reason: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"PLEXRANK_{self.name}"

    def most(self) -> int:
        """The limit in force.

        Raises:
            StudyError: the environment variable is no number above 0.
        """
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        try:
            most = int(float(text))
        except (ValueError, OverflowError):
            most = 0
        if most < 1:
            raise StudyError(f"{self.variable}: expected a number above 0, found {text!r}; correct or unset it")
        return most

    def require(self, found: int, where: str, kind: type[Exception]) -> None:
        """Raise an error of a kind, which begins with ``where`` and names the limit, where more is found."""
        self._require(found, self.most(), where, kind)

    def require_own(self, found: int, where: str, kind: type[Exception]) -> None:
        """:meth:`require` of a file that plexrank wrote, which a limit set lower than usual does not make damaged."""
        self._require(found, max(self.most(), self.default), where, kind)

    def _require(self, found: int, most: int, where: str, kind: type[Exception]) -> None:
        if found > most:
            raise kind(
                f"{where}: {found:,} {self.unit}, more than the limit of {most:,}; if that is right, set "
                f"{self.variable} to a larger number"
            )


IMAGE_PIXELS = Limit("MAX_IMAGE_PIXELS", 10**11, "pixels in one plane", "whole slides have 10¹⁰")
IMAGE_SIDE = Limit("MAX_IMAGE_SIDE", 2**22, "pixels along one side", "whole slides have 2 · 10⁵")
IMAGE_CHANNELS = Limit("MAX_IMAGE_CHANNELS", 4096, "channels", "panels have up to 150")
IMAGE_TILES = Limit("MAX_IMAGE_TILES", 2 * 10**7, "tiles in one image", "a whole slide at 64 px has 10⁷")
CHUNK_BYTES = Limit("MAX_CHUNK_BYTES", 2**30, "bytes that are decoded at once", "tiles and chunks have up to 2²⁷")
TIFF_PAGES = Limit("MAX_TIFF_PAGES", 2**14, "pages in one TIFF", "channels times resolutions are some hundreds")
TIFF_SEGMENTS = Limit("MAX_TIFF_SEGMENTS", 2**22, "segments in one page", "slides in tiles of 256 px have 6 · 10⁵")
MCD_ACQUISITIONS = Limit("MAX_MCD_ACQUISITIONS", 2000, "acquisitions in one .mcd", "tissue microarrays have hundreds")
METADATA_BYTES = Limit("MAX_METADATA_BYTES", 2**27, "bytes of metadata", "OME-XML of many rounds has some megabytes")
METADATA_PARTS = Limit("MAX_METADATA_PARTS", 4 * 10**6, "elements of metadata", "OME-XML of 10⁵ planes has 10⁶")
TEXT_BYTES = Limit("MAX_TEXT_BYTES", 2**28, "bytes of text", "samplesheets of 10⁶ images are smaller")
YAML_BYTES = Limit("MAX_YAML_BYTES", 2**17, "bytes of YAML", "studies and profiles have some kilobytes")
NESTING = Limit("MAX_NESTING", 100, "levels of nesting", "no format that is read has more than 20")

LIMITS = (
    *(IMAGE_PIXELS, IMAGE_SIDE, IMAGE_CHANNELS, IMAGE_TILES, CHUNK_BYTES, TIFF_PAGES, TIFF_SEGMENTS, MCD_ACQUISITIONS),
    *(METADATA_BYTES, METADATA_PARTS, TEXT_BYTES, YAML_BYTES, NESTING),
)


def require_settings() -> None:
    """Look at what the environment sets.

    Raises:
        StudyError: a variable is misspelt, so that it would set nothing, or is no number above 0.
    """
    known = {limit.variable: limit for limit in LIMITS}
    for variable in sorted(name for name in os.environ if name.startswith("PLEXRANK_MAX_")):
        if variable not in known:
            raise StudyError(f"{variable}: no such limit, correct or unset it{did_you_mean(variable, [*known])}")
        known[variable].most()


def page() -> str:
    """docs/limits.md."""
    rows = [f"| `{limit.variable}` | {limit.default:,} | {limit.unit} | {limit.reason} |" for limit in LIMITS]
    return "\n".join(
        [
            "# Limits",
            "",
            "What a file announces is held against these limits before memory is taken for it; a file beyond one is",
            "refused, with the limit named. An environment variable sets another one, such as",
            "`PLEXRANK_MAX_IMAGE_PIXELS=1e12`; set it for every command on a run: `check`, `run`, stages, jobs. A",
            "variable that is misspelt ends every command.",
            "",
            "| variable | at most | of | why no file in use comes near it |",
            "| --- | ---: | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    print(page(), end="")
