"""Places on the page that links lead to."""

from __future__ import annotations

import hashlib
import re


def channel_anchor(name: str) -> str:
    """The ``id`` of a channel's pictures on the page, different for different names whatever characters these hold.

    What can be read of the name in plain letters and digits, then twelve digits of the name's SHA-256.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24].strip("-")
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return "-".join(filter(None, ("channel", readable, digits)))
