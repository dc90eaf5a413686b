"""Atomic writes and done-records."""

import json
from pathlib import Path

import pytest

from plexrank.errors import MissingInputError, RunDirError
from plexrank.rundir import RunDir, Unit, digest, replacing, write_text


def unit(folder: Path, **depends: object) -> Unit:
    return Unit("unit", folder / "done.json", (folder / "out.bin", folder / "store"), depends or {"a": 1})


def work(one: Unit, content: bytes = b"1234") -> None:
    one.begin()
    one.outputs[0].write_bytes(content)
    one.outputs[1].mkdir(exist_ok=True)
    (one.outputs[1] / "chunk").write_bytes(content)
    one.finish()


def test_a_unit_is_done_only_with_its_record(tmp_path: Path) -> None:
    one = unit(tmp_path)
    assert one.why_not_done() == "not done yet"
    work(one)
    assert one.why_not_done() is None
    one.begin()
    assert one.why_not_done() == "not done yet"


def test_a_changed_setting_is_named(tmp_path: Path) -> None:
    work(unit(tmp_path, tile={"tile_px": 64, "downsample": 1}, other=3))
    changed = unit(tmp_path, tile={"tile_px": 32, "downsample": 1}, other=3)
    assert changed.why_not_done() == "changed: tile.tile_px 64 → 32"


def test_outputs_that_are_not_as_written_are_noticed(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    (tmp_path / "store" / "chunk").write_bytes(b"12")
    assert one.why_not_done() == "store is missing or not as it was written"
    work(one)
    (tmp_path / "out.bin").unlink()
    assert one.why_not_done() == "out.bin is missing or not as it was written"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"depends": 3}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    one = unit(tmp_path)
    work(one)
    one.record.write_text(text)
    assert one.why_not_done() == "its done-record is damaged"


def test_a_unit_cannot_finish_without_its_outputs(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"out\.bin"):
        unit(tmp_path).finish()


def test_begin_clears_what_a_killed_attempt_left(tmp_path: Path) -> None:
    (tmp_path / ".store.0badcafe.tmp").mkdir()
    (tmp_path / ".other.0badcafe.tmp").mkdir()
    unit(tmp_path).begin()
    assert [path.name for path in tmp_path.iterdir()] == [".other.0badcafe.tmp"]


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("new")
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_replacing_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "store"
    for content in ("one", "two"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [path.name for path in target.iterdir()] == ["two"]


def test_digest_depends_on_content_not_on_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_run_directory_is_private_and_keeps_provenance(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    with pytest.raises(MissingInputError, match="no run directory"):
        rundir.require()
    rundir.create()
    assert rundir.path.stat().st_mode & 0o777 == 0o700
    rundir.add_provenance({"command": "first"})
    rundir.add_provenance({"command": "second"})
    commands = json.loads(rundir.provenance.read_text())["commands"]
    assert [entry["command"] for entry in commands] == ["first", "second"]
