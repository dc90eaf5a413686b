"""OME-XML: within a TIFF, in a companion of a set of TIFFs, and alone."""

from __future__ import annotations

from pathlib import Path

import tifffile
from fuzzing import Seed, Target
from reading_images import read_image
from seed_files import files_of

from image_files import noise, write_ome
from plexrank.errors import ImageDataError, naming_damage
from plexrank.images.ome_xml import parse_ome_xml

TOKENS = (
    *(b"SizeC", b"SizeZ", b"SizeT", b"SizeX", b"SizeY", b"IFD", b"PlaneCount", b"FirstC", b"UUID", b"FileName"),
    *(
        b'PlaneCount="-1"',
        b'IFD="4294967295"',
        b"<Channel/>",
        b'<TiffData IFD="1"/>',
        b"SamplesPerPixel",
        b"MetadataFile",
    ),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"DimensionOrder", b"XYZTC", b"<Image><Pixels/></Image>"),
)


def write_set(folder: Path) -> None:
    """Two files, a channel each, whose metadata lie in a third; the first refers to it."""
    pixels = noise((2, 12, 10))
    described = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">{content}</OME>'
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{c}</UUID></TiffData>'
        for c, name in enumerate(("a.ome.tiff", "b.ome.tiff"))
    )
    image = (
        f'<Image ID="Image:0"><Pixels DimensionOrder="XYCZT" Type="uint16" SizeC="2" SizeZ="1" SizeT="1" SizeX="10" '
        f'SizeY="12"><Channel ID="a" Name="CD3"/><Channel ID="b" Name="CD8"/>{data}</Pixels></Image>'
    )
    companion = '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:9"/>'
    (folder / "set.companion.ome").write_text(described.format(own=9, content=image))
    for c, name in enumerate(("a.ome.tiff", "b.ome.tiff")):
        text = described.format(own=c, content=companion)
        tifffile.imwrite(folder / name, pixels[c], description=text, photometric="minisblack", metadata=None)


def texts() -> list[Seed]:
    seeds = files_of(lambda folder: write_ome(folder / "a.tiff", noise((3, 12, 10))))
    with tifffile.TiffFile(_memory(seeds[0]["a.tiff"])) as file:
        return [{"a.xml": (file.ome_metadata or "").encode()}]


def _memory(content: bytes):  # type: ignore[no-untyped-def]
    import io

    return io.BytesIO(content)


def read_text(folder: Path) -> None:
    """As the guard of the TIFF reader has it."""
    with naming_damage("a.xml: not readable", "export it again", ImageDataError):
        document = parse_ome_xml((folder / "a.xml").read_text(encoding="utf-8"))
        for image in document.images:
            for pages in image.pages:
                if 0 < (pages.count or 1) < 5000:
                    image.planes(pages, pages.count or 1)


TARGETS = [
    Target("OME-XML", texts, read_text, TOKENS),
    Target("set of OME-TIFFs", lambda: files_of(write_set), lambda folder: read_image(folder / "a.ome.tiff"), TOKENS),
]
