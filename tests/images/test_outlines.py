"""GeoJSON that is none, and outlines of more edges than are drawn at once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from plexrank.images import outlines
from plexrank.images.outlines import Outlines, read_outlines


def polygon(*points: object, kind: str = "Polygon") -> dict[str, Any]:
    return {"type": kind, "coordinates": [[*points]]}


def collections(depth: int) -> dict[str, Any]:
    content = polygon([0, 0], [1, 1], [1, 0])
    for _ in range(depth):
        content = {"type": "GeometryCollection", "geometries": [content]}
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no GeoJSON: None in the place of an object"),
        (5, "no GeoJSON: 5 in the place"),
        ({"type": "Feature", "geometry": 5}, "no GeoJSON: 5 in the place"),
        ({}, "a part of it has no type"),
        ({"type": "FeatureCollection"}, "a part of it has no features"),
        ({"type": "Polygon"}, "a part of it has no coordinates"),
        ({"type": ["Polygon"]}, "it holds no polygon"),
        ({"type": "Polygon", "coordinates": {"a": 1}}, "no list of outlines"),
        ({"type": "Polygon", "coordinates": []}, "no list of outlines"),
        (polygon(kind="MultiPolygon"), "no list of outlines"),
        (polygon([0, 0], [1, 1], ["x", 0]), "could not convert"),
        (polygon([0, 0], [1, 1], [10**400, 0]), "no GeoJSON: int too large"),
        (polygon([0, 0], [1, 1], [float("nan"), 0]), "three or more points"),
        (polygon([0, 0], [1, 1], [1e300, 0]), "more than 1,000,000,000 pixels away"),
        (polygon([0, 0], [1, 1]), "three or more points"),
        (polygon([0, 0], [1, 0], [2, 0]), "no height"),
        (collections(200), "nested more than 100 levels deep"),
        ([[]], "it holds no polygon"),
    ],
)
def test_what_is_no_outline_is_named(content: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_outlines(content)


def test_outlines_drawn_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(-20, 80, (60, 2)).tolist()
    areas = read_outlines(json.loads(json.dumps(polygon(*points))))
    whole = Outlines(areas, (1, 50, 60))[0:1, 0:50, 0:60]
    monkeypatch.setattr(outlines, "_CROSSINGS_AT_ONCE", 7)
    assert whole.any()
    assert not whole.all()
    assert np.array_equal(Outlines(areas, (1, 50, 60))[0:1, 0:50, 0:60], whole)
