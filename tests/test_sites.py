"""Ten kinds of sites: what sbatch gets for each, and what a profile can say in another way."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from plexrank.errors import PlexrankError
from plexrank.launch.options import gpus_per_node, variables_of
from plexrank.launch.profile import Profile, load_profile
from plexrank.launch.refusals import explain
from plexrank.launch.script import Job, sbatch_text
from plexrank.rundir import RunDir
from test_scripts import a_study, same_everywhere

SITES = sorted((Path(__file__).parent / "sites").glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden" / "sites"
JOBS = {
    "array_size": Job("tile", "tile", (("tiles/a.done.json",),) * 1001, at_once=100, part=2),
    "no_arrays": Job("train", "train", (("train/fold-0/seed-1/done.json",),), part=2),
}
TRAIN = Job("train", "train", (("train/fold-0/seed-0/done.json",),) * 15, at_once=8)


def site(path: Path, tmp_path: Path) -> Profile:
    """A profile that lies beside its image."""
    (tmp_path / "plexrank.sif").touch()
    return load_profile(Path(shutil.copy(path, tmp_path)))


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_what_sbatch_gets_at_ten_sites(path: Path, tmp_path: Path) -> None:
    rundir = RunDir(Path("/runs/grade"))
    job = JOBS.get(path.stem, TRAIN)
    text = sbatch_text(job, site(path, tmp_path), a_study("/data/cohort"), rundir, rundir.jobs / "3f2a1b")
    text = same_everywhere(text).replace(str(tmp_path), "/images")
    golden = GOLDEN / f"{path.stem}.sh"
    if "PLEXRANK_WRITE_GOLDEN" in os.environ:
        golden.write_text(text)
    assert text == golden.read_text(), "if meant, write it with PLEXRANK_WRITE_GOLDEN=1"
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def profile(**changes: object) -> Profile:
    return Profile.model_validate(changes)


def test_a_stage_overrides_general_options_and_null_leaves_out_a_default() -> None:
    found = profile(
        sbatch={"reservation": "day", "mem-per-cpu": "2G", "requeue": None},
        train={"mem_gb": 64, "sbatch": {"reservation": "night"}},
        rank={"sbatch": {"reservation": None, "mem-per-cpu": None}},
        tile={"mem_gb": None},
    )
    train, rank, tile = (found.resources(stage).options() for stage in ("train", "rank", "tile"))
    assert (train["reservation"], train["mem"]) == ("night", "65536M")
    assert "mem-per-cpu" not in train
    assert not {"reservation", "mem", "mem-per-cpu", "requeue"} & rank.keys()
    assert (tile["mem-per-cpu"], "mem" in tile) == ("2G", False)
    assert "requeue" not in profile(sbatch={"no-requeue": True}).resources("tile").options()


@pytest.mark.parametrize(
    ("options", "nodes", "tasks", "gpus"),
    [
        ({"gres": "gpu:a100:4"}, 1, None, 4),
        ({"gres": "gpu"}, 1, None, 1),
        ({"gres": "gpu:2,lustre:1"}, 1, None, 2),
        ({"gres": "gpu:1g.10gb:2"}, 1, None, 2),
        ({"gres": "gpu:a100:2(S:0-1),gpu:h100:1"}, 1, None, 3),
        ({"gres": "shard:30"}, 1, None, 1),
        ({"gres": "lustre:1", "licenses": "fs"}, 1, None, 0),
        ({"tres-per-node": "gres/gpu:h100=4"}, 1, None, 4),
        ({"gpus-per-node": "h100:8"}, 1, None, 8),
        ({"gpus-per-node": 2}, 1, None, 2),
        ({"gpus": 8}, 2, None, 4),
        ({"gpus-per-task": 1}, 1, 4, 4),
        ({"gres": None, "gpus": None}, 1, None, 0),
    ],
)
def test_gpus_are_counted_however_they_are_asked_for(
    options: dict[str, str | int | None], nodes: int, tasks: int | None, gpus: int
) -> None:
    assert gpus_per_node(options, nodes, tasks) == gpus
    stage = {"nodes": nodes, "sbatch": options} | ({"tasks_per_node": tasks} if tasks else {})
    assert profile(train=stage).resources("train").processes == (gpus or 1)
    assert profile(sbatch=options, train={"nodes": nodes, "tasks_per_node": tasks}).resources("rank").processes == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"tasks_per_node": 1, "sbatch": {"gres": "gpu:4"}}}, "train: tasks_per_node is 1 with 4 GPUs"),
        ({"train": {"nodes": 2, "sbatch": {"gpus": 3}}}, "train: sbatch.gpus: 3 is no multiple of nodes"),
        ({"attribute": {"sbatch": {"gpus-per-task": 2}}}, "attribute: sbatch.gpus-per-task: 2 must be 1"),
        ({"train": {"sbatch": {"gpus-per-socket": 2}}}, "GPUs cannot be counted by it; give gpus_per_node"),
        ({"train": {"gpus_per_node": 2, "sbatch": {"gres": "gpu:2"}}}, "gpus_per_node and sbatch.gres both ask"),
        ({"train": {"mem_gb": 2, "sbatch": {"mem-per-cpu": "2G"}}}, "mem_gb and sbatch.mem-per-cpu both say"),
        ({"train": {"gpu_type": "a100"}}, "gpu_type needs gpus_per_node"),
        ({"sbatch": {"time": 30}}, "time has a key of its own; give time_min, or time: null to leave it out"),
        ({"tile": {"sbatch": {"array": "0-3"}}}, "array has a key of its own; give jobs and at_once"),
        ({"sbatch": {"output": "x.log"}}, "output is set by plexrank"),
        ({"scheduler": "pbs", "run": {"time_min": 10}, "stop_before_s": 600}, "stop_before_s is 600, but run.time_min"),
        ({"sbatch": {"signal": None}}, "signal is set by plexrank"),
    ],
)
def test_what_contradicts_itself_or_plexrank_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(**changes)


def test_what_the_profile_says_comes_before_the_users_variables() -> None:
    hidden = variables_of(profile(partition="main").resources("tile").options())
    assert {"SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SBATCH_MEM_PER_CPU", "SBATCH_ARRAY_INX", "SBATCH_WAIT"} <= {
        *hidden
    }
    assert not {"SBATCH_ACCOUNT", "SBATCH_RESERVATION", "SBATCH_QOS"} & {*hidden}
    assert "SBATCH_TIMELIMIT" not in variables_of(profile(sbatch={"time": None}).resources("tile").options())


@pytest.mark.parametrize(
    ("message", "about"),
    [
        ("Invalid qos specification", "see qos long in the profile"),
        ("Invalid account or account/partition combination specified", "see SBATCH_ACCOUNT=lab in the environment"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "see time_min 120 in the profile"),
        ("Invalid generic resource (gres) specification", "see sbatch.gres gpu:a100:4 in the profile"),
        ("invalid partition specified: main", "the profile gives no partition"),
        ("unrecognized option '--reservatoin=x'", "see sbatch.reservatoin x in the profile"),
        ("Requested node configuration is not available", "see sbatch.gres gpu:a100:4 in the profile"),
        ("Memory specification can not be satisfied", "the profile gives no mem_gb"),
        ("Invalid job array specification", "see jobs 2000 in the profile"),
        ("No cluster 'north' known by database.", "see clusters north in the profile"),
        ("Socket timed out on send/recv operation", "operation"),
    ],
)
def test_a_refusal_names_the_option_and_where_it_comes_from(message: str, about: str) -> None:
    options: dict[str, str | int | bool] = {"qos": "long", "time": 120, "gres": "gpu:a100:4", "reservatoin": "x"}
    users = {"SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "y"}
    said = explain(message, options, clusters="north", num_tasks=2000, environment=users)
    assert said.split("; ")[-1].endswith(about)


def test_wrong_profiles_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("train: {tasks_per_node: 2, sbatch: {gres: 'gpu:4'}}\n")
    with pytest.raises(PlexrankError, match=r"site\.yaml: train: tasks_per_node is 2 with 4 GPUs"):
        load_profile(path)
