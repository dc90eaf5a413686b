"""Sites that differ, on a real cluster: two of ``tests/launch/sites``, accounts from the environment, typed GPUs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster.conftest import SMALL, Site
from cluster.local_slurm import CLUSTER
from conftest import command
from plexrank.machine.gpus import driver_version
from plexrank.planning.order import STAGES

Profile = Callable[..., Path]
SITES = Path(__file__).parents[1] / "launch" / "sites"
TINY = ("--set", "train.epochs=1", "--set", "train.patience=1", "--until", "train")


def adapted(name: str, folder: Path, **names: object) -> Path:
    """A profile of ``tests/launch/sites`` with the partition, the sizes and other names of this cluster."""
    content = yaml.safe_load((SITES / f"{name}.yaml").read_text()) | {"partition": "low", "stop_before_s": 20} | names
    small = {key: value for key, value in SMALL.items() if not (key == "mem_gb" and "sbatch" in content)}
    content |= {stage: content.get(stage, {}) | small for stage in STAGES}
    content["tile"]["jobs"] = 2
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def umask_002() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def shared(site: Site, umask_002: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiling and training at ``umask_002.yaml``, in a folder that the user's group shares."""
    python = {"python": sys.executable, "setup": ["module() { :; }", "module load cuda"]}
    profile = adapted("umask_002", tmp_path_factory.mktemp("profile"), **python)
    run = site.folder / "shared" / "run"
    run.mkdir(parents=True)
    submit = command("run", site.study, "--out", run, "--cluster", profile, *TINY)
    subprocess.run(submit, env=site.slurm.environment, check=True)
    assert {row["State"] for row in site.wait(run).values()} == {"COMPLETED"}
    return run


def test_with_a_umask_for_groups_results_are_shared_and_jobs_are_not(site: Site, shared: Path) -> None:
    modes = {name: stat.S_IMODE((shared / name).stat().st_mode) for name in ("", "jobs", "logs", "tiles", "train")}
    assert modes == {"": 0o755, "jobs": 0o700, "logs": 0o700, "tiles": 0o775, "train": 0o775}
    assert [job.is_array for job in site.graph(shared).jobs] == [True, False, True]
    assert "train         2 of 2 done" in site.plexrank("status", shared).stdout


def test_a_site_without_arrays_runs_what_is_submitted_by_hand(site: Site, image: Path, tmp_path: Path) -> None:
    (tmp_path / "plexrank.sif").symlink_to(image)
    profile = adapted("no_arrays", tmp_path, clusters=CLUSTER)
    run = tmp_path / "run"
    script = site.submit(run, profile, *TINY, "--dry-run").stdout.strip()
    users = {"SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "1", "SBATCH_ARRAY_INX": "0-3"}
    subprocess.run(["bash", script], env=site.slurm.environment | users, check=True)
    graph = site.graph(run)
    assert (graph.cluster, graph.released) == (CLUSTER, True)
    assert tuple(job.name for job in graph.jobs) == ("tile", "tile", "table", "train", "train")
    assert not any(job.is_array for job in graph.jobs)
    assert "nothing to submit: " in site.submit(run, profile, *TINY).stdout  # however many have ended by then
    assert site.graph(run) == graph
    assert {row["State"] for row in site.wait(run).values()} == {"COMPLETED"}
    fields = site.slurm.command("sacct", "-nPX", f"-j{','.join(graph.job_ids)}", "-oAccount,Timelimit,ReqMem").split()
    assert fields == ["lab|00:05:00|4G"] * 3 + ["lab|00:05:00|8G"] * 2  # of one core, of two processes
    assert "train         2 of 2 done" in site.plexrank("status", run).stdout


def test_doctor_tries_what_a_run_would_submit(site: Site, profile: Profile) -> None:
    many = {"tile": {**SMALL, "jobs": 5000}}
    said = site.plexrank("doctor", "--cluster", profile(clusters=CLUSTER, **many)).stdout
    assert "tile         Slurm would take an array of 1001" in said
    typed = {**SMALL, "sbatch": {"gres": "gpu:h100:1"}}
    said = site.plexrank("doctor", "--cluster", profile(max_array_size=5000, train=typed, **many), check=False).stdout
    assert "tile         Slurm would refuse an array of 5000: sbatch: allocation failure: Invalid job array" in said
    assert "train        Slurm would refuse an array of 100: sbatch: allocation failure: Requested node" in said
    assert "sbatch.gres gpu:h100:1, by the profile or by default; fix train in the profile" in said


@pytest.mark.skipif(driver_version() != "", reason="torch may be able to use the GPUs of this machine")
def test_a_job_with_gpus_that_torch_cannot_use_fails_and_says_so(site: Site, shared: Path, profile: Profile) -> None:
    path = profile(train={**SMALL, "sbatch": {"gres": "gpu:tesla:1"}})
    site.submit(shared, path, *TINY, "--set", "train.learning_rate=0.001")
    assert {row["State"] for row in site.wait(shared).values()} == {"FAILED"}
    said = site.plexrank("status", shared).stdout
    assert "error: PLEXRANK_GPUS=1: this job was given GPUs, but torch " in said
    assert "no NVIDIA driver loaded" in said
