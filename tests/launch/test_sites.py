"""Ten kinds of sites: what sbatch gets for each, and what a profile can say in another way."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_scripts import a_study, same_everywhere

from plexrank.errors import PlexrankError
from plexrank.launch.options import gpus_per_node, variables_of
from plexrank.launch.profile import Profile, load_profile
from plexrank.launch.refusals import explain
from plexrank.launch.script import Job, sbatch_text
from plexrank.rundir import RunDir

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


HEADED = {"cpus": 4, "gpus": 0, "time_min": 60}


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


MEMORY, GPUS, REQUEUE = ("mem", "mem-per-cpu"), ("gres", "gpus", "gpus-per-node"), ("requeue", "no-requeue")
PLACE = ("partition", "qos", "constraint")
SAYING_THE_SAME: list[tuple[tuple[str, ...], dict[str, object], dict[str, object], dict[str, object]]] = [
    (MEMORY, {"sbatch": {"mem": 0}}, {"sbatch": {"mem-per-cpu": "2G"}}, {"mem-per-cpu": "2G"}),
    (MEMORY, {"sbatch": {"mem": 0}}, {"mem_gb": 2}, {"mem": "2048M"}),
    (GPUS, {"sbatch": {"gres": "gpu:2"}}, {"sbatch": {"gpus-per-node": 4}}, {"gpus-per-node": 4}),
    (GPUS, {"sbatch": {"gres": "gpu:2"}}, {"gpus_per_node": 0}, {}),
    (GPUS, {"sbatch": {"gpus": 2}}, {"sbatch": {"gres": "gpu"}}, {"gres": "gpu"}),
    (
        GPUS,
        {"sbatch": {"gres": "gpu:a100:2(S:0,1),lustre:1"}},
        {"gpus_per_node": 4},
        {"gpus-per-node": "4", "gres": "lustre:1"},
    ),
    (GPUS, {"sbatch": {"gres": "lustre:1"}}, {"gpus_per_node": 1}, {"gpus-per-node": "1", "gres": "lustre:1"}),
    (REQUEUE, {"sbatch": {"no-requeue": True}}, {}, {"no-requeue": True}),
    (REQUEUE, {"sbatch": {"no-requeue": False}}, {}, {"requeue": True}),
    (REQUEUE, {"sbatch": {"no-requeue": True}}, {"sbatch": {"no-requeue": None}}, {"requeue": True}),
    (REQUEUE, {"sbatch": {"no-requeue": True}}, {"sbatch": {"requeue": True}}, {"requeue": True}),
    (REQUEUE, {"sbatch": {"requeue": None}}, {"sbatch": {"no-requeue": True}}, {"no-requeue": True}),
    (PLACE, {"qos": "long", "constraint": "x", "partition": "y"}, dict.fromkeys(PLACE), {}),
    (PLACE, {"qos": "long"}, {"constraint": "x"}, {"qos": "long", "constraint": "x"}),
]


@pytest.mark.parametrize(("about", "general", "of_stage", "said"), SAYING_THE_SAME)
def test_what_a_stage_says_replaces_all_that_says_the_same(
    about: tuple[str, ...], general: dict[str, object], of_stage: dict[str, object], said: dict[str, object]
) -> None:
    options = profile(**general, train=of_stage).resources("train").options()
    assert {name: options[name] for name in about if name in options} == said


def test_a_stage_takes_arrays_again_where_the_others_take_none() -> None:
    found = profile(sbatch={"array": None}, train={"sbatch": {"array": True}})
    assert [found.resources(stage).has_arrays for stage in ("tile", "train")] == [False, True]
    assert "array" not in found.resources("train").options()


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
        ({"tres-per-task": "cpu:4,gres/gpu:1"}, 1, 4, 4),
        ({"tres-bind": "gres/gpu:closest"}, 1, None, 0),
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
        ({"train": {"sbatch": {"tres-per-job": "gres/gpu:2"}}}, "GPUs cannot be counted by it; give gpus_per_node"),
        ({"train": {"sbatch": {"tres-per-task": "gres/gpu:2"}}}, "sbatch.tres-per-task: gres/gpu:2 must be 1"),
        ({"sbatch": {"requeue": True, "no-requeue": True}}, "requeue and no-requeue contradict each other"),
        ({"train": {"gpus_per_node": 2, "sbatch": {"gres": "gpu:2"}}}, "gpus_per_node and sbatch.gres both ask"),
        ({"train": {"mem_gb": 2, "sbatch": {"mem-per-cpu": "2G"}}}, "mem_gb and sbatch.mem-per-cpu both say"),
        ({"train": {"gpu_type": "a100"}}, "gpu_type needs gpus_per_node"),
        ({"sbatch": {"time": 30}}, "time has a key of its own; give time_min, or time: null to leave it out"),
        ({"tile": {"sbatch": {"array": "0-3"}}}, "array has a key of its own; give jobs and at_once"),
        ({"sbatch": {"output": "x.log"}}, "output is set by plexrank"),
        ({"scheduler": "pbs", "run": {"time_min": 10}, "stop_before_s": 600}, "stop_before_s is 600, but run.time_min"),
        ({"sbatch": {"signal": None}}, "signal is set by plexrank, which .*; give stop_before_s instead"),
        ({"sbatch": {"nodes": 2}}, "nodes is set by plexrank, which .*; give nodes instead"),
        ({"scheduler": "pbs", "qos": "x", "train": {"mem_gb": 2}, "srun": ["-v"]}, "qos, srun, train: for Slurm only"),
        ({"run": {"gpus": 1}}, "run is for other schedulers than Slurm"),
        ({"scheduler": "sge", "run": {"header": ["#$ -l h_rt=1:0:0"], "cpus": 4}}, "give gpus, time_min too"),
        ({"scheduler": "sge", "run": {**HEADED, "header": ["#$ -q x"], "mem_gb": 2}}, "mem_gb has no effect beside"),
        ({"scheduler": "pbs", "run": {**HEADED, "header": ["-l nodes=1"]}}, "a line for pbs begins with #PBS, got '-l"),
    ],
)
def test_what_contradicts_itself_or_plexrank_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile(**changes)


def test_what_the_profile_says_comes_before_the_users_variables() -> None:
    for options in ({"no-requeue": True}, {"requeue": True}):
        requeue = variables_of(profile(sbatch=options).resources("tile").options())
        assert {"SBATCH_REQUEUE", "SBATCH_NO_REQUEUE"} <= {*requeue}
    hidden = variables_of(profile(partition="main").resources("tile").options())
    assert {"SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SBATCH_MEM_PER_CPU", "SBATCH_ARRAY_INX", "SBATCH_WAIT"} <= {
        *hidden
    }
    assert not {"SBATCH_ACCOUNT", "SBATCH_RESERVATION", "SBATCH_QOS"} & {*hidden}
    assert "SBATCH_TIMELIMIT" not in variables_of(profile(sbatch={"time": None}).resources("tile").options())


@pytest.mark.parametrize(
    ("message", "about"),
    [
        ("Invalid qos specification", "the job asks for qos long"),
        ("Invalid account or account/partition combination specified", "see SBATCH_ACCOUNT=lab in the environment"),
        (
            "Requested time limit is invalid (missing or exceeds some limit)",
            "asks for time_min 120",
        ),
        ("Invalid generic resource (gres) specification", "for sbatch.gres gpu:a100:4"),
        ("invalid partition specified: main", "the profile gives no partition"),
        ("unrecognized option '--reservatoin=x'", "for sbatch.reservatoin x"),
        (
            "Requested node configuration is not available",
            "mem_gb 16, sbatch.gres gpu:a100:4",
        ),
        ("Memory specification can not be satisfied", "the job asks for mem_gb 16"),
        ("Invalid feature specification", "the profile gives no constraint"),
        ("Invalid job array specification", "the job asks for jobs 2000"),
        ("No cluster 'north' known by database.", "the job asks for clusters north"),
        ("Unable to contact cluster controller", "Unable to contact cluster controller"),
        ("Socket timed out on send/recv operation", "operation"),
    ],
)
def test_a_refusal_names_the_option_and_where_it_comes_from(message: str, about: str) -> None:
    options: dict[str, str | int | bool] = {"qos": "long", "time": 120, "mem": "16384M", "gres": "gpu:a100:4"}
    users = {"SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "y"}
    said = explain(message, options | {"reservatoin": "x"}, clusters="north", num_tasks=2000, environment=users)
    assert said.split("; ")[-1].removesuffix(", by the profile or by default").endswith(about)


def test_memory_is_named_by_where_it_was_given() -> None:
    assert "asks for sbatch.mem 0, by the profile" in explain("Memory", {"mem": 0}, environment={})


def test_wrong_profiles_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("train: {tasks_per_node: 2, sbatch: {gres: 'gpu:4'}}\n")
    with pytest.raises(PlexrankError, match=r"site\.yaml: train: tasks_per_node is 2 with 4 GPUs"):
        load_profile(path)
