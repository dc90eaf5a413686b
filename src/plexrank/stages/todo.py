"""What is left to do of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plexrank.progress import Reporter
from plexrank.rundir import Unit


def units_to_do(units: Sequence[Unit], reporter: Reporter) -> set[Path]:
    """Records of the units that are not done; says how many are, and why the others are not."""
    reasons = {unit.record: reason for unit in units if (reason := unit.why_not_done()) is not None}
    stage = units[0].name.split()[0]
    done = len(units) - len(reasons)
    if not reasons:
        reporter.say(f"{stage}: all {len(units)} done already" if len(units) > 1 else f"{stage}: done already")
    elif done:
        reporter.say(f"{stage}: {done} of {len(units)} done already")
    for reason in sorted(set(reasons.values()) - {"not done yet"}):
        reporter.say(f"{stage}: again, {reason}")
    return set(reasons)
