"""Folds of events, times, grades and numbers: even, with whole patients, and with events to train and validate on."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import Folds, make_folds, most_folds
from plexrank.cohorts.null_labels import null_labels
from plexrank.cohorts.roles import held_out_patients, role_findings
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.outcome import Kind, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.settings import Study

KEYS: dict[Kind, dict[str, object]] = {
    "nominal": {"label": "grade"},
    "ordinal": {"label": "grade", "order": ["low", "mid", "high"]},
    "continuous": {"label": "age"},
    "survival": {"time": "months", "event": "died"},
}
ROLES = ("held_out", "validation", "training")


def levels_of(kind: Kind, patients: int, events: int | None = None) -> list[str]:
    """One a patient; about half of them have an event unless so many are asked for, at any time."""
    generator = np.random.default_rng(patients)
    if kind == "survival":
        seen = generator.permutation(patients) < (patients // 2 if events is None else events)
        return [f"{generator.exponential(40):.1f} {'event' if own else 'censored'}" for own in seen]
    if kind == "continuous":
        return [f"{value:.3f}" for value in generator.normal(50, 10, patients)]
    return [("low", "mid", "high")[number % 3] for number in generator.permutation(patients)]


def cohort_of(kind: Kind, levels: list[str], splits: str = "", sites: str = "xy", images_each: int = 2) -> Cohort:
    images = tuple(
        ImageRecord(
            image_id=f"i{patient}-{number}",
            path=Path(f"/i{patient}-{number}"),
            patient_id=f"P{patient}",
            label=level,
            site=sites[patient % len(sites)],
            mask=None,
            panel=None,
            sheet=Path("/s.csv"),
            line=2,
            split=splits[patient] if splits else None,
        )
        for patient, level in enumerate(levels)
        for number in range(images_each)
    )
    return Cohort(images, make_outcome(kind, levels, ("low", "mid", "high")), None, 0, ())


def study_of(kind: Kind, folds: int, split: object = "folds", seed: int = 0, nulls: int = 0) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "cohort": {"samplesheet": "/s.csv", "outcome": kind, **KEYS[kind]},
            "model": {"backbone": "shallow", "weights": "none"},
            "train": {"folds": folds, "split": split},
            "rank": {"null_trainings": nulls},
            "seed": seed,
        }
    )


def dealt(kind: Kind, cohort: Cohort, folds: int, seed: int = 0) -> Folds:
    return make_folds(study_of(kind, folds, seed=seed), cohort.images, cohort.outcome)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(("patients", "folds"), [(47, 5), (60, 4), (31, 3), (37, 7)])
def test_groups_and_bins_are_even_within_one_and_patients_whole(kind: Kind, patients: int, folds: int) -> None:
    levels = levels_of(kind, patients)
    cohort = cohort_of(kind, levels)
    for seed in range(3):
        made = dealt(kind, cohort, folds, seed)
        of_fold = made.split.fold_of_patient
        stratum = dict(zip((f"P{number}" for number in range(patients)), cohort.outcome.strata(levels), strict=True))
        for own in [*set(stratum.values()), None]:
            counts = [sum(of_fold[p] == f and own in (None, stratum[p]) for p in of_fold) for f in range(folds)]
            assert max(counts) - min(counts) <= 1
        for counts in held_out_patients(cohort, made, folds):
            assert max(counts) - min(counts) <= 1
        for fold in range(folds):
            members = [{cohort.images[index].patient_id for index in made.with_role(fold, role)} for role in ROLES]
            assert sum(map(len, members)) == len(set().union(*members)) == patients


def test_bins_are_thirds_of_the_times_of_events_and_of_censored_patients_and_fifths_of_numbers() -> None:
    survival = make_outcome(
        "survival", levels := [f"{time} {what}" for what in ("event", "censored") for time in range(1, 10)]
    )
    assert survival.strata(levels) == [f"{group}{third}" for group in "01" for third in "000111222"]
    numbers = [str(value) for value in (30, 1, 2.5, 100, 7, 8, 9, -4, 11, 12)]
    assert make_outcome("continuous", numbers).strata(numbers) == list("4014122033")


@pytest.mark.parametrize("events", [10, 11, 14, 30])
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_fold_holds_out_validates_and_trains_on_events(events: int, folds: int) -> None:
    for seed in range(5):
        cohort = cohort_of("survival", levels_of("survival", 55, events), images_each=1)
        made = dealt("survival", cohort, folds, seed)
        group = cohort.outcome.group_of(cohort.labels)
        for fold in range(folds):
            held_out, validation, training = ([group[index] for index in made.with_role(fold, role)] for role in ROLES)
            assert held_out.count(0) >= 2
            assert validation.count(0) >= 1
            assert training.count(0) > validation.count(0)
        assert role_findings(study_of("survival", folds, seed=seed), cohort) == ([], [])


@pytest.mark.parametrize(
    ("kind", "levels", "folds"),
    [
        ("survival", levels_of("survival", 40, 11), 5),
        ("survival", levels_of("survival", 40, 4), 2),
        ("survival", levels_of("survival", 40, 3), None),
        ("continuous", levels_of("continuous", 9), 4),
        ("continuous", levels_of("continuous", 3), None),
        ("ordinal", ["low"] * 9 + ["mid"] * 3 + ["high"] * 4, 3),
    ],
)
def test_the_most_folds_of_each_kind(kind: Kind, levels: list[str], folds: int | None) -> None:
    members = [(level, f"P{number}") for number, level in enumerate(levels)]
    assert most_folds(members, 8, make_outcome(kind, levels, ("low", "mid", "high"))) == folds


def findings(split: object, splits: str, events: str) -> tuple[list[str], list[str]]:
    """Problems and warnings of patients with a letter of fold and a digit of event each."""
    levels = [f"{5 + number} {'event' if own == '1' else 'censored'}" for number, own in enumerate(events)]
    cohort = cohort_of("survival", levels, splits, splits, images_each=1)
    problems, warnings = role_findings(study_of("survival", len(set(splits)), split), cohort)
    return [str(problem) for problem in problems], [*warnings]


@pytest.mark.parametrize("split", ["site", "given"])
def test_given_folds_without_events_are_refused_or_warned_of(split: str) -> None:
    assert findings(split, "aabb" * 10, "1010" * 10) == ([], [])
    problems, warnings = findings(split, "aabbcc" * 10, "101000" * 10)
    assert problems == []
    assert [warning.partition("'died': ")[2] for warning in warnings] == [
        "fold 2 holds out fewer than 2 events: within such a fold no prediction can be judged"
    ]
    problems, _ = findings(split, "ab" * 20, "10" * 20)
    assert problems == [
        "/s.csv: columns 'months' and 'died': no event is left to train on in fold 0, which holds out, validates on or "
        "leaves out all of them; set train.split: folds",
        "/s.csv: columns 'months' and 'died': fold 0 has no event among its validation patients, which decide when "
        "training stops; set train.split: folds",
    ]
    problems, _ = findings(split, "ab" * 20, "10" * 19 + "11")
    assert [problem.partition("'died': ")[2] for problem in problems] == [
        "fold 0 has no event among its validation patients, which decide when training stops; set train.split: folds"
    ]


def test_files_of_splits_without_events_are_refused(tmp_path: Path) -> None:
    levels = [f"{5 + number} {'event' if number % 2 else 'censored'}" for number in range(24)]
    cohort = cohort_of("survival", levels, images_each=1)
    halves = [range(12), range(12, 24)]
    for fold, (out, rest) in enumerate((halves, halves[::-1])):
        validation = [number for number in rest if not number % 2][:3] if fold == 0 else [*rest][:3]
        columns = [[number for number in rest if number not in validation], validation, [*out]]
        cells = [[f"i{column[row]}-0" if row < len(column) else "" for column in columns] for row in range(12)]
        text = "\n".join(["train,val,test", *(",".join(row) for row in cells)])
        (tmp_path / f"splits_{fold}.csv").write_text(text + "\n")
    (problem,), _ = role_findings(study_of("survival", 2, tmp_path), cohort)
    assert str(problem).partition("'died': ")[2] == (
        "fold 0 has no event among its validation patients, which decide when training stops; set train.split: folds"
    )


@pytest.mark.parametrize("kind", KEYS)
def test_null_labels_of_every_kind_keep_what_each_fold_and_site_has(kind: Kind) -> None:
    cohort = cohort_of(kind, levels_of(kind, 40))
    study = study_of(kind, 4, nulls=5)
    made = make_folds(study, cohort.images, cohort.outcome)
    places = [(made.split.fold_of_patient[image.patient_id], image.site) for image in cohort.images]
    true = Counter(zip(places, cohort.labels.tolist(), strict=True))
    drawn = null_labels(study, cohort, made)
    assert len(np.unique(drawn, axis=0)) == 5
    for labels in drawn:
        assert Counter(zip(places, labels.tolist(), strict=True)) == true
        of_patient = {(image.patient_id, label) for image, label in zip(cohort.images, labels, strict=True)}
        assert len(of_patient) == 40


@pytest.mark.parametrize(("patients_a_site", "refused", "warned"), [(1, 1, 0), (2, 0, 1), (20, 0, 0)])
def test_events_alone_at_their_site_are_counted(patients_a_site: int, refused: int, warned: int) -> None:
    levels = [survival_level(str(number + 1), number % 2 == 0 or number > 50) for number in range(60)]
    sites = [f"s{number * 31 % 60 // patients_a_site}" for number in range(60)]
    problems, warnings = make_outcome("survival", levels).lonely(levels, sites)
    assert (len(problems), len(warnings)) == (refused, warned)
    for text in (*problems, *warnings):
        assert "another patient of the same site at risk" in text


def test_dealing_patients_loads_no_statistics() -> None:
    """Every command deals them, and scipy.stats takes longer to load than all else that `status` does."""
    code = (
        "import sys; from plexrank.outcome import make_outcome\n"
        "cases = {'nominal': 'ab', 'ordinal': '12', 'continuous': '12', 'survival': ['1 event', '2 censored']}\n"
        "for kind, levels in cases.items():\n"
        "    outcome = make_outcome(kind, list(levels), '12' if kind == 'ordinal' else ())\n"
        "    assert len(outcome.strata(list(levels))) == 2\n"
        "assert 'scipy.stats' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
