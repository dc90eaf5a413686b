"""Runs on clusters that are set up in their own way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_launch import half_done, site, submitted

from conftest import Plexrank, run_arguments
from fake_slurm import FakeSlurm, slurm
from plexrank.launch.graph import plan_jobs
from plexrank.launch.profile import Profile
from plexrank.launch.submitted import read_graph
from plexrank.planning.plan import make_plan
from plexrank.rundir import RunDir, Unit
from plexrank.study import load_study

__all__ = ["half_done", "site", "slurm"]


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_a_site_prints_around_the_answers_is_passed_over(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank, by_hand: bool
) -> None:
    for name in ("sbatch", "squeue"):
        wrapped = slurm.bin / name
        text = wrapped.read_text().removeprefix("#!/bin/bash\n")
        wrapped.write_text(
            f"#!/bin/bash\necho 'Welcome to the cluster | 2 messages'\n{text}\necho 'Have 3 nice days'\n"
        )
    slurm.answer(squeue="101|RUNNING|None\n")
    options = ("--dry-run",) if by_hand else ()
    done = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, *options)
    assert done.returncode == 0, done.stderr
    if by_hand:
        subprocess.run(["bash", done.stdout.strip()], check=True, capture_output=True)
    graph = read_graph(half_done / "jobs" / "graph.json")
    assert graph is not None
    assert graph.job_ids == ["101", "102", "103", "104"]
    assert "1 running; job 101 RUNNING" in plexrank("status", half_done).stdout


def test_arrays_keep_to_the_largest_size_and_sites_without_them_get_single_jobs(
    slurm: FakeSlurm, tiny_study: Path, tmp_path: Path, plexrank: Plexrank
) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("tile: {at_once: 10}\ntrain: {at_once: 2, sbatch: {array: null}}\n")
    slurm.answer(config="MaxArraySize            = 15\n")
    run = tmp_path / "run"
    done = plexrank(*run_arguments(tiny_study, run, "train.folds=3"), "--cluster", profile)
    assert done.returncode == 0, done.stderr
    calls = slurm.calls()
    tile = ["tile"] * 3
    assert [name for name, _ in submitted(calls)] == [*tile, "table", "train", "train", "attribute", "rank", "report"]
    after = [after for _, after in submitted(calls)]
    assert after[:4] == ["--hold", "--hold", "--hold", "afterok:101:102:103"]
    assert after[4:7] == ["afterok:104", "afterok:104", "afterok:105:106"]
    assert [call.split()[-1] for call in calls if "release" in call] == ["101", "102", "103"]
    graph = read_graph(run / "jobs" / "graph.json")
    assert graph is not None
    assert [len(job.shares) for job in graph.jobs] == [15, 15, 2, 1, 1, 1, 6, 1, 1]
    assert sum(len(share) for job in graph.jobs[4:6] for share in job.shares) == 6
    folder = run / "jobs" / graph.token
    assert "#SBATCH --array=0-14%3\n" in (folder / "tile-2.sh").read_text()
    assert "#SBATCH --array" not in (folder / "train-2.sh").read_text()
    units = (folder / "tile-3" / "1.units").read_text().splitlines()
    assert tuple(units) == graph.jobs[2].shares[1]


@pytest.mark.parametrize(
    ("size", "at_once", "parts"), [(2, 3, [2, 2, 2]), (4, 3, [4, 2]), (1, 4, [1] * 4), (6, 1, [6])]
)
def test_no_more_tasks_than_allowed_run_at_once_however_they_are_cut_into_arrays(
    tiny_study: Path, tmp_path: Path, size: int, at_once: int, parts: list[int]
) -> None:
    plan = make_plan(RunDir(tmp_path), load_study(tiny_study, ["train.folds=3", "train.seeds=2"]), for_tiling=True)
    units = [Unit("x", tmp_path / f"{number}.json", (), {}) for number in range(6)]
    profile = Profile.model_validate({"train": {"at_once": at_once}})
    jobs = plan_jobs("train", units, plan, profile, size)
    assert [len(job.shares) for job in jobs] == parts
    assert sum(job.at_once for job in jobs) <= at_once
    assert sum(len(share) for job in jobs for share in job.shares) == 6


def test_a_run_stays_on_the_cluster_that_took_its_first_job(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    site.write_text("clusters: north,south\n")
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, "--dry-run").returncode == 0
    begun = read_graph(half_done / "jobs" / "dry-run" / "begun.json")
    assert begun is not None
    assert begun.clusters == ["north", "south"]
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(sbatch.read_text().replace('"$n;cluster"', '"$n;south"'))
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    calls = slurm.calls()
    on = [re.findall(r"--clusters=\S+", call)[0] for call in calls]
    assert on == ["--clusters=north,south", *["--clusters=south"] * 4]
    slurm.answer(running="101\n", names="101|train-x\n", squeue="101|PENDING|Priority\n")
    plexrank("cancel", half_done)
    assert slurm.calls() == ["scancel --clusters=south 101"]


def test_a_run_is_submitted_from_within_a_job(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(
        sbatch.read_text().replace(
            "n=$((", f'env | grep -E "^(SLURM|SBATCH|SQUEUE|RANK|CUDA)" >> {slurm.folder}/env\nn=$(('
        )
    )
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SBATCH_MEM_BIND", "local")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    users = {"SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "x", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token"}
    overridden = {
        "SBATCH_PARTITION": "other",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_ARRAY_INX": "0-9",
        "SQUEUE_FORMAT": "%i",
    }
    for name, value in (users | overridden).items():
        monkeypatch.setenv(name, value)
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    assert set((slurm.folder / "env").read_text().split()) == {f"{name}={value}" for name, value in users.items()}
    (slurm.folder / "env").unlink()
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("SLURM_MPI_TYPE", "pmix")
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, "--set", "seed=1").returncode == 0
    assert "SLURM_MPI_TYPE=pmix" in (slurm.folder / "env").read_text().split()


def test_a_login_node_needs_no_torch(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules.update({'torch': None, 'torchvision': None}); "
        f"sys.argv = {['plexrank', *map(str, run_arguments(tiny_study, half_done)), '--cluster', str(site)]!r}; "
        "from plexrank.cli import main; main()"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert len(submitted(slurm.calls())) == 4
