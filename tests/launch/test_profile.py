"""Cluster profiles: those that come along are valid, wrong ones are refused with all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from plexrank.errors import PlexrankError
from plexrank.launch.profile import load_profile

PROFILES = sorted((Path(__file__).parents[2] / "slurm").glob("*.yaml"))

BAD_PROFILES = [
    ("contaner: {image: x.sif}", "contaner: unknown key; did you mean container?"),
    ("tile: {time: 3}", "tile.time: unknown key; did you mean tile.time_min?"),
    ("tile: {time_min: 0}", "tile.time_min: input should be greater than or equal to 1, got 0"),
    ("partition: gpu low", "partition: one word without blanks or control characters, got 'gpu low'"),
    ('account: "lab\\n#SBATCH --uid=0"', "account: one word without blanks or control characters"),
    ('setup: ["module load x\\nrm -rf y"]', "setup.0: one line of shell, got 'module load x\\nrm -rf y'"),
    ("sbatch: {'--mail-user': x}", "the long name of an option without dashes before it"),
    ("train: {gpus_per_node: 2, tasks_per_node: 1}", "train: tasks_per_node is 1 with 2 GPUs on each machine"),
    ("rank: {nodes: 2}", "rank: this stage is one process without GPU"),
    ("tile: {gpus_per_node: 1}", "tile.gpus_per_node must be 0"),
    ("tile: {nodes: 2}", "tile: nodes × tasks_per_node must be 1, or 3 and more"),
    ("container: {image: x.sif}\npython: /usr/bin/python3", "leave one of them out"),
    ("container: {image: x.sif, bind: [data]}", "container.bind: data must be an absolute path"),
    ("clusters: all", "clusters: the name of a cluster, or several separated by commas, got 'all'"),
    ("clusters: north;south", "or several separated by commas, got 'north;south'"),
    ("container: {}", "container.image: required and missing"),
    ("- partition", "expected a mapping of keys such as partition:, found list"),
    ("partition: a\npartition: b", "key 'partition' is there twice"),
]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.name)
def test_the_profiles_that_come_along_are_valid(path: Path) -> None:
    assert load_profile(path).resources("train").partition


@pytest.mark.parametrize(("text", "message"), BAD_PROFILES)
def test_wrong_profiles_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(PlexrankError) as refused:
        load_profile(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.exit_code == 64


def test_a_missing_profile_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(PlexrankError, match="no such profile file") as refused:
        load_profile(tmp_path / "site.yaml")
    assert refused.value.exit_code == 66


def test_a_stage_overrides_the_site_and_keeps_its_other_defaults(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("partition: cpu\nqos: normal\ntrain: {partition: gpu, mem_gb: 3}\ntile:\n")
    profile = load_profile(path)
    train = profile.resources("train")
    assert (train.partition, train.qos, train.mem_gb, train.cpus_per_task, train.time_min) == (
        "gpu",
        "normal",
        3,
        8,
        480,
    )
    assert profile.resources("tile").partition == "cpu"
    assert profile.resources("tile") == profile.resources("attribute")
