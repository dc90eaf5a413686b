"""Samples: the independent units of every statistic here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plexrank.errors import StudyError

Array = np.ndarray

UNKNOWN_SITE = -1


@dataclass(frozen=True)
class Samples:
    """Patients with one label each; a patient whose images carry two labels gives two samples.

    Attributes:
        patient: (sample,) int, index of the patient; samples of one patient stand together.
        label: (sample,) int, index of the class.
        fold: (sample,) int, the fold that holds the patient out.
        site: (sample,) int or None, index of the site, −1 where it is not known; None where no site is known.
        image_sample: (image,) int, the sample of every image.
        class_names: names of the classes.
        patient_ids: the patient id of every sample.
        site_names: names of the sites.
    """

    patient: Array
    label: Array
    fold: Array
    site: Array | None
    image_sample: Array
    class_names: tuple[str, ...]
    patient_ids: tuple[str, ...]
    site_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def num_patients(self) -> int:
        """How many patients there are."""
        return int(self.patient.max()) + 1


def make_samples(
    patient_ids: Sequence[str],
    labels: Sequence[str],
    folds: Sequence[int],
    sites: Sequence[str | None] | None = None,
    class_names: Sequence[str] | None = None,
) -> Samples:
    """Group images into samples.

    Args:
        patient_ids, labels, folds, sites: one entry an image; the fold is the one that holds it out. A
            sample's images at several sites count for the first of them; None or '' is no known site.
        class_names: the order of the classes; sorted labels if absent.

    Raises:
        StudyError: a patient is in two folds, a label is not among ``class_names``, or fewer than two
            classes occur.
    """
    names = tuple(class_names) if class_names is not None else tuple(sorted(set(labels)))
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise StudyError(f"labels {', '.join(unknown)} are not among the classes {', '.join(names)}")
    if len(set(labels)) < 2:
        raise StudyError(f"ranking needs images of two classes or more, found only {', '.join(set(labels))}")
    _refuse_split_patients(patient_ids, folds)
    keys = list(zip(patient_ids, labels, strict=True))
    first_image: dict[tuple[str, str], int] = {}
    for image, key in enumerate(keys):
        first_image.setdefault(key, image)
    order = sorted(first_image)
    number = {key: i for i, key in enumerate(order)}
    patients = sorted(set(patient_ids))
    patient_number = {patient: i for i, patient in enumerate(patients)}
    site, site_names = _sites(keys, sites, order)
    return Samples(
        patient=np.array([patient_number[patient] for patient, _ in order]),
        label=np.array([names.index(label) for _, label in order]),
        fold=np.array([int(folds[first_image[key]]) for key in order]),
        site=site,
        image_sample=np.array([number[key] for key in keys]),
        class_names=names,
        patient_ids=tuple(patient for patient, _ in order),
        site_names=site_names,
    )


def _refuse_split_patients(patient_ids: Sequence[str], folds: Sequence[int]) -> None:
    fold_of: dict[str, int] = {}
    for patient, fold in zip(patient_ids, folds, strict=True):
        if fold_of.setdefault(patient, int(fold)) != int(fold):
            raise StudyError(
                f"patient {patient} is held out by folds {fold_of[patient]} and {fold}; a patient has one fold"
            )


def _sites(
    keys: Sequence[tuple[str, str]], sites: Sequence[str | None] | None, order: list[tuple[str, str]]
) -> tuple[Array | None, tuple[str, ...]]:
    """The site of every sample, None where none is known, and the names."""
    if sites is None or not any(sites):
        return None, ()
    of_sample: dict[tuple[str, str], str] = {}
    of_patient: dict[str, str] = {}
    for key, site in zip(keys, sites, strict=True):
        if site:
            of_sample.setdefault(key, site)
            of_patient.setdefault(key[0], site)
    number = {name: i for i, name in enumerate(sorted({*of_sample.values()}))}
    found = [of_sample.get(key) or of_patient.get(key[0]) for key in order]
    return np.array([UNKNOWN_SITE if site is None else number[site] for site in found]), tuple(number)


def image_means_to_samples(values: Array, samples: Samples) -> Array:
    """Mean over the images of every sample.

    Args:
        values: (image, ...) float; NaN where an image has no value.

    Returns:
        (sample, ...) float64, NaN where none of a sample's images has a value.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    known = np.isfinite(flat)
    total = np.zeros((len(samples), flat.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, samples.image_sample, np.where(known, flat, 0.0))
    np.add.at(count, samples.image_sample, known)
    with np.errstate(invalid="ignore"):
        means = total / count
    return means.reshape(len(samples), *np.shape(values)[1:])
