"""Trains and ranks every architecture of the paper's tables on its synthetic data, at reduced size.

    python benchmarks/architectures.py [--images N] [--epochs N] [--only NAME ...]

Prints one table; the last line is the same as JSON. Every network goes through the whole pipeline.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from plexrank.evaluation.truth import evaluate
from plexrank.models.build import build_network
from plexrank.settings import ModelSettings
from plexrank.simulate import simulate

CHANNELS, CLASSES, SIDE_PX = 12, 3, 64
NETWORKS = {
    **{
        f"{backbone}, {encoder}": {"backbone": backbone, "encoder": encoder}
        for backbone in ("resnet18", "resnet3d18", "shallow")
        for encoder in ("shared", "independent")
    },
    **{name: {"architecture": name} for name in ("resnet50", "resnet3d18", "bsn")},
}
COMMON = {
    "train.folds": 2,
    "train.seeds": 1,
    "train.batch_tiles": 8,
    "attribute.methods": "[gradient]",
    "rank.bootstrap": 200,
}
SHALLOW_EPOCHS = 5
"""How many times as many epochs the shallow backbone is given: it learns from scratch at a hundredth of the cost."""


def main() -> None:
    """Print a line for each network as it is done."""
    arguments = _arguments()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = simulate("paper", folder / "cohort", images=arguments.images, channels=CHANNELS, size_px=SIDE_PX)
        _plexrank(study, folder / "tiled", {}, until="tile")
        heads = ("parameters", 11), ("accuracy", 8), ("recall@6", 8), ("recall@10", 9), ("seconds", 7), ("of CPU", 7)
        print(f"{'network':26}", *(f"{head:>{width}}" for head, width in heads))
        for network, model in NETWORKS.items():
            if arguments.only and network not in arguments.only:
                continue
            row = _try(folder, study, network, model, arguments.epochs)
            rows.append(row)
            print(
                f"{row['network']:26} {row['parameters']:11,} {row['accuracy']:8.3f} {row['recall_at_6']:8.3f} "
                f"{row['recall_at_10']:9.3f} {row['seconds']:7.0f} {row['cpu_seconds']:7.0f}",
                flush=True,
            )
    print(json.dumps({"benchmark": "architectures", "images": arguments.images, "rows": rows}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=[])
    return parser.parse_args()


def _try(folder: Path, study: Path, network: str, model: dict[str, str], epochs: int) -> dict[str, str | int | float]:
    run = folder / network.replace(", ", "-")
    shutil.copytree(folder / "tiled", run)
    shallow = model.get("backbone") == "shallow"
    chosen = {"backbone": "resnet18", **model}
    settings = {
        **COMMON,
        **{f"model.{key}": value for key, value in chosen.items()},
        "train.epochs": epochs * (SHALLOW_EPOCHS if shallow else 1),
        "train.learning_rate": 3e-3 if shallow else 1e-3,
    }
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    _plexrank(study, run, settings, until="rank")
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - cpu_start
    found = evaluate(pd.read_csv(run / "ranking" / "ranking.csv"), pd.read_csv(study.with_name("truth.csv")))
    summary = json.loads((run / "ranking" / "summary.json").read_text(encoding="utf-8"))
    shutil.rmtree(run)
    return {
        "network": network,
        "parameters": _num_parameters(ModelSettings.model_validate({"weights": "none", **chosen})),
        "accuracy": summary["held_out"]["accuracy"]["value"],
        "recall_at_6": found.recall_at[6],
        "recall_at_10": found.recall_at[10],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }


def _num_parameters(settings: ModelSettings) -> int:
    with torch.device("meta"):
        network = build_network(settings, CHANNELS, CLASSES)
    return sum(parameter.numel() for parameter in network.parameters())


def _cpu_seconds() -> float:
    """Of all processes that have ended; unlike the seconds on the clock, hardly longer on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _plexrank(study: Path, run: Path, settings: dict[str, object], until: str) -> None:
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "plexrank", "run", study, "--out", run, "--until", until, *overrides]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()
