"""A full disk, inputs edited between two runs, and unusual surroundings."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trust import forked
from trust.faults import SKIPPED
from trust.prepared import OVERRIDES, STATES, Prepared, State, tables_of

TIMEOUT_S = 120.0
ROOM_BYTES = (0, 4096, 16384, 65536, 262144)
"""That are left on the disk when the stage begins."""
Outcome = dict[str, object]


@dataclass(frozen=True)
class Case:
    """One thing to try: its name and what does it in a folder."""

    name: str
    attempt: Callable[[Prepared, Path], Outcome]


def disks() -> Iterator[Case]:
    """A stage on a disk with so much room."""
    for state in STATES:
        if state.following in ("train", "attribute", "rank") or state.name == "after rank":
            for room in ROOM_BYTES:
                yield Case(f"disk full | {state.following} {state.name} | {room} bytes left", _on_disk(state, room))
    for room in ROOM_BYTES:
        yield Case(f"disk full | tile | {room} bytes left", _on_disk(State("nothing", "", "tile"), room))


def _on_disk(state: State, room: int) -> Callable[[Prepared, Path], Outcome]:
    def attempt(prepared: Prepared, folder: Path) -> Outcome:
        if os.geteuid():
            return {"outcome": SKIPPED, "said": "mounting a small disk needs root"}
        disk = folder / "disk"
        disk.mkdir(exist_ok=True)
        if not _mount("-t", "tmpfs", "-o", "size=200m", "tmpfs", disk):
            return {"outcome": SKIPPED, "said": "a small disk cannot be mounted here"}
        try:
            return _fill_and_go_on(prepared, state, room, disk, folder / "said")
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)

    return attempt


def _mount(*words: object) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


def _fill_and_go_on(prepared: Prepared, state: State, room: int, disk: Path, said: Path) -> Outcome:
    run = disk / "run"
    if state.until:
        shutil.copytree(prepared.state(state), run, symlinks=True)
    space = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(space.f_bavail * space.f_frsize - room, 1))
    words = [state.following, run] if state.until else prepared.arguments(run, "tile")
    full = forked.run(words, said, TIMEOUT_S)
    filler.unlink()
    until = "report" if state.following == "report" else "rank"
    return _judge(
        full, forked.run(prepared.arguments(run, until, (), state.nulls), said, TIMEOUT_S), run, prepared, state
    )


def _judge(first: forked.Ended, then: forked.Ended, run: Path, prepared: Prepared, state: State) -> Outcome:
    said = f"first: {first.code}\n{first.text[-800:]}\nthen: {then.code}\n{then.text[-800:]}"
    if None in (first.code, then.code):
        return {"outcome": "HANG", "said": said}
    if forked.BUG in (first.code, then.code) or "Traceback" in first.text + then.text:
        return {"outcome": "TRACEBACK", "said": said}
    if then.code != 0:
        return {"outcome": "NO-RECOVERY", "said": said}
    if not prepared.is_same(run, state.nulls):
        return {"outcome": "SILENT-DIFFERENT", "said": said}
    return {"outcome": "SAME" if first.code == 0 else "NAMED"}


def _relabelled(cohort: Path) -> None:
    path = cohort / "samplesheet.csv"
    table = pd.read_csv(path, dtype=str)
    labels = table["label"].to_numpy().copy()
    first, second = np.flatnonzero(labels != labels[0])[0], 0
    patients = table["patient_id"] if "patient_id" in table else table.iloc[:, 0]
    one, two = patients[first], patients[second]
    table.loc[patients == one, "label"], table.loc[patients == two, "label"] = labels[second], labels[first]
    table.to_csv(path, index=False)


def _reordered(cohort: Path) -> None:
    path = cohort / "samplesheet.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")


def _panel_row_gone(cohort: Path) -> None:
    path = cohort / "panel.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")


def _pixel_changed(keep_time: bool) -> Callable[[Path], None]:
    def edit(cohort: Path) -> None:
        import tifffile

        image = next(path for path in sorted((cohort / "images").rglob("*")) if path.suffix in (".tif", ".tiff"))
        state = image.stat()
        with tifffile.TiffFile(image) as file:
            offset = file.pages[0].dataoffsets[0]  # type: ignore[union-attr]
        with image.open("r+b") as raw:
            raw.seek(offset)
            before = raw.read(64)
            raw.seek(offset)
            raw.write(bytes(255 - byte for byte in before))
        if keep_time:
            os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))

    return edit


EDITS: dict[str, Callable[[Path], None]] = {
    "labels of two patients exchanged": _relabelled,
    "rows of the samplesheet in another order": _reordered,
    "last row of the panel removed": _panel_row_gone,
    "pixels of an image": _pixel_changed(keep_time=False),
    "pixels of an image, same size and time": _pixel_changed(keep_time=True),
}


def edits() -> Iterator[Case]:
    """An input edited when so much of a run was done: the ranking must be that of a new run of the edited inputs."""
    for name, edit in EDITS.items():
        for until in ("tile", "train", "attribute", "rank"):
            yield Case(f"edited | {name} | after {until}", _edited(edit, until))


def _edited(edit: Callable[[Path], None], until: str) -> Callable[[Prepared, Path], Outcome]:
    def attempt(prepared: Prepared, folder: Path) -> Outcome:
        cohort, run, fresh = folder / "edited", folder / "run", folder / "fresh"
        for path in (cohort, run, fresh):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(prepared.study.parent, cohort)
        words = [part for one in OVERRIDES for part in ("--set", one)]
        found = []
        for target, last, before in ((run, until, None), (run, "rank", edit), (fresh, "rank", None)):
            if before:
                before(cohort)
            arguments = ["run", cohort / "study.yaml", "--out", target, "--until", last, *words]
            found.append(forked.run(arguments, folder / "said", TIMEOUT_S))
            if "if pixels were edited, touch the files" in found[-1].text:
                for image in (cohort / "images").rglob("*"):
                    image.touch()
                found[-1] = forked.run(arguments, folder / "said", TIMEOUT_S)
        said = "\n".join(f"{one.code}: {one.text[-600:]}" for one in found)
        if any(one.code is None for one in found):
            return {"outcome": "HANG", "said": said}
        if any(one.code == forked.BUG for one in found):
            return {"outcome": "TRACEBACK", "said": said}
        if found[1].code != found[2].code:
            return {"outcome": "NO-RECOVERY", "said": said}
        if found[1].code != 0:
            return {"outcome": "NAMED", "said": said}
        is_same = tables_of(run) == tables_of(fresh)
        return {"outcome": "SAME"} if is_same else {"outcome": "SILENT-DIFFERENT", "said": said}

    return attempt


SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "LC_ALL=C": {"LC_ALL": "C"},
    "LC_ALL=POSIX, no UTF-8 mode": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "LC_ALL=tr_TR.UTF-8": {"LC_ALL": "tr_TR.UTF-8"},
    "PYTHONIOENCODING=ascii": {"PYTHONIOENCODING": "ascii"},
    "TMPDIR missing": {"TMPDIR": "/nothing/there"},
    "TMPDIR read-only": {"TMPDIR": "/proc"},
    "HOME missing": {"HOME": "/nothing/there"},
    "HOME read-only": {"HOME": "/proc"},
    "HOME unset": {"HOME": None},
    "no environment but PATH": {
        name: None for name in os.environ if name not in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS")
    },
    "umask 077": {},
    "umask 000": {},
    "OMP_NUM_THREADS=2": {"OMP_NUM_THREADS": "2"},
    "PYTHONHASHSEED=1": {"PYTHONHASHSEED": "1"},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
}


def surroundings() -> Iterator[Case]:
    """A whole run, in a process of its own, in each of them."""
    for name, environment in SURROUNDINGS.items():
        yield Case(f"surroundings | {name}", _surrounded(name, environment))


def _surrounded(name: str, environment: dict[str, str | None]) -> Callable[[Prepared, Path], Outcome]:
    def attempt(prepared: Prepared, folder: Path) -> Outcome:
        locale = environment.get("LC_ALL") or ""
        if "UTF-8" in locale and locale.replace("UTF-8", "utf8") not in _locales():
            return {"outcome": SKIPPED, "said": f"{locale} is not installed"}
        expected = prepared.folder / "of-a-process"
        if not tables_of(expected):
            _in_process(prepared, expected, {}, -1)
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        code, text = _in_process(prepared, run, environment, int(name[6:], 8) if name.startswith("umask") else -1)
        if code != 0:
            return {"outcome": "TRACEBACK" if code == forked.BUG else "NO-RECOVERY", "said": text[-1500:]}
        if tables_of(run) == tables_of(expected):
            return {"outcome": "SAME"}
        close = "THREADS" in name and _is_close(run / "ranking" / "ranking.csv", expected / "ranking" / "ranking.csv")
        return {"outcome": "NAMED" if close else "SILENT-DIFFERENT", "said": "equal to 1e-6" if close else text[-1500:]}

    return attempt


def _locales() -> list[str]:
    return subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()


def _in_process(prepared: Prepared, run: Path, environment: dict[str, str | None], umask: int) -> tuple[int, str]:
    around = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "plexrank", *map(str, prepared.arguments(run))],
        env={name: value for name, value in around.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        umask=umask,
        timeout=600,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def _is_close(one: Path, two: Path) -> bool:
    tables = [pd.read_csv(path) for path in (one, two)]
    with contextlib.suppress(AssertionError):
        pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-6, atol=1e-6)
        return True
    return False
