"""Stages that are started by themselves keep others out of the run directory, unless they share its work."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from plexrank.errors import RunDirError
from plexrank.launch.opening import working_by_hand
from plexrank.launch.submitted import Graph, SubmittedJob, write_graph
from plexrank.planning.plan import Plan
from plexrank.progress import Reporter
from plexrank.rundir import RunDir


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    rundir = RunDir(tmp_path / "run")
    rundir.create()
    rundir.add_provenance({"command": "plexrank run"})
    cohort = SimpleNamespace(samplesheet=None, panel=None)
    return SimpleNamespace(rundir=rundir, study=SimpleNamespace(cohort=cohort))  # type: ignore[return-value]


def submit(rundir: RunDir, job_id: str) -> None:
    job = SubmittedJob(name="rank", stage="rank", job_id=job_id, is_array=False, shares=(("a",),), after=())
    graph = Graph(token="0badca", profile="p", container_sha256=None, submitted="now", released=True, jobs=(job,))
    write_graph(rundir.graph, graph)


def test_a_stage_by_hand_takes_the_lock(plan: Plan) -> None:
    with working_by_hand(plan, Reporter(), shares_work=False):
        assert plan.rundir.lock.is_file()
        with pytest.raises(RunDirError, match="another run is using"), plan.rundir.locked():
            pass
    assert not plan.rundir.lock.exists()


def test_tasks_of_an_array_share_a_run(plan: Plan) -> None:
    with plan.rundir.locked(), working_by_hand(plan, Reporter(), shares_work=True):
        pass


def test_processes_of_one_training_share_a_run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with plan.rundir.locked(), working_by_hand(plan, Reporter(), shares_work=False):
        pass


def test_a_submitted_job_shares_a_run_with_the_other_jobs(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(plan.rundir, "12")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with plan.rundir.locked(), working_by_hand(plan, Reporter(), shares_work=False):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    with plan.rundir.locked(), pytest.raises(RunDirError), working_by_hand(plan, Reporter(), shares_work=False):
        pass


def test_a_lost_history_begins_again(plan: Plan) -> None:
    plan.rundir.provenance.unlink()
    said = io.StringIO()
    with working_by_hand(plan, Reporter(said), shares_work=False):
        assert plan.rundir.last_command()["before"] == "lost"
    assert "provenance.json: lost, and with it what was run before; begun again" in said.getvalue()
