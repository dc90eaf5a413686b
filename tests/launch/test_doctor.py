"""What plexrank doctor says of a cluster, on a Slurm that only writes down how it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import plexrank
from fake_slurm import FakeSlurm, slurm
from plexrank.errors import PlexrankError
from plexrank.launch.doctor import examine_cluster, examine_machine, examine_nodes
from plexrank.launch.profile import Profile
from plexrank.launch.resuming import resume_run

__all__ = ["slurm"]


def test_doctor_says_what_slurm_would_refuse_and_what_is_not_there(slurm: FakeSlurm, tmp_path: Path) -> None:
    (tmp_path / "image.sif").write_bytes(b"image")
    good = Profile.model_validate({"container": {"image": str(tmp_path / "image.sif"), "runtime": "sbatch"}})
    findings = {finding.topic: finding for finding in examine_cluster(good)}
    assert findings["container"].text.endswith(f"sha256 {hashlib.sha256(b'image').hexdigest()}")
    assert not any(finding.is_bad for finding in findings.values())
    assert [call.split()[1] for call in slurm.calls()] == ["--test-only"] * 5
    slurm.answer(refuse="3")
    bad = Profile.model_validate({"container": {"image": "/no/image.sif", "bind": ["/no/archive"]}})
    lines = [finding.line() for finding in examine_cluster(bad) if finding.is_bad]
    assert lines[:2] == [
        "! container    /no/image.sif: no such image; build it (container/README.md) or fix the profile",
        "! bind         /no/archive: no such folder; fix container.bind in the profile",
    ]
    assert [line.split()[1] for line in lines[2:]] == ["attribute", "rank", "report"]
    assert (
        "its jobs: sbatch: Batch job submission failed: Invalid qos specification; the profile gives no qos" in lines[3]
    )
    assert lines[2].startswith("! attribute    Slurm would refuse an array of 100: sbatch: ")


def test_doctor_tries_the_arrays_that_a_run_would_submit(slurm: FakeSlurm) -> None:
    sbatch = slurm.bin / "sbatch"
    sbatch.write_text(sbatch.read_text() + f'\ngrep -h -- "--array" "${{@: -1}}" >> {slurm.folder}/arrays || true\n')
    slurm.answer(config="SLURM_CONF = /etc\nMaxArraySize            = 51\n")
    profile = Profile.model_validate({"tile": {"jobs": 20}, "attribute": {"sbatch": {"array": None}}})
    findings = {finding.topic: finding.text for finding in examine_cluster(profile)}
    assert findings["tile"] == "Slurm would take an array of 20"
    assert findings["train"] == "Slurm would take an array of 51"
    assert findings["attribute"] == findings["rank"] == "Slurm would take its jobs"
    assert (slurm.folder / "arrays").read_text() == "#SBATCH --array=0-19%1\n#SBATCH --array=0-50%1\n"


@pytest.mark.parametrize(
    ("partition", "said"),
    [
        (None, "rank.time_min is 1441, the default partition allows 1440"),
        ("low", "rank.time_min is 1441, partition low allows 30"),
        ("cpu,long", None),
    ],
)
def test_doctor_says_what_would_wait_for_ever(slurm: FakeSlurm, partition: str | None, said: str | None) -> None:
    profile = Profile.model_validate({"rank": {"time_min": 1441, "partition": partition}})
    bad = [finding.line() for finding in examine_cluster(profile) if finding.is_bad]
    assert bad == ([f"! rank         Slurm would never start its jobs: {said}"] if said else [])


def test_doctor_says_what_it_cannot_ask_apart_from_what_is_refused(slurm: FakeSlurm) -> None:
    slurm.answer(sinfo="", refuse="5")
    profile = Profile.model_validate({"rank": {"time_min": 1441}, "train": {"partition": "low"}})
    findings = {finding.topic: finding for finding in examine_cluster(profile)}
    assert findings["rank"].text == (
        "Slurm would take its jobs; whether the default partition allows rank.time_min 1441 is not known: "
        "sinfo: slurm_load_partitions: Access denied"
    )
    assert "whether partition low allows train.time_min" in findings["train"].text
    assert [finding.topic for finding in findings.values() if finding.is_bad] == ["report"]
    assert findings["report"].text.startswith("Slurm would refuse its jobs: sbatch: Batch job submission failed")


def test_doctor_looks_at_nodes_of_slurm_only(slurm: FakeSlurm, tmp_path: Path) -> None:
    (finding,) = examine_nodes(Profile.model_validate({"scheduler": "lsf"}), tmp_path)
    assert finding.line() == "  node         not looked at: only Slurm is given a job for that, not lsf"
    assert slurm.calls() == []


def test_a_job_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plexrank, "__version__", "0.1.0")
    monkeypatch.setenv("PLEXRANK_SUBMITTED_BY", "0.1.0")
    assert not any(finding.is_bad for finding in examine_machine(tmp_path))
    monkeypatch.setenv("PLEXRANK_SUBMITTED_BY", "0.2.0")
    monkeypatch.setenv("APPTAINER_CONTAINER", "/images/plexrank.sif")
    said = (
        "/images/plexrank.sif has plexrank 0.1.0, but 0.2.0 submitted the job; "
        "rebuild the image, or install one version in both places"
    )
    assert [finding.text for finding in examine_machine(tmp_path) if finding.is_bad] == [said]
    with pytest.raises(PlexrankError, match=said):
        resume_run(tmp_path)
