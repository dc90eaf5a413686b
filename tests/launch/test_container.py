"""The definition of the container: its ``%setup`` runs on the machine itself and must stay within the image."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

DEFINITION = Path(__file__).parents[2] / "container" / "plexrank.def"


def setup(weights: str = "") -> str:
    """The section, with the argument filled in; ``mkdir`` and ``cp`` are only called within it."""
    found = re.search(r"^%setup\n(.*?)^%", DEFINITION.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found
    return found[1].replace("{{ WEIGHTS }}", weights)


@pytest.mark.parametrize("variable", ["APPTAINER_ROOTFS", "SINGULARITY_ROOTFS"])
def test_setup_writes_into_the_image_of_either_program(tmp_path: Path, variable: str) -> None:
    root, weights = tmp_path / "the root", tmp_path / "resnet18.pth"
    root.mkdir()
    weights.write_bytes(b"w")
    subprocess.run(["sh", "-c", setup(str(weights))], env={"PATH": os.environ["PATH"], variable: str(root)}, check=True)
    assert (root / "opt" / "torch" / "hub" / "checkpoints" / "resnet18.pth").read_bytes() == b"w"
    assert sorted(path.name for path in root.iterdir()) == ["cache", "opt", "wheelhouse"]


@pytest.mark.parametrize("root", [None, "", "/", "/no/such/folder"])
def test_setup_writes_nothing_where_it_does_not_know_the_image(tmp_path: Path, root: str | None) -> None:
    called = tmp_path / "called"
    for name in ("mkdir", "cp"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {called}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | ({} if root is None else {"APPTAINER_ROOTFS": root})
    stopped = subprocess.run(
        ["sh", "-c", setup("/w.pth")], env=environment, capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 1
    assert "neither APPTAINER_ROOTFS nor SINGULARITY_ROOTFS names the folder of the image" in stopped.stderr
    assert not called.exists()
