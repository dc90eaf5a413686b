"""The lock of a run directory: one process inside at a time, whoever has left a lock, and however."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plexrank.errors import RunDirError
from plexrank.rundir import RunDir, lock
from trust.lock_rounds import KINDS, rounds

DEAD = 2**22 + 1
"""More than the largest process id of Linux."""


def content(**more: object) -> str:
    return json.dumps({"host": platform.node(), "job": "", **more})


def this(**more: object) -> str:
    """A lock of the process that runs the tests."""
    me = os.getpid()
    known = {"token": "a" * 32, "pid": me, "process": lock._start_of(me), "machine": lock._machine()}
    return content(**(known | more))


def make_old(path: Path) -> None:
    then = time.time() - 2 * lock.LEASE_S
    os.utime(path, (then, then))


@pytest.mark.parametrize("kind", KINDS)
def test_of_four_processes_that_want_a_lock_no_two_are_inside(tmp_path: Path, kind: str) -> None:
    found = rounds(kind, 10, tmp_path)
    assert (found["two inside"], found["none got in"]) == (0, 0)


def test_a_lock_keeps_others_out_until_its_end(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    with rundir.locked("7"):
        owner = json.loads(rundir.lock.read_text())
        assert (owner["host"], owner["pid"], owner["job"]) == (platform.node(), os.getpid(), "7")
        assert [path.name for path in rundir.path.iterdir()] == [".run.lock"]
        with pytest.raises(RunDirError, match="another run is using this folder"), rundir.locked("7"):
            pass
    assert not list(rundir.path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RunDirError])
def test_a_lock_is_given_back_however_the_work_ends(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), RunDir(tmp_path).locked():
        raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "job", "free"),
    [
        (content(pid=1), "", False),
        (content(pid=DEAD), "", True),
        (content(pid=os.getpid()), "", True),
        (content(host="elsewhere", pid=DEAD), "7", False),
        (content(host="elsewhere", pid=1, job="7"), "7", True),
        (content(host="elsewhere", pid=1, job="7", requeued=1), "7", False),  # another step of the same job
        (content(pid="x"), "", False),
        (content(pid=10**21), "", False),
        (content(pid=-1), "", False),
        (this(), "", False),
        (this(process="3"), "", True),
        (this(machine="of another boot"), "", False),
        (this(machine="of another boot", job="7"), "7", True),
        (this(host="elsewhere"), "", False),
        ("", "", False),
        ("[" * 100_000, "", False),
        ("\udcff", "", False),
        ('{"token": 3}', "", False),
    ],
    ids=map(str, range(18)),  # the texts hold the number of this process
)
def test_a_lock_is_taken_over_at_once_only_from_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, job: str, free: bool
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    rundir = RunDir(tmp_path)
    before = text.encode(errors="surrogateescape")
    rundir.lock.write_bytes(before)
    if free:
        with rundir.locked(job):
            assert json.loads(rundir.lock.read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(RunDirError, match=r"another run is using this folder.*\.run\.lock"), rundir.locked(job):
            pass
        assert rundir.lock.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "free"),
    [
        (this(host="elsewhere"), True),
        (this(machine="of another boot"), True),
        (content(host="elsewhere", pid=1), True),
        (content(pid=10**21), True),
        ("", True),
        ("\udcff", True),
        (this(), False),  # it may be suspended, but it is there
    ],
    ids=["another host", "another boot", "of before", "no process", "empty", "not UTF-8", "this process"],
)
def test_what_gives_no_sign_of_life_is_taken_over(tmp_path: Path, text: str, free: bool) -> None:
    rundir = RunDir(tmp_path)
    rundir.lock.write_bytes(text.encode(errors="surrogateescape"))
    make_old(rundir.lock)
    if free:
        with rundir.locked():
            assert json.loads(rundir.lock.read_text())["pid"] == os.getpid()
        assert not list(tmp_path.iterdir())
    else:
        with pytest.raises(RunDirError, match="another run is using this folder"), rundir.locked():
            pass


def folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def link(path: Path) -> None:
    path.with_name("precious").touch()
    path.symlink_to("precious")


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize("put", [folder, link, dangling, os.mkfifo])
def test_what_is_no_file_is_named_and_left_alone(tmp_path: Path, put: object) -> None:
    rundir = RunDir(tmp_path)
    put(rundir.lock)  # type: ignore[operator]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunDirError, match=r"\.run\.lock: no file, where the lock of a run belongs"), rundir.locked():
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_an_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    rundir = RunDir(tmp_path)
    with rundir.locked():
        make_old(rundir.lock)
        while rundir.lock.stat().st_mtime < time.time() - lock.LEASE_S:
            pass


def taken_over(path: Path) -> None:
    path.with_name("new").write_text(this(token="b" * 32))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("lose", [taken_over, Path.unlink])
def test_an_owner_that_lost_its_lock_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: object) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    rundir = RunDir(tmp_path)
    waited: list[bool] = []

    def work() -> None:
        with rundir.locked():
            lose(rundir.lock)  # type: ignore[operator]
            waited.append(threading.Event().wait(30))

    with pytest.raises(RunDirError, match="this process was stopped for so long that another took"):
        work()
    assert not waited, "not interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ([".run.lock"] if lose is taken_over else [])


def test_an_interruption_that_came_just_before_the_wait_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    sent, send, handler = [], signal.pthread_kill, signal.getsignal(signal.SIGINT)

    def lose_the_first(thread: int, number: int) -> None:
        sent.append(number)
        if len(sent) > 1:
            send(thread, number)

    monkeypatch.setattr(signal, "pthread_kill", lose_the_first)
    test_an_owner_that_lost_its_lock_is_stopped(tmp_path, monkeypatch, taken_over)
    assert len(sent) > 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interruption_of_before_is_not_that_of_a_lost_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.001)
    counted: list[int] = []

    def work() -> None:
        with RunDir(tmp_path).locked():
            os.kill(os.getpid(), signal.SIGINT)
            assert len(counted) == 1
            taken_over(RunDir(tmp_path).lock)
            waits_until = time.monotonic() + 30
            while len(counted) == 1 and time.monotonic() < waits_until:
                time.sleep(0.001)

    before = signal.signal(signal.SIGINT, lambda number, _: counted.append(number))
    try:
        with pytest.raises(RunDirError, match="this process was stopped"):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(counted) > 1


def test_an_owner_that_lost_its_lock_says_so_at_the_end(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    with pytest.raises(RunDirError, match="this process was stopped for so long"), rundir.locked():
        taken_over(rundir.lock)
    assert json.loads(rundir.lock.read_text())["token"] == "b" * 32


def test_on_a_file_system_without_links_the_lock_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    found = [rounds(kind, 5, tmp_path) for kind in ("fresh", "stale", "elsewhere", "claimed")]
    assert [(one["two inside"], one["none got in"]) for one in found] == [(0, 0)] * 4


def test_a_killed_owner_keeps_nobody_out(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from plexrank.rundir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).locked(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    rundir = RunDir(tmp_path)
    assert rundir.lock.exists()
    with rundir.locked():
        pass
    assert not list(tmp_path.iterdir())
