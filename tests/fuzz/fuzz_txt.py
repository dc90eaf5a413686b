"""IMC tables."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reading_images import read_image
from fuzzing import Seed, Target

from image_files import noise, write_txt


def seeds() -> list[Seed]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            {"a.txt": write_txt(Path(folder) / "a.txt", noise((3, height, width))).read_bytes()}
            for height, width in ((4, 5), (2, 3))
        ]


TARGETS = [Target("IMC txt", seeds, lambda folder: read_image(folder / "a.txt"), tokens=(b"X", b"Y", b"CD3(Er170Di)"))]
