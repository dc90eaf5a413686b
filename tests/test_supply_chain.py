"""What the package brings with it: locked by digests, under licences that go with its own, and listed by name."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from license_expression import get_spdx_licensing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-peers.lock")
FOR_USERS = ("imc", "distributed", "tensorboard", "anndata")

PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "MIT-0",
    "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""By SPDX: a program under BSD-3-Clause may be passed on together with them."""
WEAK_COPYLEFT = {"MPL-2.0"}
"""Binds changes of their own files alone."""
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
IN_OTHER_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
}
FROM_THE_FILE = {"readimc": ("MIT", "MIT License")}
"""Their metadata name no licence; the words with which their licence file begins."""
NVIDIA = re.compile(r"nvidia-[a-z0-9-]+|cuda-toolkit")
"""Under NVIDIA's own terms for CUDA, which let its libraries be passed on with a program, as torch's wheels ask for."""


def pinned(lock: str) -> Iterator[tuple[str, str]]:
    """Every requirement of a lock, and all that stands below it."""
    text = (ROOT / lock).read_text()
    yield from re.findall(r"^([A-Za-z0-9][^\n]*)\n((?:    .*\n)*)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_one_version_with_digests(lock: str) -> None:
    requirements = list(pinned(lock))
    assert len(requirements) > 100
    for first, below in requirements:
        assert re.match(r"[\w.\-]+(\[[\w,]+\])?==[\w.+]+ ", first), first
        assert "--hash=sha256:" in below, first


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_index(lock: str) -> None:
    assert not re.search(r"https?://|--index|--find-links", (ROOT / lock).read_text())


def brought_along() -> set[str]:
    """Names of all installed distributions that a user gets with the package and every extra."""
    waiting = [("plexrank", FOR_USERS)]
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extras = waiting.pop()
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                continue
            key = canonicalize_name(requirement.name), ",".join(sorted(requirement.extras))
            if key not in seen:
                seen.add(key)
                found.add(key[0])
                waiting.append((key[0], tuple(requirement.extras)))
    return found


def licence_of(name: str) -> str:
    """The SPDX expression of an installed distribution, from what its metadata say in one of three ways."""
    metadata = importlib.metadata.metadata(name)
    if expression := metadata.get("License-Expression"):
        return str(expression)
    if name in FROM_THE_FILE:
        licence, words = FROM_THE_FILE[name]
        (file,) = [file for file in importlib.metadata.files(name) or () if file.name == "LICENSE"]
        assert file.read_text().startswith(words)
        return licence
    named = [text.split(" :: ")[-1] for text in metadata.get_all("Classifier", []) if text.startswith("License :: ")]
    known = [CLASSIFIERS[text] for text in named if text in CLASSIFIERS]
    if known:
        return " AND ".join(known)
    written = " ".join(str(metadata.get("License", "")).split())
    if "Redistribution and use in source and binary forms" in written:  # the text of a licence in the place of its name
        return "BSD-3-Clause" if "Neither the name of" in written else "BSD-2-Clause"
    return IN_OTHER_WORDS.get(written, written)


def test_licences_go_with_that_of_the_package() -> None:
    names = brought_along()
    assert {"torch", "zarr", "submitit", "readimc", "distributed", "anndata"} <= names
    refused, licensing = {}, get_spdx_licensing()
    for name in sorted(names):
        if NVIDIA.fullmatch(name):
            continue
        licence = licence_of(name)
        expression = licensing.parse(licence)
        licences = set() if expression is None else {key.split(" ")[0] for key in map(str, expression.objects)}
        if not licences or not licences <= PERMISSIVE | WEAK_COPYLEFT | {"Apache-2.0 WITH LLVM-exception"}:
            refused[name] = licence
    assert refused == {}


def test_a_bill_of_materials_names_all_that_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "sbom.cdx.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--output-file", str(file)]
    subprocess.run([*command, sys.executable], check=True, capture_output=True)
    listed = {canonicalize_name(part["name"]) for part in json.loads(file.read_text())["components"]}
    assert brought_along() <= listed
    assert "cyclonedx-py environment" in (ROOT / "container" / "plexrank.def").read_text()


def test_every_direct_dependency_has_a_lowest_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for extra in FOR_USERS for text in extras[extra])]:
        assert any(part.operator == ">=" for part in Requirement(text).specifier), text
