"""Trains from a tile store and says how that compares with a bare loop, the published loop, and two processes.

    python benchmarks/training.py [--images N] [--channels N] [--side PX] [--rounds N] [--backbone NAME]

Prints one line of JSON. The ways take turns; a figure is a ratio of seconds an epoch within one round, the median over
the rounds, since other work on the machine comes and goes. On a CPU every process has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plexrank.distributed import ProcessInfo, barrier, process_group
from plexrank.machine.allocator import keep_freed_memory
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.planning.plan import Plan, make_plan
from plexrank.rundir import RunDir
from plexrank.settings import CACHE_BYTES
from plexrank.simulate import simulate
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.study import load_study
from plexrank.training.data import model_input
from plexrank.training.loop import UnitTraining
from plexrank.training.optimiser import make_optimiser
from plexrank.training.unit import TrainingUnit, UnitPaths

Rounds = list[dict[str, float]]
"""For each round the seconds an epoch of each way."""


def main() -> None:
    """Prepare a tile store, let the ways of training take turns, and print the ratios."""
    arguments = _arguments()
    torch.set_num_threads(1)
    keep_freed_memory()
    if arguments.run is not None:
        _one_of_two(arguments.run, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as name, process_group(Path(name)) as info:
        folder = Path(name)
        run = _prepare(arguments, folder)
        plan = make_plan(RunDir(run), load_study(run / "study.yaml"))
        device = info.device
        one = _in_turns(_ways(plan, folder, info), arguments.rounds)
        two = _two_processes(run, arguments.rounds) if device.type == "cpu" else []
        seconds = statistics.median(round_["stage"] for round_ in one)
        report = {
            "benchmark": "training",
            "device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu, 1 thread",
            "backbone": arguments.backbone,
            "steps": _steps(plan),
            "channel_images_per_second": round(_channel_images(plan) / seconds, 1),
            "stage_of_bare_loop": _ratio(one, "bare", "stage"),
            "uncached_of_bare_loop": _ratio(one, "bare", "uncached"),
            "times_channel_loop": _ratio(one, "channel_loop", "stage"),
            "efficiency_of_2": _ratio(two, "alone", "together", 2),
            "efficiency_of_2_apart": _ratio(two, "half_alone", "half_each"),
            "load_average": round(os.getloadavg()[0], 1),
        }
    print(json.dumps(report))


def _ratio(rounds: Rounds, of: str, over: str, processes: int = 1) -> float | None:
    """The median over the rounds; ``None`` where there was none."""
    ratios = [seconds[of] / (processes * seconds[over]) for seconds in rounds]
    return round(statistics.median(ratios), 3) if ratios else None


def _in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> Rounds:
    for epoch in ways.values():  # warm up
        epoch()
    return [{way: _timed(epoch) for way, epoch in ways.items()} for _ in range(rounds)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--channels", type=int, default=30)
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


def _unit(plan: Plan, cohort: TiledCohort) -> TrainingUnit:
    roles = [cohort.tiles_of(plan.images(0, role)) for role in ("training", "validation")]
    return TrainingUnit(0, 0, 0, *roles)


def _channel_images(plan: Plan) -> int:
    cohort = TiledCohort(plan)
    return len(_unit(plan, cohort).train_index) * len(cohort.channels)


def _steps(plan: Plan) -> int:
    return -(-len(_unit(plan, TiledCohort(plan)).train_index) // plan.study.train.batch_tiles)


def _ways(plan: Plan, folder: Path, info: ProcessInfo) -> dict[str, Callable[[], None]]:
    """What trains one epoch."""
    return {
        "stage": _stage(plan, folder / "stage", info),
        "uncached": _stage(plan, folder / "uncached", info, cache=False),
        "bare": _bare(plan, info, lambda network, tiles: network(tiles)),
        "channel_loop": _bare(plan, info, _channel_by_channel),
    }


def _stage(
    plan: Plan, folder: Path, info: ProcessInfo, cache: bool = True, rows: slice = slice(None)
) -> Callable[[], None]:
    """The training stage: tile store, augmentation, weights, optimiser; on these of the tiles, ordered by class."""
    folder.mkdir()
    cohort = TiledCohort(plan)
    tiles = cohort.training_tiles(cohort.fit_intensity(0), CACHE_BYTES if cache else 0)
    unit = _unit(plan, cohort)
    by_class = np.argsort(tiles.labels[unit.train_index], kind="stable")
    unit = replace(unit, train_index=unit.train_index[by_class[rows]])
    paths = UnitPaths(*(folder / name for name in ("last.pt", "best.pt", "history.csv")))
    study = plan.study
    training = UnitTraining(tiles, unit, study.model, study.train, info, paths, "k", lambda line: None)
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
    network = build_network(plan.study.model, len(cohort.channels), len(tiles.outcome.output_names))
    network = network.to(info.device).train()
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


def _two_processes(run: Path, rounds: int) -> Rounds:
    """What the first of two processes of one thread each measured; see :func:`_one_of_two`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--run", str(run), "--rounds", str(rounds)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in started]
    measured: Rounds = json.loads(said[0])
    return measured


def _one_of_two(run: Path, rounds: int) -> None:
    """Time one process alone and both together; then one alone on half of the tiles, and both on a half without a word.

    The first process prints its rounds; each time ends when both are done.
    """
    plan = make_plan(RunDir(run), load_study(run / "study.yaml"))
    with process_group(plan.rundir.meetings) as info, tempfile.TemporaryDirectory() as name:
        single, folder = ProcessInfo(device=info.device), Path(name)
        half = _stage(plan, folder / "half", single, rows=slice(info.process_rank, None, 2))
        ways = {
            "alone": _stage(plan, folder / "alone", single) if info.is_first else _nothing,
            "together": _stage(plan, folder / "together", info),
            "half_alone": half if info.is_first else _nothing,
            "half_each": half,
        }
        measured = _in_turns({way: _with_the_other(epoch, info) for way, epoch in ways.items()}, rounds)
    if info.is_first:
        print(json.dumps(measured), flush=True)


def _nothing() -> None:
    """What a process does while the other one works."""


def _with_the_other(epoch: Callable[[], None], info: ProcessInfo) -> Callable[[], None]:
    def both_epochs() -> None:
        epoch()
        barrier(info)

    return both_epochs


if __name__ == "__main__":
    main()
