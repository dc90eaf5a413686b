"""What would go wrong and what a run would cost, before any compute. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plexrank.cohort import Cohort, ImageRecord, read_cohort
from plexrank.errors import MissingInputError, PlexrankError, problems_of
from plexrank.images.lazy import LazyImage
from plexrank.images.open import open_image
from plexrank.models.parameters import n_parameters
from plexrank.panel import locate_channels, unknown_channels
from plexrank.study import Study
from plexrank.tiles.grid import TileGrid

BYTES_PER_PIXEL = 4


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
        memory_gb: what the largest stage needs at once: the tiles of a training as float32, or a
            band of an image while tiling, with 1 GB for the program itself.
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


def check_study(study: Study, advance: Callable[[], None] = lambda: None) -> CheckResult:
    """Look at samplesheet, panel and the header of every image.

    Args:
        study: a resolved study.
        advance: called after every image.
    """
    problems = _check_named_files(study)
    try:
        cohort = read_cohort(study.cohort, study.train.folds)
    except PlexrankError as error:
        return CheckResult((*problems, *problems_of(error)), (), None)
    located: list[LocatedImage] = []
    for record in cohort.images:
        try:
            located.append(locate_image(cohort, record, located[0].channels if located else None))
        except PlexrankError as error:
            problems += problems_of(error)
        advance()
    if located and cohort.panel is None:
        problems += unknown_channels(study.cohort.exclude_channels, located[0].channels, str(located[0].record.path))
    cost = None if problems else _cost(study, cohort, located)
    return CheckResult(tuple(problems), cohort.warnings, cost)


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
    image = open_image(record.path)
    names, indices = locate_channels(cohort.panel, channels, image.channel_names, image.data.shape[0], str(record.path))
    return LocatedImage(record, image, names, indices)


def _check_named_files(study: Study) -> list[PlexrankError]:
    named = {"model.weights": study.model.weights, "cohort.truth": study.cohort.truth}
    return [
        MissingInputError(f"{key}: {path}: no such file; mend the path in the study")
        for key, path in named.items()
        if isinstance(path, Path) and not path.is_file()
    ]


def _cost(study: Study, cohort: Cohort, located: list[LocatedImage]) -> Cost:
    downsample, tile_px = study.tile.downsample, study.tile.tile_px
    n_channels = len(located[0].channels)
    sizes = [
        (-(-part.image.data.shape[1] // downsample), -(-part.image.data.shape[2] // downsample)) for part in located
    ]
    n_tiles = sum(len(TileGrid(height, width, tile_px).tiles()) for height, width in sizes)
    store_bytes = sum(height * width for height, width in sizes) * n_channels * BYTES_PER_PIXEL
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
        memory_gb=round(1.0 + n_tiles * n_channels * tile_px**2 * BYTES_PER_PIXEL / 1e9, 2),
    )
