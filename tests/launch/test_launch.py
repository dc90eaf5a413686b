"""A run as a graph of jobs, on a Slurm that only writes down how it is called."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from conftest import Plexrank, command, run_arguments
from fake_slurm import FakeSlurm, slurm
from plexrank.launch.submitted import read_graph

__all__ = ["slurm"]

STAGES = ("tile", "table", "train", "attribute", "rank", "report")
PROFILE = "partition: low\nstop_before_s: 20\ntile: {jobs: 3}\ntrain: {nodes: 2, tasks_per_node: 2, at_once: 1}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def half_done(tiny_run: Path, tmp_path: Path) -> Path:
    """A run of which one training is left, and all that follows it."""
    run = tmp_path / "my run"
    shutil.copytree(tiny_run, run)
    run.chmod(0o700)
    (run / "train" / "fold-0" / "seed-1" / "done.json").unlink()
    return run


def submitted(calls: list[str]) -> list[tuple[str, str]]:
    """Name and dependency of every job that was submitted."""
    found = []
    for call in calls:
        if call.startswith("sbatch"):
            name = re.search(r"--job-name=([a-z]+)-demo-32x6x32-1-[0-9a-f]{6} ", call)
            after = re.search(r"--dependency=(\S+)", call)
            assert name, call
            found.append((name[1], after[1] if after else "--hold" if "--hold" in call else ""))
    return found


def test_a_fresh_run_is_one_chain_whose_head_is_let_go_last(
    slurm: FakeSlurm, site: Path, tiny_study: Path, tmp_path: Path, plexrank: Plexrank
) -> None:
    run = tmp_path / "run"
    done = plexrank(*run_arguments(tiny_study, run), "--cluster", site)
    assert done.returncode == 0, done.stderr
    calls = slurm.calls()
    after = ["--hold", *(f"afterok:{number}" for number in range(101, 106))]
    assert submitted(calls) == list(zip(STAGES, after, strict=True))
    assert calls[-1] == "scontrol --clusters=cluster release 101"
    assert "tile       job 101, an array of 3: 32 units" in done.stdout
    assert f"plexrank status {run} --watch" in done.stdout
    graph = read_graph(run / "jobs" / "graph.json")
    assert graph is not None
    assert graph.released
    assert [job.job_id for job in graph.jobs] == [str(number) for number in range(101, 107)]
    assert sorted(record for share in graph.jobs[0].shares for record in share) == sorted(
        f"tiles/image{number:03}.done.json" for number in range(1, 33)
    )
    assert (run.stat().st_mode & 0o777) == 0o700
    states = "".join(f"101_{task}|PENDING|Priority\n" for task in range(3))
    states += "".join(f"103_{task}|PENDING|Dependency\n" for task in range(4))
    states += "".join(f"{number}|PENDING|Dependency\n" for number in (102, 105, 106))
    slurm.answer(squeue=states + "".join(f"104_{task}|PENDING|Dependency\n" for task in range(4)))
    again = plexrank(*run_arguments(tiny_study, run), "--cluster", site)
    assert again.returncode == 0, again.stderr
    assert "nothing to submit: 14 jobs are under way" in again.stdout
    assert slurm.calls() == []
    changed = plexrank(*run_arguments(tiny_study, run, "rank.bootstrap=300"), "--cluster", site)
    assert changed.returncode == 64
    assert f"14 jobs are under way with other settings; run plexrank cancel {run} first" in changed.stderr
    here = plexrank(*run_arguments(tiny_study, run))
    assert here.returncode == 1
    assert "14 jobs are under way" in here.stderr
    slurm.answer(running="101_0\n")
    assert "cancelled 101, 102, 103, 104, 105, 106" in plexrank("cancel", run).stdout
    assert slurm.calls() == ["scancel --clusters=cluster 101 102 103 104 105 106"]


def test_only_what_is_missing_and_what_follows_is_submitted(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    done = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site)
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in submitted(slurm.calls())] == ["train", "attribute", "rank", "report"]
    graph = read_graph(half_done / "jobs" / "graph.json")
    assert graph is not None
    assert [job.shares for job in graph.jobs] == [
        (("train/fold-0/seed-1/done.json",),),
        (("attribution/fold-0-seed-1.done.json",),),
        (("ranking/ranking.done.json",),),
        (("report/report.done.json",),),
    ]
    assert not any(job.is_array for job in graph.jobs)


def test_nothing_is_submitted_for_a_finished_run(
    slurm: FakeSlurm, site: Path, tiny_study: Path, tiny_run: Path, tmp_path: Path, plexrank: Plexrank
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    run.chmod(0o700)
    done = plexrank(*run_arguments(tiny_study, run), "--cluster", site)
    assert "nothing to submit: all is done" in done.stdout
    changed = plexrank(*run_arguments(tiny_study, run, "rank.bootstrap=300"), "--cluster", site)
    assert changed.returncode == 0
    assert [name for name, _ in submitted(slurm.calls())] == ["rank", "report"]


def test_a_refusal_in_the_middle_takes_all_back(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    slurm.answer(refuse="3")
    refused = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        "error: rank: sbatch: Batch job submission failed: Invalid qos specification; the profile gives no qos"
    )
    assert slurm.calls()[-1] == "scancel --clusters=cluster 101 102"


def test_a_broken_off_submission_is_taken_back_and_made_again(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    slurm.calls()
    path = half_done / "jobs" / "graph.json"
    graph = json.loads(path.read_text())
    path.write_text(json.dumps(graph | {"released": False, "jobs": graph["jobs"][:1]}))
    slurm.answer(
        names=f"101|train-demo-{graph['token']}\n102|attribute-demo-{graph['token']}\n7|other\n", running="101_0\n102\n"
    )
    assert "the submission was interrupted" in plexrank("status", half_done).stdout
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    calls = slurm.calls()
    assert calls[0] == "scancel --clusters=cluster 101 102"
    assert [name for name, _ in submitted(calls)] == ["train", "attribute", "rank", "report"]


def test_a_failed_task_is_redone_beside_those_under_way(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    (half_done / "train" / "fold-1" / "seed-0" / "done.json").unlink()
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    slurm.calls()
    waiting = "102_0|PENDING|Dependency\n102_1|PENDING|Dependency\n103|PENDING|Dependency\n104|PENDING|Dependency\n"
    slurm.answer(squeue="101_1|RUNNING|None\n" + waiting, sacct="101_0|FAILED|4:0\n", running="102_0\n")
    again = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site)
    assert again.returncode == 0, again.stderr
    calls = slurm.calls()
    assert calls[0] == "scancel --clusters=cluster 102_0 102_1 103 104"
    assert submitted(calls) == [
        ("train", "--hold"),
        ("attribute", "afterok:101_1:105"),
        ("rank", "afterok:101_1:106"),
        ("report", "afterok:101_1:107"),
    ]


def test_status_tells_what_failed_what_waits_and_what_to_do(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    (half_done / "logs" / "101_0_log.out").write_text("srun: error: n2: task 1: Exited with exit code 4\n")
    log = half_done / "logs" / "101_1_log.out"
    log.write_text("".join(f"line {number}\n" for number in range(20)) + "error: disk is full\n")
    slurm.answer(sacct="101|FAILED|4:0\n102|CANCELLED by 0|0:0\n103|CANCELLED by 0|0:0\n")
    said = plexrank("status", half_done).stdout
    assert "train         3 of 4 done, 1 failed; job 101 FAILED" in said
    assert "train (train/fold-0/seed-1/done.json): job 101 FAILED exit 4:0" in said
    assert f"  {log}:" in said
    assert "    error: disk is full" in said
    assert "line 12\n" not in said
    assert (
        "cancelled because they waited for what failed: attribute (attribution/fold-0-seed-1.done.json), rank" in said
    )
    again = shlex.join(map(str, ["plexrank", *run_arguments(tiny_study, half_done), "--cluster", site]))
    assert f"next: fix what failed; then {again} submits that" in said
    slurm.answer(sacct="101|FAILED|75:0\n")
    assert "submits what is left" in plexrank("status", half_done).stdout.splitlines()[-1]
    slurm.answer(squeue="CLUSTER: cluster\n101|RUNNING|None\n102|PENDING|Dependency\n", sacct="")
    said = plexrank("status", half_done).stdout
    assert "train         3 of 4 done, 1 running; job 101 RUNNING" in said
    assert "attribute     3 of 4 done, 1 waiting; job 102 PENDING" in said
    assert "next: wait; plexrank status" in said


def test_status_and_a_second_run_work_without_accounting(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    slurm.calls()
    (half_done / "logs" / "101_0_log.out").write_text("half-way\n")
    said = plexrank("status", half_done).stdout
    assert "train (train/fold-0/seed-1/done.json): job 101 ENDED before it was done" in said
    assert "cancelled because they waited for what failed: attribute" in said
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    assert len(submitted(slurm.calls())) == 4


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o002, 0o007])
def test_with_a_umask_for_groups_nobody_else_can_write_what_jobs_run(
    slurm: FakeSlurm, site: Path, tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path, umask: int
) -> None:
    run, project = tmp_path / "project" / "run", tmp_path / "project"
    before = os.umask(umask)
    try:
        project.mkdir()
        run.mkdir()  # by the user, who may share it
        (run / "jobs").mkdir()
        shutil.copytree(tiny_run / "tiles", run / "tiles")
        shutil.copy(tiny_run / "provenance.json", run)
        for _ in range(2):
            done = subprocess.run(
                command(*run_arguments(tiny_study, run), "--cluster", site, "--dry-run"), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    finally:
        os.umask(before)
    assert stat.S_IMODE(project.stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE(run.stat().st_mode) == 0o777 & ~umask & ~0o022
    for folder in ("jobs", "logs", "jobs/dry-run"):
        assert stat.S_IMODE((run / folder).stat().st_mode) == 0o700


@pytest.mark.parametrize(("mode", "folder"), [(0o777, ""), (0o702, ""), (0o722, "jobs")])
def test_a_run_directory_that_everybody_can_write_to_is_refused(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank, mode: int, folder: str
) -> None:
    (half_done / folder).mkdir(exist_ok=True)
    (half_done / folder).chmod(mode)
    for dry in ((), ("--dry-run",)):
        refused = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, *dry)
        assert refused.returncode == 1
        assert "other users can write to it, and so run commands as you; chmod go-w it first" in refused.stderr
    assert slurm.calls() == []


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("exploded",)


def test_no_pickle_is_written_or_read(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(half_done.parent)
    (half_done / "logs").mkdir(exist_ok=True)
    (half_done / "jobs").mkdir()
    for folder in ("jobs", "logs"):
        for name in ("submitted.pkl", "101_submitted.pkl", "graph.json", "101_0_result.pkl"):
            (half_done / folder / name).write_bytes(pickle.dumps(Bomb()))
    refused = plexrank("status", half_done)
    assert refused.returncode == 1
    assert "graph.json: damaged" in refused.stderr
    (half_done / "jobs" / "graph.json").unlink()
    assert plexrank(*run_arguments(tiny_study, half_done), "--cluster", site).returncode == 0
    assert plexrank("status", half_done).returncode == 0
    assert not Path("exploded").exists()
    written = {path.suffix for path in (half_done / "jobs").rglob("*") if path.is_file()}
    assert written == {".pkl", ".sh", ".units", ".json"}
    assert len(list((half_done / "jobs").rglob("*.pkl"))) == 3
