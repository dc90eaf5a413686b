"""The command line of the fuzzing, and its table in ``docs/trust.md``."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fuzzing import Bench, Outcome, Target, all_targets, broken, judge, make_seeds, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trust.md"
BEGIN, END = "<!-- fuzz -->", "<!-- /fuzz -->"


def main() -> None:
    """Run the targets, print a line of JSON for each, and put the table into a page."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description="Feed broken inputs to the readers.")
    parser.add_argument("--target", action="append", help="name of a reader, all by default; may come again")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader")
    parser.add_argument("--inputs", type=int, default=10**9, help="at most, for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=int, help="read this input alone, here, with its traceback")
    parser.add_argument("--save", type=Path, help="folder for the inputs of findings")
    parser.add_argument("--page", type=Path, help=f"write the table into a page between its marks, as {PAGE.name}")
    given = parser.parse_args()
    targets = [target for target in all_targets() if not given.target or target.name in given.target]
    if given.input is not None:
        for target in targets:
            read_again(target, given.seed, given.input)
        return
    outcomes = []
    for target in targets:
        outcomes.append(run(target, given.seconds, given.inputs, given.seed, given.save))
        print(json.dumps(asdict(outcomes[-1])), flush=True)
    if given.page is not None:
        write_table(given.page, outcomes)
    raise SystemExit(any(outcome.findings for outcome in outcomes))


def read_again(target: Target, seed: int, number: int) -> None:
    """One input, in this process."""
    seeds = make_seeds(target)
    which, changes = broken(seeds, target.tokens, target.name, seed, number)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as scratch,
        Bench(Path(scratch), seeds).changed(which, changes) as folder,
    ):
        print(f"{target.name} {number}: seed {which}, changed {', '.join(changes)}: {judge(target, folder)}")
        with warnings.catch_warnings(action="ignore"):
            target.read(folder)


def write_table(page: Path, outcomes: Sequence[Outcome]) -> None:
    """Put the table between the marks of a page; page and marks are made where they are absent."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    text = text if BEGIN in text else f"{text}\n{BEGIN}\n{END}\n".lstrip()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table(outcomes)}{END}", text, count=1), encoding="utf-8")


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each reader and one for all."""
    rows = ["| reader | inputs | read | refused | findings | slowest |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for one in outcomes:
        findings = sum(map(len, one.findings.values()))
        rows.append(
            f"| {one.name} | {one.inputs:,} | {one.read:,} | {one.refused:,} | {findings:,} | {one.slowest:.1f} s |"
        )
    total = [sum(getattr(one, name) for one in outcomes) for name in ("inputs", "read", "refused")]
    findings = sum(len(numbers) for one in outcomes for numbers in one.findings.values())
    slowest = max((one.slowest for one in outcomes), default=0.0)
    rows.append(f"| **all** | {' | '.join(f'{number:,}' for number in total)} | {findings:,} | {slowest:.1f} s |")
    return "\n".join(rows) + "\n"
