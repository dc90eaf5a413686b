"""Where a process computes: its GPU if it has one that works, otherwise the CPU."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from plexrank.errors import PlexrankError
from plexrank.machine.gpus import driver_version, given_gpus, refusal, unusable
from plexrank.wording import counted


def choose_device(local_rank: int, environment: Mapping[str, str] = os.environ) -> torch.device:
    """The device of a process, tried out, with TF32 in the place of float32 for products where it has that.

    A GPU that does not work stops a process that was given GPUs; others compute on the CPU then.

    Args:
        local_rank: number of the process within this machine.
        environment: says whether GPUs were given.

    Raises:
        PlexrankError: GPUs were given and cannot be used, or are fewer than the processes.
    """
    number = choose_gpu(local_rank, torch.cuda.device_count())
    given = given_gpus(environment)
    problem = _why_no_gpu() if number is None else _why_not(number)
    if problem and given:
        raise PlexrankError(refusal(given, unusable(problem, torch.__version__, torch.version.cuda)))
    if problem or number is None:
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda", number)


def choose_gpu(local_rank: int, num_visible: int) -> int | None:
    """Number of the GPU of a process among those that it sees, ``None`` for the CPU.

    A process that sees a single one was given that (by ``--gpu-bind``, ``--gpus-per-task`` or MIG).

    Raises:
        PlexrankError: there are fewer GPUs than processes.
    """
    if num_visible < 2:
        return 0 if num_visible else None
    if local_rank >= num_visible:
        raise PlexrankError(
            f"local process {local_rank}, but it sees {num_visible} GPUs; start one process a GPU, without "
            "--gpu-bind=closest, which shows each process some of them only"
        )
    return local_rank


def identity(device: torch.device) -> tuple[str, str]:
    """What a device is called, and what tells it from others of its machine (empty for the CPU)."""
    if device.type == "cpu":
        return "CPU", ""
    properties = torch.cuda.get_device_properties(device)
    return properties.name, str(getattr(properties, "uuid", device.index))


def refuse_unlike(hosts: Sequence[str], names: Sequence[str], identities: Sequence[str]) -> None:
    """Raise :class:`PlexrankError` unless the processes, by rank, compute on GPUs of their own, or all on CPUs."""
    on_cpu = [rank for rank, one in enumerate(identities) if not one]
    if on_cpu and len(on_cpu) < len(identities):
        on_gpu = next(rank for rank, one in enumerate(identities) if one)
        raise PlexrankError(
            f"process {on_cpu[0]} on {hosts[on_cpu[0]]} sees no GPU, but process {on_gpu} on {hosts[on_gpu]} has "
            f"{names[on_gpu]}; give every process one GPU, or none"
        )
    seen: dict[tuple[str, str], int] = {}
    for rank, place in enumerate(zip(hosts, identities, strict=True)):
        if place[1] and seen.setdefault(place, rank) != rank:
            raise PlexrankError(
                f"processes {seen[place]} and {rank} on {place[0]} see the same single GPU ({names[rank]}); "
                + (
                    "of several MIG slices a process sees the first only: give each training one slice"
                    if "MIG" in names[rank]
                    else "start one process a GPU"
                )
            )


def in_words(names: Sequence[str]) -> str:
    """The devices of all processes, such as ``4 × NVIDIA A100``."""
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in Counter(names).items())


def log_line(hardware: str, device: torch.device, world_size: int) -> str:
    """What a stage says of where it computes, with what is left unused."""
    parts = [f"torch {torch.__version__}"]
    if device.type == "cpu":
        parts.insert(0, f"{counted(torch.get_num_threads(), 'thread')} a process")
        parts += [why] if (why := _why_on_cpu()) else []
    else:
        parts.insert(0, f"driver {driver_version() or 'unknown'}")
        num_visible = torch.cuda.device_count()
        if world_size == 1 and num_visible > 1:
            parts.append(f"only 1 of {num_visible} GPUs: start one process a GPU for the others")
    return f"computing on {hardware} ({', '.join(parts)})"


def found_line(device: torch.device) -> str:
    """What a process would compute on, for ``plexrank doctor``."""
    if device.type == "cpu":
        return f"GPUs: none that works; {why}" if (why := _why_on_cpu()) else "GPUs: none"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"GPUs: {in_words(names)}, driver {driver_version() or 'unknown'}"


def _why_on_cpu() -> str:
    """Why a process computes on the CPU though the machine seems to have a GPU; empty where it has none."""
    if torch.cuda.device_count():
        return unusable(_why_not(0), torch.__version__, torch.version.cuda)
    driver = driver_version()
    return f"no GPU is visible though NVIDIA driver {driver} is loaded" if driver else ""


def _why_not(number: int) -> str:
    """Make a GPU the current one and compute on it; why that fails, empty where it works."""
    device = torch.device("cuda", number)
    try:
        torch.cuda.set_device(device)
        torch.ones(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError) as error:  # too old a driver or GPU, or one that is broken or taken
        return str(error) or type(error).__name__
    return ""


def _why_no_gpu() -> str:
    """What torch says when it is asked for a GPU that it does not see."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error)
    return "torch sees no GPU"
