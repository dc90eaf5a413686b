"""Options of sbatch: which belong together, which are plexrank's own, and how many GPUs they ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | int | bool | None
"""``None`` and ``False`` leave an option out, ``True`` gives it without a value."""

MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})
GPU_LISTS = frozenset({"gres", "tres-per-node"})
"""Options that may ask for GPUs, and for other things."""
GPU_COUNTS = frozenset({"gpus-per-node", "gpus", "gpus-per-task"})
KEY_OF = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "constraint": "constraint",
    "clusters": "clusters",
    "nodes": "nodes",
    "ntasks": "tasks_per_node",
    "ntasks-per-node": "tasks_per_node",
    "cpus-per-task": "cpus_per_task",
    "time": "time_min",
    "signal": "stop_before_s",
    "array": "jobs and at_once",
}
"""Options that have a key in the profile; under ``sbatch`` they can only be left out."""
PLEXRANKS_OWN = frozenset(
    {"output", "error", "input", "open-mode", "job-name", "dependency", "parsable", "wait", "wrap", "hold", "begin"}
    | {"test-only", "chdir", "signal", "nodes"}
)
"""Options that running and resuming a study rests on; they can neither be set nor left out."""
_VARIABLES = {
    "time": ("SBATCH_TIMELIMIT",),
    "requeue": ("SBATCH_REQUEUE", "SBATCH_NO_REQUEUE"),
    "clusters": ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"),
    **dict.fromkeys(MEMORY, ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU")),
}


def problem_of(option: str, value: Value) -> str | None:
    """Why an option cannot be given under ``sbatch``, if so."""
    is_left_out = value is None or value is False
    if option in KEY_OF and not is_left_out:
        return f"{option} has a key of its own; give {KEY_OF[option]}, or {option}: null to leave it out"
    if option in PLEXRANKS_OWN:
        return f"{option} is set by plexrank, which needs it to run and resume a study; leave it out"
    return None


def asks_for_gpus(option: str, value: Value) -> bool:
    """Whether an option asks for GPUs."""
    return option.startswith("gpus") or (option in GPU_LISTS and _gpus_in_list(str(value)) > 0)


def gpus_per_node(options: Mapping[str, Value], nodes: int, tasks_per_node: int | None) -> int:
    """How many GPUs on each machine these options ask for.

    ``gpu``, ``gpu:2``, ``gpu:a100:4``, ``gres/gpu=4`` in a list; ``4`` or ``a100:4`` as a number. A shard of a GPU, or
    a percentage of it (MPS), counts as one.

    Raises:
        ValueError: that many cannot be one for each process.
    """
    total = 0
    for option, value in options.items():
        if not asks_for_gpus(option, value) or value is None or value is False:
            continue
        number = _gpus_in_list(str(value)) if option in GPU_LISTS else _sum(str(value))
        if option == "gpus":
            if number % nodes:
                raise ValueError(f"sbatch.gpus: {value} is no multiple of nodes ({nodes}); give gpus_per_node")
            number //= nodes
        elif option == "gpus-per-task":
            if number != 1:
                raise ValueError(f"sbatch.gpus-per-task: {value} must be 1, since one process drives one GPU")
            number = tasks_per_node or 1
        elif option not in GPU_LISTS | GPU_COUNTS:
            raise ValueError(f"sbatch.{option}: GPUs cannot be counted by it; give gpus_per_node")
        total = max(total, number)
    return total


def _gpus_in_list(text: str) -> int:
    """GPUs in a list of generic resources such as ``gpu:a100:4,lustre:1``."""
    parts = [part.removeprefix("gres/").replace("=", ":") for part in text.split(",")]
    whole = sum(_number(part) for part in parts if re.match(r"gpu(:|$)", part))
    return whole or int(any(re.match(r"(shard|mps)(:|$)", part) for part in parts))


def _sum(text: str) -> int:
    return sum(_number(part) for part in text.split(","))


def _number(text: str) -> int:
    """The number at the end of ``a100:4``, ``gpu:a100:4(S:0-1)`` or ``4``; 1 where there is none."""
    last = re.sub(r"\(.*", "", text).rsplit(":", 1)[-1]
    return int(last) if last.isdigit() else 1


def variables_of(options: Mapping[str, Value]) -> list[str]:
    """Variables of the environment that sbatch would take instead of these options of a script.

    What the profile and plexrank say counts; what they do not say may come from the user's ``SBATCH_…``.
    """
    found = {"SBATCH_ARRAY_INX", *(name for own in PLEXRANKS_OWN for name in variables(own))}
    found.update(name for option in options for name in variables(option))
    return sorted(found)


def variables(option: str) -> tuple[str, ...]:
    """Variables that stand for an option."""
    return _VARIABLES.get(option, (f"SBATCH_{option.upper().replace('-', '_')}",))
