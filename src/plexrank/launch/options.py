"""Options of sbatch: which belong together, which are plexrank's own, and how many GPUs they ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | int | bool | None
"""``None`` and ``False`` leave an option out, ``True`` gives it without a value."""

MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu"})
REQUEUE = frozenset({"requeue", "no-requeue"})
GPU_LISTS = frozenset({"gres", "tres-per-node", "tres-per-task"})
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
    "clusters": ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"),
    **dict.fromkeys(REQUEUE, ("SBATCH_REQUEUE", "SBATCH_NO_REQUEUE")),
    **dict.fromkeys(MEMORY, ("SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU")),
}


def problem_of(option: str, value: Value) -> str | None:
    """Why an option cannot be given under ``sbatch``, if so."""
    if option in PLEXRANKS_OWN:
        instead = f"give {KEY_OF[option]} instead" if option in KEY_OF else "leave it out"
        return f"{option} is set by plexrank, which needs it to run and resume a study; {instead}"
    is_left_out = value is None or value is False
    gives_arrays_back = option == "array" and value is True
    if option in KEY_OF and not is_left_out and not gives_arrays_back:
        return f"{option} has a key of its own; give {KEY_OF[option]}, or {option}: null to leave it out"
    return None


def asks_for_gpus(option: str, value: Value) -> bool:
    """Whether an option asks for GPUs."""
    is_list = option in GPU_LISTS or option.startswith("tres-per-")
    return option.startswith("gpus") or (is_list and _gpus_in_list(str(value)) > 0)


def general_options(
    general: Mapping[str, Value], of_stage: Mapping[str, Value], *, memory: bool, gpus: bool
) -> dict[str, Value]:
    """Of the options for all stages, those that a stage does not replace by others which say the same.

    Args:
        general: for all stages.
        of_stage: the stage's own.
        memory: the stage says how much memory by a key.
        gpus: the stage says how many GPUs by a key.
    """
    replaced = MEMORY if memory or MEMORY & of_stage.keys() else frozenset()
    replaced |= REQUEUE if REQUEUE & of_stage.keys() else frozenset()
    kept = {option: value for option, value in general.items() if option not in replaced}
    if gpus or any(asks_for_gpus(option, value) for option, value in of_stage.items()):
        others = {option: _without_gpus(option, value) for option, value in kept.items()}
        kept = {option: value for option, value in others.items() if value != ""}
    return kept


def _without_gpus(option: str, value: Value) -> Value:
    """What an option asks for besides GPUs; empty where that is nothing."""
    if not asks_for_gpus(option, value):
        return value
    parts = [] if option.startswith("gpus") else re.sub(r"\(.*?\)", "", str(value)).split(",")
    return ",".join(part for part in parts if not _gpus_in_list(part))


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
        number = _gpus_in_list(str(value)) if option in GPU_LISTS else sum(map(_last_number, str(value).split(",")))
        if option == "gpus":
            if number % nodes:
                raise ValueError(f"sbatch.gpus: {value} is no multiple of nodes ({nodes}); give gpus_per_node")
            number //= nodes
        elif option.endswith("-per-task"):
            if number != 1:
                raise ValueError(f"sbatch.{option}: {value} must be 1, since one process drives one GPU")
            number = tasks_per_node or 1
        elif option not in GPU_LISTS | GPU_COUNTS:
            raise ValueError(f"sbatch.{option}: GPUs cannot be counted by it; give gpus_per_node")
        total = max(total, number)
    return total


def _gpus_in_list(text: str) -> int:
    """GPUs in a list of generic resources such as ``gpu:a100:4,lustre:1``."""
    parts = [part.removeprefix("gres/").replace("=", ":") for part in text.split(",")]
    whole = sum(_last_number(part) for part in parts if re.match(r"gpu(:|$)", part))
    return whole or int(any(re.match(r"(shard|mps)(:|$)", part) for part in parts))


def _last_number(text: str) -> int:
    """The number at the end of ``a100:4``, ``gpu:a100:4(S:0-1)`` or ``4``; 1 where there is none."""
    last = re.sub(r"\(.*", "", text).rsplit(":", 1)[-1]
    return int(last) if last.isdigit() else 1


def variables_of(options: Mapping[str, Value]) -> list[str]:
    """Variables of the environment that sbatch would take instead of these options of a script.

    What the profile and plexrank say counts; what they do not say may come from the user's ``SBATCH_…``.
    """
    return sorted({name for option in ("array-inx", *PLEXRANKS_OWN, *options) for name in variables_for(option)})


def variables_for(option: str) -> tuple[str, ...]:
    """Variables of the environment that stand for one option."""
    return _VARIABLES.get(option, (f"SBATCH_{option.upper().replace('-', '_')}",))
