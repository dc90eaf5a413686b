"""What would go wrong and what a run would cost, before any compute. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plexrank.cohorts.bad_images import not_read_now, problems_of_images, skipped_images
from plexrank.cohorts.channels import CohortChannels, find_misfits, rows_without_image, settle_channels
from plexrank.cohorts.cohort import Cohort, Survey, survey_cohort
from plexrank.cohorts.folds import make_folds
from plexrank.cohorts.outcomes import order_problems, outcome_problems
from plexrank.cohorts.panel import wrong_exclusions
from plexrank.cohorts.roles import Findings, role_findings
from plexrank.cohorts.samplesheet import BadImage
from plexrank.cohorts.tables import read_table
from plexrank.errors import MissingInputError, PlexrankError, StudyError, naming_input, problems_of
from plexrank.models.architectures import published_weights
from plexrank.planning.check_result import CheckResult
from plexrank.planning.image_units import ImageUnits
from plexrank.planning.outcome_summary import summarise_outcome
from plexrank.rundir import RunDir
from plexrank.settings import Study
from plexrank.study import survey_study
from plexrank.wording import did_you_mean

if TYPE_CHECKING:
    from plexrank.cohorts.located import LocatedImage


def check_study_file(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    imagenet_folder: Path | None = None,
    rundir: RunDir | None = None,
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


def check_study(
    study: Study,
    *,
    imagenet_folder: Path | None = None,
    rundir: RunDir | None = None,
) -> CheckResult:
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
    units = None if rundir is None else ImageUnits(rundir, study.tile)
    looked = _look_at_images(study, survey, units)
    usable = survey.cohort.without({image.record.image_id for image in looked.bad})
    root, skip = study.cohort.root or study.cohort.samplesheet.parent, study.cohort.skip_bad
    not_read = not_read_now(looked.bad)
    left_out = [image for image in looked.bad if image not in not_read]
    told = problems_of_images(left_out if skip else looked.bad, root)
    channels, channel_findings = _check_channels(study, usable, looked, is_whole=skip or not looked.bad)
    records = [*survey.cohort.images, *(image.record for image in survey.bad)]
    findings = [
        (survey.problems, survey.cohort.warnings),
        (problems_of_images(not_read, root), [f"left out: {problem}" for problem in told]) if skip else (told, ()),
        (looked.problems, looked.warnings),
        _check_classes(study, survey, usable if skip else survey.cohort),
        channel_findings,
    ]
    problems += [problem for some, _ in findings for problem in some]
    problems = list({str(problem): problem for problem in problems}.values())  # both looks at the split may tell it
    cost = None
    if channels and not problems and len(looked.located) == len(usable.images):
        from plexrank.planning.cost import find_cost

        cost = find_cost(study, usable, looked.located, len(channels.names))
    return CheckResult(
        tuple(problems),
        tuple(warning for _, some in findings for warning in some),
        cost,
        summarise_outcome(study, usable, usable.images if skip else records, has_folds=not survey.problems),
        skipped_images(left_out) if skip else (),
        study,
        survey,
        units,
        channels.names if channels else (),
    )


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
    held: dict[str, tuple[str, ...]]
    bad: list[BadImage]
    problems: list[PlexrankError]
    warnings: list[str]


def _look_at_images(study: Study, survey: Survey, units: ImageUnits | None) -> _Looked:
    """Open every image that is not tiled yet; where the cohort's panel is wrong, only that."""
    looked = _Looked([], {}, list(survey.bad), [], [])
    cohort = survey.require_rows()
    stored = {image.image_id: units.stored_channels(image) for image in cohort.images} if units else {}
    looked.held.update((image_id, names) for image_id, names in stored.items() if names is not None)
    if to_open := [image for image in cohort.images if image.image_id not in looked.held]:
        from plexrank.planning.opened_images import open_images, unreadable_images  # and with it the readers of images

        if study.cohort.panel is not None and cohort.panel is None:
            looked.bad.extend(unreadable_images(to_open))
        else:
            opened = open_images(to_open, study.tile)
            looked.located.extend(opened.located)
            looked.held.update((part.record.image_id, part.channels.names) for part in opened.located)
            looked.bad.extend(opened.bad)
            looked.warnings.extend(opened.warnings)
    try:
        misfits = find_misfits([image for image in cohort.images if image.image_id in looked.held], looked.held)
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
    problems = outcome_problems(study.cohort, cohort.outcome, members, study.train.dealt_folds, num_left_out)
    if study.cohort.outcome == "nominal":
        problems += order_problems("rank.ordered", study.rank.ordered, cohort.outcome.levels)
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
        folds = make_folds(study, cohort.images, cohort.outcome)
        training = [folds.with_role(fold, "training") for fold in range(study.train.folds)]
        channels = settle_channels(cohort, held, training)
    except PlexrankError as error:
        return None, (problems_of(error), ())
    if cohort.panel is None or any(image.panel is not cohort.panel for image in cohort.images):
        known = (*channels.names, *channels.left_out)  # of a panel for all images, the survey has told
        problems = wrong_exclusions(study.cohort.exclude_channels, known, "the images")
    return channels, (problems, channels.warnings)


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
