"""The limits on what is read, as the environment sets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Plexrank
from plexrank import limits


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "PLEXRANK_MAX_IMAGE_PIXEL",
            "1e12",
            "no such limit, correct or unset it; did you mean 'PLEXRANK_MAX_IMAGE_PIXELS'?",
        ),
        ("PLEXRANK_MAX_NESTING", "deep", "expected a number above 0, found 'deep'; correct or unset it"),
    ],
)
def test_a_limit_that_is_none_is_named_by_every_command(
    plexrank: Plexrank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    monkeypatch.setenv(name, text)
    ended = plexrank("status", tmp_path)
    assert ended.returncode == 64
    assert ended.stderr.startswith(f"error: {name}: {message}")
    assert plexrank("--version").returncode == 0


def test_limits_are_called_like_their_variables() -> None:
    found = {name: value for name, value in vars(limits).items() if isinstance(value, limits.Limit)}
    assert {value.name for value in found.values()} == {f"MAX_{name}" for name in found}
    assert set(found.values()) == set(limits.LIMITS)
