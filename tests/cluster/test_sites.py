"""Sites that differ, on a real cluster: no arrays, no memory, accounts from the environment, typed GPUs."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cluster.conftest import SMALL, Site
from cluster.local_slurm import CLUSTER
from plexrank.gpus import driver_version

Profile = Callable[..., Path]
TINY = ("--set", "train.epochs=1", "--set", "train.patience=1", "--until", "train")


@pytest.fixture(scope="module")
def umask_002() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def by_hand(site: Site, umask_002: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiling and training submitted by the script of a dry run, without arrays and memory, on a named cluster.

    Another run of the same study submits nothing beside these jobs, however many of them have ended by then.
    """
    profile = tmp_path_factory.mktemp("profile") / "site.yaml"
    small = {key: value for key, value in SMALL.items() if key != "mem_gb"}
    stages = dict.fromkeys(("train", "attribute", "rank", "report"), small) | {"tile": {**small, "jobs": 2}}
    options = {"array": None, "mem": None, "requeue": None}
    profile.write_text(yaml.safe_dump({"clusters": CLUSTER, "sbatch": options, "stop_before_s": 20, **stages}))
    run = site.folder / "shared" / "run"
    run.mkdir(parents=True)
    script = site.submit(run, profile, *TINY, "--dry-run").stdout.strip()
    users = {"SBATCH_ACCOUNT": "lab", "SBATCH_TIMELIMIT": "1", "SBATCH_ARRAY_INX": "0-3"}
    subprocess.run(["bash", script], env=site.slurm.environment | users, check=True)
    graph = site.graph(run)
    assert "nothing to submit: " in site.submit(run, profile, *TINY).stdout
    assert site.graph(run) == graph
    assert {row["State"] for row in site.wait(run).values()} == {"COMPLETED"}
    return run


def test_a_site_without_arrays_and_memory_runs_what_is_submitted_by_hand(site: Site, by_hand: Path) -> None:
    graph = site.graph(by_hand)
    assert (graph.cluster, graph.released) == (CLUSTER, True)
    names = ("tile", "tile", "table", "train", "train")
    assert tuple(job.name for job in graph.jobs) == names
    assert not any(job.is_array for job in graph.jobs)
    lines = site.slurm.command("sacct", "-nPX", f"-j{','.join(graph.job_ids)}", "-oAccount,Timelimit").split()
    assert set(lines) == {"lab|00:05:00"}
    assert "train         2 of 2 done" in site.plexrank("status", by_hand).stdout
    assert stat.S_IMODE((by_hand / "jobs").stat().st_mode) == 0o700
    assert stat.S_IMODE(by_hand.stat().st_mode) == 0o755


def test_doctor_tries_what_a_run_would_submit(site: Site, profile: Profile) -> None:
    many = {"tile": {**SMALL, "jobs": 5000}}
    said = site.plexrank("doctor", "--cluster", profile(clusters=CLUSTER, **many)).stdout
    assert "tile         Slurm would take an array of 1001" in said
    typed = {**SMALL, "sbatch": {"gres": "gpu:h100:1"}}
    said = site.plexrank("doctor", "--cluster", profile(max_array_size=5000, train=typed, **many), check=False).stdout
    assert "tile         Slurm would refuse an array of 5000: sbatch: allocation failure: Invalid job array" in said
    assert "train        Slurm would refuse an array of 100: sbatch: allocation failure: Requested node" in said
    assert "sbatch.gres gpu:h100:1 in the profile; fix train in the profile" in said


@pytest.mark.skipif(driver_version() != "", reason="torch may be able to use the GPUs of this machine")
def test_a_job_with_gpus_that_torch_cannot_use_fails_and_says_so(site: Site, by_hand: Path, profile: Profile) -> None:
    path = profile(train={**SMALL, "sbatch": {"gres": "gpu:tesla:1"}})
    site.submit(by_hand, path, *TINY, "--set", "train.learning_rate=0.001")
    assert {row["State"] for row in site.wait(by_hand).values()} == {"FAILED"}
    said = site.plexrank("status", by_hand).stdout
    assert "error: PLEXRANK_GPUS=1: this job was given GPUs, but torch " in said
    assert "no NVIDIA driver loaded" in said
