"""The plan of a run: every unit of work of every stage, and what each depends on. Loads no torch.

A unit's settings reach only the stages that they matter to, so that a changed setting redoes what
depends on it and nothing else. Stages that follow a unit depend on its key, or, where the same key
may give another result (training on a GPU), on when it was finished.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plexrank.cohorts.bad_images import SkippedImage, read_skipped
from plexrank.cohorts.channels import CohortChannels, settle_channels
from plexrank.cohorts.cohort import Cohort, Survey, survey_cohort
from plexrank.cohorts.folds import Folds, Split, split_patients
from plexrank.cohorts.null_labels import null_labels
from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.errors import StudyError, raise_problems
from plexrank.images.image_path import size_and_mtime
from plexrank.planning.image_notes import ImageNotes, read_image_notes
from plexrank.planning.image_units import ImageUnits, panel_rows
from plexrank.rundir import Json, RunDir, Unit, digest, file_digest, read_record
from plexrank.settings import Study

TILE_TABLE = "table of all tiles"
TABLES = 3
"""Raised whenever the tables of a ranking get other columns, so that runs of before are ranked again."""


@dataclass(frozen=True)
class Plan:
    """All units of a study in a run directory; made by :func:`make_plan`.

    Attributes:
        cohort: the images to work on, without those that are skipped.
        split: which patients each fold holds out, and which choose the epoch where that is given.
        image_units: the units of images.
        skipped: bad images that the run leaves out, by ``cohort.skip_bad``; none in a plan to tile by.
        bad: for a plan to tile by, images that cannot be used as far as their paths tell it.
        chosen: done-records of the units to work on, ``None`` for all; see :meth:`choose`.
    """

    rundir: RunDir
    study: Study
    cohort: Cohort
    split: Split
    image_units: ImageUnits
    skipped: tuple[SkippedImage, ...] = ()
    bad: tuple[BadImage, ...] = ()
    chosen: frozenset[Path] | None = None

    @functools.cached_property
    def channels(self) -> CohortChannels:
        """The channels of the cohort and where every image's tile store holds them, once all is tiled.

        ``channels.names`` are those that all that follows tiling works on, in this order; ``channels.present`` says
        which image holds which, and ``channels.planes`` where. Derived from what the stores hold, the samplesheet and
        the folds, so that it fits whatever was tiled last.

        Raises:
            RunDirError: the tile stage is not done, or its list of stored channels is damaged.
            StudyError: as :func:`~plexrank.cohorts.channels.settle_channels`.
        """
        held = [self.image_notes[image.image_id].channels for image in self.cohort.images]
        training = [self.images(fold, "training") for fold in range(self.study.train.folds)]
        return settle_channels(self.cohort, held, training)

    @functools.cached_property
    def image_notes(self) -> dict[str, ImageNotes]:
        """By image_id what the tile stage noted, once all is tiled.

        Raises:
            DamagedOutputError: the tile stage is not done, or its notes are damaged or of other images.
        """
        with self.tiles_table().reading(self.rundir.image_notes):
            notes = read_image_notes(self.rundir.image_notes)
            return {image.image_id: notes[image.image_id] for image in self.cohort.images}

    @property
    def fold_of_patient(self) -> dict[str, int]:
        """The fold that holds each patient out."""
        return self.split.fold_of_patient

    @property
    def fold_seeds(self) -> list[tuple[int, int]]:
        """Every (fold, seed) in the order in which they are worked on."""
        return [(fold, seed) for fold in range(self.study.train.folds) for seed in range(self.study.train.seeds)]

    @functools.cached_property
    def null_labels(self) -> NDArray[np.int64]:
        """Labels (labelling, image) that null trainings have in the place of the labels.

        Raises:
            StudyError: as :func:`~plexrank.cohorts.null_labels.null_labels`.
        """
        return null_labels(self.study, self.cohort, self.folds)

    def relabelled(self, labelling: int) -> Plan:
        """The same folds of a cohort with the labels of a null training."""
        labels = [self.cohort.outcome.levels[index] for index in self.null_labels[labelling]]
        pairs = zip(self.cohort.images, labels, strict=True)
        images = tuple(dataclasses.replace(image, label=label) for image, label in pairs)
        return dataclasses.replace(self, cohort=dataclasses.replace(self.cohort, images=images))

    @functools.cached_property
    def folds(self) -> Folds:
        """Which images each fold holds out, validates on and trains on."""
        return Folds(self.cohort.images, self.split, self.cohort.outcome, self.study.seed)

    def images(self, fold: int, role: str) -> list[int]:
        """As :meth:`~plexrank.cohorts.folds.Folds.with_role`."""
        return self.folds.with_role(fold, role)

    def tile(self, image: ImageRecord) -> Unit:
        """The tiles of one image."""
        return self.image_units.unit(image)

    def tiles_table(self) -> Unit:
        """The table of all tiles, that of the statistics of every image's channels, and the notes on every image."""
        return self._tiles_table

    @functools.cached_property
    def _tiles_table(self) -> Unit:
        return Unit(
            name=TILE_TABLE,
            record=self.rundir.tiles_record,
            outputs=(self.rundir.tiles_table, self.rundir.tile_statistics, self.rundir.image_notes),
            depends={
                "images": {image.image_id: self.tile(image).key for image in self.cohort.images},
                "panel": panel_rows(self.cohort.panel),
            },
        )

    def train(self, fold: int, seed: int) -> Unit:
        """One training."""
        folder, record = self.rundir.training(fold, seed), self.rundir.training_record(fold, seed)
        return Unit(
            name=f"train fold {fold} seed {seed}",
            record=record,
            outputs=(folder / "best.pt", folder / "history.csv"),
            depends={**self._trained_on[fold], "weights": _weights_as_they_are(self.study.model.weights, record)},
        )

    def null_training(self, labelling: int, fold: int) -> Unit:
        """One training on permuted labels, with what ranking needs of it."""
        folder, record = self.rundir.null_training(labelling, fold), self.rundir.null_training_record(labelling, fold)
        return Unit(
            name=f"null training {labelling} fold {fold}",
            record=record,
            outputs=(folder / "unit.npz",),
            depends={
                **self._trained_on[fold],
                "weights": _weights_as_they_are(self.study.model.weights, record),
                "labels": digest(self.null_labels[labelling].tolist()),
                "by": self.study.rank.by,
            },
        )

    def null_units(self) -> Iterator[Unit]:
        """All trainings on permuted labels, every fold of one labelling after the other."""
        for labelling in range(self.study.rank.null_trainings):
            yield from (self.null_training(labelling, fold) for fold in range(self.study.train.folds))

    @functools.cached_property
    def _trained_on(self) -> list[dict[str, Json]]:
        """What all trainings of each fold depend on, beside the file of pretrained weights."""
        study = self.study
        of_all: dict[str, Json] = {
            "tiles": self.tiles_table().key,
            "cohort": digest([[i.image_id, i.patient_id, i.label, i.site] for i in self.cohort.images]),
            "intensity": study.intensity.model_dump(mode="json"),
            "model": study.model.model_dump(mode="json"),
            "train": study.train.model_dump(mode="json", exclude={"seeds", "recompute"}),
            "seed": study.seed,
        }
        if (kind := study.cohort.outcome) != "nominal":  # which runs that knew nothing else do not name
            of_all["outcome"] = [kind, list(self.cohort.outcome.levels)]
        return [{**of_all, **self._split_as_given(fold)} for fold in range(study.train.folds)]

    def _split_as_given(self, fold: int) -> dict[str, Json]:
        """What tells whether a split was changed that does not follow from the cohort and the settings."""
        if self.study.train.split in ("folds", "site"):
            return {}
        return {"split": digest([self.images(fold, role) for role in ("held_out", "validation", "training")])}

    def attribute(self, fold: int, seed: int) -> Unit:
        """The held-out embedding and importances of one training."""
        return Unit(
            name=f"attribute fold {fold} seed {seed}",
            record=self.rundir.attribution_record(fold, seed),
            outputs=(self.rundir.attribution(fold, seed),),
            depends={
                "train": _finished(self.train(fold, seed)),
                "attribute": self.study.attribute.model_dump(mode="json"),
            },
        )

    def rank(self) -> Unit:
        """The ranking of the cohort."""
        folder, nulls = self.rundir.ranking, list(self.null_units())
        names = (
            "ranking.csv",
            "ranking.parquet",
            "ranking_by_class.csv",
            "importance_per_patient.parquet",
            "predictions.csv",
            "baselines.csv",
            "reads.csv",
            "summary.json",
        )
        return Unit(
            name="rank",
            record=self.rundir.ranking_record,
            outputs=tuple(folder / name for name in names),
            depends={
                "attributions": {
                    f"fold {fold} seed {seed}": _finished(self.attribute(fold, seed)) for fold, seed in self.fold_seeds
                },
                "rank": self.study.rank.model_dump(mode="json"),
                **({"null trainings": digest([_finished(unit) for unit in nulls])} if nulls else {}),
                "exclude_channels": list(self.study.cohort.exclude_channels),
                "skipped": [[image.image_id, image.reason] for image in self.skipped],
                "unlabelled": self.cohort.unlabelled,
                "warnings": list(self.cohort.warnings),
                "seed": self.study.seed,
                "tables": TABLES,
            },
        )

    def report(self) -> Unit:
        """The report page and its figures."""
        truth = self.study.cohort.truth
        return Unit(
            name="report",
            record=self.rundir.report_record,
            outputs=(self.rundir.report_page, self.rundir.figures, self.rundir.multiqc),
            depends={
                "ranking": _finished(self.rank()),
                "truth": file_digest(truth) if truth and truth.is_file() else None,
                "name": self.study.name,
                "report": self.study.report.model_dump(mode="json"),
            },
        )

    def units(self, stage: str) -> Iterator[Unit]:
        """All units of a stage, in the order in which they are worked on."""
        if stage == "tile":
            yield from (self.tile(image) for image in self.cohort.images)
            yield self.tiles_table()
        elif stage == "train":
            yield from (self.train(fold, seed) for fold, seed in self.fold_seeds)
            yield from self.null_units()
        elif stage == "attribute":
            yield from (self.attribute(fold, seed) for fold, seed in self.fold_seeds)
        elif stage == "rank":
            yield self.rank()
        else:
            yield self.report()

    def trained_on(self) -> str:
        """What the trainings were computed on, in words, with driver and container; empty where no record says."""
        places = set()
        for unit in self.units("train"):
            device, driver, image = (read_record(unit.record, key) for key in ("device", "NVIDIA driver", "container"))
            words = [f"{device}", f"NVIDIA driver {driver}" if driver else "", f"in {image}" if image else ""]
            places |= {", ".join(filter(None, words))} if device else set()
        return "; ".join(sorted(places))

    def choose(self, stage: str, records: Sequence[str]) -> Plan:
        """The same plan, to work on some units of a stage only, while other processes may work on others.

        Args:
            stage: whose units.
            records: their done-records, relative to the run directory.

        Raises:
            StudyError: there is no such unit, or none is given.
        """
        known = [str(unit.record.relative_to(self.rundir.path)) for unit in self.units(stage)]
        unknown = sorted(set(records) - set(known))
        if unknown or not records:
            found = f"no unit of the stage {stage} has the done-record {unknown[0]!r}" if unknown else "no unit given"
            raise StudyError(f"{found}; expected such as {known[0]}")
        return dataclasses.replace(self, chosen=frozenset(self.rundir.path / record for record in records))

    def chosen_units(self, stage: str) -> list[Unit]:
        """The units of a stage to work on."""
        return [unit for unit in self.units(stage) if self.chosen is None or unit.record in self.chosen]


def make_plan(
    rundir: RunDir,
    study: Study,
    *,
    for_tiling: bool = False,
    image_units: ImageUnits | None = None,
    survey: Survey | None = None,
) -> Plan:
    """Read the cohort and deal its patients into folds.

    Args:
        rundir: where the run is or will be.
        study: resolved.
        for_tiling: take up images that were skipped before, and set aside those that do not exist; what comes after
            tiling needs none.
        image_units: what this process has found of files of images before.
        survey: of the whole cohort and its images, for a plan to tile by, where it was just made.

    Raises:
        PlexrankError: what is wrong with samplesheet or panel.
    """
    known = read_skipped(rundir.skipped) if study.cohort.skip_bad and not for_tiling else ()
    left_out = {(one.image_id, one.path) for one in known}
    survey = survey or survey_cohort(study.cohort, study.train.dealt_folds, need_images=for_tiling, skipped=left_out)
    set_aside = for_tiling or study.cohort.skip_bad
    raise_problems([*survey.problems, *(() if set_aside else (image.error for image in survey.bad))])
    cohort = survey.require_cohort()
    split = split_patients(study, cohort.images, cohort.outcome)
    labelled = {(record.image_id, str(record.path)) for record in survey.skipped}
    skipped = tuple(one for one in known if (one.image_id, one.path) in labelled)
    bad = survey.bad if for_tiling else ()
    image_units = image_units or ImageUnits(rundir, study.tile)
    return Plan(rundir, study, cohort, split, image_units, skipped, bad)


def _weights_as_they_are(weights: Path | str, record: Path) -> Json:
    """What tells whether a file of weights was changed; one that is gone counts as it was for the training."""
    if not isinstance(weights, Path):
        return None
    try:
        return list(size_and_mtime(weights))
    except OSError:
        return read_record(record, "depends", "weights")


def _finished(unit: Unit) -> Json:
    """What a following unit depends on: the key, and when the unit was last finished."""
    return {"key": unit.key, "finished": read_record(unit.record, "finished")}
