"""The whole graph on a real cluster: in order, in the container, after failures, and a second time."""

from __future__ import annotations

import itertools
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pandas as pd
import pytest
import torch

from cluster.conftest import RANKING, SMALL, Site

Profile = Callable[..., Path]
FEW_EPOCHS = ("--set", "train.epochs=2", "--set", "train.patience=2")
"""So few that rounding, which differs between one process and four, does not grow into other networks."""
NAMES = ("tile", "table", "train", "attribute", "rank", "report")


def assert_same_ranking(run: Path, reference: Path) -> None:
    """Byte for byte: one process computes what one process computes."""
    for name in RANKING:
        assert (run / "ranking" / name).read_bytes() == (reference / "ranking" / name).read_bytes(), name


def assert_close_ranking(run: Path, reference: Path) -> None:
    """To 1e-4: four processes, or libraries built for another Python."""
    found, expected = (pd.read_csv(folder / "ranking" / "ranking.csv") for folder in (run, reference))
    assert found["channel"].tolist() == expected["channel"].tolist()
    for column in ("score", "mean_intensity_association", "intensity_p"):
        assert (found[column] - expected[column]).abs().max() < 1e-4, column


def weights(run: Path, fold: int = 0) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(
        run / "train" / f"fold-{fold}" / "seed-0" / "best.pt", weights_only=True
    )["model_state"]
    return state


def assert_same_weights(run: Path, reference: Path) -> None:
    found, expected = weights(run), weights(reference)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def in_container(site: Site, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run in the container, tiled and trained by 2 nodes × 2 tasks, in a folder with an awkward name."""
    run = site.folder / 'it\'s; touch "pwned", $HOME'
    profile = tmp_path_factory.mktemp("profile") / "site.yaml"
    train = {**SMALL, "nodes": 2, "tasks_per_node": 2, "mem_gb": 4, "at_once": 1}
    spread = {**SMALL, "jobs": 1, "nodes": 2, "tasks_per_node": 2, "mem_gb": 4}
    lines = {"partition": "low", "stop_before_s": 20, "container": {"image": str(image)}, "tile": spread}
    lines |= {"train": train, "attribute": SMALL, "rank": SMALL, "report": SMALL}
    profile.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    site.submit(run, profile, *FEW_EPOCHS)
    rows = site.wait(run)
    assert {row["State"] for row in rows.values()} == {"COMPLETED"}
    assert not list(site.folder.rglob("pwned"))
    return run


def test_every_job_completes_after_the_one_before(site: Site, in_container: Path) -> None:
    graph = site.graph(in_container)
    rows = site.accounting(*graph.job_ids)
    assert [job.name for job in graph.jobs] == list(NAMES)
    times = {}
    for job in graph.jobs:
        tasks = [rows[task] for task, _ in job.tasks()]
        times[job.name] = (min(row["Start"] for row in tasks), max(row["End"] for row in tasks))
    for before, after in itertools.pairwise(NAMES):
        assert times[before][1] <= times[after][0], (before, after)
    for name in ("tile", "train"):
        job = graph.jobs[NAMES.index(name)]
        assert {rows[task]["NNodes"] for task, _ in job.tasks()} == {"2"}
        task, _ = job.tasks()[0]
        steps = site.slurm.command("sacct", "-nP", f"-j{task}", "-oJobID,NTasks,State").splitlines()
        assert f"{task}.0|4|COMPLETED" in steps
    assert not list((in_container / "jobs" / "meetings").iterdir())


def test_the_ranking_is_that_of_a_local_run(site: Site, in_container: Path, tmp_path: Path) -> None:
    site.plexrank("run", site.study, "--out", tmp_path / "run", *FEW_EPOCHS)
    assert_close_ranking(in_container, tmp_path / "run")


def test_four_processes_that_were_stopped_end_as_if_they_had_not_been(
    site: Site, half_done: Path, tmp_path: Path, profile: Profile
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(half_done, undisturbed)
    four = profile(train={**SMALL, "nodes": 2, "tasks_per_node": 2, "mem_gb": 4})
    for run in (undisturbed, half_done):
        site.submit(run, four, "--until", "train")
        task, _ = site.graph(run).jobs[0].tasks()[0]
        if run == half_done:
            site.wait_for((run / "train" / "fold-0" / "seed-0" / "last.pt").exists, 300, "a checkpoint")
            site.slurm.command("scancel", "--signal=USR2", task)
        assert site.wait(run)[task]["State"] == "COMPLETED"
        assert site.restarts(task) == (run == half_done)
    assert "going on at epoch" in (half_done / "logs" / f"{task}_0_log.out").read_text()
    assert_same_weights(half_done, undisturbed)


def test_a_failure_releases_nothing_that_depends_on_it(site: Site, tmp_path: Path, profile: Profile) -> None:
    python = tmp_path / "python"
    fails = 'if grep -q image007 "${@: -1}"; then echo "no luck today"; exit 4; fi'
    python.write_text(f'#!/bin/bash\n{fails}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    run = tmp_path / "run"
    site.submit(run, profile(python=str(python)))
    rows = site.wait(run)
    states = {name: set() for name in NAMES}
    for job in site.graph(run).jobs:
        for task, row in rows.items():
            if task.split("_")[0] == job.job_id:
                states[job.name].add(row["State"].split()[0])
    assert states["tile"] == {"COMPLETED", "FAILED"}
    assert all(states[name] == {"CANCELLED"} for name in NAMES[1:])
    said = site.plexrank("status", run).stdout
    assert "FAILED exit 4:0" in said
    assert "no luck today" in said
    assert "next: fix what failed; then plexrank run" in said
    again = site.submit(run, profile())
    assert "tile       job" in again.stdout
    assert ", an array of 3: " in again.stdout
    assert {row["State"] for row in site.wait(run).values()} == {"COMPLETED"}


def test_a_finished_run_submits_nothing_and_a_changed_setting_what_depends_on_it(
    site: Site, reference: Path, tmp_path: Path, profile: Profile
) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    assert "nothing to submit: all is done" in site.submit(run, profile()).stdout
    # From within a job, whose own settings must not be passed on.
    inside = f"{sys.executable} -m plexrank run {site.study} --out {run} --cluster {profile()} --set rank.bootstrap=300"
    site.slurm.command("sbatch", "--wait", "-N2", "-n4", "-o", tmp_path / "log", "--wrap", inside)
    assert [job.name for job in site.graph(run).jobs] == ["rank", "report"], (tmp_path / "log").read_text()
    rows = site.wait(run)
    assert [(row["State"], row["NNodes"]) for row in rows.values()] == [("COMPLETED", "1")] * 2
    assert "report        1 of 1 done" in site.plexrank("status", run).stdout


def test_scripts_of_a_dry_run_submitted_by_hand_do_the_same(
    site: Site, reference: Path, half_done: Path, profile: Profile
) -> None:
    before = site.squeue()
    script = Path(site.submit(half_done, profile(), "--dry-run").stdout.strip())
    assert site.squeue() == before
    said = site.slurm.command("bash", script).split()
    job_ids = [word for word in said if word.isdigit()]
    assert len(job_ids) == 4
    site.wait_for(lambda: not set(site.squeue("-o", "%F")) & set(job_ids), 500, "the jobs submitted by hand")
    site.wait_for(lambda: {row["State"] for row in site.accounting(*job_ids).values()} == {"COMPLETED"}, 60, "success")
    assert_same_ranking(half_done, reference)


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_client_killed_half_way_leaves_a_graph_that_run_completes(
    site: Site, reference: Path, half_done: Path, tmp_path: Path, profile: Profile, killed_after: int
) -> None:
    killer = tmp_path / "bin" / "sbatch"
    killer.parent.mkdir()
    killer.write_text(
        f'#!/bin/bash\n{shutil.which("sbatch")} "$@"\necho >> {tmp_path}/count\n'
        f"[ $(wc -l < {tmp_path}/count) -lt {killed_after} ] || kill -9 $PPID\n"
    )
    killer.chmod(0o755)
    killed = site.submit(half_done, profile(), check=False, PATH=f"{killer.parent}:{site.slurm.environment['PATH']}")
    assert killed.returncode == -9
    assert "the submission was interrupted" in site.plexrank("status", half_done).stdout
    site.submit(half_done, profile())
    assert sorted(set(site.squeue("-o", "%F"))) == sorted(site.graph(half_done).job_ids)
    if killed_after < 4:
        site.plexrank("cancel", half_done)
        site.wait_for(lambda: not site.squeue(), 60, "an empty queue")
        return
    assert {row["State"] for row in site.wait(half_done).values()} == {"COMPLETED"}
    assert_same_ranking(half_done, reference)


def test_status_and_run_work_without_accounting(site: Site, half_done: Path, tmp_path: Path, profile: Profile) -> None:
    (tmp_path / "sacct").write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    (tmp_path / "sacct").chmod(0o755)
    path = f"{tmp_path}:{site.slurm.environment['PATH']}"
    site.submit(half_done, profile(), "--until", "train", PATH=path)
    assert "PENDING" in (said := site.plexrank("status", half_done, PATH=path).stdout) or "RUNNING" in said
    assert (
        "nothing to submit: 1 job is under way"
        in site.submit(half_done, profile(), "--until", "train", PATH=path).stdout
    )
    site.wait(half_done)
    assert "train         2 of 2 done" in site.plexrank("status", half_done, PATH=path).stdout


@pytest.fixture
def squatter(site: Site) -> Iterator[list[int]]:
    """Hold the ports that would be drawn from the numbers of the next jobs."""
    newest = int(site.slurm.command("sbatch", "--parsable", "-o/dev/null", "--wrap=true"))
    ports = [random.Random(str(newest + ahead)).randint(20000, 60000) for ahead in range(1, 6)]
    with ExitStack() as held:
        for port in ports:
            with suppress(OSError):  # taken already: as good
                held.enter_context(socket.create_server(("0.0.0.0", port)))
        yield ports


def test_two_runs_share_a_node(
    site: Site, half_done: Path, tmp_path: Path, profile: Profile, squatter: list[int]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(half_done, other)
    train = {**SMALL, "tasks_per_node": 2, "mem_gb": 4}
    path = profile(train=train, sbatch={"nodelist": "n1"})
    for run in (half_done, other):
        site.submit(run, path, "--until", "train")
    together = [site.graph(run).jobs[0].job_id for run in (half_done, other)]
    site.wait_for(lambda: set(site.squeue("-t", "R", "-o", "%F")) >= set(together), 200, "both at once")
    for run in (half_done, other):
        assert {row["State"] for row in site.wait(run).values()} == {"COMPLETED"}
    assert_same_weights(other, half_done)


def test_doctor_asks_the_cluster_and_looks_inside_the_container(site: Site, image: Path, profile: Profile) -> None:
    train = {**SMALL, "nodes": 2, "gpus_per_node": 2, "tasks_per_node": 2}
    on_gpus = profile(container={"image": str(image)}, train=train)
    said = site.plexrank("doctor", "--cluster", on_gpus, "--submit", check=False).stdout
    assert "train        Slurm would take an array of 100" in said
    assert "node         ! torch        2." in said
    assert "PLEXRANK_GPUS=2: this job was given GPUs, but torch 2." in said
    assert "node         sbatch       not found" in said
    wrong = profile(partition="nowhere", container={"image": "/no/image.sif", "bind": ["/no/archive"]})
    said = (done := site.plexrank("doctor", "--cluster", wrong, check=False)).stdout
    assert done.returncode == 1
    assert "! container    /no/image.sif: no such image" in said
    assert "! bind         /no/archive: no such folder" in said
    assert "! train        Slurm would refuse an array of 100: sbatch: invalid partition specified: nowhere" in said
    too_much = site.plexrank("doctor", "--cluster", profile(rank={**SMALL, "time_min": 600}), check=False)
    assert too_much.returncode == 1
    assert (
        "! rank         Slurm would never start its jobs: rank.time_min is 600, partition low allows 60"
        in too_much.stdout
    )


def test_the_image_passes_its_test_and_shows_the_demonstration(site: Site, image: Path, tmp_path: Path) -> None:
    tested = subprocess.run(
        ["apptainer", "test", "--contain", "--no-home", image],
        env=site.slurm.environment,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stderr[-3000:]
    shown = subprocess.run(
        ["apptainer", "run", "--contain", "--no-home", "--bind", tmp_path, "--pwd", tmp_path, image, "demo"],
        env=site.slurm.environment,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "of the 4 planted channels are found" in shown.stdout
    assert (tmp_path / "plexrank-demo" / "run" / "report" / "report.html").is_file()


def test_a_whole_study_in_one_job_goes_on_after_a_stop(
    site: Site, reference: Path, half_done: Path, image: Path
) -> None:
    script = Path(__file__).parent.parent.parent / "slurm" / "plexrank.sbatch"
    log = half_done.parent / "one job.log"
    small = ("--partition=low", "--mem=2G", "--cpus-per-task=1", "--time=5", f"--output={log}")
    run = half_done.rename(half_done.with_name('a "run", of mine'))
    environment = site.slurm.environment | {"PLEXRANK_IMAGE": str(image)}
    said = subprocess.run(
        ["sbatch", "--parsable", *small, script, site.study, run],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    job_id = said.stdout.strip()
    site.wait_for((run / "train" / "fold-0" / "seed-0" / "last.pt").exists, 300, "a checkpoint")
    site.slurm.command("scancel", "--signal=USR2", job_id)
    site.wait_for(lambda: job_id not in site.squeue("-o", "%A"), 500, "the job")
    site.wait_for(lambda: site.accounting(job_id)[job_id]["State"] == "COMPLETED", 60, log.read_text())
    assert site.restarts(job_id) == 1
    assert "going on at epoch" in log.read_text()
    assert_close_ranking(run, reference)
