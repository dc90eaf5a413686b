"""IMC: tables and ``.mcd``."""

from __future__ import annotations

from pathlib import Path

from fuzzing import Seed, Target
from reading_images import read_image
from seed_files import files_of

from image_files import noise, write_mcd, write_txt
from plexrank.images.imc_mcd import list_acquisitions

TOKENS = tuple(
    f"<{name}>".encode("utf-16-le")
    for name in ("ID", "/ID", "MaxX", "/MaxX", "DataStartOffset", "DataEndOffset", "Acquisition", "/Acquisition")
) + tuple(text.encode("utf-16-le") for text in ("-1", "999999999", "1e30", "0", "nan", "Er(170)", "X"))


def tables() -> list[Seed]:
    return files_of(
        *(
            lambda folder, size=size: write_txt(folder / "a.txt", noise((3, *size)))  # type: ignore[misc]
            for size in ((4, 5), (2, 3), (12, 1))
        )
    )


def slides() -> list[Seed]:
    return files_of(
        lambda folder: write_mcd(folder / "a.mcd", {1: noise((3, 6, 5))}),
        lambda folder: write_mcd(folder / "a.mcd", {1: noise((3, 6, 5)), 2: noise((3, 4, 4))}),
        lambda folder: write_mcd(folder / "a.mcd", {1: noise((3, 6, 5))}, order=slice(None, None, -1)),
    )


def read_slide(folder: Path) -> None:
    """All acquisitions, each by its number."""
    for acquisition in list_acquisitions(folder / "a.mcd")[:5]:
        read_image(folder / f"a.mcd#{max(acquisition.number, 0)}")


TARGETS = [
    Target(
        "IMC txt", tables, lambda folder: read_image(folder / "a.txt"), (b"X", b"Y", b"CD3(Er170Di)", b"Start_push")
    ),
    Target("IMC mcd", slides, read_slide, TOKENS),
]
