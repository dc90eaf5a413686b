"""XML that files hold, parsed within limits: no definitions of its own, so that a few bytes cannot stand for many."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from plexrank.limits import METADATA_BYTES, METADATA_PARTS, NESTING


def parse_xml(text: str, what: str) -> ET.Element:
    """The root of an XML document.

    Args:
        text: the document.
        what: what messages call it.

    Raises:
        ValueError: it is no XML, defines entities, or is larger or deeper than a limit allows.
    """
    METADATA_BYTES.require(len(text), what, ValueError)
    METADATA_PARTS.require(text.count("<"), what, ValueError)
    if "<!ENTITY" in text:
        raise ValueError(f"{what} defines entities, which are not read")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{what} is damaged ({error})") from error
    depth, level = 0, [root]
    while level:
        depth += 1
        NESTING.require(depth, what, ValueError)
        level = [child for parent in level for child in parent]
    return root
