"""Trains from a tile store and says how that compares with a bare loop, the published loop, and two processes.

    python benchmarks/training.py [--images N] [--channels N] [--side PX] [--rounds N] [--backbone NAME]

Prints one line of JSON. All figures are ratios of seconds an epoch within one run, each the fastest of its rounds,
since other work on the machine only ever adds; on a CPU every process has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plexrank.allocator import keep_freed_memory
from plexrank.distributed import ProcessInfo, process_group
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.plan import Plan, make_plan
from plexrank.rundir import RunDir
from plexrank.simulate import simulate
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.study import load_study
from plexrank.training.data import CACHE_BYTES, model_input
from plexrank.training.loop import Unit, UnitPaths, UnitTraining
from plexrank.training.optimiser import make_optimiser

WARM_UP_EPOCHS = 1


def main() -> None:
    """Prepare a tile store, let the ways of training take turns, and print the ratios."""
    arguments = _arguments()
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments.run is not None:
        _one_of_several(arguments.run)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = _prepare(arguments, folder)
        plan = make_plan(RunDir(run), load_study(run / "study.yaml"))
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        ways = _ways(plan, folder, ProcessInfo(device=device))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, epoch in ways.items():
                seconds[way].append(_timed(epoch))
        fastest = {way: min(values) for way, values in seconds.items()}
        alone, together = [], []
        for _ in range(0 if device.type == "cuda" else arguments.rounds):
            alone.append(_processes(run, 1))
            together.append(_processes(run, 2))
        report = {
            "benchmark": "training",
            "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu, 1 thread",
            "backbone": arguments.backbone,
            "channel_images_per_second": round(_channel_images(plan) / fastest["stage"], 1),
            "stage_of_bare_loop": round(fastest["bare"] / fastest["stage"], 3),
            "uncached_of_bare_loop": round(fastest["bare"] / fastest["uncached"], 3),
            "times_channel_loop": round(fastest["channel_loop"] / fastest["stage"], 3),
            "efficiency_of_2": _efficiency(alone, together),
            "load_average": round(os.getloadavg()[0], 1),
        }
    print(json.dumps(report))


def _efficiency(alone: list[float], together: list[float]) -> float | None:
    """Of two processes; ``None`` where there was only one."""
    return round(min(alone) / (2 * min(together)), 3) if alone else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", choices=("resnet18", "shallow"), default="resnet18")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, folder: Path) -> Path:
    """A run directory with the tiles of a simulated cohort."""
    size = {"images": arguments.images, "channels": arguments.channels, "size_px": arguments.side}
    study = simulate("paper", folder / "cohort", **size)
    overrides = [f"model.backbone={arguments.backbone}", "model.weights=none", "train.folds=2"]
    command = [sys.executable, "-m", "plexrank", "run", study, "--out", folder / "run", "--until", "tile"]
    command += [part for override in overrides for part in ("--set", override)]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return folder / "run"


def _unit(plan: Plan, cohort: TiledCohort) -> Unit:
    roles = [cohort.tiles_of(plan.images(0, role)) for role in ("training", "validation")]
    return Unit(0, 0, 0, *roles)


def _channel_images(plan: Plan) -> int:
    cohort = TiledCohort(plan)
    return len(_unit(plan, cohort).train_index) * len(cohort.channels)


def _ways(plan: Plan, folder: Path, info: ProcessInfo) -> dict[str, Callable[[], None]]:
    """What trains one epoch, warmed up."""
    ways = {
        "stage": _stage(plan, folder, info, cache=True),
        "uncached": _stage(plan, folder, info, cache=False),
        "bare": _bare(plan, info, lambda network, tiles: network(tiles)),
        "channel_loop": _bare(plan, info, _channel_by_channel),
    }
    for epoch in ways.values():
        for _ in range(WARM_UP_EPOCHS):
            epoch()
    return ways


def _stage(plan: Plan, folder: Path, info: ProcessInfo, cache: bool) -> Callable[[], None]:
    """The training stage: tile store, augmentation, weights, optimiser."""
    cohort = TiledCohort(plan)
    tiles = cohort.training_tiles(cohort.fit_intensity(0), CACHE_BYTES if cache else 0)
    paths = UnitPaths(*(folder / name for name in ("last.pt", "best.pt", "history.csv")))
    study = plan.study
    training = UnitTraining(tiles, _unit(plan, cohort), study.model, study.train, info, paths, "k", lambda line: None)
    training.start_or_resume()

    def epoch() -> None:
        training.progress.batch = 0
        training.train_epoch(lambda: False)

    return epoch


def _bare(plan: Plan, info: ProcessInfo, logits_of: Callable[[ChannelEmbedding, Tensor], Tensor]) -> Callable[[], None]:
    """The same network over tiles in memory, and nothing else."""
    cohort = TiledCohort(plan)
    tiles = cohort.training_tiles(cohort.fit_intensity(0))
    index = _unit(plan, cohort).train_index
    inputs = model_input(next(tiles.batches([index]))).to(info.device)
    labels = torch.from_numpy(tiles.labels[index]).to(info.device)
    network = build_network(plan.study.model, len(cohort.channels), len(tiles.class_names)).to(info.device).train()
    assert isinstance(network, ChannelEmbedding)
    optimiser = make_optimiser(network, plan.study.train.learning_rate)
    generator = np.random.default_rng(0)
    steps = -(-len(index) // plan.study.train.batch_tiles)
    bf16 = info.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)

    def epoch() -> None:
        for rows in np.array_split(generator.permutation(len(index)), steps):
            chosen = torch.from_numpy(rows).to(info.device)
            optimiser.zero_grad()
            with torch.autocast(info.device.type, torch.bfloat16, enabled=bf16):
                logits = logits_of(network, inputs[chosen])
            nn.functional.cross_entropy(logits, labels[chosen]).backward()
            optimiser.step()

    return epoch


def _channel_by_channel(network: ChannelEmbedding, tiles: Tensor) -> Tensor:
    """The published way: a Python loop over channels, each with its own batch statistics."""
    r = torch.cat([network.encoder(tiles[:, [channel]], None) for channel in range(tiles.shape[1])], dim=1)
    return network.classify(r if network.standardizer is None else network.standardizer(r))


def _timed(epoch: Callable[[], None]) -> float:
    start = time.perf_counter()
    epoch()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _processes(run: Path, count: int) -> float:
    """Seconds an epoch of so many processes of one thread each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--run", str(run)],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate()[0] for process in started]
    return float(said[0])


def _one_of_several(run: Path) -> None:
    """One process of :func:`_processes`: print the fastest of five epochs."""
    plan = make_plan(RunDir(run), load_study(run / "study.yaml"))
    with process_group(plan.rundir.meetings) as info, tempfile.TemporaryDirectory() as folder:
        epoch = _stage(plan, Path(folder), info, cache=True)
        epoch()
        print(min(_timed(epoch) for _ in range(5)), flush=True)


if __name__ == "__main__":
    main()
