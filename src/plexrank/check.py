"""What would go wrong and what a run would cost, before any compute. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plexrank.cohort import Cohort, ImageRecord, deal_folds, patient_strata, survey_cohort
from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input, problems_of
from plexrank.images.lazy import LazyImage
from plexrank.images.open import open_image
from plexrank.models.parameters import IMAGENET_FILE, IMAGENET_URL, n_parameters
from plexrank.panel import locate_channels, wrong_exclusions
from plexrank.plan import INNER_FOLDS, Plan
from plexrank.rundir import RunDir
from plexrank.study import Study, survey_study
from plexrank.tables import did_you_mean, read_table
from plexrank.tiles.grid import TileGrid
from plexrank.tiles.layout import tiling_memory_bytes, usable_cores

BYTES_PER_PIXEL = 4
TILE_CACHE_BYTES = 4 * 2**30
"""What a training keeps of the tiles at most: ``training.data.CACHE_BYTES``, whose module loads torch."""


@dataclass(frozen=True)
class LocatedImage:
    """An opened image and where in it the cohort's channels lie."""

    record: ImageRecord
    image: LazyImage
    channels: tuple[str, ...]
    channel_indices: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What a run would take; pixels count after downsampling, before background tiles are left out.

    Attributes:
        n_images, n_patients, n_channels, n_classes: size of the cohort.
        unlabelled_images: images left out because their label is empty.
        n_tiles: tiles, at most.
        n_parameters: weights of the network that is trained.
        n_trainings: folds × seeds.
        tile_store_gb: size of the tile stores without compression, 10⁹ bytes.
        memory_gb: what the largest stage needs at once: the tiles of a training as float32, or the
            region of an image that is tiled at once on this machine's cores, with 1 GB for the program itself.
    """

    n_images: int
    n_patients: int
    n_channels: int
    n_classes: int
    unlabelled_images: int
    n_tiles: int
    n_parameters: int
    n_trainings: int
    tile_store_gb: float
    memory_gb: float


@dataclass(frozen=True)
class CheckResult:
    """Every problem found, what is worth a warning, and the cost where nothing stands in the way."""

    problems: tuple[PlexrankError, ...]
    warnings: tuple[str, ...]
    cost: Cost | None


def check_study_file(
    path: Path, overrides: Sequence[str] = (), *, imagenet_folder: Path | None = None, rundir: RunDir | None = None
) -> CheckResult:
    """Look at a study file and all that it names; what is wrong in one section hides nothing of the others.

    Args:
        path: the study file.
        overrides: as for :func:`~plexrank.study.load_study`.
        imagenet_folder: where torch keeps weight files; ``None`` leaves them unchecked.
        rundir: the run that would go on; what it holds already need not be looked at.
    """
    study, problems = survey_study(path, overrides)
    if study is None:
        return CheckResult(tuple(problems), (), None)
    units = [(fold, seed) for fold in range(study.train.folds) for seed in range(study.train.seeds)]
    result = check_study(
        study,
        imagenet_folder=None if problems else imagenet_folder,
        is_trained=rundir is not None and all(rundir.training_record(*unit).is_file() for unit in units),
        is_tiled=lambda record: rundir is not None and rundir.tile_record(record.image_id).is_file(),
    )
    return CheckResult((*problems, *result.problems), result.warnings, None if problems else result.cost)


def check_study(
    study: Study,
    *,
    imagenet_folder: Path | None = None,
    is_trained: bool = False,
    is_tiled: Callable[[ImageRecord], bool] = lambda record: False,
    advance: Callable[[], None] = lambda: None,
) -> CheckResult:
    """Look at all that a study names and at the header of every image, whatever is wrong with the rest.

    Args:
        study: a resolved study.
        imagenet_folder: where torch keeps weight files; ``None`` leaves them unchecked.
        is_trained: the networks are there already, so that no weight file is needed.
        is_tiled: whether an image need not be opened, since its tiles are there.
        advance: called after every image.
    """
    problems = [*([] if is_trained else _check_weights(study, imagenet_folder)), *_check_truth(study.cohort.truth)]
    cohort, cohort_problems = survey_cohort(study.cohort, study.train.folds)
    problems += cohort_problems
    if cohort is None:
        return CheckResult(tuple(problems), (), None)
    warnings = list(cohort.warnings)
    if not cohort_problems:
        role_problems, role_warnings = _check_roles(study, cohort)
        problems += role_problems
        warnings += role_warnings
    located, image_problems = _locate_images(study, cohort, is_tiled, advance)
    problems += image_problems
    if located and cohort.panel is None and study.cohort.panel is None:
        source = str(located[0].record.path)
        problems += wrong_exclusions(study.cohort.exclude_channels, located[0].channels, source)
    complete = not problems and len(located) == len(cohort.images)
    return CheckResult(tuple(problems), tuple(warnings), _cost(study, cohort, located) if complete else None)


def locate_image(cohort: Cohort, record: ImageRecord, channels: tuple[str, ...] | None) -> LocatedImage:
    """Open an image and find the cohort's channels in it.

    Args:
        cohort: gives the panel.
        record: the image.
        channels: names that the cohort's first image settled, ``None`` for that image itself.

    Raises:
        ImageDataError, MissingInputError: the image cannot be opened.
        StudyError: its channels do not fit the panel or the other images.
    """
    with naming_input(str(record.path)):
        image = open_image(record.path)
    names, indices = locate_channels(
        cohort.panel, channels, image.channel_names, image.data.shape[0], str(record.path), image.channel_ids
    )
    return LocatedImage(record, image, names, indices)


def _locate_images(
    study: Study, cohort: Cohort, is_tiled: Callable[[ImageRecord], bool], advance: Callable[[], None]
) -> tuple[list[LocatedImage], list[PlexrankError]]:
    """The images that fit, where the first that can be opened settles the channels; what is wrong with the others."""
    located: list[LocatedImage] = []
    problems: list[PlexrankError] = []
    panel_is_wrong = study.cohort.panel is not None and cohort.panel is None
    for record in cohort.images:
        try:
            if panel_is_wrong:
                with naming_input(str(record.path)):
                    open_image(record.path)
            elif not (located and is_tiled(record)):
                located.append(locate_image(cohort, record, located[0].channels if located else None))
        except PlexrankError as error:
            problems += problems_of(error)
        advance()
    return located, problems


def _check_weights(study: Study, imagenet_folder: Path | None) -> list[PlexrankError]:
    weights, remedy = study.model.weights, "mend the path in the study"
    if weights == "imagenet" and imagenet_folder is not None:
        weights = imagenet_folder / IMAGENET_FILE
        remedy = f"get {IMAGENET_URL} and put it there, or set model.weights to a path or to none"
    try:
        with naming_input(f"model.weights: {weights}"):
            if isinstance(weights, Path) and not weights.is_file():
                return [MissingInputError(f"model.weights: {weights}: no such file; {remedy}")]
    except PlexrankError as error:
        return [error]
    return []


def _check_truth(truth: Path | None) -> list[PlexrankError]:
    if truth is None:
        return []
    try:
        columns = read_table(truth).columns
    except PlexrankError as error:
        return problems_of(error)
    return [
        StudyError(f"{truth}: column {column!r} is missing{did_you_mean(column, columns)}")
        for column in ("channel", "informative")
        if column not in columns
    ]


def _check_roles(study: Study, cohort: Cohort) -> tuple[list[PlexrankError], list[str]]:
    """Whether every class is among the training images of every fold (a problem) and in validation (a warning)."""
    folds = study.train.folds
    plan = Plan(RunDir(Path()), study, cohort, deal_folds(patient_strata(cohort.images), folds, study.seed))
    absent: dict[str, dict[str, list[int]]] = {"training": {}, "validation": {}}
    for fold in range(folds):
        for role, without in absent.items():
            present = {cohort.images[index].label for index in plan.images(fold, role)}
            for label in cohort.classes:
                if label not in present:
                    without.setdefault(label, []).append(fold)
    problems: list[PlexrankError] = [
        StudyError(
            f"{study.cohort.samplesheet}: column {study.cohort.label!r}: no patient of class {label!r} is left to "
            f"train on in fold {_listed(without)}; with {folds} folds each class needs {_patients_needed(folds, 1)} "
            "patients or more"
        )
        for label, without in absent["training"].items()
    ]
    warnings = [
        f"class {label!r} has no patient among the validation patients of fold {_listed(without)}, which decide when "
        f"training stops; with {folds} folds this takes {_patients_needed(folds, INNER_FOLDS - 1)} patients"
        for label, without in absent["validation"].items()
    ]
    return problems, warnings


def _patients_needed(folds: int, training: int) -> int:
    """Patients of a class of which at least so many are trained on in every fold, besides some for validation."""
    patients = folds
    while (inside := patients - -(-patients // folds)) - -(-inside // INNER_FOLDS) < training:
        patients += 1
    return patients


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))


def _cost(study: Study, cohort: Cohort, located: list[LocatedImage]) -> Cost:
    downsample, tile_px = study.tile.downsample, study.tile.tile_px
    n_channels = len(located[0].channels)
    sizes = [
        (-(-part.image.data.shape[1] // downsample), -(-part.image.data.shape[2] // downsample)) for part in located
    ]
    n_tiles = sum(len(TileGrid(height, width, tile_px).tiles()) for height, width in sizes)
    tile_bytes = n_tiles * n_channels * tile_px**2 * BYTES_PER_PIXEL
    store_bytes = sum(height * width for height, width in sizes) * n_channels * BYTES_PER_PIXEL
    tiling_bytes = max(
        tiling_memory_bytes((n_channels, *data.shape[1:]), data.dtype, data.chunks, tile_px, downsample, usable_cores())
        for data in (part.image.data for part in located)
    )
    return Cost(
        n_images=len(cohort.images),
        n_patients=len({image.patient_id for image in cohort.images}),
        n_channels=n_channels,
        n_classes=len(cohort.classes),
        unlabelled_images=cohort.unlabelled,
        n_tiles=n_tiles,
        n_parameters=n_parameters(study.model.backbone, n_channels, len(cohort.classes)),
        n_trainings=study.train.folds * study.train.seeds,
        tile_store_gb=round(store_bytes / 1e9, 3),
        memory_gb=round(1.0 + max(min(tile_bytes, TILE_CACHE_BYTES), tiling_bytes) / 1e9, 2),
    )
