"""The command line, and a tiny cohort with an undisturbed run of it."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from plexrank.cli import main
from plexrank.machine.gpus import HIDDEN
from plexrank.planning.order import STAGES
from plexrank.simulate import simulate

for interrupt in (signal.SIGHUP, signal.SIGINT):  # tests are the same below nohup, and in the background of a shell
    if signal.getsignal(interrupt) is signal.SIG_IGN:
        signal.signal(interrupt, signal.default_int_handler if interrupt == signal.SIGINT else signal.SIG_DFL)

AROUND = "SBATCH_|SLURM_|PLEXRANK_(GPUS|CORES|SUBMITTED_BY)|CUDA_VISIBLE_DEVICES|(APPTAINER|SINGULARITY)_CONTAINER"
for name in [*os.environ]:  # tests are the same within a job, and where a user has settings of Slurm
    hides_gpus = name == "CUDA_VISIBLE_DEVICES" and os.environ[name] in HIDDEN
    if re.match(AROUND, name) and not hides_gpus:
        del os.environ[name]

LOADED = [
    *("pytest", "plexrank.cli", "plexrank.launch.opening", "plexrank.simulate"),
    *(f"plexrank.stages.{stage}" for stage in STAGES),
    *("torch._dynamo", "torch.utils.tensorboard"),  # by the first step of a training
]
multiprocessing.get_context("forkserver").set_forkserver_preload(LOADED)  # of all processes that tests start

TINY = (
    *("train.epochs=3", "train.folds=2", "train.seeds=2", "train.batch_tiles=8"),
    *("rank.bootstrap=200", "report.pictures=1"),
)
"""Overrides that make a run of the tiny cohort a matter of seconds."""


def command(*arguments: object) -> list[str]:
    """The command line as a process of its own."""
    return [sys.executable, "-m", "plexrank", *map(str, arguments)]


def run_arguments(study: Path, run: Path, *overrides: str) -> list[object]:
    """Arguments of ``plexrank run`` for the tiny cohort."""
    return ["run", study, "--out", run, *(part for value in (*TINY, *overrides) for part in ("--set", value))]


@dataclass
class Started:
    """A command under way."""

    words: list[str]
    process: BaseProcess
    files: list[Path]

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        self.process.join()
        assert self.process.exitcode is not None
        return subprocess.CompletedProcess(
            self.words, self.process.exitcode, *(file.read_text() for file in self.files)
        )


def without_digests(run: Path) -> Path:
    """Make a run one of before digests were recorded, whose files a test may change; the run."""
    for path in [*run.rglob("*done.json"), run / "provenance.json"]:
        content = json.loads(path.read_text())
        for part in content.get("commands", [content]):
            for key in ("sha256", "crc32c", "record sha256", "study sha256"):
                part.pop(key, None)
        path.write_text(json.dumps(content))
    return run


class Plexrank:
    """The command line in processes of their own.

    They are forked off a server that has loaded the libraries and done nothing else, since loading torch takes
    longer than most commands. What they print goes to files in ``folder``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = itertools.count()
        self._processes = multiprocessing.get_context("forkserver")

    def start(self, *arguments: object, **environment: str) -> Started:
        """Start ``plexrank ARGUMENTS``, with more in its environment."""
        words = [str(argument) for argument in arguments]
        number = next(self._count)
        files = [self._folder / f"{number}.{stream}" for stream in ("out", "err")]
        surroundings = (Path.cwd(), {**os.environ, **environment})
        process = self._processes.Process(target=run_command_line, args=(words, *surroundings, files))
        process.start()
        return Started(words, process, files)

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run ``plexrank ARGUMENTS`` and return what it printed and its exit code."""
        return self.start(*arguments).finish()


@pytest.fixture(scope="session")
def plexrank(tmp_path_factory: pytest.TempPathFactory) -> Plexrank:
    """See :class:`Plexrank`."""
    return Plexrank(tmp_path_factory.mktemp("said"))


def run_command_line(arguments: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> None:
    """What a forked process does: become ``plexrank ARGUMENTS`` with both streams in files."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["plexrank", *arguments]
    main()


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Study file of a simulated cohort: 32 images, 6 channels, 32 px."""
    return simulate("demo", tmp_path_factory.mktemp("tiny") / "cohort", images=32, channels=6, size_px=32, seed=1)


@pytest.fixture(scope="session")
def tiny_run(tiny_study: Path, plexrank: Plexrank) -> Path:
    """The run directory of the tiny cohort, made without disturbance; tests must not change it."""
    run = tiny_study.parent.parent / "run"
    done = plexrank(*run_arguments(tiny_study, run))
    assert done.returncode == 0, done.stderr
    return run
