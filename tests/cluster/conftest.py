"""A real cluster, a tiny cohort, its run on this machine as the reference, and an image to run in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster.local_slurm import LocalSlurm, local_slurm
from conftest import Plexrank
from plexrank.launch.submitted import Graph, read_graph
from plexrank.simulate import simulate

ROOT = Path(__file__).parent.parent.parent
PREFIX = Path(os.environ.get("PLEXRANK_CLUSTER_PREFIX", "/opt/plexrank-cluster"))
SETTINGS = {
    "train": {"folds": 2, "seeds": 1, "epochs": 60, "patience": 60, "batch_tiles": 8},
    "rank": {"bootstrap": 200, "permutations": 200},
}
SMALL = {"cpus_per_task": 1, "mem_gb": 2, "time_min": 5}
RANKING = ("ranking.csv", "ranking_by_class.csv", "predictions.csv")


def need(tool: str, command: str, path: str) -> None:
    """Skip where a tool is absent, or fail where PLEXRANK_REQUIRE names it."""
    if shutil.which(command, path=path) is None:
        if tool in os.environ.get("PLEXRANK_REQUIRE", "").split(","):
            pytest.fail(f"{tool} is required and {command} is not there; run tests/cluster/install.sh")
        pytest.skip(f"{command} is not there; make cluster-test installs it")


class Site:
    """The cluster and a study, with the commands that a user would give."""

    def __init__(self, slurm: LocalSlurm, folder: Path, study: Path, plexrank: Plexrank) -> None:
        self.slurm, self.folder, self.study = slurm, folder, study
        self._plexrank = plexrank

    def with_study(self, study: Path) -> Site:
        """The same cluster."""
        return Site(self.slurm, study.parent, study, self._plexrank)

    def plexrank(self, *arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as on a login node."""
        done = self._plexrank.start(*arguments, **(self.slurm.environment | environment)).finish()
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def submit(self, run: Path, profile: Path, *more: object, **options: object) -> subprocess.CompletedProcess[str]:
        """``plexrank run --cluster``."""
        return self.plexrank("run", self.study, "--out", run, "--cluster", profile, *more, **options)

    def graph(self, run: Path) -> Graph:
        """What was submitted."""
        graph = read_graph(run / "jobs" / "graph.json")
        assert graph is not None
        return graph

    def accounting(self, *job_ids: str) -> dict[str, dict[str, str]]:
        """What sacct has of every task of these jobs."""
        fields = ("JobID", "JobName", "State", "ExitCode", "Start", "End", "NNodes")
        lines = self.slurm.command("sacct", "-nPX", f"-j{','.join(job_ids)}", f"-o{','.join(fields)}").splitlines()
        return {line.split("|")[0]: dict(zip(fields, line.split("|"), strict=True)) for line in lines}

    def restarts(self, task: str) -> int:
        """How often a job was requeued."""
        return int(re.findall(r"Restarts=(\d+)", self.slurm.command("scontrol", "show", "job", task))[0])

    def squeue(self, *options: str) -> list[str]:
        """Lines of squeue."""
        return self.slurm.command("squeue", "-h", *options).splitlines()

    def wait(self, run: Path, seconds: float = 500) -> dict[str, dict[str, str]]:
        """Wait until none of the run's jobs is left; requeued ones begin at once. What sacct has of them then."""
        job_ids = self.graph(run).job_ids
        self.wait_for(lambda: not self._left(job_ids), seconds, f"jobs {job_ids} of {run}")
        self.wait_for(lambda: not self._unsettled(job_ids), 60, "accounting")
        print(
            self.slurm.command("sacct", "-X", f"-j{','.join(job_ids)}", "-oJobID,JobName%30,State,ExitCode,Start,End")
        )
        return self.accounting(*job_ids)

    def wait_for(self, holds: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something holds; a requeued job need not wait two minutes, but for its old self to end."""
        deadline = time.monotonic() + seconds
        seen: dict[str, float] = {}
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n" + "\n".join(self.squeue())
            for task, reason in (line.split(maxsplit=1) for line in self.squeue("-r", "-t", "PD", "-o", "%i %r")):
                if reason == "BeginTime" and time.monotonic() > seen.setdefault(task, time.monotonic()) + 4:
                    self.slurm.command("scontrol", "update", f"JobId={task}", "StartTime=now", check=False)
                    del seen[task]
            time.sleep(0.3)

    def _left(self, job_ids: list[str]) -> list[str]:
        return [line for line in self.squeue("-o", "%A") if line in job_ids] + [
            line for line in self.squeue("-o", "%F") if line in job_ids
        ]

    def _unsettled(self, job_ids: list[str]) -> list[str]:
        return [task for task, row in self.accounting(*job_ids).items() if row["State"] in ("RUNNING", "PENDING")]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Everything of the session; other users of the machine (munge, mysql) may enter it."""
    path = Path(tempfile.mkdtemp(prefix="plexrank-cluster-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of the daemons and the login node."""
    path = f"{Path(sys.executable).parent}:{PREFIX / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "APPTAINER_USERNS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def slurm(folder: Path, environment: dict[str, str]) -> Iterator[LocalSlurm]:
    """Two nodes with accounting."""
    for command in ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd"):
        need("slurm", command, environment["PATH"])
    (folder / "slurm").mkdir()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however the tests end, the daemons end with them
    with local_slurm(folder / "slurm", environment) as running:
        yield running


@pytest.fixture(scope="session")
def site(slurm: LocalSlurm, folder: Path, plexrank: Plexrank) -> Site:
    """The cluster with a study of 32 images and 6 channels."""
    return Site(slurm, folder, simulated_study("demo", folder / "cohort", images=32), plexrank)


def simulated_study(scenario: str, folder: Path, images: int) -> Path:
    """Study file of a cohort of 6 channels whose two trainings take long enough to be stopped."""
    study = simulate(scenario, folder, images=images, channels=6, size_px=32, seed=1)
    content = yaml.safe_load(study.read_text())
    for section, keys in SETTINGS.items():
        content.setdefault(section, {}).update(keys)
    study.write_text(yaml.safe_dump(content))
    return study


@pytest.fixture(scope="session")
def reference(site: Site) -> Path:
    """The run of the study by one process on this machine, without a stop."""
    run = site.folder / "reference"
    site.plexrank("run", site.study, "--out", run)
    run.chmod(0o700)
    return run


@pytest.fixture
def half_done(site: Site, reference: Path, tmp_path: Path) -> Path:
    """A copy of that run with one of its two trainings to do, and what follows."""
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    shutil.rmtree(run / "train" / "fold-0")
    return run


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Path]:
    """Write a profile for this cluster."""

    def write(**changes: object) -> Path:
        content: dict[str, object] = {
            "partition": "low",
            "stop_before_s": 20,
            "tile": {**SMALL, "jobs": 3},
            "train": SMALL,
            "attribute": SMALL,
            "rank": SMALL,
            "report": SMALL,
        }
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(content | changes))
        return path

    return write


@pytest.fixture(scope="session")
def image(folder: Path, environment: dict[str, str]) -> Path:
    """The image of container/plexrank.def, unpacked, built from Debian instead of a registry."""
    need("apptainer", "apptainer", environment["PATH"])
    need("apptainer", "mmdebstrap", environment["PATH"])
    base = folder / "debian"
    build(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "bookworm",
            base,
        ],
        environment,
    )
    for device in (base / "dev").iterdir():
        shutil.rmtree(device) if device.is_dir() and not device.is_symlink() else device.unlink()
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(authorities, base / authorities.relative_to("/"))
    cache = Path(
        subprocess.run(
            [Path(sys.executable).parent / "uv", "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    cache.mkdir(parents=True, exist_ok=True)
    arguments = {"BOOTSTRAP": "localimage", "BASE": str(base), "CACHE": "--cache-dir /cache"}
    path = folder / "plexrank"
    build(
        ["apptainer", "build", "--sandbox", "--notest", "--bind", f"{cache}:/cache"]
        + [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        + [path, "container/plexrank.def"],
        environment,
    )
    shutil.rmtree(base)
    return path


def build(command: list[object], environment: dict[str, str]) -> None:
    """Run a command in the repository, and show what it says if it fails."""
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
