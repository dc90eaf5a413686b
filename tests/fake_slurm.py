"""Commands of Slurm that write down how they were called and answer from files, for tests without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

COMMANDS = {
    "sbatch": 'echo "sbatch $*" >> "$F/calls"\n'
    'if [ -e "$F/refuse" ] && [ "$(wc -l < "$F/calls")" -ge "$(cat "$F/refuse")" ]; then\n'
    '    echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2; exit 1\n'
    "fi\n"
    'n=$(($(cat "$F/next") + 1)); echo $n > "$F/next"; echo "$n;cluster"',
    "squeue": 'case "$*" in\n'
    '    *"%i|%T|%r"*) cat "$F/squeue";; *"%A|%j"*) cat "$F/names";; *) cat "$F/running";;\n'
    "esac",
    "sacct": '[ -e "$F/sacct" ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }; cat "$F/sacct"',
    "scancel": 'echo "scancel $*" >> "$F/calls"; : > "$F/running"',
    "scontrol": 'case "$*" in *"show config") cat "$F/config";; *) echo "scontrol $*" >> "$F/calls";; esac',
    "sinfo": '[ -s "$F/sinfo" ] || { echo "slurm_load_partitions: Access denied" >&2; exit 1; }; cat "$F/sinfo"',
    "srun": "true",
}


class FakeSlurm:
    """Where its commands are and what they answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        for name, text in COMMANDS.items():
            (self.bin / name).write_text(f"#!/bin/bash\nF={folder}\n{text}\n")
            (self.bin / name).chmod(0o755)
        for name in ("calls", "squeue", "names", "running", "config"):
            (folder / name).touch()
        self.answer(sinfo="cpu*|1-00:00:00\nlow|30:00\nlong|infinite\n")
        (folder / "next").write_text("100")

    def calls(self) -> list[str]:
        """How its commands were called since the last time."""
        lines = (self.folder / "calls").read_text().splitlines()
        (self.folder / "calls").write_text("")
        return lines

    def answer(self, **states: str) -> None:
        """Let ``squeue``, ``sacct``, ``sinfo`` or, by ``config``, ``scontrol`` say that; ``sinfo`` fails without."""
        for name, text in states.items():
            (self.folder / name).write_text(text)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster that only writes down."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
    return fake
