"""The scripts of jobs: as they were, of units spread by cost, and requeueing themselves while there is progress."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import plexrank
from fake_slurm import FakeSlurm, slurm
from plexrank.errors import StudyError
from plexrank.launch.profile import Profile
from plexrank.launch.requeue import lines_after, lines_before
from plexrank.launch.script import Job, refuse_unusable_path, sbatch_text, spread
from plexrank.rundir import RunDir
from plexrank.settings import Study

__all__ = ["slurm"]

GOLDEN = Path(__file__).parent / "golden"


def a_study(folder: str) -> Study:
    """Of paths that need not exist."""
    study = Study.model_validate(
        {
            "name": "grade",
            "cohort": {"samplesheet": f"{folder}/samples.csv", "label": "grade", "root": f"{folder}/images"},
        }
    )
    return study.model_copy(update={"model": study.model.model_copy(update={"weights": Path("/weights/resnet18.pth")})})


def a_profile(**changes: object) -> Profile:
    return Profile.model_validate(
        {
            "partition": "cpu",
            "account": "lab",
            "setup": ["module load apptainer"],
            "sbatch": {"reservation": "night"},
            "srun": ["--mpi=none"],
            "container": {"image": "/images/plexrank.sif", "bind": ["/archive"]},
            "train": {"partition": "gpu", "nodes": 2, "gpus_per_node": 4, "tasks_per_node": 4, "at_once": 3},
            **changes,
        }
    )


GOLDEN_SCRIPTS = {
    "train.sh": (
        Job("train", "train", (("train/fold-0/seed-0/done.json",),) * 5, at_once=3),
        a_profile(),
        "/runs/grade",
    ),
    "table.sh": (Job("table", "tile", (("tiles/_tiles.done.json",),)), a_profile(), "/runs/grade"),
    "tile_spaces.sh": (
        Job("tile", "tile", (("tiles/a b.done.json",),)),
        a_profile(),
        '/runs/it\'s; rm -rf "$HOME", `now`',
    ),
    "rank_python.sh": (
        Job("rank", "rank", (("ranking/ranking.done.json",),)),
        a_profile(container=None, python="/opt/plexrank/bin/python"),
        "/runs/grade",
    ),
}


def same_everywhere(text: str) -> str:
    """A script without what differs between versions and machines."""
    text = text.replace(f"SUBMITTED_BY={plexrank.__version__}\n", "SUBMITTED_BY=VERSION\n")
    return text.replace(str(Path(sys.executable)), "/python")


@pytest.mark.parametrize("name", GOLDEN_SCRIPTS)
def test_scripts_are_as_they_were(name: str) -> None:
    job, profile, run = GOLDEN_SCRIPTS[name]
    rundir = RunDir(Path(run))
    text = sbatch_text(job, profile, a_study("/data/a cohort"), rundir, rundir.jobs / "3f2a1b")
    text = same_everywhere(text)
    if "PLEXRANK_WRITE_GOLDEN" in os.environ:
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text(), "if meant, write it with PLEXRANK_WRITE_GOLDEN=1"
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


@pytest.mark.parametrize("path", ["/runs/a\nb", "/runs/100%", "/runs/a\\b", "/runs/\x1b[2J"])
def test_paths_that_would_become_something_else_are_refused(path: str) -> None:
    with pytest.raises(StudyError, match="cannot stand in the path of a run on a cluster"):
        refuse_unusable_path(Path(path))


def test_units_are_spread_by_cost() -> None:
    shares = spread([("a", 8.0), ("b", 1.0), ("c", 5.0), ("d", 4.0), ("e", 0.0)], 2)
    assert shares == (("a", "b", "e"), ("c", "d"))
    assert spread([("a", 1.0)], 5) == (("a",),)


# ---------------------------------------------------------------------------------------------------------------------


def requeue_script(run: RunDir, work: str) -> str:
    lines = [f"units={run.path}/x.units", *lines_before(run), work, *lines_after(run, max_requeues=3)]
    return "\n".join(lines).replace("sleep 300", "exit 0")


@pytest.mark.parametrize(
    ("work", "restarts", "is_idle", "requeued", "said"),
    [
        ("echo x >> a.pt; false", 0, False, False, ""),
        ("touch done; (exit 75)", 0, False, True, "the job is run again"),
        ("touch done; (exit 75)", 3, False, False, "started again 3 times"),
        ("(exit 75)", 0, False, True, "the job is run again"),
        ("(exit 75)", 1, True, False, "stopped twice before anything was saved"),
        ("touch done; (exit 75)", 1, True, True, "the job is run again"),
        ("true", 0, False, False, ""),
    ],
)
def test_a_script_requeues_its_own_job_while_there_is_progress(
    slurm: FakeSlurm, tmp_path: Path, work: str, restarts: int, is_idle: bool, requeued: bool, said: str
) -> None:
    run = RunDir(tmp_path / "run")
    run.idle.mkdir(parents=True)
    (run.path / "x.units").write_text("done\n")
    if is_idle:
        (run.idle / "8_2").touch()
    environment = {**os.environ, "SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(
        ["bash", "-c", requeue_script(run, work)],
        cwd=run.path,
        env={**environment, "SLURM_RESTART_COUNT": str(restarts)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert slurm.calls() == (["scontrol requeue 8_2"] if requeued else [])
    assert said in done.stdout
    assert done.returncode == (0 if requeued or work == "true" else 75 if "75" in work else 1)
    assert (run.idle / "8_2").exists() == (work == "(exit 75)")
