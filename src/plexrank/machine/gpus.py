"""What the scheduler and the driver say about GPUs, read without loading torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

ASKED = "PLEXRANK_GPUS"
"""Variable of a job that plexrank submitted: how many GPUs on each machine its profile asks for."""
HIDDEN = ("", "-1")
"""Values of CUDA_VISIBLE_DEVICES by which a user hides all GPUs."""
GIVEN_BY_SLURM = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")
GIVEN_BY = (*GIVEN_BY_SLURM, "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Variables by which schedulers give a job its GPUs; PBS, LSF and SGE set CUDA_VISIBLE_DEVICES, like Slurm."""
NOTHING = ("", "0", "-1", "none", "nodevfiles")
LEAST_DRIVER = {"11": "450", "12": "525", "13": "580"}
"""Oldest NVIDIA driver by major version of CUDA (table 2 of the release notes of the CUDA toolkit)."""


def given_gpus(environment: Mapping[str, str] = os.environ) -> str:
    """The variable, with its value, that gives this process GPUs; empty where none does.

    In a job of plexrank what its profile asks for and what Slurm gave counts, not what the shell it was submitted from
    had set. Elsewhere an empty CUDA_VISIBLE_DEVICES means the CPU.
    """
    asked = environment.get(ASKED)
    if asked not in (None, "0"):
        return f"{ASKED}={asked}"
    if asked is None and environment.get("CUDA_VISIBLE_DEVICES") in HIDDEN:
        return ""
    for name in GIVEN_BY if asked is None else GIVEN_BY_SLURM:
        value = environment.get(name, "")
        is_list_of_zero = value == "0" and name != "SLURM_GPUS_ON_NODE"  # the first GPU, not their number
        if value.lower() not in NOTHING or is_list_of_zero:
            return f"{name}={value}"
    return ""


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Version of the NVIDIA driver of this machine, such as ``580.65.06``; empty without one."""
    try:
        found = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def container_image(environment: Mapping[str, str] = os.environ) -> str:
    """The image of Apptainer or Singularity that this process runs in; empty outside."""
    return environment.get("APPTAINER_CONTAINER") or environment.get("SINGULARITY_CONTAINER", "")


def unusable(reason: str, torch_version: str, cuda: str | None) -> str:
    """What to say where torch cannot use the GPUs of a machine.

    Args:
        reason: what torch says.
        torch_version: such as ``2.14.1+cu130``.
        cuda: the CUDA that torch was built for, ``None`` for a build without.
    """
    driver = driver_version()
    has = f"NVIDIA driver {driver}" if driver else "no NVIDIA driver loaded"
    needs = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    if cuda and (least := LEAST_DRIVER.get(cuda.split(".")[0])):
        needs += f", which needs driver {least} or newer"
    flag = "; start the container with --nv" if container_image() and driver else ""
    return (
        f"torch {torch_version} ({needs}) cannot use the GPUs of this machine ({has}): "
        f"{' '.join(reason.split())[:300].rstrip('. ')}{flag}"
    )


def refusal(given: str, problem: str) -> str:
    """What to say where GPUs were given and cannot be used.

    Args:
        given: what :func:`given_gpus` found.
        problem: what :func:`unusable` says.
    """
    return (
        f"{given}: this job was given GPUs, but {problem}; choose other nodes, install another torch "
        "(container/README.md, GPUs), or ask for no GPU to compute on the CPU"
    )
