"""Which device a process takes, and that GPUs which were given are used or the job stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from conftest import Plexrank
from plexrank.errors import PlexrankError
from plexrank.machine import devices, gpus
from plexrank.machine.devices import choose_device, choose_gpu, found_line, in_words, log_line, refuse_unlike
from plexrank.machine.gpus import driver_version, given_gpus, refusal, unusable
from plexrank.planning.plan import make_plan
from plexrank.rundir import RunDir
from plexrank.study import load_study

GIVEN = [
    ({}, ""),
    ({"SLURM_JOB_GPUS": "0,1"}, "SLURM_JOB_GPUS=0,1"),
    ({"SLURM_STEP_GPUS": "0"}, "SLURM_STEP_GPUS=0"),
    ({"SLURM_GPUS_ON_NODE": "0"}, ""),
    ({"SLURM_GPUS_ON_NODE": "2"}, "SLURM_GPUS_ON_NODE=2"),
    ({"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0"),
    ({"CUDA_VISIBLE_DEVICES": "MIG-4f2a"}, "CUDA_VISIBLE_DEVICES=MIG-4f2a"),
    ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),
    ({"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0"}, ""),
    ({"CUDA_VISIBLE_DEVICES": "-1", "SLURM_JOB_GPUS": "0"}, ""),
    ({"ROCR_VISIBLE_DEVICES": "1"}, "ROCR_VISIBLE_DEVICES=1"),
    ({"PLEXRANK_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}, ""),
    ({"PLEXRANK_GPUS": "0", "CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "1"}, "SLURM_JOB_GPUS=1"),
    ({"PLEXRANK_GPUS": "4", "CUDA_VISIBLE_DEVICES": ""}, "PLEXRANK_GPUS=4"),
]


@pytest.mark.parametrize(("environment", "given"), GIVEN)
def test_schedulers_say_by_their_variables_that_gpus_were_given(environment: dict[str, str], given: str) -> None:
    assert given_gpus(environment) == given


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19\nGCC version:  gcc 11.4.0",
            "535.129.03",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("something else", ""),
    ],
)
def test_the_driver_is_read_without_torch(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(text)
    assert driver_version(tmp_path / "version") == version
    assert driver_version(tmp_path / "absent") == ""


def test_a_refusal_names_driver_torch_and_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "driver_version", lambda: "470.57.02")
    problem = unusable("The NVIDIA driver on your system\nis too old.", "2.14.1+cu130", "13.0")
    said = refusal("SLURM_JOB_GPUS=0", problem)
    assert said.startswith(
        "SLURM_JOB_GPUS=0: this job was given GPUs, but torch 2.14.1+cu130 (built for CUDA 13.0, which needs driver "
        "580 or newer) cannot use the GPUs of this machine (NVIDIA driver 470.57.02): The NVIDIA driver on your system "
        "is too old;"
    )
    assert "container/README.md" in said
    assert "--nv" not in said
    monkeypatch.setenv("SINGULARITY_CONTAINER", "/x.sif")
    assert unusable("y", "2.14.1+cpu", None).endswith(": y; start the container with --nv")


@pytest.mark.parametrize(
    ("local_rank", "visible", "number"), [(0, 0, None), (3, 0, None), (0, 1, 0), (3, 1, 0), (1, 4, 1), (3, 4, 3)]
)
def test_a_process_that_sees_one_gpu_takes_it(local_rank: int, visible: int, number: int | None) -> None:
    assert choose_gpu(local_rank, visible) == number


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(PlexrankError, match=r"local process 2, but it sees 2 GPUs; .* without --gpu-bind=closest"):
        choose_gpu(2, 2)


def test_processes_must_compute_on_gpus_of_their_own_or_all_on_cpus() -> None:
    a100 = ["A100"] * 3
    refuse_unlike(["n1", "n1", "n2"], a100, ["u1", "u2", "u1"])  # two machines may count alike
    refuse_unlike(["n1"] * 3, ["CPU"] * 3, [""] * 3)
    with pytest.raises(PlexrankError, match=r"processes 0 and 2 on n1 see the same single GPU \(A100\)"):
        refuse_unlike(["n1"] * 3, a100, ["u1", "u2", "u1"])
    with pytest.raises(PlexrankError, match=r"1g\.5gb\); of several MIG slices a process sees the first only"):
        refuse_unlike(["n1"] * 2, ["A100 MIG 1g.5gb"] * 2, ["u1", "u1"])
    with pytest.raises(PlexrankError, match="process 1 on n2 sees no GPU, but process 0 on n1 has A100"):
        refuse_unlike(["n1", "n2"], ["A100", "CPU"], ["u1", ""])


def test_a_gpu_that_does_not_compute_stops_a_job_that_was_given_it_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_old(device: torch.device) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", too_old)
    with pytest.raises(PlexrankError, match=r"^SLURM_JOB_GPUS=0: this job .*: CUDA error: no kernel"):
        choose_device(0, {"SLURM_JOB_GPUS": "0"})
    assert choose_device(0, {}) == torch.device("cpu")
    for said in (found_line(torch.device("cpu")), log_line("CPU", torch.device("cpu"), 1)):
        assert "cannot use the GPUs of this machine (" in said
        assert "no kernel image is available" in said
        assert "given" not in said


def test_the_log_says_what_is_left_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "driver_version", lambda: "580.65.06")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "no GPU is visible though NVIDIA driver 580.65.06 is loaded" in log_line("CPU", torch.device("cpu"), 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    alone = log_line("NVIDIA A100", torch.device("cuda", 0), 1)
    assert alone.startswith("computing on NVIDIA A100 (driver 580.65.06, torch ")
    assert "only 1 of 4 GPUs" in alone
    assert "only" not in log_line("4 × NVIDIA A100", torch.device("cuda", 0), 4)
    assert in_words(["A100", "A100", "H100"]) == "2 × A100, H100"


# ---------------------------------------------------------------------------------------------------------------------

needs_no_gpu = pytest.mark.skipif(torch.cuda.device_count() > 0, reason="this machine has GPUs that work")


@needs_no_gpu
@pytest.mark.parametrize("stage", ["train", "attribute"])
def test_a_job_with_gpus_that_torch_cannot_use_stops(
    tiny_run: Path, plexrank: Plexrank, tmp_path: Path, stage: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / ("train/fold-0/seed-1/done.json" if stage == "train" else "attribution/fold-0-seed-1.done.json")).unlink()
    stopped = plexrank.start(stage, run, SLURM_JOB_GPUS="0,1").finish()
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("error: SLURM_JOB_GPUS=0,1: this job was given GPUs, but torch ")
    assert "no NVIDIA driver loaded" in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1


@needs_no_gpu
def test_the_device_is_in_log_history_records_and_report(tiny_run: Path, plexrank: Plexrank, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    unit = run / "train" / "fold-0" / "seed-1"
    (unit / "done.json").unlink()
    (run / "attribution" / "fold-0-seed-1.done.json").unlink()
    environment = {"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0", "APPTAINER_CONTAINER": "/images/plexrank.sif"}
    said = plexrank.start("train", run, **environment).finish()
    assert said.returncode == 0
    assert plexrank.start("attribute", run, **environment).finish().returncode == 0
    assert "train: computing on CPU (" in said.stderr
    assert set(pd.read_csv(unit / "history.csv")["device"]) == {"CPU"}
    for record in (unit / "done.json", run / "attribution" / "fold-0-seed-1.done.json"):
        found = json.loads(record.read_text())
        assert (found["device"], found["NVIDIA driver"], found["container"]) == ("CPU", "", "/images/plexrank.sif")
    assert make_plan(RunDir(run), load_study(run / "study.yaml")).trained_on() == "CPU; CPU, in /images/plexrank.sif"
    assert json.loads((tiny_run / "provenance.json").read_text())["commands"][0]["trained on"] == "CPU"
    page = (tiny_run / "report" / "report.html").read_text()
    assert 'trained on</th><td class="text provenance">CPU</td>' in page
