"""The table of faults × outcomes in ``docs/trust.md``, from the lines that a soak has written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from trust import lock_rounds
from trust.faults import BAD, GOOD, SKIPPED

BEGIN, END = "<!-- table of faults -->", "<!-- end of the table -->"
HEAD = {"SAME": "same ranking", "NAMED": "named, then the same ranking", SKIPPED: "no difference there"}
FAMILIES = ("SIGKILL", "SIGTERM", "disk full", "edited", "surroundings")


def read(results: Path) -> list[dict]:
    """The results, of every trial the last."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    found = {}
    for line in lines:
        if line.endswith("}"):  # the last may be torn
            one = json.loads(line)
            found[one["trial"]] = one
    return list(found.values())


def table_of(found: Iterable[dict]) -> str:
    """Markdown: a row for each fault, a column for each outcome."""
    rows: dict[str, Counter[str]] = {}
    locks = []
    for one in found:
        if "rounds" in one:
            locks.append(one)
        else:
            rows.setdefault(_row(one["trial"]), Counter())[one["outcome"]] += 1
    columns = [*GOOD, *BAD, SKIPPED]
    lines = [
        "| fault | " + " | ".join(HEAD.get(column, column.lower().replace("-", " ")) for column in columns) + " |",
        "|" + " --- |" * (len(columns) + 1),
    ]
    total: Counter[str] = Counter()
    for row, counts in sorted(rows.items()):
        lines.append(f"| {row} | " + " | ".join(str(counts[column] or "") for column in columns) + " |")
        total += counts
    lines.append("| **all** | " + " | ".join(f"**{total[column]}**" for column in columns) + " |")
    if locks:
        lines += ["", "| lock, four processes at once | rounds | two inside | nobody got in |", "|" + " --- |" * 4]
        lines += [
            f"| {_kind(one['kind'])} | {one['rounds']} | {one['two inside']} | {one['none got in']} |" for one in locks
        ]
    return "\n".join(lines)


def _row(trial: str) -> str:
    parts = trial.split(" | ")
    if parts[0] in FAMILIES:
        return f"{parts[0]}: {parts[1]}" if parts[0] != "disk full" else f"disk full: {parts[1].split(' ')[0]}"
    return parts[-1]


def _kind(name: str) -> str:
    """What the lock of a kind is like, as its maker says."""
    return (lock_rounds.KINDS[name].__doc__ or name).rstrip(".")


def write(page: Path, results: Path) -> None:
    """Put the table between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table_of(read(results))}\n\n{END}{after}", encoding="utf-8")
