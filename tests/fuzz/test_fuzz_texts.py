"""A sample of the fuzzing of what people write by hand, the same everywhere: read, or refused by errors of our own."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from fuzz_texts import TARGETS
from fuzzing import Target, broken, judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plexrank.settings import Study

SAMPLE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BY_NAME = {target.name: target for target in TARGETS}
TEXT = st.text(max_size=8) | st.sampled_from(
    ["", "-", "1", "NaN", "1e400", "=x", "\x1b[m", "\u200b", "0x", "İ", "9" * 400]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | TEXT | st.sampled_from([10**30, 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SECTIONS = {
    name: list(field.annotation.model_fields)
    for name, field in Study.model_fields.items()
    if hasattr(field.annotation, "model_fields")
}
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 5, 1e308, 10**400]) | VALUES
GEOMETRIES = st.recursive(
    VALUES,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["Polygon", "MultiPolygon", "Feature", "FeatureCollection", "GeometryCollection"])},
        optional={
            "coordinates": st.lists(st.lists(st.lists(NUMBERS, max_size=3), max_size=4), max_size=2) | inner,
            "features": st.lists(inner, max_size=2) | inner,
            "geometry": inner,
            "geometries": st.lists(inner, max_size=2) | inner,
        },
    ),
    max_leaves=5,
)


def require_held(target: Target, folder: Path) -> None:
    assert judge(target, folder) in (None, "refused")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_broken_files_are_read_or_refused(tmp_path: Path, target: Target) -> None:
    seeds = target.seeds()

    def write(which: int, changes: dict[str, bytes]) -> None:
        for path, content in {**seeds[which], **changes}.items():
            (tmp_path / path).write_bytes(content)

    for which in range(len(seeds)):
        write(which, {})
        assert judge(target, tmp_path) is None

    @SAMPLE
    @given(number=st.integers(0, 10**6))
    def hold(number: int) -> None:
        write(*broken(seeds, target.tokens, target.name, 0, number))
        require_held(target, tmp_path)

    hold()


@SAMPLE
@given(
    name=TEXT | st.just("x"),
    cohort=st.dictionaries(st.sampled_from(SECTIONS["cohort"]), VALUES, max_size=3),
    changes=st.lists(
        st.sampled_from(list(SECTIONS)).flatmap(
            lambda section: st.tuples(st.just(section), st.sampled_from(SECTIONS[section]), VALUES)
        ),
        max_size=3,
    ),
)
def test_studies_of_any_values_are_read_or_refused(
    tmp_path: Path, name: str, cohort: dict[str, object], changes: list[tuple[str, str, object]]
) -> None:
    study: dict[str, object] = {"name": name, "cohort": {"samplesheet": "s.csv", "label": "y", **cohort}}
    for section, key, value in changes:
        study[section] = {**study.get(section, {}), key: value}  # type: ignore[dict-item]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, allow_unicode=False), encoding="utf-8")
    require_held(BY_NAME["study"], tmp_path)


@pytest.mark.parametrize("reader", ["samplesheet", "panel", "truth", "single cells"])
@SAMPLE
@given(data=st.data())
def test_tables_of_any_cells_are_read_or_refused(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    target = BY_NAME[reader]
    (first, *_) = target.seeds()
    for path, content in first.items():
        rows = list(csv.reader(io.StringIO(content.decode())))
        cells = [(row, column) for row in range(len(rows)) for column in range(len(rows[0]))]
        for row, column in data.draw(st.lists(st.sampled_from(cells), max_size=4), label="cells"):
            rows[row][column] = data.draw(TEXT, label="cell")
        text = io.StringIO()
        csv.writer(text, delimiter=data.draw(st.sampled_from(",;\t"), label="delimiter")).writerows(rows)
        encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), label="encoding")
        (tmp_path / path).write_text(text.getvalue(), encoding=encoding, errors="replace", newline="")
    require_held(target, tmp_path)


@SAMPLE
@given(content=GEOMETRIES)
def test_outlines_of_any_json_are_read_or_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps(content, default=str), encoding="utf-8")
    require_held(BY_NAME["GeoJSON"], tmp_path)
