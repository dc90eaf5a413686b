"""What plexrank doctor says of a cluster, on a Slurm that only writes down what it is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fake_slurm import FakeSlurm, slurm
from plexrank.launch.doctor import examine_cluster
from plexrank.launch.profile import Profile

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
        "! container    /no/image.sif: no such image; build it (container/README.md), mend the profile",
        "! bind         /no/archive: no such folder; mend container.bind in the profile",
    ]
    assert [line.split()[1] for line in lines[2:]] == ["attribute", "rank", "report"]
    assert "Invalid qos specification; mend rank in the profile" in lines[3]
