"""A whole study as one job of PBS, LSF or Grid Engine: its script, and how it goes on after a stop."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from test_scripts import GOLDEN, a_study, same_everywhere

from conftest import Plexrank, run_arguments
from plexrank.launch.one_job import SCHEDULERS, one_job_text
from plexrank.launch.profile import Container, Profile, WholeRun
from plexrank.machine.cores import usable_cores
from plexrank.machine.processes import job_id
from plexrank.rundir import RunDir


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_scripts_for_other_schedulers_are_as_they_were(scheduler: str) -> None:
    profile = Profile.model_validate(
        {
            "scheduler": scheduler,
            "partition": "cpu",
            "account": "lab",
            "setup": ["module load apptainer"],
            "container": {"image": "/images/plexrank.sif", "bind": ["/archive"]},
            "run": {"cpus": 16, "gpus": 1, "mem_gb": 64, "time_min": 1500},
        }
    )
    run = RunDir(Path("/runs/a study"))
    text = one_job_text(profile, a_study("/data/cohort"), run, "report", run.jobs / f"plexrank.{scheduler}")
    golden = GOLDEN / f"one_job.{scheduler}"
    if "PLEXRANK_WRITE_GOLDEN" in os.environ:
        golden.write_text(same_everywhere(text))
    assert same_everywhere(text) == golden.read_text(), "if meant, write it with PLEXRANK_WRITE_GOLDEN=1"
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_a_site_writes_its_own_lines_for_resources() -> None:
    asked = {"header": ["#PBS -l nodes=1:ppn=8"], "cpus": 8, "gpus": 0, "time_min": 60}
    container = {"image": "/images/plexrank.sif"}
    profile = Profile.model_validate({"scheduler": "pbs", "run": asked, "container": container})
    run = RunDir(Path("/runs/x"))
    text = one_job_text(profile, a_study("/data"), run, "rank", run.jobs / "plexrank.pbs")
    assert [line for line in text.splitlines() if line.startswith("#PBS -l")] == ["#PBS -l nodes=1:ppn=8"]
    assert "--signal=USR2 3420 " in text
    assert "apptainer exec ${CUDA_VISIBLE_DEVICES:+--nv} --contain" in text
    assert "PLEXRANK_GPUS" not in text
    rocm = profile.model_copy(
        update={"container": Container.model_validate({**container, "options": ["--rocm"]}), "run": WholeRun(gpus=1)}
    )
    text = one_job_text(rocm, a_study("/data"), run, "rank", run.jobs / "plexrank.pbs")
    assert "apptainer exec --rocm --contain" in text
    assert "export PLEXRANK_GPUS=1" in text


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7"),
        ({"PBS_JOBID": "7[2].server", "PBS_ARRAY_INDEX": "2"}, "7[2].server-2"),
        ({"LSB_JOBID": "7", "LSB_JOBINDEX": "2"}, "7-2"),
        ({"JOB_ID": "7", "SGE_TASK_ID": "2", "SGE_ROOT": "/opt/sge"}, "7-2"),
        ({"JOB_ID": "7"}, ""),
    ],
)
def test_a_job_is_known_by_what_no_other_job_shares(environment: dict[str, str], found: str) -> None:
    assert job_id(environment) == found


def test_a_job_uses_no_more_cores_than_it_asked_for() -> None:
    assert usable_cores({"PLEXRANK_CORES": "1"}) == 1
    assert usable_cores({"PLEXRANK_CORES": "100000"}) == usable_cores({}) == len(os.sched_getaffinity(0))


INTERPRETER = """#!/bin/bash
trap 'echo saved >> {run}/train/last.pt; exit 75' USR2
[ "${{STUCK:-}}" = 1 ] && exit 75
[ "${{DONE:-}}" = 1 ] && exit 0
: > {run}/ready
while :; do sleep 0.1; done
"""
TIMEOUT = """#!/bin/bash
# Warns the command as soon as it is ready.
shift 3
"$@" &
while [ ! -e {run}/ready ] && kill -0 $! 2> /dev/null; do sleep 0.1; done
rm {run}/ready 2> /dev/null && kill -USR2 $!
wait $!
"""


@pytest.mark.parametrize(("scheduler", "code"), [("pbs", 0), ("lsf", 75), ("sge", 99)])
def test_a_job_warns_itself_before_its_time_limit_and_goes_on(tmp_path: Path, scheduler: str, code: int) -> None:
    run = RunDir(tmp_path / "a run")
    for folder in (run.jobs, run.logs, run.path / "train", tmp_path / "bin"):
        folder.mkdir(parents=True)
    python, qsub, timeout = tmp_path / "python", tmp_path / "bin" / "qsub", tmp_path / "bin" / "timeout"
    for file, text in ((python, INTERPRETER), (timeout, TIMEOUT)):
        file.write_text(text.format(run=str(run.path).replace(" ", "\\ ")))
    qsub.write_text(f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\n')
    for file in (python, qsub, timeout):
        file.chmod(0o755)
    profile = Profile.model_validate({"scheduler": scheduler, "python": str(python), "max_requeues": 2})
    script = run.jobs / "script"
    script.write_text(one_job_text(profile, a_study("/data"), run, "report", script))
    environment = os.environ | {"PATH": f"{qsub.parent}:{os.environ['PATH']}", SCHEDULERS[scheduler].job_id: "7"}

    def start(**more: str) -> int:
        return subprocess.run(["bash", script], env=environment | more, check=False).returncode

    assert [start(), start(), start()] == [code, code, 1]  # after two starts more the user is asked
    said = (run.logs / "plexrank-7.log").read_text()
    assert "stopped with more to do; the job is run again" in said
    calls = tmp_path / "calls"
    assert (calls.read_text() if calls.exists() else "") == (f"{script}\n" * 2 if scheduler == "pbs" else "")
    assert "submit it again" in said
    assert [start(), start(DONE="1"), start(), start()] == [code, 0, code, code]  # counted from the beginning each time
    assert start(STUCK="1") == 1


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
