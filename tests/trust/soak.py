"""Faults, kills, full disks, edits and unusual surroundings, for as long as there is time.

    python tests/trust/soak.py --seconds 3600 --jobs 2
    python tests/trust/soak.py --only faults --sample 1500
    python tests/trust/soak.py --table

Every result is a line of JSON in ``--results``; trials that are there already are passed over. Ends with 1 where an
outcome was a bad one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from trust import around, faults, forked, kills, lock_rounds, table
from trust.prepared import Prepared

FAMILIES = ("lock", "faults", "kills", "disk", "edits", "surroundings")
PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
Work = tuple[str, Callable[[Path], dict[str, object]]]


def work(arguments: argparse.Namespace, prepared: Prepared) -> Iterator[Work]:
    """All that is to be tried, each with its name."""
    for family in arguments.only or FAMILIES:
        if family == "lock":
            for kind in lock_rounds.KINDS:
                yield f"lock | {kind} | {arguments.rounds}", _rounds(kind, arguments.rounds)
        elif family == "faults":
            for trial in islice(faults.trials(prepared), arguments.sample):
                yield trial.name, lambda folder, trial=trial: faults.attempt(trial, prepared, folder)
        elif family == "kills":
            attempt = kills.Killing(prepared).attempt
            for kill in kills.kills(arguments.whole, arguments.stages):
                yield kill.name, partial(attempt, kill)
        else:
            cases = {"disk": around.disks, "edits": around.edits, "surroundings": around.surroundings}[family]
            for case in cases():
                yield case.name, lambda folder, case=case: {"trial": case.name, **case.attempt(prepared, folder)}


def _rounds(kind: str, number: int) -> Callable[[Path], dict[str, object]]:
    def attempt(folder: Path) -> dict[str, object]:
        words = [sys.executable, lock_rounds.__file__, "--rounds", str(number), "--kinds", kind]  # light to fork
        found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout)
        good = not found["two inside"] and not found["none got in"]
        return {"trial": f"lock | {kind} | {number}", "outcome": "SAME" if good else "SILENT-DIFFERENT", **found}

    return attempt


def do_share(mine: list[Work], results: Path, folder: Path, until: float) -> None:
    """Do some of it, and append the results."""
    folder.mkdir()
    with results.open("a", encoding="utf-8") as file:
        for _, attempt in mine:
            if time.monotonic() > until:
                return
            file.write(json.dumps(attempt(folder)) + "\n")
            file.flush()


def in_processes(todo: list[Work], arguments: argparse.Namespace, prepared: Prepared) -> None:
    """Do all of it, in forks that share it."""
    until = time.monotonic() + arguments.seconds
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=prepared.folder))
    try:
        pids = []
        for job in range(arguments.jobs):
            pid = os.fork()
            if pid == 0:
                try:
                    do_share(todo[job :: arguments.jobs], arguments.results, folder / str(job), until)
                except BaseException:  # noqa: BLE001  of a fork
                    sys.excepthook(*sys.exc_info())
                    os._exit(1)
                os._exit(0)
            pids.append(pid)
        failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if failed:
        raise SystemExit("the soak itself failed; see above")


def main() -> int:
    """The whole soak, or its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--only", nargs="+", choices=FAMILIES)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--sample", type=int, help="of the faults, only so many")
    parser.add_argument("--rounds", type=int, default=1000, help="of every kind of lock")
    parser.add_argument("--whole", type=int, default=60, help="runs that are killed, up to three times each")
    parser.add_argument("--stages", type=int, default=700, help="single stages that are killed")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/plexrank-trust"))
    parser.add_argument("--again", action="store_true", help="prepare the runs again, as after a change of plexrank")
    parser.add_argument("--table", action="store_true", help=f"only write the table into {PAGE.name}")
    arguments = parser.parse_args()
    if arguments.table:
        table.write(PAGE, arguments.results)
        return 0
    if arguments.again:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    forked.load()
    prepared = Prepared(arguments.folder)
    prepared.make_all()
    known = {one["trial"] for one in table.read(arguments.results)}
    todo = [(name, attempt) for name, attempt in work(arguments, prepared) if name not in known]
    began = time.monotonic()
    in_processes(todo, arguments, prepared)
    found = table.read(arguments.results)
    done = len(found) - len(known)
    counts = Counter(one["outcome"] for one in found)
    seconds = time.monotonic() - began
    print(json.dumps({"trials": done, "seconds": round(seconds, 1), "a second": round(done / seconds, 2), **counts}))
    for one in found:
        if one["outcome"] in faults.BAD:
            print(one["outcome"], one["trial"])
    return int(any(counts[bad] for bad in faults.BAD))


if __name__ == "__main__":
    sys.exit(main())
