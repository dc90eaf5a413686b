"""What Slurm refuses, in terms of the profile: which option it is about and where its value comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from plexrank.launch.options import KEY_OF, MEMORY, variables_for

KEY_OF_REFUSED = {**KEY_OF, "array": "jobs", "mem": "mem_gb", "gpus-per-node": "gpus_per_node"}
GPUS = ("gpus-per-node", "gres", "gpus", "gpus-per-task", "tres-per-node", "tres-per-task")
SIZE = ("nodes", "ntasks-per-node", "cpus-per-task", *sorted(MEMORY), *GPUS, "constraint", "exclusive")
ABOUT = (
    ("invalid qos", ("qos",)),
    ("invalid account", ("account", "partition")),
    ("account", ("account", "qos", "time", "array")),  # violates accounting/QOS policy
    ("group not permitted", ("partition", "account")),
    ("partition", ("partition",)),
    ("gres", GPUS),
    ("generic resource", GPUS),
    ("time limit", ("time", "partition")),
    ("feature", ("constraint",)),
    ("reservation", ("reservation",)),
    ("array", ("array",)),
    ("memory", tuple(sorted(MEMORY))),
    ("cpu count", ("cpus-per-task", "ntasks-per-node")),
    ("node count", ("nodes",)),
    ("node configuration", SIZE),
    ("more processors", SIZE),
    ("license", ("licenses",)),
    ("no cluster", ("clusters",)),
    ("--cluster", ("clusters",)),
)
"""Words of Slurm's messages, in lower case, with the options that they are about; the first that fits counts."""


def explain(
    message: str,
    options: Mapping[str, str | int | bool],
    *,
    clusters: str | None = None,
    num_tasks: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Slurm's message with what it is about.

    Args:
        message: of sbatch.
        options: in the script of the job.
        clusters: that it was submitted to.
        num_tasks: of its array.
        environment: gives what the profile does not.
    """
    options = {**options, **({"clusters": clusters} if clusters else {})}
    if num_tasks > 1:
        options["array"] = num_tasks
    unknown = re.search(r"(?:unrecognized|invalid) option(?: --)? '?(?:--)?([a-z-]+)", message)
    lowered = message.lower()
    concerned = (unknown[1],) if unknown else next((names for words, names in ABOUT if words in lowered), ())
    asked = [_asked(option, options[option]) for option in concerned if option in options]
    if asked:
        return f"{message}; the job asks for {', '.join(asked)}, by the profile or by default"
    names = [name for option in concerned for name in variables_for(option) if name in environment]
    if names:
        return f"{message}; see {names[0]}={environment[names[0]]} in the environment"
    return f"{message}; the profile gives no {_key(concerned[0])}" if concerned else message


def _key(option: str) -> str:
    """What an option is called in the profile."""
    return KEY_OF_REFUSED.get(option, f"sbatch.{option}")


def _asked(option: str, value: str | int | bool) -> str:
    """An option with its value, as the profile says it."""
    if option != "mem":
        return f"{_key(option)} {value}"
    megabytes = re.fullmatch(r"(\d+)M", str(value))
    return f"mem_gb {int(megabytes[1]) / 1024:g}" if megabytes else f"sbatch.mem {value}"
