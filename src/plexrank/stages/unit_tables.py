"""What the units of a run say of its images, as ranking takes it: those of the labels and those of permuted ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch

from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.outcome import LinearWeights
from plexrank.planning.plan import Plan
from plexrank.ranking.aggregate import Classify, TileBlock, UnitTable, aggregate_unit
from plexrank.ranking.null_unit import NullUnit, read_null_unit
from plexrank.readout.linear import LinearClassifier
from plexrank.stages.attributions import attribution_blocks
from plexrank.stages.tile_table import TileTable
from plexrank.stages.trained_units import read_trained
from plexrank.training.checkpoint import TrainedUnit


def read_unit_tables(plan: Plan, cohort: TileTable) -> list[UnitTable]:
    """The image means of every fold and seed.

    Raises:
        DamagedOutputError: a checkpoint or an attribution is damaged, or that of another unit.
    """
    return [
        image_means(
            attribution_blocks(plan, fold, seed, [plan.study.rank.by]),
            read_trained(plan, fold, seed),
            cohort,
        )
        for fold, seed in plan.fold_seeds
    ]


def read_null_units(plan: Plan) -> Iterator[tuple[np.ndarray, list[UnitTable]]]:
    """For every labelling the permuted label of every image (image,) and the image means of every fold's training.

    They hold the importance ``rank.by`` and, where the classifier is linear, all that reliance takes; of other
    classifiers ``classify`` is ``None``. One labelling is in memory at a time.

    Raises:
        DamagedOutputError: a file is missing, damaged, or that of another labelling, fold or cohort.
    """
    outputs, channels = plan.cohort.outcome.output_names, plan.channels.names
    for labelling in range(plan.study.rank.null_trainings):
        labels, units = plan.null_labels[labelling], []
        for fold in range(plan.study.train.folds):
            path = plan.rundir.null_training(labelling, fold) / "unit.npz"
            with plan.null_training(labelling, fold).reading(path):
                unit = read_null_unit(path)
                unit.require(
                    path,
                    labelling=labelling,
                    fold=fold,
                    method=plan.study.rank.by,
                    channels=channels,
                    outputs=outputs,
                    labels=labels,
                )
            units.append(_with_classifier(unit))
        yield labels, units


def _with_classifier(unit: NullUnit) -> UnitTable:
    if unit.classifier is None:
        return unit.table
    linear = LinearWeights(**{name: values.astype(np.float64) for name, values in unit.classifier.items()})
    return dataclasses.replace(unit.table, classify=linear.outputs, linear=linear)


def image_means(blocks: Iterable[TileBlock], trained: TrainedUnit, cohort: TileTable) -> UnitTable:
    """The image means of a trained unit from its held-out tiles.

    Raises:
        RunDirError: there is no tile at all, or one that the cohort does not have.
    """
    return aggregate_unit(
        blocks,
        cohort.image_of_tile,
        len(cohort.plan.cohort.images),
        outcome=cohort.plan.cohort.outcome,
        fold=trained.fold,
        seed=trained.seed,
        classify=_classifier(trained),
        training_images=trained.embedding_images,
        training_embedding=trained.embedding_mean,
        tile_area=cohort.tile_area_px,
        linear=None if trained.classifier is None else _linear(trained.classifier),
    )


def _classifier(trained: TrainedUnit) -> Classify | None:
    """What turns r into logits in float64: a change of a channel that says nothing must change nothing."""
    if trained.classifier is not None:
        return _linear(trained.classifier).outputs
    network = trained.network(torch.device("cpu"))
    return partial(_classify_array, network.double().classify) if isinstance(network, ChannelEmbedding) else None


def _linear(classifier: LinearClassifier) -> LinearWeights:
    parts = (classifier.coef, classifier.intercept, classifier.center)
    return LinearWeights(*(part.cpu().double().numpy() for part in parts))


@torch.inference_mode()
def _classify_array(classify: Callable[[torch.Tensor], torch.Tensor], r: np.ndarray) -> np.ndarray:
    logits: np.ndarray = classify(torch.from_numpy(np.asarray(r, dtype=np.float64))).numpy()
    return logits
