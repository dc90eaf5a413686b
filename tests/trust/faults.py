"""Faults of files and folders in a run directory, and what comes of each."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trust import forked
from trust.prepared import STATES, Prepared, State

SAME, NAMED = "SAME", "NAMED"
GOOD = (SAME, NAMED)
BAD = ("SILENT-DIFFERENT", "TRACEBACK", "NO-RECOVERY", "HANG", "UNNAMED")
SKIPPED = "skipped"
TIMEOUT_S = 45.0
LOCK = ".run.lock"


@dataclass(frozen=True)
class Place:
    """Where a fault is put.

    Attributes:
        path: of the file or folder, in the run directory.
        other: of another unit's of the same kind, if there is one.
        older: gives the same file of a run with other settings.
    """

    path: Path
    other: Path | None
    older: Callable[[], Path]


class NotHereError(Exception):
    """A fault makes no difference here, or cannot be made."""


def _needs(path: Path | None) -> Path:
    if path is None or not path.exists():
        raise NotHereError
    return path


def _change(place: Place, change: Callable[[bytes], bytes]) -> None:
    before = place.path.read_bytes()
    after = change(before)
    if after == before:
        raise NotHereError
    place.path.write_bytes(after)


def _flip(at: float) -> Callable[[Place], None]:
    def flipped(content: bytes) -> bytes:
        if not content:
            return content
        where = int(len(content) * at)
        return content[:where] + bytes([content[where] ^ 0x10]) + content[where + 1 :]

    return lambda place: _change(place, flipped)


def _noise(content: bytes) -> bytes:
    return b"".join(hashlib.sha256(b"%d" % block).digest() for block in range(len(content) // 32 + 1))[: len(content)]


def _gone(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _instead(make: Callable[[Place], object]) -> Callable[[Place], None]:
    def put(place: Place) -> None:
        _gone(place.path)
        make(place)

    return put


def _copy_of(source: Callable[[Place], Path | None]) -> Callable[[Place], None]:
    return lambda place: _change(place, lambda _: _needs(source(place)).read_bytes())


def _folder_with_file(place: Place) -> None:
    place.path.mkdir()
    (place.path / "file").write_text("of somebody")


def _link_to_other(place: Place) -> None:
    target = os.path.relpath(_needs(place.other), place.path.parent)
    _gone(place.path)
    place.path.symlink_to(target)


def _emptied(place: Place) -> None:
    _gone(place.path)
    place.path.mkdir()


def _other_folder(place: Place) -> None:
    other = _needs(place.other)
    _gone(place.path)
    shutil.copytree(other, place.path)


OF_FILES: dict[str, Callable[[Place], None]] = {
    "deleted": lambda place: place.path.unlink(),
    "empty": lambda place: _change(place, lambda _: b""),
    "cut by half": lambda place: _change(place, lambda content: content[: len(content) // 2]),
    "bit flipped at 25 %": _flip(0.25),
    "bit flipped at 50 %": _flip(0.5),
    "bit flipped at 75 %": _flip(0.75),
    "zeros": lambda place: _change(place, lambda content: bytes(len(content))),
    "garbage": lambda place: _change(place, _noise),
    "trailing bytes": lambda place: _change(place, lambda content: content + b"\0trailing"),
    "other unit's": _copy_of(lambda place: place.other),
    "older version": _copy_of(lambda place: place.older()),
    "folder in its place": _instead(_folder_with_file),
    "link to other unit's": _link_to_other,
    "dangling link": _instead(lambda place: place.path.symlink_to("nothing-there")),
    "FIFO in its place": _instead(lambda place: os.mkfifo(place.path)),
    "mode 000": lambda place: place.path.chmod(0),
}
OF_FOLDERS: dict[str, Callable[[Place], None]] = {
    "folder deleted": lambda place: _gone(place.path),
    "folder emptied": _emptied,
    "other unit's folder": _other_folder,
    "file in place of folder": _instead(lambda place: place.path.write_text("of somebody")),
    "folder link to other unit's": _link_to_other,
    "folder dangling link": _instead(lambda place: place.path.symlink_to("nothing-there")),
    "folder mode 000": lambda place: place.path.chmod(0),
}
OF_LOCKS: dict[str, Callable[[Place], None]] = {
    "lock empty": lambda place: place.path.write_text(""),
    "lock garbage": lambda place: place.path.write_bytes(b"\xff\x00" * 40),
    "lock of absurd process": lambda place: place.path.write_text('{"host":"x","pid":' + "9" * 21 + ',"job":""}'),
    "lock a folder": _instead(_folder_with_file),
    "lock a link": _instead(lambda place: place.path.symlink_to("study.yaml")),
    "lock a dangling link": _instead(lambda place: place.path.symlink_to("nothing-there")),
    "lock a FIFO": _instead(lambda place: os.mkfifo(place.path)),
}
FAULTS = OF_FILES | OF_FOLDERS | OF_LOCKS
OF_MODES = ("mode 000", "folder mode 000")
FOLDERS = ("tiles", "train", "attribution", "ranking", "report", "null", "logs")


def kind_of(path: Path) -> str:
    """What kind of file it is: its path with every number replaced."""
    text = re.sub(r"map-channel-[^.]*", "map-channel", path.as_posix())
    text = re.sub(r"tfevents\..*", "tfevents", text)
    return re.sub(r"image\d+", "IMAGE", re.sub(r"(?<=[a-z]-)\d+|(?<=[/.])\d+(?=[/.]|$)", "N", text))


def kinds(run: Path) -> dict[str, list[Path]]:
    """The files and folders of a run by kind, relative to it; folders end with a stroke."""
    found: dict[str, list[Path]] = {}
    for path in sorted(run.rglob("*")):
        relative = path.relative_to(run)
        name = kind_of(relative)
        if path.is_dir():
            name += "/"
        if relative.parts[0] == "report" and relative.suffix == ".svg":
            continue  # as the other form of the same picture
        found.setdefault(name, []).append(relative)
    return found


@dataclass(frozen=True)
class Trial:
    """One fault in one file of a run in one state."""

    state: State
    kind: str
    fault: str

    @property
    def name(self) -> str:
        """By which its result is known."""
        return f"{self.state.name} | {self.kind} | {self.fault}"


def trials(prepared: Prepared) -> Iterator[Trial]:
    """All of them, in an order in which any part is a sample of all."""
    found = []
    for state in STATES:
        found += [Trial(state, LOCK, fault) for fault in OF_LOCKS]
        for kind in kinds(prepared.state(state)):
            found += [Trial(state, kind, fault) for fault in (OF_FOLDERS if kind.endswith("/") else OF_FILES)]
    yield from sorted(found, key=lambda trial: hashlib.sha256(trial.name.encode()).digest())


def attempt(trial: Trial, prepared: Prepared, folder: Path) -> dict[str, object]:
    """Do it; the outcome, with what was said where it is a bad one."""
    run = folder / "run"
    _gone(run)
    shutil.copytree(prepared.state(trial.state), run, symlinks=True)
    place = _place(trial, prepared, run)
    try:
        FAULTS[trial.fault](place)
    except (NotHereError, FileNotFoundError):
        return {"trial": trial.name, "outcome": SKIPPED}
    outcome, said, seconds = _Attempt(trial, prepared, run, place.path).outcome()
    found: dict[str, object] = {"trial": trial.name, "outcome": outcome, "seconds": round(seconds, 2)}
    return found if outcome == SAME else found | {"said": said[-1500:]}


def _place(trial: Trial, prepared: Prepared, run: Path) -> Place:
    if trial.kind == LOCK:
        return Place(run / LOCK, None, lambda: run / LOCK)
    paths = kinds(run)[trial.kind]
    chosen = hashlib.sha256(trial.name.encode()).digest()[0] % len(paths)
    other = run / paths[(chosen + 1) % len(paths)] if len(paths) > 1 else None
    return Place(run / paths[chosen], other, lambda: prepared.older(trial.state.nulls) / paths[chosen])


class _Attempt:
    """A fault was put; now the commands."""

    def __init__(self, trial: Trial, prepared: Prepared, run: Path, target: Path) -> None:
        self._trial, self._prepared, self._run, self._target = trial, prepared, run, target
        self._about_report = trial.kind.startswith("report")
        self._seconds = 0.0
        self._said: list[str] = []

    def outcome(self) -> tuple[str, str, float]:
        found = self._follow()
        return found, "\n".join(self._said), self._seconds

    def _follow(self) -> str:
        state = self._trial.state
        following = state.following if self._about_report or state.until != "report" else "rank"
        by_hand = self._command(following, self._run)
        if problem := self._problem(by_hand, following):
            return problem
        again = self._run_all()
        if problem := self._problem(again, "rank"):
            return problem
        if again.code == 0:
            return SAME if self._is_same() else "SILENT-DIFFERENT"
        is_named = self._is_named(again.text)
        for remove in (self._remove_target, self._remove_all_named, self._remove_all_named):
            remove(again.text)
            again = self._run_all()
            if problem := self._problem(again, "rank"):
                return problem
            if again.code == 0:
                break
        if again.code != 0:
            return "NO-RECOVERY"
        if not self._is_same():
            return "SILENT-DIFFERENT"
        return NAMED if is_named else "UNNAMED"

    def _command(self, *words: object) -> forked.Ended:
        said = self._run.parent / "said"
        ended = forked.run(words, said, TIMEOUT_S, obeys_modes=self._trial.fault in OF_MODES)
        self._seconds += ended.seconds
        self._said.append(f"$ {words[0]}: {ended.code}\n{ended.text}")
        return ended

    def _run_all(self) -> forked.Ended:
        until = "report" if self._about_report else "rank"
        return self._command(*self._prepared.arguments(self._run, until, (), self._trial.state.nulls))

    def _problem(self, ended: forked.Ended, stage: str) -> str | None:
        if ended.code is None:
            return "HANG"
        if ended.code == forked.BUG or ended.code < 0 or "Traceback" in ended.text:
            return "TRACEBACK"
        if ended.code == 0 and stage == "rank" and not self._is_same():
            return "SILENT-DIFFERENT"
        return None

    def _is_same(self) -> bool:
        try:
            return self._prepared.is_same(self._run, self._trial.state.nulls)
        except OSError:
            return False

    def _is_named(self, text: str) -> bool:
        """Whether a message names the damaged file, a folder that it is in, or something in it."""
        return any(
            path != self._run and (path == self._target or path in self._target.parents or self._target in path.parents)
            for path in self._named(text)
        )

    def _named(self, text: str) -> list[Path]:
        errors = "\n".join(line for line in text.splitlines() if "error: " in line)
        found = re.findall(re.escape(str(self._run)) + r"[^\s:;,()'\"]*", errors)
        return [Path(path) for path in found]

    def _remove_target(self, text: str) -> None:
        if self._target.is_symlink() or not self._target.is_dir():
            self._target.unlink(missing_ok=True)
            return
        self._target.chmod(0o700)
        shutil.rmtree(self._target)

    def _remove_all_named(self, text: str) -> None:
        for path in self._named(text):
            if path != self._run and path.is_relative_to(self._run):
                _gone(path)
