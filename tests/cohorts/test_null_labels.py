"""Labellings on which null trainings train."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from plexrank.cohorts import null_labels
from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import Split, split_patients
from plexrank.cohorts.null_labels import permute_labels
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import StudyError
from plexrank.outcome.nominal import Nominal
from plexrank.planning.image_units import ImageUnits
from plexrank.planning.plan import Plan
from plexrank.rundir import RunDir
from plexrank.settings import Study

CLASSES = ("A", "B", "C")
OUTCOME = Nominal(CLASSES)
Row = tuple[str, str, str | None]
"""Patient, label and site of an image."""


def records(rows: list[Row]) -> list[ImageRecord]:
    return [
        ImageRecord(f"i{n}", Path(f"/i{n}"), patient, label, site, None, None, Path("s"), n)
        for n, (patient, label, site) in enumerate(rows)
    ]


def cohort(seed: int, patients: int = 60, sites: int = 2) -> tuple[list[ImageRecord], dict[str, int]]:
    """Patients with one to three images, some with two labels, some with images at two sites, in random order."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for patient in range(patients):
        labels = rng.choice(CLASSES, 1 + (patient % 7 == 0), replace=False)
        own = rng.choice(sites + 1, 1 + (patient % 5 == 0), replace=False)
        for image in range(rng.integers(1, 4) + (patient % 7 == 0) + (patient % 5 == 0)):
            site = own[image % len(own)]
            rows.append((f"p{patient}", labels[image % len(labels)], f"s{site}" if site else None))
    rows = [rows[row] for row in rng.permutation(len(rows))]
    return records(rows), {f"p{patient}": int(rng.integers(0, 4)) for patient in range(patients)}


def strata(images: list[ImageRecord], fold_of: dict[str, int], labels: list[str]) -> Counter[tuple[object, ...]]:
    """How many patients of each fold have each label on images of which sites."""
    sites: dict[tuple[str, str], set[str]] = {}
    for image, label in zip(images, labels, strict=True):
        sites.setdefault((image.patient_id, label), set()).add(image.site or "")
    return Counter((fold_of[patient], label, *sorted(own)) for (patient, label), own in sites.items())


@pytest.mark.parametrize("seed", range(5))
def test_whole_patients_exchange_labels_within_folds_and_sites(seed: int) -> None:
    images, fold_of = cohort(seed)
    true = [image.label for image in images]
    labellings = permute_labels(images, OUTCOME, fold_of, seed=3, count=20)
    assert labellings.shape == (20, len(images))
    for labelling in labellings:
        labels = [CLASSES[index] for index in labelling]
        assert strata(images, fold_of, labels) == strata(images, fold_of, true)
        of_sample: dict[tuple[str, str], set[str]] = {}
        for image, label in zip(images, labels, strict=True):
            of_sample.setdefault((image.patient_id, image.label), set()).add(label)
        assert all(len(own) == 1 for own in of_sample.values())
        assert len({(patient, *own) for (patient, _), own in of_sample.items()}) == len(of_sample)
    assert (labellings != [CLASSES.index(label) for label in true]).mean() > 0.2


def test_a_labelling_depends_on_seed_and_number_alone() -> None:
    images, fold_of = cohort(0)
    few, many = (permute_labels(images, OUTCOME, fold_of, 7, count) for count in (3, 30))
    np.testing.assert_array_equal(few, many[:3])
    assert len(np.unique(many, axis=0)) == 30
    assert (permute_labels(images, OUTCOME, fold_of, 8, 3) != few).any(axis=1).all()
    order = np.random.default_rng(0).permutation(len(images))
    shuffled = permute_labels([images[place] for place in order], OUTCOME, fold_of, 7, 3)
    np.testing.assert_array_equal(shuffled, few[:, order])
    assert permute_labels(images, OUTCOME, fold_of, 7, 0).shape == (0, len(images))


def test_all_labellings_are_drawn_alike_often_the_true_one_among_them() -> None:
    images = records([("a", "A", None), ("b", "A", None), ("c", "B", None), ("d", "B", None)])
    labellings = permute_labels(images, Nominal(("A", "B")), dict.fromkeys("abcd", 0), 0, 600)
    counts = Counter(map(tuple, labellings.tolist()))
    assert len(counts) == 6
    assert min(counts.values()) > 60
    assert (0, 0, 1, 1) in counts


@pytest.mark.parametrize(
    ("rows", "is_fixed"),
    [
        ([("a", "A", "x"), ("b", "A", "x"), ("c", "B", "y"), ("d", "B", "y")], True),
        ([("a", "A", "x"), ("b", "A", "x"), ("c", "B", "y"), ("d", "A", "y")], False),
        ([("a", "A", "x"), ("a", "A", "y"), ("b", "B", "x")], True),
        ([("a", "A", "x"), ("a", "A", "y"), ("b", "B", "x"), ("b", "B", "y")], False),
        ([("a", "A", "x"), ("a", "B", "x")], False),
        ([("a", "A", "x"), ("a", "B", "y")], True),
        ([("a", "A", None), ("b", "B", "")], False),
    ],
)
def test_labels_that_cannot_be_exchanged_are_refused(rows: list[Row], is_fixed: bool) -> None:
    images, fold_of = records(rows), dict.fromkeys("abcd", 0)
    permute_labels(images, OUTCOME, fold_of, 0, 0)
    if is_fixed:
        with pytest.raises(StudyError, match=r"rank\.null_trainings: the labels cannot be permuted: .* set rank\.null"):
            permute_labels(images, OUTCOME, fold_of, 0, 1)
    else:
        assert len(np.unique(permute_labels(images, OUTCOME, fold_of, 0, 50), axis=0)) > 1


def plan_of(images: list[ImageRecord], split: Split | None = None) -> Plan:
    study = Study.model_validate(
        {
            "name": "x",
            "cohort": {"samplesheet": "/s", "label": "label"},
            "model": {"backbone": "shallow", "weights": "none"},
            "train": {"folds": 4},
            "rank": {"null_trainings": 20},
        }
    )
    labelled = Cohort(tuple(images), OUTCOME, None, 0, ())
    rundir = RunDir(Path())
    split = split or split_patients(study, images, OUTCOME)
    return Plan(rundir, study, labelled, split, ImageUnits(rundir, study.tile))


@pytest.mark.parametrize("seed", range(3))
def test_dealt_roles_keep_the_patients_of_every_class(seed: int) -> None:
    plan = plan_of(cohort(seed)[0])

    def patients(of: Plan, fold: int, role: str) -> Counter[str]:
        found = {(of.cohort.images[i].patient_id, of.cohort.images[i].label) for i in of.images(fold, role)}
        return Counter(label for _, label in found)

    for labelling in range(20):
        permuted = plan.relabelled(labelling)
        assert permuted.fold_of_patient == plan.fold_of_patient
        for fold in range(4):
            assert permuted.images(fold, "held_out") == plan.images(fold, "held_out")
            assert sorted(permuted.images(fold, "training") + permuted.images(fold, "validation")) == sorted(
                plan.images(fold, "training") + plan.images(fold, "validation")
            )
            for role in ("training", "validation"):
                assert patients(permuted, fold, role) == patients(plan, fold, role)


def test_given_roles_are_kept_and_every_class_is_trained_on() -> None:
    rows: list[Row] = [(f"p{n}", "B" if n % 10 in (0, 1) else "A", None) for n in range(40)]
    fold_of = {f"p{n}": n // 10 for n in range(40)}
    inside = [[f"p{n}" for n in range(40) if n // 10 != fold] for fold in range(4)]
    trained = [set(own[:3]) for own in inside]
    split = Split(fold_of, tuple(frozenset(set(own) - kept) for own, kept in zip(inside, trained, strict=True)))
    plan = plan_of(records([(patient, label, site) for patient, label, site in rows]), split)
    plan = Plan(
        plan.rundir, plan.study, Cohort(plan.cohort.images, Nominal(("A", "B")), None, 0, ()), split, plan.image_units
    )
    for labelling in range(20):
        permuted = plan.relabelled(labelling)
        for fold in range(4):
            training = permuted.images(fold, "training")
            assert training == plan.images(fold, "training")
            assert {permuted.cohort.images[i].label for i in training} == {"A", "B"}
    assert len(np.unique(plan.null_labels, axis=0)) > 15


def test_roles_in_which_hardly_a_labelling_can_be_trained_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images = records([(f"p{n}", "A" if n < 30 else "B", None) for n in range(60)])
    fold_of = {f"p{n}": 0 for n in range(60)}
    monkeypatch.setattr(null_labels, "MOST_DRAWS", 100)
    with pytest.raises(StudyError, match=r"100 permutations .* each leave a fold of train\.split no patient of class"):
        permute_labels(images, Nominal(("A", "B")), fold_of, 0, 1, training=[[n, 30 + n] for n in range(30)])
