"""A sample of what ``make fuzz`` does to images and stores, and changes that know the formats."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile
from fuzz_imc import TARGETS as IMC
from fuzz_masks import TARGETS as MASKS
from fuzz_ome_xml import TARGETS as OME_XML
from fuzz_ome_zarr import TARGETS as OME_ZARR
from fuzz_stores import TARGETS as STORES
from fuzz_tiff import TARGETS as TIFF
from fuzzing import Bench, Seed, Target, broken, judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TARGETS = [*TIFF, *OME_XML, *IMC, *OME_ZARR, *MASKS, *STORES]
SAMPLE = 60
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**35, 10**9, 2**63, 10**30])
LEAVES = st.one_of(NUMBERS, st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.just([]), st.just({}))
Change = Callable[[st.DataObject, bytes], bytes]


def name_of(target: Target) -> str:
    return target.name


@pytest.fixture(scope="module")
def seeds_of() -> Callable[[Target], list[Seed]]:
    made: dict[str, list[Seed]] = {}

    def seeds(target: Target) -> list[Seed]:
        if target.name not in made:
            made[target.name] = target.seeds()
        return made[target.name]

    return seeds


@pytest.mark.parametrize("target", TARGETS, ids=name_of)
def test_seeds_are_read(tmp_path: Path, seeds_of: Callable[[Target], list[Seed]], target: Target) -> None:
    seeds = seeds_of(target)
    bench = Bench(tmp_path, seeds)
    for which in range(len(seeds)):
        with bench.changed(which, {}) as folder:
            target.read(folder)


@pytest.mark.parametrize("target", TARGETS, ids=name_of)
def test_a_sample_is_read_or_refused(tmp_path: Path, seeds_of: Callable[[Target], list[Seed]], target: Target) -> None:
    seeds = seeds_of(target)
    bench = Bench(tmp_path, seeds)
    found = {}
    for number in range(SAMPLE):
        which, changes = broken(seeds, target.tokens, target.name, 0, number)
        with bench.changed(which, changes) as folder:
            found[number] = judge(target, folder)
    assert {number: what for number, what in found.items() if what not in (None, "refused")} == {}
    assert "refused" in found.values()


def change_tag(data: st.DataObject, content: bytes) -> bytes:
    """Another type, count or value in a tag of a TIFF's first page."""
    with tifffile.TiffFile(_as_file(content)) as file:
        tag = data.draw(st.sampled_from(list(file.pages.first.tags)))
        order, is_big = file.byteorder, file.is_bigtiff
    layout = struct.Struct(f"{order}HHQQ" if is_big else f"{order}HHII")
    changed = bytearray(content)
    numbers = list(layout.unpack_from(changed, tag.offset))
    place = data.draw(st.integers(1, 3))
    numbers[place] = data.draw(NUMBERS) % 2 ** (16 if place == 1 else 64 if is_big else 32)
    layout.pack_into(changed, tag.offset, *numbers)
    return bytes(changed)


def change_json(data: st.DataObject, content: bytes) -> bytes:
    """Another value somewhere in a JSON document."""
    document = json.loads(content)
    node: Any = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 5)) == 0:
            node[key] = data.draw(LEAVES)
            return json.dumps(document).encode()
        node = inner


def change_text(encoding: str, pattern: str) -> Change:
    """Another number or word in place of what a pattern finds."""

    def change(data: st.DataObject, content: bytes) -> bytes:
        text = content.decode(encoding, errors="surrogateescape")
        match = data.draw(st.sampled_from(list(re.finditer(pattern, text))))
        value = str(data.draw(LEAVES)).encode(encoding, errors="replace").decode(encoding)
        return (text[: match.start(1)] + value + text[match.end(1) :]).encode(encoding, errors="surrogateescape")

    return change


def change_description(data: st.DataObject, content: bytes) -> bytes:
    """As :func:`change_text`, of the XML that ends an ``.mcd``."""
    start = content.rindex("<MCDSchema".encode("utf-16-le"))
    return content[:start] + change_text("utf-16-le", r">([^<>]+)<")(data, content[start:])


STRUCTURED: list[tuple[Target, str, Change]] = [
    *((target, r"\.tiff?$", change_tag) for target in (TIFF[0], TIFF[1])),
    (OME_XML[0], r"\.xml$", change_text("utf-8", r'"([^"]*)"')),
    (OME_XML[1], r"\.ome$", change_text("utf-8", r'"([^"]*)"')),
    (IMC[0], r"\.txt$", change_text("utf-8", r"([^\t\n]+)")),
    (IMC[1], r"\.mcd$", change_description),
    (OME_ZARR[0], r"(zarr\.json|\.zarray|\.zattrs)$", change_json),
    (STORES[0], r"zarr\.json$", change_json),
    (STORES[1], r"zarr\.json$", change_json),
]


@pytest.mark.parametrize(("target", "files", "change"), STRUCTURED, ids=[target.name for target, _, _ in STRUCTURED])
def test_changes_within_the_format_are_read_or_refused(
    tmp_path: Path, seeds_of: Callable[[Target], list[Seed]], target: Target, files: str, change: Change
) -> None:
    seeds = seeds_of(target)
    bench = Bench(tmp_path, seeds)
    choices = [
        (which, path)
        for which, seed in enumerate(seeds)
        for path, content in sorted(seed.items())
        if re.search(files, path) and content.strip() not in (b"", b"{}")
    ]

    @settings(
        max_examples=SAMPLE, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def look(data: st.DataObject) -> None:
        which, path = data.draw(st.sampled_from(choices))
        with bench.changed(which, {path: change(data, seeds[which][path])}) as folder:
            assert judge(target, folder) in (None, "refused")

    look()


def _as_file(content: bytes) -> Any:
    return io.BytesIO(content)
