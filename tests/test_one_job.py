"""A whole study as one job of PBS, LSF or Grid Engine: its script, and how it goes on after a stop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import Plexrank, run_arguments
from plexrank.launch.one_job import SCHEDULERS, one_job_text
from plexrank.launch.profile import Profile
from plexrank.rundir import RunDir
from test_scripts import GOLDEN, a_profile, a_study, same_everywhere


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_scripts_for_other_schedulers_are_as_they_were(scheduler: str) -> None:
    profile = a_profile(scheduler=scheduler, run={"cpus": 16, "gpus": 1, "mem_gb": 64, "time_min": 1500})
    run = RunDir(Path("/runs/a study"))
    text = one_job_text(profile, a_study("/data/cohort"), run, "report", run.jobs / f"plexrank.{scheduler}")
    golden = GOLDEN / f"one_job.{scheduler}"
    if "PLEXRANK_WRITE_GOLDEN" in os.environ:
        golden.write_text(same_everywhere(text))
    assert same_everywhere(text) == golden.read_text(), "if meant, write it with PLEXRANK_WRITE_GOLDEN=1"
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_a_site_writes_its_own_lines_for_resources() -> None:
    profile = Profile.model_validate({"scheduler": "pbs", "run": {"header": ["#PBS -l nodes=1:ppn=8"], "mem_gb": None}})
    run = RunDir(Path("/runs/x"))
    lines = one_job_text(profile, a_study("/data"), run, "rank", run.jobs / "plexrank.pbs").splitlines()
    assert [line for line in lines if " -l " in line] == ["#PBS -l nodes=1:ppn=8"]


INTERPRETER = """#!/bin/bash
trap 'echo saved >> {run}/train/last.pt; exit 75' USR2
[ "${{STUCK:-}}" = 1 ] && exit 75
[ -e {run}/train/last.pt ] && exit 0
while :; do sleep 0.1; done
"""


@pytest.mark.parametrize(("scheduler", "code"), [("pbs", 0), ("lsf", 75), ("sge", 99)])
def test_a_job_warns_itself_before_its_time_limit_and_goes_on(tmp_path: Path, scheduler: str, code: int) -> None:
    run = RunDir(tmp_path / "a run")
    for folder in (run.jobs, run.logs, run.path / "train", tmp_path / "bin"):
        folder.mkdir(parents=True)
    python, qsub = tmp_path / "python", tmp_path / "bin" / "qsub"
    python.write_text(INTERPRETER.format(run=str(run.path).replace(" ", "\\ ")))
    qsub.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\n')
    for file in (python, qsub):
        file.chmod(0o755)
    profile = Profile.model_validate({"scheduler": scheduler, "python": str(python)})
    script = run.jobs / "script"
    text = one_job_text(profile, a_study("/data"), run, "report", script)
    script.write_text(text.replace(f"--signal=USR2 {480 * 60 - 180} ", "--signal=USR2 1 "))
    environment = os.environ | {"PATH": f"{qsub.parent}:{os.environ['PATH']}", SCHEDULERS[scheduler].job_id: "7"}

    def start(**more: str) -> int:
        return subprocess.run(["bash", script], env=environment | more, check=False).returncode

    assert start() == code
    said = (run.logs / "plexrank-7.log").read_text()
    assert "stopped with more to do; the job is run again" in said
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == (
        f"-v PLEXRANK_START=2 {script}\n" if scheduler == "pbs" else ""
    )
    assert start() == 0
    assert start(STUCK="1") == 1
    assert "submit it again" in (run.logs / "plexrank-7.log").read_text()


def test_run_writes_the_script_and_says_how_to_submit_it(tiny_study: Path, tmp_path: Path, plexrank: Plexrank) -> None:
    profile, run = tmp_path / "pbs.yaml", tmp_path / "run"
    profile.write_text("scheduler: pbs\npartition: workq\n")
    done = plexrank(*run_arguments(tiny_study, run), "--cluster", profile, "--until", "tile")
    assert done.returncode == 0, done.stderr
    script = run / "jobs" / "plexrank.pbs"
    assert done.stdout.splitlines()[:1] == [str(script)]
    assert f"submit it: qsub {script}; its log is in {run}/logs" in done.stdout
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")])}
    job = subprocess.run(["bash", script], env=environment | {"PBS_JOBID": "8.server"}, check=False)
    log = (run / "logs" / "plexrank-8.server.log").read_text()
    assert job.returncode == 0, log
    assert "tile: 32 of 32" in log
    assert (run / "tiles" / "tiles.parquet").is_file()
