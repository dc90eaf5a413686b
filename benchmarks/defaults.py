"""What the defaults of model.classifier, model.intensity_share and train.seeds rest on: one table from trained runs.

    python benchmarks/defaults.py RUN [RUN ...] [--truth truth.csv] [--ways WAY ...]

Trains nothing: reads the encoders of finished runs (`classifier: refit`, any number of seeds), fits what comes after
them anew for every combination, and prints a line of JSON for each run and way to classify: the held-out AUC with 1, 3
and 5 seeds (mean and standard deviation over as many disjoint sets of them as there are) and, where the truth is known,
the average precision of the gradient.

The ways: `paper` (the classifier that trained the encoder, at the epoch that suits `refit`), `refit` by share of the
log mean intensity in each channel's number, and `beside` (r and log mean as two numbers of a channel, the importance
their sum). `nested` chooses the share for each unit by the loss of the refit on the images that chose its epoch,
`careful` the largest within a standard error of that. `untrained` is `refit 0` of an encoder with random weights.
`like_refit_0` is the Spearman correlation of the channels'
scores with those of `refit 0`. `validation_loss` looks at no held-out patient: the balanced log loss of the mean
probability over seeds on the patients that chose the epochs, of classifiers fitted to the other training patients,
over all folds; by it a way may be chosen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import nn

from plexrank.attribution.methods import METHODS
from plexrank.attribution.store import AttributionBlock
from plexrank.distributed import ProcessInfo
from plexrank.evaluation.truth import evaluate
from plexrank.launch.resuming import resume_run
from plexrank.models.build import build_network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.outcome.nominal import Nominal, log_loss
from plexrank.planning.plan import Plan
from plexrank.ranking.aggregate import UnitTable, aggregate_unit, gather_samples
from plexrank.ranking.baselines import linear_baseline
from plexrank.ranking.prediction import headline
from plexrank.ranking.samples import Samples, make_samples
from plexrank.readout.blending import fit_blend, log_means, mean_offset
from plexrank.readout.linear import fit_linear_classifier
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.statistics.means import class_balanced_mean
from plexrank.training.checkpoint import read_unit
from plexrank.training.embedding import embed_tiles, mean_over_images

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (1, 3, 5)
NESTED = ("nested", "careful")
WAYS = (*(f"refit {share:g}" for share in SHARES), "paper", *NESTED, "beside", "untrained")

Classify = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Trained:
    """An encoder with what it says of the tiles that it has seen and of those held out.

    Attributes:
        r, untrained, means: (tile, channel) of all tiles; the first two, of the trained encoder and of one with random
            weights, are NaN for tiles of neither kind.
        seen, validation, held_out: tile indices.
        image, label, patient: (tile,).
        standardize: as it was trained.
        own: its own classifier.
    """

    fold: int
    seed: int
    r: np.ndarray
    untrained: np.ndarray
    means: np.ndarray
    seen: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray
    image: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    standardize: bool
    own: Classify

    def image_means(self, values: np.ndarray, tiles: np.ndarray) -> np.ndarray:
        return mean_over_images(values[tiles], self.image[tiles])[2]

    def fit(self, values: np.ndarray, tiles: np.ndarray) -> Classify:
        first = tiles[np.unique(self.image[tiles], return_index=True)[1]]
        return fit_linear_classifier(self.image_means(values, tiles), self.label[first], self.patient[first], self.seed)

    def logs(self) -> tuple[np.ndarray, np.ndarray]:
        offset = mean_offset(self.image_means(self.means, self.seen))
        return log_means(self.means, offset), offset

    def blended(self, share: float) -> np.ndarray:
        return self._blended(self.r, share, self.standardize)

    def standardised_untrained(self) -> np.ndarray:
        return self._blended(self.untrained, 0.0, True)

    def _blended(self, r: np.ndarray, share: float, standardize: bool) -> np.ndarray:
        logs, offset = self.logs()
        r_of_images, logs_of_images = (self.image_means(values, self.seen) for values in (r, logs))
        blend = fit_blend(r_of_images, logs_of_images, offset, share, standardize=standardize)
        return blend.apply(r, self.means)

    def best_share(self, careful: bool) -> float:
        """That with the least balanced loss on the validation images, fitted to the training images alone.

        Careful: the largest that is within a standard error of it.
        """
        training = np.setdiff1d(self.seen, self.validation)
        first = self.validation[np.unique(self.image[self.validation], return_index=True)[1]]
        label = self.label[first]
        losses = []
        for share in SHARES:
            values = self.blended(share)
            logits = self.fit(values, training)(torch.from_numpy(self.image_means(values, self.validation)).float())
            loss = nn.functional.cross_entropy(logits.double(), torch.from_numpy(label), reduction="none")
            losses.append(loss.numpy())
        weight = (1 / np.bincount(self.label))[label]
        weight /= weight.sum()
        best = int(np.argmin(np.array(losses) @ weight))
        excess = np.array(losses) - losses[best]
        mean = excess @ weight
        error = np.sqrt((excess - mean[:, None]) ** 2 @ weight**2)
        return SHARES[int(np.flatnonzero(mean <= error)[-1]) if careful else best]


def validation_loss(units: list[Trained], way: str) -> float:
    """Balanced log loss of a way on the validation images of all folds, fitted without them."""
    losses, labels = [], []
    for fold in sorted({unit.fold for unit in units}):
        probability = []
        for unit in (unit for unit in units if unit.fold == fold):
            values, _ = classified(unit, way)
            classify = unit.fit(values, np.setdiff1d(unit.seen, unit.validation))
            logits = classify(torch.from_numpy(unit.image_means(values, unit.validation)).float())
            probability.append(logits.double().softmax(dim=1).numpy())
        label = unit.label[unit.validation[np.unique(unit.image[unit.validation], return_index=True)[1]]]
        losses.append(log_loss(np.mean(probability, axis=0), label))
        labels.append(label)
    return float(class_balanced_mean(np.concatenate(losses), np.concatenate(labels)))


def trained_units(plan: Plan, cohort: TiledCohort) -> Iterator[Trained]:
    """The encoders of a run, one after the other."""
    images = plan.cohort.images
    label = plan.cohort.labels[cohort.image_of_tile]
    patient = np.array([image.patient_id for image in images])[cohort.image_of_tile]
    for fold, seed in plan.fold_seeds:
        trained = read_unit(plan.rundir.training(fold, seed) / "best.pt")
        network = trained.network(torch.device("cpu"))
        torch.manual_seed(1000 * fold + seed)
        fresh = build_network(trained.settings, len(trained.channel_names), len(trained.output_names)).eval()
        if not isinstance(network, ChannelEmbedding) or not isinstance(fresh, ChannelEmbedding):
            raise SystemExit(f"{plan.rundir.path}: its networks have no channel embedding")
        of_role = {role: cohort.tiles_of(plan.images(fold, role)) for role in ("training", "validation", "held_out")}
        seen = np.sort(np.concatenate([of_role["training"], of_role["validation"]]))
        r, untrained = np.full((2, *cohort.channel_means.shape), np.nan, dtype=np.float32)
        tiles = cohort.training_tiles(trained.intensity)
        for index in (seen, of_role["held_out"]):
            r[index] = embed_tiles(network, tiles, index, ProcessInfo())
            untrained[index] = embed_tiles(fresh, tiles, index, ProcessInfo())
        yield Trained(
            fold, seed, r, untrained, cohort.channel_means, seen, of_role["validation"], of_role["held_out"],
            cohort.image_of_tile, label, patient, trained.settings.standardize, network.classify,
        )  # fmt: skip


def classified(unit: Trained, way: str) -> tuple[np.ndarray, Classify]:
    """The embedding (tile, column) and the classifier of a way to classify."""
    if way == "paper":
        return unit.r, unit.own
    if way == "untrained":
        values = unit.standardised_untrained()
    elif way == "beside":
        values = np.concatenate([unit.r, unit.blended(1.0)], axis=1)
    else:
        values = unit.blended(unit.best_share(way == "careful") if way in NESTED else float(way.split()[1]))
    return values, unit.fit(values, unit.seen)


@torch.no_grad()
def unit_table(unit: Trained, way: str, num_images: int) -> UnitTable:
    values, classify = classified(unit, way)
    r = torch.from_numpy(values[unit.held_out])
    columns = values.shape[1]
    block = AttributionBlock(
        tile_id=unit.held_out,
        embedding=r.numpy(),
        logits=classify(r).numpy(),
        mean_intensity=np.tile(unit.means[unit.held_out], (1, columns // unit.means.shape[1])),
        weight=np.ones(len(r), dtype=np.float32),
        values={"gradient": METHODS["gradient"].compute(classify, r, r).numpy()},
    )
    return aggregate_unit(
        [block],
        unit.image,
        num_images,
        outcome=Nominal(()),
        fold=unit.fold,
        seed=unit.seed,
        classify=partial(_as_arrays, classify),
    )


def _as_arrays(classify: Classify, r: np.ndarray) -> np.ndarray:
    return classify(torch.from_numpy(r).float()).numpy()


def measured(
    units: list[UnitTable], samples: Samples, channels: tuple[str, ...], truth: pd.DataFrame | None
) -> tuple[float, float | None, np.ndarray]:
    """Held-out AUC, average precision of the order by gradient, and the scores (channel,) behind it."""
    tables = gather_samples(units, samples, "gradient")
    value = headline(tables.prediction, samples)
    score = tables.importance.mean(axis=(0, 1)).reshape(-1, len(channels)).sum(axis=0)
    if truth is None:
        return value, None, score
    order = pd.DataFrame({"channel": channels, "score": score}).sort_values("score", ascending=False)
    order["position"] = np.arange(1, len(order) + 1)
    return value, evaluate(order, truth).average_precision, score


def compare(run: Path, truth: pd.DataFrame | None, ways: list[str]) -> None:
    plan = resume_run(run)
    cohort, images = TiledCohort(plan), plan.cohort.images
    samples = make_samples(
        [image.patient_id for image in images],
        [image.label for image in images],
        [plan.fold_of_patient[image.patient_id] for image in images],
        [image.site for image in images],
        plan.cohort.outcome,
    )
    units = list(trained_units(plan, cohort))
    names = {"run": run.name, "standardize": plan.study.model.standardize}
    tables = {way: [unit_table(unit, way, len(images)) for unit in units] for way in ways}
    means = gather_samples(tables["refit 0"], samples, "gradient").mean_intensity
    logistic = headline(linear_baseline(means, samples, plan.study.seed).prediction, samples)
    print(json.dumps(names | {"way": "logistic regression on channel means", "auc": round(logistic, 3)}), flush=True)
    all_seeds = {way: measured(of_way, samples, cohort.channels, truth)[2] for way, of_way in tables.items()}
    for way, of_way in tables.items():
        line: dict[str, object] = names | {"way": way}
        for count in (count for count in SEEDS if count <= plan.study.train.seeds):
            firsts = range(0, plan.study.train.seeds - count + 1, count)
            parts = [[unit for unit in of_way if first <= unit.seed < first + count] for first in firsts]
            found = [measured(units, samples, cohort.channels, truth) for units in parts]
            aucs = [value for value, _, _ in found]
            line[f"auc_{count}"] = round(float(np.mean(aucs)), 3)
            line[f"deviation_{count}"] = round(float(np.std(aucs, ddof=1)), 3) if len(aucs) > 1 else None
            if truth is not None:
                line[f"ap_{count}"] = round(float(np.mean([precision for _, precision, _ in found])), 3)
        if way not in ("paper", *NESTED):
            line["validation_loss"] = round(validation_loss(units, way), 4)
        line["like_refit_0"] = round(float(stats.spearmanr(all_seeds[way], all_seeds["refit 0"]).statistic), 2)
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    chosen = parser.parse_args()
    truth = pd.read_csv(chosen.truth, keep_default_na=False) if chosen.truth else None
    for run in chosen.runs:
        compare(run, truth, ["refit 0", *(way for way in chosen.ways if way != "refit 0")])


if __name__ == "__main__":
    main()
