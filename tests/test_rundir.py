"""Atomic writes and done-records."""

import contextlib
import errno
import hashlib
import itertools
import json
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from plexrank.cohorts.samplesheet import IMAGE_ID_PATTERN
from plexrank.errors import MissingInputError, RunDirError, StudyError
from plexrank.rundir import (
    DamagedOutputError,
    RunDir,
    Unit,
    changes,
    clear_leftovers,
    digest,
    make_way,
    recorded_checksums,
    replacing,
    size_bytes,
    write_text,
)


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


def test_a_folder_in_the_place_of_a_file_is_moved_aside(tmp_path: Path) -> None:
    one = unit(tmp_path)
    for path in (one.record, one.outputs[0]):
        path.mkdir()
        (path / "thesis.docx").touch()
    assert one.why_not_done() == "its done-record is a folder"
    one.begin()
    assert not one.record.exists()
    write_text(one.outputs[0], "1234")
    assert one.outputs[0].read_text() == "1234"
    assert sorted(path.parent.name.split(".found-")[0] for path in tmp_path.rglob("thesis.docx")) == [
        "done.json",
        "out.bin",
    ]


def test_a_folder_of_others_in_the_place_of_a_folder_is_moved_aside(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for entries, found in (({"thesis.docx"}, 1), (set(), 1), ({"chunk", "torn"}, 1), ({"notes.txt"}, 2)):
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        for name in entries:
            (store / name).touch()
        with replacing(store) as temporary:
            temporary.mkdir()
            (temporary / "chunk").touch()
        assert [path.name for path in store.iterdir()] == ["chunk"]
        assert len([*tmp_path.glob("store.found-*")]) == found


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*table\.csv'"), replacing(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"Error writing bytes: '.*table\.csv'"), replacing(tmp_path / "table.csv"):
        raise OSError("Error writing bytes")  # as pyarrow does
    assert not [*tmp_path.iterdir()]


def test_digests_are_those_of_the_own_record(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    one.update_record({"chunk": "0badcafe"})
    assert recorded_checksums(one.record, "unit") == {"chunk": "0badcafe"}
    with pytest.raises(
        DamagedOutputError, match=r"done\.json: the done-record of unit, not of tile image001; delete it and run"
    ):
        recorded_checksums(one.record, "tile image001")


def test_links_are_replaced_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "chunk").write_text("precious")
    one = unit(tmp_path)
    work(one)
    for output, target in ((one.outputs[0], others / "chunk"), (one.outputs[1], others)):
        work(one)
        make_way(output) if output.is_file() else shutil.rmtree(output)
        output.symlink_to(target)
        assert one.why_not_done() == f"{output.name} is a link"
        with pytest.raises(DamagedOutputError, match=f"{output.name}: not what unit wrote there .*a link in its place"):
            one.require_intact(output)
        with replacing(output) as temporary:
            temporary.mkdir() if output == one.outputs[1] else temporary.write_bytes(b"1234")
        assert not output.is_symlink()
    store = one.outputs[1]
    (store / "chunk").symlink_to(others / "chunk")
    assert size_bytes(store) == -1
    with replacing(tmp_path / "dangling") as temporary:
        temporary.mkdir()
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert (tmp_path / "dangling").is_dir()
    assert (others / "chunk").read_text() == "precious"


@pytest.mark.parametrize("name", ["out.bin", "store/chunk"])
def test_a_flipped_bit_in_an_output_is_noticed_where_it_is_read_and_costs_status_nothing(
    tmp_path: Path, name: str
) -> None:
    one = unit(tmp_path)
    work(one)
    one.require_intact()
    (tmp_path / name).write_bytes(b"1235")
    assert one.why_not_done() is None
    with pytest.raises(
        DamagedOutputError, match=r"CRC-32C is another\); delete it and run plexrank run again"
    ) as raised:
        one.require_intact()
    with pytest.raises(DamagedOutputError, match="SHA-256 is another"):
        one.require_intact(thoroughly=True)
    assert raised.value.record == one.record
    assert pickle.loads(pickle.dumps(raised.value)).record == one.record  # as processes hand it to each other


def test_what_a_reader_raises_knows_its_unit(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    with pytest.raises(DamagedOutputError, match=r"out\.bin: missing or damaged \(no table\)"):  # noqa: SIM117
        with one.reading(one.outputs[0]):
            raise AssertionError("no table")
    with pytest.raises(DamagedOutputError, match="of another fold") as raised:  # noqa: SIM117
        with one.blamed():
            raise RunDirError("of another fold")
    assert raised.value.record == one.record


def test_a_flipped_bit_anywhere_in_a_record_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    whole = one.record.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        one.record.write_bytes(flipped)
        try:
            same = json.loads(flipped) == json.loads(whole)
        except ValueError:
            same = False
        assert (one.why_not_done() is None) == same, place


def test_records_of_before_digests_were_written_hold(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    record = json.loads(one.record.read_text())
    del record["sha256"], record["crc32c"], record["record sha256"]
    one.record.write_text(json.dumps(record))
    assert one.why_not_done() is None
    one.require_intact()
    assert one.digest_of(one.outputs[0]) == hashlib.sha256(b"1234").hexdigest()


def test_a_record_of_another_unit_is_no_record(tmp_path: Path) -> None:
    one = unit(tmp_path)
    work(one)
    other = Unit("other unit", one.record, one.outputs, one.depends)
    assert other.why_not_done() == "its done-record is that of unit"


def test_a_study_that_was_changed_since_it_was_saved_is_refused(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.study.write_text("name: a\n")
    rundir.add_provenance({"command": "first"})
    rundir.require_study()  # no digest is known
    for text in ("name: a\n", "name: b\n"):  # the second was noted, and then the process was killed
        rundir.add_provenance({"command": "x", "study sha256": hashlib.sha256(text.encode()).hexdigest()})
        rundir.require_study()
    rundir.study.write_text("name: c\n")
    with pytest.raises(RunDirError, match=r"study\.yaml: changed by hand or damaged .* in your own study file"):
        rundir.require_study()


def test_a_unit_cannot_finish_without_its_outputs(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"out\.bin"):
        unit(tmp_path).finish()


def test_what_killed_attempts_left_is_cleared_but_of_no_other(tmp_path: Path) -> None:
    left = [".store.0badcafe.tmp", ".store.12345678.tmp", ".done.json.0badcafe.tmp"]
    kept = [".other.0badcafe.tmp", ".store.tmp", ".store.0badcaf.tmp", "store.0badcafe.tmp", ".a.store.0badcafe.tmp"]
    for name in (*left, *kept):
        (tmp_path / name).mkdir()
    one = unit(tmp_path)
    clear_leftovers([one.record, *one.outputs, tmp_path / "absent" / "file"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


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
    with pytest.raises(MissingInputError, match="not a run directory"):
        rundir.require()
    rundir.create()
    assert rundir.path.stat().st_mode & 0o777 == 0o700
    rundir.add_provenance({"command": "first"})
    rundir.add_provenance({"command": "second"})
    commands = json.loads(rundir.provenance.read_text())["commands"]
    assert [entry["command"] for entry in commands] == ["first", "second"]
    assert rundir.add_to_last_command(more="x") == {"command": "second", "more": "x"}
    assert json.loads(rundir.provenance.read_text())["commands"] == [
        {"command": "first"},
        {"command": "second", "more": "x"},
    ]


@pytest.mark.parametrize("text", [None, "", "[]", '{"commands": []}', '{"commands": [3]}', "\udcff"])
def test_damaged_provenance_is_reported_and_written_again(tmp_path: Path, text: str | None) -> None:
    rundir = RunDir(tmp_path)
    if text is not None:
        rundir.provenance.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunDirError, match=r"provenance\.json: missing or damaged"):
        rundir.add_to_last_command()
    rundir.add_provenance({"command": "first"})
    assert rundir.add_to_last_command() == {"command": "first"}


def test_only_an_empty_folder_or_an_own_one_becomes_a_run(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    rundir.require_own()
    rundir.create()
    (rundir.path / ".study.yaml.0badcafe.tmp").touch()
    rundir.lock.touch()
    rundir.require_own()
    (rundir.path / "thesis.docx").touch()
    with pytest.raises(StudyError, match="holds other files"):
        rundir.require_own()
    with pytest.raises(StudyError, match="a file, not a folder"):
        RunDir(rundir.path / "thesis.docx").require_own()


def test_a_folder_that_a_thread_still_writes_into_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    monkeypatch.setattr("plexrank.rundir.atomic.time.sleep", lambda seconds: stop.set())  # before it is tried again

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            with contextlib.suppress(FileNotFoundError):
                (next(tmp_path.glob(".out.*.tmp"), tmp_path / "gone") / str(number)).touch()

    thread = threading.Thread(target=write)

    def stopped() -> None:
        with replacing(tmp_path / "out") as temporary:
            temporary.mkdir()
            thread.start()
            while not any(temporary.iterdir()):
                pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    stop.set()
    thread.join()
    assert not list(tmp_path.iterdir())


def test_what_another_unit_is_known_by_is_not_spelled_out() -> None:
    old = {"train": {"key": "a", "finished": "1"}, "image": {"path": "a.tiff", "bytes": 1, "mtime_ns": 3}, "key": 1}
    new = {"train": {"key": "b", "finished": "2"}, "image": {"path": "b.tiff", "bytes": 1, "mtime_ns": 4}, "key": 2}
    assert changes(old, new) == ["image", "image.path a.tiff → b.tiff", "key 1 → 2", "train"]


def test_a_folder_with_a_study_of_the_user_is_no_run(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.study.write_text("name: mine\n")
    with pytest.raises(StudyError, match="not a run directory, but holds other files"):
        rundir.require_own()
    with pytest.raises(MissingInputError, match=r"not a run directory \(no provenance\.json in it\)"):
        rundir.require()
    rundir.add_provenance({"command": "plexrank run"})
    rundir.require_own()
    rundir.require()


def test_no_image_has_the_record_of_the_table(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    image_id = rundir.tiles_record.name.removesuffix(".done.json")
    assert rundir.tile_record(image_id) == rundir.tiles_record
    assert not IMAGE_ID_PATTERN.fullmatch(image_id)


@pytest.mark.parametrize(
    "ours",
    ["tiles/a.done.json", "train/fold-0/seed-1/last.pt", "ranking/ranking.done.json", "report/report.done.json"],
)
@pytest.mark.parametrize("put", [None, Path.mkdir, lambda path: path.symlink_to("nothing")])
def test_a_run_that_lost_its_provenance_is_still_one(tmp_path: Path, ours: str, put: Callable | None) -> None:
    rundir = RunDir(tmp_path)
    write_text(rundir.path / ours, "{}")
    if put:
        put(rundir.provenance)
    rundir.require_own()
    with pytest.raises(MissingInputError, match=r"study\.yaml: lost; plexrank run STUDY --out .* writes it again"):
        rundir.require()
    rundir.study.touch()
    rundir.require()
    rundir.add_provenance({"command": "again"})
    assert rundir.last_command() == {"command": "again"}
    assert not (rundir.path / "nothing").exists()


def test_a_run_that_had_just_begun_is_known_by_its_log(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    write_text(rundir.study, "name: ours\n")
    write_text(rundir.log, "")
    rundir.require_own()
