"""IMC raw ``.txt``: one acquisition as a table, a line a pixel, in the order of the image's lines."""

from __future__ import annotations

import functools
import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from plexrank.errors import ImageDataError, naming_damage
from plexrank.images.lazy import REMEDY, ImagePixels, LazyImage, named

_LEADING = ("Start_push", "End_push", "Pushes_duration", "X", "Y", "Z")
_X, _Y = 3, 4
_CHANNEL = re.compile(r"(?P<label>.*)\((?P<metal>[A-Za-z]+)(?P<mass>[0-9]+)[^0-9()]*\)")  # CD3(Er170Di)
_TEXT_BYTES = 2**23  # of text
_LAST_LINES_BYTES = 2**16
_SCAN_BYTES = 2**22
_MOST_LINE_BYTES = 2**20
_LEAST_CELL_BYTES = 2  # a digit, and a tab or a line break


@dataclass(frozen=True)
class _TxtPixels:
    """``header_bytes`` is where the first pixel's line starts, ``end`` where the last ends, ``shape`` (c, y, x)."""

    path: Path
    header_bytes: int
    end: int
    shape: tuple[int, int, int]
    dtype = np.dtype(np.float32)

    @property
    def chunks(self) -> tuple[int, int, int]:
        num_channels, height, width = self.shape
        text_per_line = max(1, self.path.stat().st_size // height)
        return num_channels, min(height, max(1, _TEXT_BYTES // text_per_line)), width

    @functools.cached_property
    def line_starts(self) -> list[int]:
        """Where each line of the image starts, and where the last one ends, bytes; found by one pass over the file."""
        _, height, width = self.shape
        starts, lines, offset = [self.header_bytes], 0, self.header_bytes
        with self.path.open("rb") as file:
            file.seek(offset)
            while block := file.read(min(_SCAN_BYTES, self.end - offset)):
                breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
                starts += (offset + breaks[(width - 1 - lines) % width :: width] + 1).tolist()
                lines, offset = lines + len(breaks), offset + len(block)
        lines += 1  # the last, whose break comes after the end
        starts += [self.end] if lines % width == 0 else []
        if len(starts) != height + 1 or lines != height * width:
            raise ValueError(f"{lines} pixels; expected {height} × {width}")
        return starts

    def __getitem__(self, key: tuple[slice, ...]) -> npt.NDArray[Any]:
        import pandas as pd  # not needed to open an image

        num_channels, height, width = self.shape
        first, end, _ = key[1].indices(height)
        with self.path.open("rb") as file:
            file.seek(self.line_starts[first])
            text = file.read(self.line_starts[end] - self.line_starts[first])
        rows = pd.read_table(io.BytesIO(text), header=None, dtype=np.float32).to_numpy()
        if rows.shape != ((end - first) * width, len(_LEADING) + num_channels):
            raise ValueError(f"{rows.shape[0]} pixels of {rows.shape[1]} values in lines {first} to {end} of the image")
        place = np.arange(first * width, end * width)
        if not (np.array_equal(rows[:, _X], place % width) and np.array_equal(rows[:, _Y], place // width)):
            raise ValueError("its pixels are not in the order of the image's lines")
        band = rows[:, len(_LEADING) :].T.reshape(num_channels, end - first, width)
        return np.ascontiguousarray(band[key[0], :, key[2]])


def why_no_txt(path: Path) -> str | None:
    """Why this is no IMC table, or None."""
    if path.is_dir():
        return "a folder"
    expected = "\t".join(_LEADING).encode()
    with path.open("rb") as file:
        start = file.read(len(expected))
    return None if start == expected else f"does not start with the columns {', '.join(_LEADING)}"


def open_txt(path: Path) -> LazyImage:
    """Open an IMC table, which does not say how large its pixels are.

    Raises:
        ImageDataError: a column is no channel, the table is cut short, or the acquisition was stopped.
    """
    with naming_damage(f"{path}: not readable as IMC table", REMEDY, ImageDataError):
        with path.open("rb") as file:
            columns = _decode(_read_line(file)).rstrip("\r\n").split("\t")[len(_LEADING) :]
        pixels = _open_pixels(path)
    matches = [_CHANNEL.fullmatch(column) for column in columns]
    channels = [match for match in matches if match is not None]
    if len(channels) != len(columns):
        wrong = columns[matches.index(None)]
        raise ImageDataError(
            f"{path}: column {wrong!r} is no channel; expected a label and a metal, as in CD3(Er170Di)"
        )
    metals = tuple(match["metal"] + match["mass"] for match in channels)
    labels = [match["label"].strip() or metal for match, metal in zip(channels, metals, strict=True)]
    return LazyImage(ImagePixels(path, _open_pixels, pixels), named(labels), None, metals)


def _decode(header: bytes) -> str:
    """UTF-8, or the code page of Windows that older software writes (µ)."""
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("cp1252")


def _open_pixels(path: Path) -> _TxtPixels:
    """Size from the first line of the image and the last of the file; blank lines at the end do not count.

    Raises:
        ImageDataError: the last pixel is not that of a full line of the image, as after a stopped acquisition.
        ValueError: there is no pixel, the last is cut short, or the file is too small for what it announces.
    """
    with path.open("rb") as file:
        num_channels = len(_read_line(file).split(b"\t")) - len(_LEADING)
        header_bytes = file.tell()
        lines = iter(functools.partial(_read_line, file), b"")
        width = sum(1 for _ in itertools.takewhile(lambda line: line.strip() and _place(line)[1] == 0, lines))
        tail_start = max(header_bytes, path.stat().st_size - _LAST_LINES_BYTES)
        file.seek(tail_start)
        tail = file.read().rstrip()
    if width == 0 or num_channels < 1:
        raise ValueError("it holds no pixel in its first line, or no channel")
    last = tail.splitlines()[-1]
    num_cells = len(last.split(b"\t"))
    if num_cells != len(_LEADING) + num_channels:
        raise ValueError(f"its last line has {num_cells} of {len(_LEADING) + num_channels} cells")
    x, y = _place(last)
    least = (y + 1) * width * num_cells * _LEAST_CELL_BYTES
    if y < 0 or least > path.stat().st_size:
        raise ValueError(f"its last line is of pixel {x + 1} of line {y + 1}, and it holds {path.stat().st_size} bytes")
    if x != width - 1 or y == 0:
        found = f"ends at pixel {x + 1} of line {y + 1}" if y else f"holds one line, of {width} pixels,"
        remedy = "take that line out of the table, or leave the image out" if y else "leave the image out"
        raise ImageDataError(f"{path}: {found} of the image, as after a stopped acquisition; {remedy}")
    return _TxtPixels(path, header_bytes, tail_start + len(tail), (num_channels, y + 1, width))


def _read_line(file: BinaryIO) -> bytes:
    """The next line; ValueError if it is longer than one of any number of channels."""
    line = file.readline(_MOST_LINE_BYTES)
    if len(line) == _MOST_LINE_BYTES:
        raise ValueError(f"a line of more than {_MOST_LINE_BYTES} bytes")
    return line


def _place(line: bytes) -> tuple[int, int]:
    """x and y of a pixel's line."""
    cells = line.split(b"\t", _Y + 1)
    return int(float(cells[_X])), int(float(cells[_Y]))
