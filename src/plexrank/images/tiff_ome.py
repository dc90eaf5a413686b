"""OME-TIFF: which of the images that its XML describes lies in this file, and which page is which channel."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tifffile

from plexrank.errors import ImageDataError
from plexrank.images.axes import check_grey, refuse_other_axes
from plexrank.images.lazy import REMEDY
from plexrank.images.ome_xml import OmeDocument, OmeImage, OmePages, parse_ome_xml
from plexrank.images.segments import SegmentedPixels, own_page, stack_pages
from plexrank.images.tiff_extent import check_extent
from plexrank.images.tiff_names import TiffNames
from plexrank.limits import IMAGE_CHANNELS, METADATA_BYTES
from plexrank.wording import counted

_SHOWN = 6


@dataclass(frozen=True)
class _Place:
    """A page of a file, ``None`` for the one that is opened."""

    file_name: str | None
    uuid: str | None
    page: int


def read_ome(path: Path, file: tifffile.TiffFile) -> tuple[SegmentedPixels, TiffNames]:
    """The pixels and names of the image in an OME-TIFF, or in the set of files that it begins.

    Raises:
        ImageDataError: its metadata lie in a file that is not there; it holds several images, time points or focal
            planes, or is not the first file of its set; the pages are not those that its XML describes.
        ValueError: the XML is damaged.
    """
    document = _find_document(path, file.ome_metadata or "")
    image = _choose_image(path, document)
    IMAGE_CHANNELS.require(image.sizes[0], str(path), ImageDataError)
    first_page = own_page(file, 0)
    if image.samples == 1 and first_page.samplesperpixel > 1 and image.sizes[0] % first_page.samplesperpixel == 0:
        image = replace(image, samples=first_page.samplesperpixel)
    refuse_other_axes(path, dict(zip("CZT", image.sizes, strict=True)))
    places = _find_places(path, document, image, len(file.pages))
    if places[0].file_name is not None:
        raise ImageDataError(
            f"{path}: part of a set of files that is one image; name the first of them instead, {places[0].file_name}"
        )
    with contextlib.ExitStack() as stack:
        pages = []
        files: dict[str | None, tifffile.TiffFile] = {None: file}
        for place in places:
            if place.file_name not in files:
                files[place.file_name] = stack.enter_context(_open_part(path, place))
            pages.append(own_page(files[place.file_name], place.page))
        for page in pages:
            check_grey(path, page)
        pixels = stack_pages(pages)
    if pixels.shape[1:] != image.size_yx:
        raise ValueError(f"its OME-XML describes {image.size_yx} px, its pages hold {pixels.shape[1:]}")
    _refuse_further_pages(path, document, file, pages[0])
    return pixels, TiffNames(image.channel_names, None, image.pixel_size_um)


def _find_document(path: Path, text: str) -> OmeDocument:
    document = parse_ome_xml(text)
    if document.metadata_file is None:
        return document
    companion = path.parent / document.metadata_file
    if not document.metadata_file or not companion.resolve().is_relative_to(path.resolve().parent):
        raise ImageDataError(
            f"{path}: its metadata lie in {companion}, outside its folder; move the set into one folder"
        )
    if not companion.is_file():
        raise ImageDataError(
            f"{path}: its metadata (channel names, order of planes) lie in {companion.name}, which is not beside it; "
            "copy that too, or convert the set into one OME-TIFF with bioformats2raw and raw2ometiff"
        )
    with companion.open("rb") as opened:
        if opened.read(2) in (b"II", b"MM"):
            raise ImageDataError(
                f"{path}: part of a set of files that is one image; name the file with its metadata instead, "
                f"{document.metadata_file}"
            )
    METADATA_BYTES.require(companion.stat().st_size, str(companion), ImageDataError)
    try:
        described = parse_ome_xml(companion.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{companion.name}: {error}") from error
    return replace(described, uuid=document.uuid, metadata_file=None)


def _is_own(path: Path, document: OmeDocument, pages: OmePages) -> bool:
    if pages.file_name is None and pages.uuid is None:
        return True
    return pages.file_name == path.name or (document.uuid is not None and pages.uuid == document.uuid)


def _choose_image(path: Path, document: OmeDocument) -> OmeImage:
    """The only image of which planes lie in the file; of several, none."""
    own = [image for image in document.images if any(_is_own(path, document, pages) for pages in image.pages)]
    if not own and not _is_renamed(path, document):
        names = {pages.file_name or "a file without name" for image in document.images for pages in image.pages}
        raise ImageDataError(
            f"{path}: its OME-XML describes {', '.join(sorted(names)[:_SHOWN])}, and this file is none of them by name "
            "or UUID; give it back the name that it was written under"
        )
    own = own or list(document.images)
    if len(own) == 1:
        return own[0]
    described = "; ".join(map(_describe, own[:_SHOWN])) + ("; …" if len(own) > _SHOWN else "")
    raise ImageDataError(f"{path}: holds {len(own)} images: {described}. {_advise(own)}")


def _describe(image: OmeImage) -> str:
    names = f" ({', '.join(image.channel_names[:_SHOWN])})" if image.channel_names else ""
    count = counted(image.sizes[0], "channel")
    return f"{image.name!r}, {count}{names} of {' × '.join(map(str, image.size_yx))} px"


def _advise(images: Sequence[OmeImage]) -> str:
    first, others = images[0], images[1:]
    if all(one.sizes[0] == 1 and one.size_yx == first.size_yx for one in images):
        return "If these are the channels of one image, export them as one Image with that many channels"
    if all(
        one.channel_names == first.channel_names and one.sizes[0] == first.sizes[0] and one.size_yx < before.size_yx
        for before, one in zip(images, others, strict=False)
    ):
        return (
            "The later ones look like reduced resolutions of the first; export the first alone, or a pyramid in SubIFDs"
        )
    return "Export the one to use on its own"


def _find_places(path: Path, document: OmeDocument, image: OmeImage, num_pages: int) -> list[_Place]:
    """The page of every channel of an image without other axes."""
    places: dict[int, _Place] = {}
    taken: set[_Place] = set()
    is_renamed = _is_renamed(path, document)
    for pages, first_page, count in _spread(path, document, image, num_pages):
        is_own = is_renamed or _is_own(path, document, pages)
        name, uuid = (None, None) if is_own else (pages.file_name, pages.uuid)
        if not is_own and name is None:
            raise ImageDataError(f"{path}: its OME-XML places channels in another file that it does not name; {REMEDY}")
        for page, (c, _, _) in enumerate(image.planes(pages, count), start=first_page):
            place = _Place(name, uuid, page)
            if c in places or place in taken:
                raise ValueError(f"its OME-XML places channel {c + 1} twice, or two channels in page {page + 1}")
            if is_own and page >= num_pages:
                raise ValueError(f"its OME-XML places channel {c + 1} in page {page + 1}, the file holds {num_pages}")
            places[c] = place
            taken.add(place)
    wanted = image.sizes[0] // image.samples
    if len(places) < wanted:
        missing = ", ".join(str(c + 1) for c in range(wanted) if c not in places)
        raise ValueError(f"its OME-XML describes {image.sizes[0]} channels, but gives channel {missing} no page")
    return [places[c] for c in range(wanted)]


def _spread(path: Path, document: OmeDocument, image: OmeImage, num_pages: int) -> list[tuple[OmePages, int, int]]:
    """Of each entry its first page and how many: without a page, all of them, or one after the other."""
    if len(image.pages) > 1 and all(pages.ifd is None for pages in image.pages):
        by_file: dict[str | None, int] = {}
        spread = []
        for pages in image.pages:
            first = by_file.get(pages.uuid or pages.file_name, 0)
            count = pages.count or 1
            by_file[pages.uuid or pages.file_name] = first + count
            spread.append((pages, first, count))
        starts = [pages.first for pages, _, _ in spread]
        if len(by_file) == 1 and (starts != sorted(starts) or sum(by_file.values()) != num_pages):
            raise ValueError("its OME-XML does not say which pages its channels are")
        return spread
    total = image.sizes[0] // image.samples * image.sizes[1] * image.sizes[2]
    return [
        (pages, pages.ifd or 0, pages.count if pages.count is not None else 1 if pages.ifd is not None else total)
        for pages in image.pages
    ]


def _is_renamed(path: Path, document: OmeDocument) -> bool:
    """Whether all planes lie in one file of another name, which can only be this one."""
    entries = [pages for image in document.images for pages in image.pages]
    return (
        len({(pages.file_name, pages.uuid) for pages in entries}) == 1
        and None in (document.uuid, entries[0].uuid)
        and not _is_own(path, document, entries[0])
    )


def _open_part(path: Path, place: _Place) -> tifffile.TiffFile:
    """Another file of a set, which must lie beside or below the first and be the one that is meant."""
    part = path.parent / (place.file_name or "")
    if not part.resolve().is_relative_to(path.resolve().parent):
        raise ImageDataError(f"{path}: its OME-XML names {part}, outside its folder; move the set into one folder")
    if not part.is_file():
        raise ImageDataError(
            f"{path}: {place.file_name}, which its OME-XML names for further channels, is not beside it; copy the "
            "whole set"
        )
    check_extent(part)
    file = tifffile.TiffFile(part)
    try:
        text = file.ome_metadata
        uuid = parse_ome_xml(text).uuid if text else None
        if place.uuid is not None and uuid is not None and uuid != place.uuid:
            raise ImageDataError(
                f"{path}: {place.file_name} beside it is of another set (UUID {uuid}, expected {place.uuid}); {REMEDY}"
            )
    except (ImageDataError, ValueError):
        file.close()
        raise
    return file


def _refuse_further_pages(path: Path, document: OmeDocument, file: tifffile.TiffFile, first: tifffile.TiffPage) -> None:
    """Pages of the image's size that no image refers to: the XML is not, or no longer, of these pixels."""
    num_pages = len(file.pages)
    is_renamed = _is_renamed(path, document)
    described = sum(
        count
        for image in document.images
        for pages, _, count in _spread(path, document, image, num_pages)
        if is_renamed or _is_own(path, document, pages)
    )
    if described >= num_pages:
        return
    same = sum(
        page.imagelength == first.imagelength and page.imagewidth == first.imagewidth and page.dtype == first.dtype
        for page in (own_page(file, number) for number in range(num_pages))
    )
    if same > described:
        raise ImageDataError(
            f"{path}: its OME-XML describes {described} planes, but the file holds {same} pages of that size, so that "
            "its names may be those of other pixels; export the image again"
        )
