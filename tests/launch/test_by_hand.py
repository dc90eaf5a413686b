"""The scripts of a dry run, submitted by hand, on a Slurm that only writes down how it is called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from test_launch import STAGES, half_done, site, submitted

from conftest import Plexrank, run_arguments
from fake_slurm import FakeSlurm, slurm
from plexrank.errors import RunDirError
from plexrank.launch.by_hand import write_submit_script
from plexrank.launch.profile import Profile
from plexrank.launch.script import Job
from plexrank.launch.slurm import submit
from plexrank.launch.submit import cancel_run, refuse_while_jobs_run
from plexrank.launch.submitted import Graph, read_graph
from plexrank.rundir import RunDir

__all__ = ["half_done", "site", "slurm"]


def test_a_dry_run_writes_scripts_and_submits_nothing(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    dry = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert slurm.calls() == []
    script = Path(dry.stdout.strip())
    (slurm.bin / "sbatch").write_text(
        (slurm.bin / "sbatch").read_text().replace("n=$((", f"env | grep ^S > {slurm.folder}/env\nn=$((")
    )
    surrounding = {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "4", "SBATCH_TIMELIMIT": "1", "SBATCH_ARRAY_INX": "0-3"}
    users = {"SLURM_JWT": "token", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "lab"}
    environment = os.environ | surrounding | users
    by_hand = subprocess.run(["bash", script], capture_output=True, text=True, check=True, env=environment)
    reached = dict(line.split("=") for line in (slurm.folder / "env").read_text().split() if "=" in line)
    assert {name: value for name, value in reached.items() if name.startswith(("SLURM_", "SBATCH_"))} == users
    assert by_hand.stdout.splitlines()[0] == "train: job 101"
    calls = slurm.calls()
    after = ["--hold", *(f"afterok:{number}" for number in (101, 102, 103))]
    assert submitted(calls) == list(zip(STAGES[2:], after, strict=True))
    assert str(script.parent / "train.sh") in calls[0]
    assert calls[-1] == "scontrol --clusters=cluster release 101"
    assert "--clusters=cluster" in calls[1]
    graph = read_graph(half_done / "jobs" / "graph.json")
    assert graph is not None
    assert (graph.released, graph.cluster, graph.profile) == (True, "cluster", str(site))
    assert [(job.job_id, job.after) for job in graph.jobs] == [
        ("101", ()),
        ("102", ("101",)),
        ("103", ("102",)),
        ("104", ("103",)),
    ]
    twice = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert (twice.returncode, slurm.calls()) == (1, [])
    assert "submitted before: plexrank status" in twice.stderr
    slurm.answer(squeue="101|RUNNING|None\n")
    assert "train         3 of 4 done, 1 running; job 101 RUNNING" in plexrank("status", half_done).stdout
    refused = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, "--dry-run")
    assert "1 job is under way" in refused.stderr


def test_a_refusal_of_a_script_submitted_by_hand_leaves_nothing(
    slurm: FakeSlurm, site: Path, tiny_study: Path, half_done: Path, plexrank: Plexrank
) -> None:
    script = plexrank(*run_arguments(tiny_study, half_done), "--cluster", site, "--dry-run").stdout.strip()
    slurm.answer(refuse="3")
    refused = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "rank: Slurm refuses it; what was submitted before is cancelled" in refused.stderr
    assert "Invalid qos specification" in refused.stderr
    assert slurm.calls()[-1] == "scancel --clusters=cluster 101 102"
    assert not (half_done / "jobs" / "graph.json").exists()


# ---------------------------------------------------------------------------------------------------------------------

SCRIPT = "$(cut -d ' ' -f 6 /proc/$$/stat)"
"""Shell for the number of ``submit.sh``, which began the session, within the commands that it calls."""
JOBS = [Job(name, name, ((f"{name}.json",),)) for name in ("train", "attribute", "rank")]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    rundir = RunDir(tmp_path / "run")
    (rundir.jobs / "dry-run").mkdir(parents=True)
    return rundir


def begun(clusters: str = "") -> Graph:
    return Graph(
        token="abcdef", profile="/p", container_sha256=None, submitted="x", released=False, jobs=(), cluster=clusters
    )


def submit_script(run: RunDir, **profile: object) -> Path:
    """``submit.sh`` for three jobs; their scripts need not exist."""
    site = Profile.model_validate(profile)
    folder = run.jobs / "dry-run"
    write_submit_script(JOBS, begun(site.clusters or ""), site, "study", run, folder)
    return folder / "submit.sh"


def by_hand(script: Path) -> subprocess.CompletedProcess[str]:
    """Run it as the first process of a session of its own, as a terminal does."""
    return subprocess.run(["bash", script], capture_output=True, text=True, check=False, start_new_session=True)


@pytest.mark.parametrize("signal", ["INT", "TERM", "HUP"])
@pytest.mark.parametrize("to", [f"-- -{SCRIPT}", SCRIPT], ids=["group", "script"])
def test_a_signal_leaves_no_job_behind(slurm: FakeSlurm, run: RunDir, signal: str, to: str) -> None:
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(sbatch.read_text().replace("n=$((", f"[ -s {slurm.folder}/names ] && kill -{signal} {to}\nn=$(("))
    slurm.answer(names="once\n")
    stopped = by_hand(submit_script(run))
    assert stopped.returncode == 1
    assert "stopped: what was submitted is cancelled" in stopped.stderr
    assert slurm.calls()[1:] == ["scancel --clusters=cluster 101"]
    assert not run.graph.exists()


def test_jobs_that_cannot_be_released_are_cancelled(slurm: FakeSlurm, run: RunDir) -> None:
    (slurm.bin / "scontrol").write_text("#!/bin/bash\nexit 1\n")
    failed = by_hand(submit_script(run))
    assert failed.returncode == 1
    assert "job 101: cannot be released; what was submitted is cancelled" in failed.stderr
    assert slurm.calls()[-1] == "scancel --clusters=cluster 101 102 103"
    assert [path.name for path in run.jobs.iterdir()] == ["dry-run"]


def test_what_cannot_be_cancelled_stays_on_record(slurm: FakeSlurm, run: RunDir) -> None:
    for name in ("scontrol", "scancel"):
        (slurm.bin / name).write_text("#!/bin/bash\nexit 1\n")
    assert f"jobs may be left; plexrank cancel {run.path} ends them" in by_hand(submit_script(run)).stderr
    assert read_graph(run.graph) == begun()


def test_a_job_whose_id_is_not_known_stays_on_record(slurm: FakeSlurm, run: RunDir) -> None:
    (slurm.bin / "sbatch").write_text("#!/bin/bash\necho queued\n")
    failed = by_hand(submit_script(run))
    assert "train: expected the id of a job, sbatch said: queued" in failed.stderr
    assert f"jobs may be left; plexrank cancel {run.path} ends them" in failed.stderr
    assert read_graph(run.graph) == begun()


def test_a_submission_that_was_killed_is_looked_for_in_every_cluster(slurm: FakeSlurm, run: RunDir) -> None:
    script = submit_script(run, clusters="north,south")
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(sbatch.read_text() + f"\nkill -KILL {SCRIPT}\n")
    assert by_hand(script).returncode == -9
    assert "--clusters=north,south" in slurm.calls()[0]
    graph = read_graph(run.graph)
    assert graph == begun("north,south")
    (slurm.bin / "squeue").write_text('#!/bin/bash\n[[ "$*" != *clusters=south* ]] || echo "101|train-study-abcdef"\n')
    with pytest.raises(RunDirError, match="1 job is under way"):  # so that no dry run takes the place of the record
        refuse_while_jobs_run(run)
    assert cancel_run(run) == ["101"]
    assert slurm.calls() == ["scancel --clusters=south 101"]


@pytest.mark.parametrize(
    ("said", "job_id", "on"),
    [
        ("123;north\nQuota used (GB):\n512", "123", "--clusters=north "),
        ("512\n123;north", "123", "--clusters=north "),
        ("You have\n512\nmessages\n123", "123", ""),
        ("Submitted batch job 123\n512", "123", ""),
    ],
)
def test_the_id_of_a_job_is_found_among_other_numbers(
    slurm: FakeSlurm, run: RunDir, said: str, job_id: str, on: str
) -> None:
    (slurm.bin / "sbatch").write_text(f"#!/bin/bash\nprintf {said!r}'\\n'\n")
    assert by_hand(submit_script(run)).returncode == 0
    assert slurm.calls() == [f"scontrol {on}release {job_id}"]
    taken = submit(run.path, name="x")
    assert (taken.job_id, taken.cluster) == (job_id, on.removeprefix("--clusters=").strip())


def test_what_a_job_around_it_has_set_reaches_no_new_job(
    slurm: FakeSlurm, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(sbatch.read_text().replace("n=$((", f"env -0 > {slurm.folder}/env\nn=$(("))
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "lab", "EDITOR": "vi"}
    everywhere = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
    everywhere |= {"PLEXRANK_GPUS": "4", "PLEXRANK_CORES": "1", "SUBMITIT_EXECUTOR": "slurm", "SQUEUE_FORMAT": "%i"}
    in_jobs = {"SLURM_NTASKS": "4", "SRUN_DEBUG": "3", "SBATCH_MEM_BIND": "local", "CUDA_VISIBLE_DEVICES": "0"}
    jobs: list[dict[str, str]] = [{}, {"SLURM_JOB_ID": "9"}]
    for job in jobs:
        for name, value in (kept | everywhere | in_jobs | job).items():
            monkeypatch.setenv(name, value)
        for way in (lambda: by_hand(submit_script(run)), lambda: submit(run.path, name="x")):
            run.graph.unlink(missing_ok=True)
            way()
            found = {line.partition("=")[0] for line in (slurm.folder / "env").read_text().split("\0")}
            assert kept.keys() <= found
            assert not everywhere.keys() & found
            assert in_jobs.keys() & found == (set() if job else in_jobs.keys())
