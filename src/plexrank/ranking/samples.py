"""Samples: the independent units of every statistic here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from plexrank.arrays import Array
from plexrank.errors import StudyError
from plexrank.outcome import Outcome, make_outcome
from plexrank.statistics.exchange import Exchange, Order

UNKNOWN_SITE = -1


@dataclass(frozen=True)
class Samples:
    """Patients with one outcome each; a patient whose images carry two labels gives two samples.

    Attributes:
        patient: (sample,) int, index of the patient; samples of one patient stand together.
        label: (sample,) int, place among the levels of the outcome.
        fold: (sample,) int, the fold that holds the patient out.
        site: (sample,) int or None, index of the site, −1 where it is not known; None where no site is known. Images
            of a sample at several sites make a site of their own, such as "Basel + Zurich".
        image_sample: (image,) int, the sample of every image.
        outcome: of the cohort.
        patient_ids: the patient id of every sample.
        site_names: names of the sites.
        image_site: (image,) int or None, index of the image's own site among ``image_site_names``, −1 where it is not
            known.
        image_site_names: names of the sites of images.
    """

    patient: Array
    label: Array
    fold: Array
    site: Array | None
    image_sample: Array
    outcome: Outcome
    patient_ids: tuple[str, ...]
    site_names: tuple[str, ...] = ()
    image_site: Array | None = None
    image_site_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @property
    def group(self) -> Array:
        """(sample,) int, which of the outcome's groups."""
        return self.outcome.group_of(self.label)

    @property
    def balance(self) -> Array:
        """(sample,) int, what counts alike in means over patients: the class, or all patients together."""
        return self.outcome.balance(self.label)

    @property
    def stratum(self) -> Array:
        """(sample,) int, the site; unknown ones are one site, and so are all where none is known."""
        return np.zeros_like(self.fold) if self.site is None else self.site - UNKNOWN_SITE

    @property
    def num_patients(self) -> int:
        """How many patients there are."""
        return int(self.patient.max()) + 1

    def patients_per_group(self) -> dict[str, int]:
        """How many patients each group has; one with two labels counts for both."""
        return {group.name: int((self.group == k).sum()) for k, group in enumerate(self.outcome.groups)}

    def fewest_patients(self, has: Array) -> Array:
        """(channel,) how many patients of the smallest class have a channel, of (sample, channel) bool; or events."""
        groups = [k for k, group in enumerate(self.outcome.groups) if group.is_trained_on]
        fewest: Array = np.min([has[self.group == k].sum(axis=0) for k in groups], axis=0)
        return fewest

    def places(self) -> Array | None:
        """(sample,) numbers along which channels may rise or fall; ``None`` where labels have no order."""
        return self.outcome.places(self.label, self.stratum)

    def order(self, places: Array, *, within_folds: bool = False) -> Order:
        """How numbers (sample,) are exchanged where they mean nothing, as :meth:`exchange` does labels."""
        different, number = np.unique(places, return_inverse=True)
        return Order(different, self._exchange(number.ravel(), within_folds), self.outcome.is_ranked)

    def exchange(self, *, within_folds: bool = False) -> Exchange:
        """How labels are exchanged where they mean nothing: whole patients, within sites, and folds if asked."""
        return self._exchange(self.label, within_folds)

    def _exchange(self, label: Array, within_folds: bool) -> Exchange:
        site = self.stratum
        return Exchange(label, self.patient, self.fold * (site.max() + 1) + site if within_folds else site)

    def relabelled(self, label: Array) -> Samples:
        """The same samples with other labels, (sample,) int."""
        return replace(self, label=label)


def make_samples(
    patient_ids: Sequence[str],
    labels: Sequence[str],
    folds: Sequence[int],
    sites: Sequence[str | None] | None = None,
    outcome: Outcome | None = None,
) -> Samples:
    """Group images into samples.

    Args:
        patient_ids, labels, folds, sites: one entry an image; the fold is the one that holds it out; None or '' is
            no known site.
        outcome: whose levels the labels are; classes in sorted order if absent.

    Raises:
        StudyError: a patient is in two folds, a label is not among the levels, or fewer than two occur.
    """
    outcome = make_outcome("nominal", labels) if outcome is None else outcome
    unknown = sorted(set(labels) - set(outcome.levels))
    if unknown:
        raise StudyError(f"labels {', '.join(unknown)} are not among {', '.join(outcome.levels)}")
    if len(set(labels)) < 2:
        raise StudyError(f"ranking needs images of two labels or more, found only {', '.join(set(labels))}")
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
    image_site, image_site_names = _image_sites(sites)
    return Samples(
        patient=np.array([patient_number[patient] for patient, _ in order]),
        label=outcome.labels([label for _, label in order]),
        fold=np.array([int(folds[first_image[key]]) for key in order]),
        site=site,
        image_sample=np.array([number[key] for key in keys]),
        outcome=outcome,
        patient_ids=tuple(patient for patient, _ in order),
        site_names=site_names,
        image_site=image_site,
        image_site_names=image_site_names,
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
    of_sample: dict[tuple[str, str], set[str]] = {}
    for key, site in zip(keys, sites, strict=True):
        if site:
            of_sample.setdefault(key, set()).add(site)
    found = [" + ".join(sorted(of_sample[key])) if key in of_sample else None for key in order]
    number = {name: i for i, name in enumerate(sorted({name for name in found if name}))}
    return np.array([UNKNOWN_SITE if site is None else number[site] for site in found]), tuple(number)


def _image_sites(sites: Sequence[str | None] | None) -> tuple[Array | None, tuple[str, ...]]:
    if sites is None or not any(sites):
        return None, ()
    number = {name: i for i, name in enumerate(sorted({site for site in sites if site}))}
    return np.array([number[site] if site else UNKNOWN_SITE for site in sites]), tuple(number)


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
