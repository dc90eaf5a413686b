"""Labels that mean nothing, for null trainings: whole patients exchange them within folds and sites. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plexrank.arrays import IntArray
from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import Folds
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import StudyError
from plexrank.outcome import Outcome
from plexrank.settings import Study
from plexrank.statistics.exchange import Exchange

MOST_DRAWS = 10_000
"""How often a labelling is drawn again where it leaves a fold without some group."""


def null_labels(study: Study, cohort: Cohort, folds: Folds) -> IntArray:
    """Labels (labelling, image) that null trainings have in the place of the labels.

    Raises:
        StudyError: as :func:`permute_labels`.
    """
    # Validation patients that are dealt are dealt by the permuted labels, which keeps all classes in training.
    given = range(study.train.folds) if folds.split.validation else ()
    roles = ("training",) if cohort.outcome.has_classes else ("training", "validation")  # no loss without an event
    return permute_labels(
        cohort.images,
        cohort.outcome,
        folds.split.fold_of_patient,
        study.seed,
        study.rank.null_trainings,
        training=[folds.with_role(fold, role) for fold in given for role in roles],
    )


def permute_labels(
    images: Sequence[ImageRecord],
    outcome: Outcome,
    fold_of_patient: Mapping[str, int],
    seed: int,
    count: int,
    training: Sequence[Sequence[int]] = (),
) -> IntArray:
    """Labellings (labelling, image) by the place among the levels, equally likely where the labels mean nothing.

    Whole patients exchange their labels, all at once where they have several, with patients that the same fold holds
    out and whose images come from the same sites (no known site counts as one). So every fold, and every site in it,
    keeps the classes it has. Within a patient, labels change places between images of the same sites. Each labelling
    has a random generator of its own, keyed by the seed and its number, so that it is the same however many there are.
    The labels as they are may be drawn, and a labelling twice, as in every permutation test.

    Args:
        images: of the cohort.
        outcome: of the cohort.
        fold_of_patient: the fold that holds each patient out.
        seed: of the study.
        count: how many labellings.
        training: (part, image) indices of images among which every group that is trained on must be. What
            lacks one is drawn again: labellings are then equally likely among those that can be trained on, the true
            one among them.

    Raises:
        StudyError: there is nothing to exchange, or hardly a labelling can be trained on.
    """
    samples: dict[tuple[str, str], list[int]] = {}
    for index, image in enumerate(images):
        samples.setdefault((image.patient_id, image.label), []).append(index)
    keys = sorted(samples)
    patients = sorted({patient for patient, _ in keys})
    places = [(fold_of_patient[key[0]], *sorted({images[i].site or "" for i in samples[key]})) for key in keys]
    strata = sorted(set(places))
    exchange = Exchange(
        label=outcome.labels([label for _, label in keys]),
        patient=np.array([patients.index(patient) for patient, _ in keys]),
        stratum=np.array([strata.index(place) for place in places]),
    )
    if count and _is_fixed(exchange):
        raise StudyError(
            "rank.null_trainings: the labels cannot be permuted: patients exchange them within a fold and a site, and "
            "no two patients of the same fold and site differ in label; set rank.null_trainings: 0, or change "
            "train.split or the column 'site' of the samplesheet"
        )
    sample_of_image = np.empty(len(images), dtype=np.int64)
    for number, key in enumerate(keys):
        sample_of_image[samples[key]] = number
    needed = [np.array(rows, dtype=np.int64) for rows in training]
    labellings = np.empty((count, len(images)), dtype=np.int64)
    for number in range(count):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        labellings[number] = _draw(exchange, sample_of_image, needed, outcome, generator)
    return labellings


def _is_fixed(exchange: Exchange) -> bool:
    """Whether the labels as they are are the only labelling."""
    for rows in exchange.groups():
        slots = rows.shape[1]
        if len(np.unique(exchange.stratum[rows[0]])) < slots or len(np.unique(exchange.label[rows], axis=0)) > 1:
            return False
    return True


def _draw(
    exchange: Exchange,
    sample_of_image: IntArray,
    needed: Sequence[IntArray],
    outcome: Outcome,
    generator: np.random.Generator,
) -> IntArray:
    for _ in range(MOST_DRAWS):
        labels: IntArray = exchange.draw(1, generator)[0][sample_of_image]
        missing = [group for rows in needed for group in outcome.missing_groups(labels[rows])]
        if not missing:
            return labels
    raise StudyError(
        f"rank.null_trainings: {MOST_DRAWS} permutations of the labels each leave a fold of train.split no "
        f"{missing[0].one} to train or validate on; set rank.null_trainings: 0, or give folds with more such patients"
    )
