"""What an image may be made of: grey planes, and channels alone beside y and x."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from plexrank.errors import ImageDataError

_GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
_MEANINGS = {"T": "time points", "Z": "focal planes"}


def check_grey(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse colours. A table of colours that only gives rising counts rising brightness is as good as grey.

    Raises:
        ImageDataError: the page is a colour picture.
    """
    if page.photometric in _GREY:
        return
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
        steps = np.diff(page.colormap.astype(np.int64), axis=1)
        if (steps >= 0).all() and (steps > 0).any():
            return
    kind = tifffile.PHOTOMETRIC(page.photometric).name
    raise ImageDataError(f"{path}: a {kind} picture, not a stack of channels; export the channels as grey planes")


def refuse_other_axes(path: Path, sides: Mapping[str, int]) -> None:
    """Refuse time points and focal planes, with what they may be in truth.

    Args:
        path: the image.
        sides: axis → length; C, Z and T matter.

    Raises:
        ImageDataError: there are several.
    """
    channels = sides.get("C", 1)
    others = {axis: sides[axis] for axis in _MEANINGS if sides.get(axis, 1) > 1}
    if not others:
        return
    held = " and ".join(f"{side} {_MEANINGS[axis]}" for axis, side in others.items())
    if len(others) == 1 and channels == 1:
        advice = (
            "if these are the channels, written as a stack, make them channels: in Fiji Image › Properties, or "
            'metadata={"axes": "CYX"} of tifffile; otherwise export one of them, or a projection'
        )
    elif set(others) == {"T"}:
        count = channels * others["T"]
        advice = (
            "if the time points are staining cycles, as CODEX processors write them, make one axis of "
            f"{count} channels of both (pixels.reshape({count}, height, width) and "
            'metadata={"axes": "CYX"} with tifffile); otherwise export one of them'
        )
    else:
        advice = "export one of them, or a projection"
    of = f" of {channels} channels" if channels > 1 else ""
    raise ImageDataError(f"{path}: holds {held}{of}; {advice}")
