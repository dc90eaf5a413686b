"""What every image reader returns."""

from __future__ import annotations

from dataclasses import dataclass

import dask.array as da


@dataclass(frozen=True)
class LazyImage:
    """An image whose pixels are read when dask computes them; no file stays open in between.

    Attributes:
        data: (c, y, x), native byte order. Computing it raises ImageDataError where pixels cannot be read.
        channel_names: one a channel, trimmed; None where the file names none.
        pixel_size_um: (y, x) in micrometres; None where the file does not say.
    """

    data: da.Array
    channel_names: tuple[str, ...] | None
    pixel_size_um: tuple[float, float] | None
