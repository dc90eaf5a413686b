"""What would go wrong and what a run would cost, before any compute. Loads no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plexrank.cohorts.bad_images import SHOWN, SkippedImage, problems_of_images, skipped_images
from plexrank.cohorts.channels import CohortChannels, find_misfits, rows_without_image, settle_channels
from plexrank.cohorts.cohort import Cohort, Survey, class_problems, order_problems, survey_cohort
from plexrank.cohorts.differences import image_differences
from plexrank.cohorts.folds import Split, make_folds
from plexrank.cohorts.located import LocatedImage, locate_image
from plexrank.cohorts.panel import wrong_exclusions
from plexrank.cohorts.roles import Findings, role_findings
from plexrank.cohorts.samplesheet import BadImage, ImageRecord
from plexrank.cohorts.tables import did_you_mean, read_table
from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input, problems_of
from plexrank.images.open import open_image
from plexrank.machine.cores import usable_cores
from plexrank.models.parameters import n_parameters, published_weights
from plexrank.run.plan import Plan
from plexrank.run.trial import run_minutes, training_memory_bytes, try_training
from plexrank.rundir import RunDir
from plexrank.settings import Study
from plexrank.study import load_study, survey_study
from plexrank.tiles.grid import TileGrid
from plexrank.tiles.layout import tiling_memory_bytes
from plexrank.tiles.texture import unknown_pixel_sizes
from plexrank.wording import counted

BYTES_PER_PIXEL = 4
TILE_CACHE_BYTES = 4 * 2**30
"""What a training keeps of the tiles at most: ``training.data.CACHE_BYTES``, whose module loads torch."""


@dataclass(frozen=True)
class Cost:
    """What a run would take; pixels count after downsampling, before background tiles are left out.

    Attributes:
        n_images, n_patients, n_channels, n_classes: size of the cohort.
        unlabelled_images: images left out because their label is empty.
        n_source_pixels: of all channels that are kept, before downsampling.
        n_tiles: tiles, at most.
        n_parameters: weights of the network that is trained.
        n_trainings: folds × seeds.
        n_null_trainings: permutations of the labels × folds, each of which costs about as much as a training.
        tile_store_gb: size of the tile stores without compression, 10⁹ bytes.
        tiling_gb: memory of tiling: the region of an image that is worked on at once on this machine's cores, and 1 GB
            for the program itself.
        memory_gb: memory of the largest stage: tiling, or training as :func:`measure_cost` finds it; before, with 1 GB
            and the tiles as float32 for training.
        minutes: how long a run takes on this machine, where that was measured.
    """

    n_images: int
    n_patients: int
    n_channels: int
    n_classes: int
    unlabelled_images: int
    n_source_pixels: int
    n_tiles: int
    n_parameters: int
    n_trainings: int
    n_null_trainings: int
    tile_store_gb: float
    tiling_gb: float
    memory_gb: float
    minutes: float | None = None


@dataclass(frozen=True)
class ClassCounts:
    """A class of the cohort: its patients, its images, and its images of each site, where the samplesheet has sites."""

    label: str
    n_patients: int
    n_images: int
    images_of_site: dict[str, int]


@dataclass(frozen=True)
class CheckResult:
    """What stands in the way of a run and what it would be.

    Attributes:
        problems: everything that is wrong; what more than a few images share is reported once.
        warnings: what is worth one.
        cost: where nothing stands in the way.
        classes: of the labelled images, without those that would be left out.
        skipped: images that the run would leave out, where the study says so (``cohort.skip_bad``).
    """

    problems: tuple[PlexrankError, ...]
    warnings: tuple[str, ...] = ()
    cost: Cost | None = None
    classes: tuple[ClassCounts, ...] = ()
    skipped: tuple[SkippedImage, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "problems": [{"message": str(p), "exit_code": p.exit_code} for p in self.problems],
            "warnings": self.warnings,
            "skipped": [asdict(image) for image in self.skipped],
            "classes": [asdict(counts) for counts in self.classes],
            "cost": asdict(self.cost) if self.cost else None,
        }

    def to_text(self) -> str:
        """For a person: all but the problems."""
        cost = asdict(self.cost) if self.cost and not self.problems else {}
        lines = [f"{key:18} {value:,}" for key, value in cost.items() if value is not None]
        warnings = "".join(f"warning: {warning}\n" for warning in self.warnings)
        return warnings + describe_classes(self.classes) + "".join(f"{line}\n" for line in lines)


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
        return CheckResult(tuple(problems))
    result = check_study(study, imagenet_folder=None if problems else imagenet_folder, rundir=rundir)
    return replace(result, problems=(*problems, *result.problems), cost=None if problems else result.cost)


def check_study(study: Study, *, imagenet_folder: Path | None = None, rundir: RunDir | None = None) -> CheckResult:
    """Look at all that a study names and at the header of every image, whatever is wrong with the rest.

    Args:
        study: a resolved study.
        imagenet_folder: where torch keeps weight files; ``None`` leaves them unchecked.
        rundir: the run that would go on; images that are tiled need not be opened.
    """
    is_trained = rundir is not None and all(record.is_file() for record in _training_records(study, rundir))
    problems = [*([] if is_trained else _check_weights(study, imagenet_folder)), *_check_truth(study.cohort.truth)]
    survey = survey_cohort(study.cohort, study.train.dealt_folds)
    if survey.cohort is None:
        return CheckResult((*problems, *survey.problems))
    looked = _look_at_images(study, survey, rundir)
    usable = survey.cohort.without({image.record.image_id for image in looked.bad})
    told = problems_of_images(looked.bad, study.cohort.root or study.cohort.samplesheet.parent)
    skip = study.cohort.skip_bad
    channels, channel_findings = _check_channels(study, usable, looked, is_whole=skip or not looked.bad)
    records = [*survey.cohort.images, *(image.record for image in survey.bad)]
    findings = [
        (survey.problems, survey.cohort.warnings),
        ((), [f"left out: {problem}" for problem in told]) if skip else (told, ()),
        (looked.problems, looked.warnings),
        _check_classes(study, survey, usable if skip else survey.cohort),
        channel_findings,
    ]
    problems += [problem for some, _ in findings for problem in some]
    problems = list({str(problem): problem for problem in problems}.values())  # both looks at the split may tell it
    is_complete = not problems and len(looked.located) == len(usable.images)
    return CheckResult(
        tuple(problems),
        tuple(warning for _, some in findings for warning in some),
        _cost(study, usable, looked.located, len(channels.names)) if channels and is_complete else None,
        _count_classes(survey.cohort.classes, usable.images if skip else records),
        skipped_images(looked.bad) if skip else (),
    )


def measure_cost(path: Path, overrides: Sequence[str], result: CheckResult) -> CheckResult:
    """The same result with memory and time of training measured on this machine, by a few small steps.

    Args:
        path, overrides: those of the study that was checked.
        result: nothing is measured where it has no cost.
    """
    cost = result.cost
    if cost is None:
        return result
    study = load_study(path, overrides)
    trial = try_training(study, cost.n_channels, cost.n_classes)
    if trial is None:
        note = "memory and time of training could not be measured on this machine: memory_gb counts its tiles only"
        return replace(result, warnings=(*result.warnings, note))
    peak = training_memory_bytes(study, trial, cost.n_tiles, cost.n_channels, TILE_CACHE_BYTES)
    memory_gb = max(round(peak / 1e9, 2), cost.tiling_gb)
    minutes = round(run_minutes(study, trial, cost.n_tiles, cost.n_source_pixels), 1)
    return replace(result, cost=replace(cost, memory_gb=memory_gb, minutes=minutes))


def describe_classes(classes: Sequence[ClassCounts]) -> str:
    """A table of classes × patients × images, with the images of every site; as lines."""
    if not classes:
        return ""
    rows = [("class", "patients", "images", *(f"of site {site}" for site in classes[0].images_of_site))]
    rows += [(one.label, *map(str, (one.n_patients, one.n_images, *one.images_of_site.values()))) for one in classes]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() + "\n" for row in rows)
    return "".join(lines)


@dataclass(frozen=True)
class _Looked:
    """What the headers of a cohort's images tell.

    Attributes:
        located: the images that were opened and fit.
        held: image_id → names of its channels, for those and the ones that are tiled already.
        bad: images that cannot be used, those of the survey among them.
        problems, warnings: what is to say beyond that.
    """

    located: list[LocatedImage]
    held: dict[str, Sequence[str]]
    bad: list[BadImage]
    problems: list[PlexrankError]
    warnings: list[str]


def _look_at_images(study: Study, survey: Survey, rundir: RunDir | None) -> _Looked:
    """Open every image that is not tiled yet; where the cohort's panel is wrong, only that."""
    looked = _Looked([], {}, list(survey.bad), [], [])
    cohort = survey.require_rows()
    plan = Plan(rundir or RunDir(Path()), study, cohort, Split({}))
    panel_is_wrong = study.cohort.panel is not None and cohort.panel is None
    unlisted: Counter[str] = Counter()
    doubtful: list[str] = []
    num_small = 0
    for record in cohort.images:
        stored = plan.stored_channels(record) if rundir is not None else None
        try:
            if stored is not None:
                looked.held[record.image_id] = stored
            elif panel_is_wrong:
                with naming_input(str(record.path)):
                    open_image(record.path)
            else:
                located = locate_image(record, study.tile)
                resampling = located.find_resampling(study.tile)
                located.open_mask()
                height, width = resampling.shape(located.image.data.shape)[1:]
                num_small += 2 * min(height, width) < study.tile.tile_px
                looked.located.append(located)
                looked.held[record.image_id] = located.channels.names
                unlisted.update(located.channels.unlisted)
                doubtful += located.image.warnings
        except PlexrankError as error:
            looked.bad.append(BadImage(record, error))
    if unlisted:
        named = ", ".join(f"{name} (in {count})" for name, count in unlisted.items())
        looked.warnings.append(f"channels that are not used, since the panel does not list them: {named}")
    if doubtful:
        shown = "; ".join(doubtful[:SHOWN]) + ("; …" if len(doubtful) > SHOWN else "")
        looked.warnings.append(
            f"{counted(len(doubtful), 'image', 'lacks')} chunks, which are read as zeros: unless those parts have no "
            f"signal, the copy is incomplete: {shown}"
        )
    if num_small:
        looked.warnings.append(
            f"{counted(num_small, 'image', 'is')} less than half as high or wide as a tile of {study.tile.tile_px} px: "
            "what lies beyond the edges is mirrored; lower tile.tile_px"
        )
    if unknown := unknown_pixel_sizes(part.image.pixel_size_um for part in looked.located):
        looked.warnings.append(unknown)
    looked.warnings.extend(image_differences(study.tile, looked.located))
    fitting = [image for image in cohort.images if image.image_id in looked.held]
    try:
        misfits = find_misfits(fitting, looked.held)
    except StudyError as error:
        looked.problems.append(error)
    else:
        looked.bad.extend(misfits)
        wrong = {image.record.image_id for image in misfits}
        looked.located[:] = [part for part in looked.located if part.record.image_id not in wrong]
    return looked


def _check_classes(study: Study, survey: Survey, cohort: Cohort) -> Findings:
    """Whether the classes can be spread over the folds, once all rows are right."""
    if survey.problems or (survey.bad and not study.cohort.skip_bad):
        return (), ()
    members = [(image.label, image.patient_id) for image in cohort.images]
    num_left_out = len(survey.require_rows().images) + len(survey.bad) - len(cohort.images)
    problems = class_problems(study.cohort, cohort.classes, members, study.train.dealt_folds, num_left_out)
    problems += order_problems(study.rank.ordered, cohort.classes)
    return (problems, ()) if problems else role_findings(study, cohort)


def _check_channels(
    study: Study, cohort: Cohort, looked: _Looked, *, is_whole: bool
) -> tuple[CohortChannels | None, Findings]:
    """Whether the images' channels go together; the folds decide on channels only where no image is missing."""
    if looked.problems or not cohort.images or any(image.image_id not in looked.held for image in cohort.images):
        return None, ((), ())
    held = [looked.held[image.image_id] for image in cohort.images]
    problems = rows_without_image(cohort.images, held)
    if problems or not is_whole:
        return None, (problems, ())
    try:
        folds = make_folds(study, cohort.images)
        training = [folds.with_role(fold, "training") for fold in range(study.train.folds)]
        channels = settle_channels(cohort, held, training)
    except PlexrankError as error:
        return None, (problems_of(error), ())
    if cohort.panel is None or any(image.panel is not cohort.panel for image in cohort.images):
        known = (*channels.names, *channels.left_out)  # of a panel for all images, the survey has told
        problems = wrong_exclusions(study.cohort.exclude_channels, known, "the images")
    return channels, (problems, channels.warnings)


def _count_classes(classes: Sequence[str], images: Sequence[ImageRecord]) -> tuple[ClassCounts, ...]:
    sites = sorted({image.site for image in images if image.site})
    counts = []
    for label in classes:
        own = [image for image in images if image.label == label]
        of_site = {site: sum(image.site == site for image in own) for site in sites}
        counts.append(ClassCounts(label, len({image.patient_id for image in own}), len(own), of_site))
    return tuple(counts)


def _check_weights(study: Study, imagenet_folder: Path | None) -> list[PlexrankError]:
    weights, remedy = study.model.weights, "fix the path in the study"
    published = published_weights(study.model)
    if weights == "imagenet" and published and imagenet_folder is not None:
        weights = imagenet_folder / published.file
        remedy = f"get {published.url} and put it there, or set model.weights to a path or to none"
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


def _training_records(study: Study, rundir: RunDir) -> Iterator[Path]:
    for fold in range(study.train.folds):
        yield from (rundir.training_record(fold, seed) for seed in range(study.train.seeds))
        yield from (rundir.null_training_record(number, fold) for number in range(study.rank.null_trainings))


def _cost(study: Study, cohort: Cohort, located: list[LocatedImage], n_channels: int) -> Cost:
    tile_px = study.tile.tile_px
    resampled = [part.find_resampling(study.tile) for part in located]
    shapes = [
        resampling.shape((len(part.channels.names), *part.image.data.shape[1:]))
        for part, resampling in zip(located, resampled, strict=True)
    ]
    n_tiles = sum(len(TileGrid(height, width, tile_px).tiles()) for _, height, width in shapes)
    tile_bytes = n_tiles * n_channels * tile_px**2 * BYTES_PER_PIXEL
    store_bytes = sum(map(math.prod, shapes)) * BYTES_PER_PIXEL
    tiling_bytes = max(
        tiling_memory_bytes(
            (len(part.channels.names), *data.shape[1:]),
            data.dtype,
            data.chunks,
            tile_px,
            resampling,
            usable_cores(),
            has_mask=part.record.mask is not None,
        )
        for part, data, resampling in zip(located, (part.image.data for part in located), resampled, strict=True)
    )
    return Cost(
        n_images=len(cohort.images),
        n_patients=len({image.patient_id for image in cohort.images}),
        n_channels=n_channels,
        n_classes=len(cohort.classes),
        unlabelled_images=cohort.unlabelled,
        n_source_pixels=sum(len(part.channels.names) * math.prod(part.image.data.shape[1:]) for part in located),
        n_tiles=n_tiles,
        n_parameters=n_parameters(study.model, n_channels, len(cohort.classes)),
        n_trainings=study.train.folds * study.train.seeds,
        n_null_trainings=study.train.folds * study.rank.null_trainings,
        tile_store_gb=round(store_bytes / 1e9, 3),
        tiling_gb=round(1.0 + tiling_bytes / 1e9, 2),
        memory_gb=round(1.0 + max(min(tile_bytes, TILE_CACHE_BYTES), tiling_bytes) / 1e9, 2),
    )
