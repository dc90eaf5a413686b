"""Jobs that are stopped, in every way that a cluster has, go on and end as if they had not been."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.conftest import SMALL, Site, simulated_study
from cluster.test_chain import assert_same_ranking, assert_same_weights
from plexrank.distributed import TIMEOUT

Profile = Callable[..., Path]


def submit_and_await_checkpoint(site: Site, run: Path, profile: Path) -> str:
    """Submit a run with one training to do; the id of its task, once it has saved progress."""
    site.submit(run, profile)
    task, _ = site.graph(run).jobs[0].tasks()[0]
    site.wait_for((run / "train" / "fold-0" / "seed-0" / "last.pt").exists, 300, "a checkpoint")
    return task


def assert_went_on(site: Site, run: Path, reference: Path, task: str, restarts: int = 1) -> None:
    rows = site.wait(run)
    assert {row["State"] for row in rows.values()} == {"COMPLETED"}, rows
    assert len(rows) == 4
    assert site.restarts(task) == restarts
    assert "going on at epoch" in (run / "logs" / f"{task}_0_log.out").read_text()
    assert_same_weights(run, reference)
    assert_same_ranking(run, reference)


def test_a_signal(site: Site, reference: Path, half_done: Path, profile: Profile) -> None:
    task = submit_and_await_checkpoint(site, half_done, profile())
    for _ in range(3):  # a container passes one signal on several times
        site.slurm.command("scancel", "--signal=USR2", task)
    assert_went_on(site, half_done, reference, task)
    assert "stopped with more to do; the job is run again" in (half_done / "logs" / f"{task}_0_log.out").read_text()


def test_a_study_of_survival(site: Site, tmp_path: Path, profile: Profile) -> None:
    of_survival = site.with_study(simulated_study("survival", tmp_path / "cohort", images=48))
    local, run = tmp_path / "local", tmp_path / "run"
    of_survival.plexrank("run", of_survival.study, "--out", local)
    local.chmod(0o700)
    shutil.copytree(local, run)
    shutil.rmtree(run / "train" / "fold-0")
    task = submit_and_await_checkpoint(of_survival, run, profile())
    site.slurm.command("scancel", "--signal=USR2", task)
    assert_went_on(of_survival, run, local, task)
    assert "time-dependent AUC" in (run / "report" / "report.html").read_text()


def test_the_time_limit(site: Site, half_done: Path, profile: Profile) -> None:
    endless = ["--set", "train.epochs=100000", "--set", "train.patience=100000"]
    site.submit(half_done, profile(train={**SMALL, "time_min": 1}, stop_before_s=15), *endless)
    graph = site.graph(half_done)
    task, _ = graph.jobs[0].tasks()[0]
    log = half_done / "logs" / f"{task}_0_log.out"
    site.wait_for(lambda: log.exists() and "going on at epoch" in log.read_text(), 400, "a second start")
    assert site.restarts(task) >= 1
    waiting = site.squeue("-t", "PD", "-o", "%F")
    assert {job.job_id for job in graph.jobs[1:]} <= set(waiting)
    site.plexrank("cancel", half_done)


def test_preemption(site: Site, reference: Path, half_done: Path, profile: Profile) -> None:
    task = submit_and_await_checkpoint(site, half_done, profile())
    site.slurm.command("sbatch", "-phigh", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 3")
    assert_went_on(site, half_done, reference, task)


def test_a_node_that_goes_down(site: Site, reference: Path, half_done: Path, profile: Profile) -> None:
    task = submit_and_await_checkpoint(site, half_done, profile())
    (node,) = site.squeue(f"-j{task}", "-o", "%N")
    processes = [*daemons_of(site, task), *processes_of(site, task)]
    site.slurm.kill(f"slurmd-{node}")
    for pid in processes:  # those that would report the end of the others first, as if all lost power at once
        os.kill(pid, signal.SIGKILL)
    site.slurm.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        assert_went_on(site, half_done, reference, task)
    finally:
        site.slurm.start_node(node)
        site.slurm.command("scontrol", "update", f"NodeName={node}", "State=RESUME")


def test_a_dead_process_ends_its_job_before_the_others_give_up_on_it(
    site: Site, half_done: Path, profile: Profile
) -> None:
    train = {**SMALL, "nodes": 2, "tasks_per_node": 2, "mem_gb": 4}
    task = submit_and_await_checkpoint(site, half_done, profile(train=train))
    os.kill(processes_of(site, task, "SLURM_STEP_ID=0", "SLURM_PROCID=2")[0], signal.SIGKILL)
    rows = site.wait(half_done, TIMEOUT.total_seconds() - 100)
    assert rows[task]["State"] == "FAILED"
    assert [row["State"].split()[0] for row in rows.values() if row["JobID"] != task] == ["CANCELLED"] * 3
    assert "next: fix what failed" in site.plexrank("status", half_done).stdout


def test_a_training_on_permuted_labels(site: Site, reference: Path, tmp_path: Path, profile: Profile) -> None:
    local, run = tmp_path / "local", tmp_path / "run"
    for folder in (local, run):
        shutil.copytree(reference, folder)
    two = ("--set", "rank.null_trainings=2")
    site.plexrank("run", site.study, "--out", local, *two)
    site.submit(run, profile(), *two)
    job = site.graph(run).jobs[0]
    assert (job.name, job.shares[0], len(job.shares)) == ("train", ("null/labels-0/fold-0/done.json",), 4)
    log = run / "logs" / f"{job.job_id}_0_0_log.out"
    site.wait_for(lambda: log.exists() and "null training 0 fold 0: epoch" in log.read_text(), 300, "an epoch")
    site.slurm.command("scancel", "--signal=USR2", f"{job.job_id}_0")
    rows = site.wait(run)
    assert [row["State"] for row in rows.values()] == ["COMPLETED"] * 6
    assert site.restarts(f"{job.job_id}_0") == 1
    assert "null training 0 fold 0: going on at epoch" in log.read_text()
    assert "6 of 6 done (4 of 4 null trainings)" in site.plexrank("status", run).stdout
    units = sorted(path.relative_to(local) for path in local.glob("null/*/*/*"))
    assert [path.name for path in units] == ["done.json", "unit.npz"] * 4
    for unit in units[1::2]:
        assert (run / unit).read_bytes() == (local / unit).read_bytes(), unit
    assert_same_ranking(run, local)


def daemons_of(site: Site, task: str) -> list[int]:
    """Pids of the slurmstepd of a job."""
    (job_id,) = site.squeue(f"-j{task}", "-o", "%A")
    names = {entry.name: entry / "cmdline" for entry in Path("/proc").glob("[0-9]*")}
    found = []
    for pid, path in names.items():
        with contextlib.suppress(OSError):
            if path.read_text(errors="replace").startswith(f"slurmstepd: [{job_id}."):
                found.append(int(pid))
    assert found, f"no slurmstepd of {task}"
    return found


def processes_of(site: Site, task: str, *variables: str) -> list[int]:
    """Pids of a job's processes that have these variables, the oldest first."""
    (job_id,) = site.squeue(f"-j{task}", "-o", "%A")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_text(errors="replace").split("\0")
            if {f"SLURM_JOB_ID={job_id}", *variables} <= set(environment):
                found.append(int(entry.name))
    assert found, f"no process of {task}"
    return sorted(found)


@pytest.mark.parametrize(
    ("makes_progress", "restarts", "said"),
    [(True, 2, "started again 2 times; raise time_min"), (False, 1, "stopped twice before anything was saved")],
)
def test_no_requeue_without_end(
    site: Site, half_done: Path, tmp_path: Path, profile: Profile, makes_progress: bool, restarts: int, said: str
) -> None:
    python = tmp_path / "python"
    folder = half_done / "train" / "fold-0" / "seed-0"
    folder.mkdir(parents=True)
    python.write_text(f"#!/bin/bash\n{f'date +%N >> {folder}/last.pt' if makes_progress else ':'}\nexit 75\n")
    python.chmod(0o755)
    site.submit(half_done, profile(python=str(python), max_requeues=2), "--until", "train")
    (row,) = site.wait(half_done).values()
    assert (row["State"], row["ExitCode"], site.restarts(row["JobID"])) == ("FAILED", "75:0", restarts)
    assert said in (half_done / "logs" / f"{row['JobID']}_0_log.out").read_text()
    assert "submits what is left" in site.plexrank("status", half_done).stdout


def test_hostile_names_are_refused(site: Site, half_done: Path, profile: Profile) -> None:
    name = "x\n#SBATCH --wrap='touch pwned'"
    refused = site.submit(half_done, profile(), "--set", f"name={name!r}".replace("'x", '"x'), check=False)
    assert refused.returncode == 64
    odd = half_done.with_name("a\nb")
    refused = site.submit(odd, profile(), check=False)
    assert refused.returncode == 64
    assert "'\\n' cannot stand in the path of a run on a cluster; rename the folder" in refused.stderr
    half_done.chmod(0o777)
    refused = site.submit(half_done, profile(), check=False)
    assert refused.returncode == 1
    assert "other users can write to it" in refused.stderr
