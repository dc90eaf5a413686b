"""Figures as files, each as PNG and as SVG, and as data in the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image  # of matplotlib's own dependencies

DPI = 120
LARGEST_SVG = 150_000
"""Bytes up to which the page shows a figure as SVG, where that is the smaller file or nearly so."""


@dataclass(frozen=True)
class Drawn:
    """A figure in words.

    Attributes:
        figure: to be saved.
        alt: what is seen on it.
        caption: what it shows, and how far to trust it.
    """

    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A figure in words: the PNG, beside which the SVG lies, what is seen on it, and what stands below it."""

    path: Path
    alt: str
    caption: str


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path, dpi: int = DPI, colours: int | None = None) -> None:
    """Write a figure to ``path``, a PNG, and as SVG beside it, with text as outlines.

    Equal figures give equal files: neither holds a date or numbers drawn at random.

    Args:
        colours: of the PNG at most, which makes one with photographs small; all that there are if absent.
    """
    with matplotlib.rc_context({"svg.hashsalt": "plexrank", "svg.fonttype": "path"}):
        figure.savefig(path, dpi=dpi)
        figure.set_layout_engine("none")  # laid out by now, and costly
        figure.savefig(path.with_suffix(".svg"), dpi=dpi, metadata={"Date": None})
    if colours is not None:
        with Image.open(path) as image:
            image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def embedded(path: Path) -> str:
    """The address of a figure within the page: SVG where small, for sharp text at any zoom, else PNG."""
    svg = path.with_suffix(".svg")
    if svg.is_file() and svg.stat().st_size <= min(LARGEST_SVG, 2 * path.stat().st_size):
        return as_address(svg.read_bytes(), "image/svg+xml")
    return as_address(path.read_bytes(), "image/png")


def as_address(content: bytes, kind: str) -> str:
    """A file of a MIME type as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
