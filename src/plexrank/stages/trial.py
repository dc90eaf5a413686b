"""Times a few steps of a study's training on made-up tiles, as a process of its own, and says what they took.

Reads a JSON object from standard input (``model``, ``num_channels``, ``num_outputs``, ``ordered``, ``side_px``,
``batch_tiles``, ``seconds``) and writes one: see :class:`plexrank.planning.trial.Trial`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import sys
import time
from pathlib import Path

import torch
from torch import nn

from plexrank.machine.allocator import keep_freed_memory, share_one_arena
from plexrank.models.build import Network, build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.planning.order import STAGES
from plexrank.settings import ModelSettings
from plexrank.training.embedding import CHANNEL_IMAGES
from plexrank.training.optimiser import make_optimiser

SHARE_OF_MEMORY = 0.5
"""Of what is free, the trial takes at most."""


def main() -> None:
    """Measure; the batch is doubled until it is whole, or time or memory is spent."""
    share_one_arena()
    asked = json.load(sys.stdin)
    for stage in STAGES:
        importlib.import_module(f"plexrank.stages.{stage}")  # what a run has loaded
    keep_freed_memory()
    channels, side, whole = asked["num_channels"], asked["side_px"], asked["batch_tiles"]
    network = build_network(ModelSettings(**asked["model"]), channels, asked["num_outputs"], asked["ordered"])
    optimiser = make_optimiser(network, 1e-3)
    room = SHARE_OF_MEMORY * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    steps: list[tuple[int, float, int]] = []
    began, tiles = time.monotonic(), min(2, whole)
    start_bytes = _peak_bytes()
    while True:
        images = torch.rand(tiles, channels, side, side)
        seconds = min(_step(network, optimiser, images) for _ in range(2))
        steps.append((tiles, seconds, _peak_bytes()))
        grown = 2 * (steps[-1][2] - start_bytes)
        if tiles == whole or time.monotonic() - began + 4 * seconds > asked["seconds"] or grown > room:
            break
        tiles = min(whole, 2 * tiles)
    at_once = max(1, min(tiles, CHANNEL_IMAGES // channels))
    seen = _look(network, images[:at_once]) / at_once
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    measured = {"start_bytes": start_bytes, "steps": steps, "look_seconds": seen, "n_parameters": trained}
    json.dump(measured, sys.stdout)


def _step(network: Network, optimiser: torch.optim.Optimizer, images: torch.Tensor) -> float:
    began = time.process_time()
    optimiser.zero_grad()
    network.train()
    labels = torch.arange(len(images)) % network.num_outputs
    nn.functional.cross_entropy(network(images, None), labels).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return time.process_time() - began


@torch.inference_mode()
def _look(network: Network, images: torch.Tensor) -> float:
    began = time.process_time()
    network.eval()
    compute = network.embed if isinstance(network, ChannelEmbedding) else network
    compute(images, None)
    return time.process_time() - began


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss of a new program begins with that of the process that started it
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
