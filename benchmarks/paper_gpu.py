"""The paper's scenario at full size on a GPU: speed, accuracy, and recall over several draws of the truth.

    python benchmarks/paper_gpu.py [--draws N] [--epochs N] [--weights imagenet|none|PATH] [--images N] [--channels N]
                                   [--side PX] [--backbone NAME] [--learning-rate RATE] [--out FILE.json]

600 images to train on, 300 to choose the epoch, 300 held out (2 : 1 : 1 of --images); 30 channels of 224 pixels; the
ResNet18 of the paper. Prints one line of JSON with the card's name, and writes it to --out. On a CPU give a toy size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plexrank.attribution.methods import METHODS
from plexrank.distributed import ProcessInfo, process_group
from plexrank.evaluation.truth import evaluate
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.outcome import make_outcome
from plexrank.settings import IntensitySettings, ModelSettings, TrainSettings
from plexrank.simulate.cohort import SimulatedCohort
from plexrank.simulate.paper import paper_cohort
from plexrank.tiles.intensity import fit_intensity
from plexrank.training.checkpoint import read_unit
from plexrank.training.data import TrainingTiles
from plexrank.training.embedding import embed_tiles
from plexrank.training.loop import UnitTraining, train_unit
from plexrank.training.unit import TrainingUnit, UnitPaths

RESNET18_FORWARD_MACS = 1.73e9
"""Of one 1-channel image of 224 pixels; a multiply-accumulate is two operations, and training costs three forwards."""
PEAK_BF16 = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA L40S": 362e12,
}
"""Dense tensor-core operations per second that NVIDIA states, by the card's name; unknown for others."""
RECALLS = tuple(range(6, 14))


def main() -> None:
    """Train on each draw of the truth and print what came of it."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as meetings, process_group(Path(meetings)) as info:
        draws = [_draw(arguments, seed, info) for seed in range(arguments.draws)]
    device = info.device
    speed = statistics.median(draw["channel_images_per_second"] for draw in draws)
    card = torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"
    report = {
        "benchmark": "paper_gpu",
        "card": card,
        "torch": torch.__version__,
        "images": arguments.images,
        "channels": arguments.channels,
        "side_px": arguments.side,
        "backbone": arguments.backbone,
        "weights": arguments.weights,
        "learning_rate": arguments.learning_rate,
        "channel_images_per_second": round(speed, 1),
        "share_of_peak": _share_of_peak(card, speed, arguments),
        "epoch_seconds": round(statistics.median(draw["epoch_seconds"] for draw in draws), 2),
        "accuracy": [draw["accuracy"] for draw in draws],
        "recall_at": {k: [draw["recall_at"].get(k) for draw in draws] for k in RECALLS},
        "epochs": [draw["epochs"] for draw in draws],
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if device.type == "cuda" else None,
    }
    print(json.dumps(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--channels", type=int, default=30)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--backbone", choices=("resnet18", "shallow"), default="resnet18")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _draw(arguments: argparse.Namespace, seed: int, info: ProcessInfo) -> dict[str, float | dict[int, float]]:
    cohort = paper_cohort(arguments.images, arguments.channels, arguments.side, seed)
    order = np.random.default_rng([seed, 1]).permutation(arguments.images)
    train_index, validation_index, held_out = np.split(order, [arguments.images // 2, arguments.images * 3 // 4])
    tiles = _tiles(cohort, train_index[:64])
    train = TrainSettings(epochs=arguments.epochs, crop_px=arguments.side, learning_rate=arguments.learning_rate)
    model = ModelSettings.model_validate(
        {"backbone": arguments.backbone, "weights": arguments.weights, "intensity_share": 0}
    )
    for _ in tiles.batches(np.array_split(order, -(-len(order) // train.batch_tiles))):
        pass  # into memory, so that the first epoch is as fast as the others
    with tempfile.TemporaryDirectory() as name:
        paths = UnitPaths(*(Path(name) / part for part in ("last.pt", "best.pt", "history.csv")))
        unit = TrainingUnit(seed, 0, 0, np.sort(train_index), np.sort(validation_index))
        result = train_unit(tiles, unit, model, train, info=info, paths=paths, key="k", report=print)
        history, trained = pd.read_csv(paths.history), read_unit(paths.best)
    network = trained.network(info.device)
    if not isinstance(network, ChannelEmbedding):
        raise TypeError("the paper's network has an embedding")
    r = torch.from_numpy(embed_tiles(network, tiles, held_out, info)).to(info.device)
    classify = trained.classify(network)
    with torch.inference_mode():
        logits = classify(r)
    background = torch.from_numpy(trained.embedding_mean).to(info.device)
    gradient = METHODS["gradient"].compute(classify, r, background).abs()
    importance = gradient[torch.arange(len(r)), :, logits.argmax(dim=1)].mean(dim=0).cpu().numpy()
    return {
        "accuracy": float((logits.argmax(dim=1).cpu().numpy() == tiles.labels[held_out]).mean()),
        "recall_at": evaluate(_ranking(importance), _truth(cohort)).recall_at,
        "epochs": result.epochs,
        "epoch_seconds": float(history["seconds"].median()),
        "channel_images_per_second": _steady_speed(tiles, unit, model, train, info) * arguments.channels,
    }


def _tiles(cohort: SimulatedCohort, fitted_on: NDArray[np.int64]) -> TrainingTiles:
    labels = cohort.outcome.columns["label"]
    settings = IntensitySettings(transform="linear", clip_percentile=100)
    outcome = make_outcome("nominal", labels)
    return TrainingTiles(
        cohort.draw,
        fit_intensity((cohort.draw(image) for image in fitted_on.tolist()), settings),
        labels=outcome.labels(labels),
        image_index=np.arange(len(labels)),
        patient_ids=np.array([f"p{image}" for image in range(len(labels))]),
        channel_names=[f"C{channel}" for channel in range(len(cohort.plants))],
        outcome=outcome,
        cache_bytes=2**36,
    )


def _steady_speed(
    tiles: TrainingTiles, unit: TrainingUnit, model: ModelSettings, train: TrainSettings, info: ProcessInfo
) -> float:
    """Tiles per second of the training steps alone, in the second epoch of a fresh training."""
    with tempfile.TemporaryDirectory() as name:
        paths = UnitPaths(*(Path(name) / part for part in ("last.pt", "best.pt", "history.csv")))
        training = UnitTraining(tiles, unit, model, train, info, paths, "k", lambda line: None)
        training.start_or_resume()
        for _ in range(2):
            training.progress.batch = 0
            start = time.perf_counter()
            training.train_epoch(lambda: False)
            if info.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
    return len(unit.train_index) / seconds


def _ranking(importance: np.ndarray) -> pd.DataFrame:
    position = np.argsort(np.argsort(-importance)) + 1
    names = [f"C{channel}" for channel in range(len(importance))]
    return pd.DataFrame({"channel": names, "position": position, "score": importance})


def _truth(cohort: SimulatedCohort) -> pd.DataFrame:
    names = [f"C{channel}" for channel in range(len(cohort.plants))]
    return pd.DataFrame({"channel": names, "informative": [int(plant is not None) for plant in cohort.plants]})


def _share_of_peak(card: str, channel_images_per_second: float, arguments: argparse.Namespace) -> float | None:
    peak = PEAK_BF16.get(card)
    if peak is None or arguments.backbone != "resnet18":
        return None
    operations = 3 * 2 * RESNET18_FORWARD_MACS * (arguments.side / 224) ** 2
    return round(channel_images_per_second * operations / peak, 3)


if __name__ == "__main__":
    main()
