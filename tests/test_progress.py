"""What a command says while it works: on a terminal, elsewhere, and in the log."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from pathlib import Path

import pytest

from plexrank import progress
from plexrank.errors import StudyError
from plexrank.progress import Pulse, Reporter, Silent, time_left
from plexrank.wording import printable

DATED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def undated(text: str) -> list[str]:
    lines = text.splitlines()
    assert all(DATED.match(line) for line in lines), lines
    return [DATED.sub("", line, count=1) for line in lines]


@pytest.mark.parametrize("quiet", [True, False])
def test_all_that_is_said_is_in_the_log_whether_printed_or_not(tmp_path: Path, quiet: bool) -> None:
    stream, log = io.StringIO(), tmp_path / "logs" / "plexrank.log"
    reporter = Reporter(stream, quiet=quiet)
    reporter.say("before there is a log")
    assert not log.exists()
    with reporter.logging_to(log), reporter.counting("tile", 2) as counting:
        counting.advance("one")
        counting.advance("two")
        reporter.detail("that nobody asked for")
    said = undated(log.read_text())
    assert said == ["before there is a log", "tile: 1 of 2, about 0 s left; one", "tile: 2 of 2; two"]
    assert undated(stream.getvalue()) == ([] if quiet else said)
    with reporter.logging_to(log):
        reporter.say("appended")
    assert undated(log.read_text()) == [*said, "appended"]


def test_the_log_says_how_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "plexrank.log"
    with pytest.raises(StudyError), Reporter(io.StringIO()).logging_to(log):
        raise StudyError("one\ntwo")
    with pytest.raises(KeyboardInterrupt), Reporter(io.StringIO()).logging_to(log):
        raise KeyboardInterrupt
    assert undated(log.read_text()) == ["error: one", "error: two", "stopped"]


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    log = tmp_path / "plexrank.log"

    def write(number: int) -> None:
        reporter = Reporter(io.StringIO(), quiet=True)
        with reporter.logging_to(log):
            for _ in range(50):
                reporter.say(f"{number}" * 200)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(undated(log.read_text())) == sorted(f"{number}" * 200 for number in range(4) for _ in range(50))


def test_a_log_that_cannot_be_written_stops_no_work(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    stream = io.StringIO()
    with Reporter(stream).logging_to(tmp_path / "logs" / "plexrank.log"):
        pass
    reporter = Silent()
    reporter.say("nothing")
    with reporter.logging_to(tmp_path / "silent.log"):
        reporter.say("nothing")
    assert (tmp_path / "silent.log").read_text() == ""
    os.mkfifo(tmp_path / "pipe")  # that nobody reads
    with Reporter(stream).logging_to(tmp_path / "pipe"):
        pass


def test_lines_of_a_job_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    reporter = Reporter(io.StringIO())
    with reporter.logging_to(tmp_path / "log"):
        reporter.say("train: all done")
    assert undated((tmp_path / "log").read_text()) == ["job 12: train: all done"]


def test_who_says_nothing_gives_a_sign_of_life() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    pulse, began = Pulse(reporter, "rank"), time.monotonic()
    for seconds in (1, progress.SECONDS_TO_FIRST_SIGN - 1):
        pulse.beat(began + seconds)
    assert stream.getvalue() == ""
    pulse.beat(began + progress.SECONDS_TO_FIRST_SIGN + 1)
    assert undated(stream.getvalue()) == ["rank: at work for 9 s"]
    pulse.beat(reporter.last_said + progress.SECONDS_BETWEEN_LINES - 1)
    assert len(stream.getvalue().splitlines()) == 1
    pulse.beat(reporter.last_said + progress.SECONDS_BETWEEN_LINES)
    assert len(stream.getvalue().splitlines()) == 2
    reporter.shows_bar = True
    pulse.beat(reporter.last_said + 1000)
    assert len(stream.getvalue().splitlines()) == 2


def test_work_is_followed_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_TO_FIRST_SIGN", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_BEATS", 0.001)
    said = threading.Event()

    class Heard(Reporter):
        def say(self, message: str) -> None:
            said.set()

    with Heard(io.StringIO()).at_work("report"):
        assert said.wait(30)
    assert "plexrank sign of life" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("no_color", [True, False])
def test_a_bar_fits_80_columns_with_count_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_COLOR", "1") if no_color else monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream, log = Terminal(), tmp_path / "log"
    reporter = Reporter(stream)
    with reporter.logging_to(log), reporter.counting("attribute", 10_000) as counting:
        counting.note("a note \x1b[31m" + "with much to say " * 10)
        counting.advance()
        counting.bar.refresh()
    shown = stream.getvalue()
    assert "\x1b[31m" not in shown
    assert ("\x1b[3" in shown or "\x1b[9" in shown) != no_color
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", shown)]
    assert max(map(len, plain)) <= 80
    assert any(re.search(r"attribute .* 0/10000 0:00:0\d time left unknown", line) for line in plain)
    assert any(re.search(r" 1/10000 0:00:0\d about \d+ (s|min) left", line) for line in plain)
    assert any("a note \\x1b[31mwith much" in line and line.rstrip().endswith("…") for line in plain)
    assert undated(log.read_text())[0].startswith("attribute: a note \\x1b[31mwith")


def test_verbose_says_every_note() -> None:
    streams = io.StringIO(), io.StringIO()
    for stream, verbose in zip(streams, (False, True), strict=True):
        reporter = Reporter(stream, verbose=verbose)
        reporter.detail("a detail")
        with reporter.counting("train", 1) as counting:
            counting.note("epoch 1")
            counting.note("epoch 2")
    assert undated(streams[0].getvalue()) == ["train: epoch 1"]
    assert undated(streams[1].getvalue()) == ["a detail", "train: epoch 1", "train: epoch 2"]


def test_time_left_counts_down() -> None:
    assert time_left(0, 4, 50, 0) == "time left unknown"
    assert time_left(1, 4, 60, 60) == "about 3 min left"
    assert time_left(1, 4, 100, 60) == "about 2 min left"
    assert time_left(1, 4, 900, 60) == "about 0 s left"
    assert time_left(4, 4, 240, 240) == "done"


def test_what_steers_a_terminal_is_escaped() -> None:
    assert (
        printable("CD3\x1b[2J\r\x07 \u202eevil\u200b ρ é 漢\n\t") == "CD3\\x1b[2J\\r\\x07 \\u202eevil\\u200b ρ é 漢\n\t"
    )
