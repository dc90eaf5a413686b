"""Folds by site, as the samplesheet gives them, and as CLAM's files do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.folds import split_patients
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import MissingInputError, PlexrankError, StudyError
from plexrank.outcome.nominal import Nominal
from plexrank.planning.image_units import ImageUnits
from plexrank.planning.plan import Plan, make_plan
from plexrank.rundir import RunDir, digest
from plexrank.settings import Study
from plexrank.study import load_study

SITES = ["north", "south", "east"]

OUTCOME = Nominal(("ill", "well"))


def images(**columns: list[str | None]) -> list[ImageRecord]:
    """12 images of 12 patients, every second one ill."""
    found = []
    for number in range(12):
        own = {name: values[number % len(values)] for name, values in columns.items()}
        where = Path(f"/i{number}.tiff")
        found.append(
            ImageRecord(
                image_id=f"i{number}",
                path=where,
                patient_id=f"p{number}",
                label="ill" if number % 2 else "well",
                site=own.get("site"),
                mask=None,
                panel=None,
                sheet=Path("/s.csv"),
                line=number + 2,
                split=own.get("split"),
            )
        )
    return found


def study(split: object, folds: int = 3) -> Study:
    return Study.model_validate(
        {
            "name": "s",
            "cohort": {"samplesheet": "/s.csv", "label": "grade"},
            "train": {"split": split, "folds": folds, "seeds": 1},
        }
    )


def plan(chosen: Study, of: list[ImageRecord]) -> Plan:
    cohort = Cohort(tuple(of), OUTCOME, None, 0, ())
    rundir = RunDir(Path("/run"))
    return Plan(rundir, chosen, cohort, split_patients(chosen, of, OUTCOME), ImageUnits(rundir, chosen.tile))


def test_one_site_is_left_out_at_a_time() -> None:
    of = images(site=list(SITES))
    made = plan(study("site"), of)
    for fold, site in enumerate(sorted(SITES)):
        assert {of[image].site for image in made.images(fold, "held_out")} == {site}
        inside = made.images(fold, "training") + made.images(fold, "validation")
        assert len(inside) == 8
        assert made.images(fold, "validation")


def test_a_class_of_two_patients_trains_on_one_and_holds_out_the_other() -> None:
    of = [replace(image, label="ill" if number in (3, 8) else "well") for number, image in enumerate(images())]
    for seed in range(10):
        made = plan(study("folds", 2).model_copy(update={"seed": seed}), of)
        for fold in range(2):
            assert {of[image].label for image in made.images(fold, "training")} == {"ill", "well"}
            assert made.images(fold, "validation")


def test_sites_need_no_patient_of_every_class_in_each(tmp_path: Path) -> None:
    rows = [f"i{n},i{n}.tiff,p{n},{'ill' if n < 2 else 'well'},site{n % 4}" for n in range(12)]
    (tmp_path / "s.csv").write_text("\n".join(["image_id,path,patient_id,grade,site", *rows]) + "\n")
    for n in range(12):
        (tmp_path / f"i{n}.tiff").touch()
    chosen = study("site", 4)
    cohort = chosen.cohort.model_copy(update={"samplesheet": tmp_path / "s.csv", "root": tmp_path})
    made = make_plan(RunDir(tmp_path / "run"), chosen.model_copy(update={"cohort": cohort}))
    assert [len(made.images(fold, "held_out")) for fold in range(4)] == [3] * 4
    with pytest.raises(StudyError, match=r"class 'ill' has 2 patients, fewer than the 4 folds; set train\.folds to 2"):
        make_plan(
            RunDir(tmp_path / "run"),
            chosen.model_copy(update={"cohort": cohort, "train": study("folds", 4).train}),
        )


def test_only_what_changes_the_result_counts_as_a_change() -> None:
    def key(**settings: object) -> str:
        chosen = study("folds")
        train = chosen.train.model_copy(update=settings)
        return digest(plan(chosen.model_copy(update={"train": train}), images()).train(0, 0).depends["train"])

    assert key(recompute=True) == key(recompute=False) == key(seeds=7)
    assert key(learning_rate=1.0) != key()


def test_a_given_split_is_taken_in_the_order_of_its_values() -> None:
    of = images(split=["10", "9", "2"])
    made = plan(study("given"), of)
    assert made.images(0, "held_out") == [2, 5, 8, 11]
    assert made.images(2, "held_out") == [0, 3, 6, 9]
    other = plan(study("given"), images(split=["9", "10", "2"]))
    assert made.images(0, "held_out") == other.images(0, "held_out")


@pytest.mark.parametrize(
    ("split", "folds", "columns", "message"),
    [
        ("site", 5, {"site": SITES}, "train.folds is 5, .* each of 3 values .*; set train.folds: 3"),
        ("site", 2, {"site": ["north"]}, "use folds"),
        (
            "site",
            3,
            {"site": ["north", None, "east"]},
            "one site for each patient, but 4 have several or none .p1, p10",
        ),
        ("given", 3, {"split": ["train", "val", "test"]}, "makes a fold of each .* test, train, val|val, test, train"),
        ("given", 3, {}, "one split for each patient, but the samplesheet has no column .split."),
    ],
)
def test_splits_that_cannot_be_are_refused(split: str, folds: int, columns: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        split_patients(study(split, folds), images(**columns), OUTCOME)


def write_splits(folder: Path, tests: list[list[int]], changed: dict[int, str] | None = None) -> Path:
    for fold, test in enumerate(tests):
        validation = [number for number in range(12) if number not in test][:2]
        train = [number for number in range(12) if number not in (*test, *validation)]
        rows = [",train,val,test"]
        for row in range(10):
            cells = [f"i{part[row]}" if row < len(part) else "" for part in (train, validation, test)]
            rows.append(",".join([str(row), *cells]))
        rows.append("10,elsewhere,,")
        (folder / f"splits_{fold}.csv").write_text((changed or {}).get(fold, "\n".join(rows) + "\n"))
    return folder


def test_clam_files_give_folds_and_validation(tmp_path: Path) -> None:
    tests = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    made = plan(study(write_splits(tmp_path, tests)), images())
    assert [made.images(fold, "held_out") for fold in range(3)] == tests
    assert [made.images(fold, "validation") for fold in range(3)] == [[4, 5], [0, 1], [0, 1]]
    assert made.images(1, "training") == [2, 3, 8, 9, 10, 11]


def test_a_fold_trains_on_no_patient_that_its_file_leaves_out(tmp_path: Path) -> None:
    tests = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    folder = write_splits(tmp_path, tests)
    made = plan(study(folder), images())
    first = folder / "splits_0.csv"
    first.write_text(first.read_text().replace("i11,", ","))
    fewer = plan(study(folder), images())
    assert made.images(0, "training") == [*fewer.images(0, "training"), 11]
    assert fewer.images(1, "training") == made.images(1, "training")
    assert made._split_as_given(0) != fewer._split_as_given(0)


@pytest.mark.parametrize(
    ("tests", "changed", "error", "message"),
    [
        ([[0, 1], [1, 2], [3]], {}, StudyError, "splits_0.csv and splits_1.csv both hold out p1"),
        ([[0, 1], [2], [3]], {}, StudyError, r"8 patients are in no column test of .* \(p10, "),
        ([[0]], {}, MissingInputError, "splits_1.csv: no such file"),
        ([[0], [1], [2]], {1: "train,test\ni0,i1\n"}, StudyError, "column 'val' is missing"),
    ],
)
def test_clam_files_that_do_not_partition_are_refused(
    tmp_path: Path, tests: list[list[int]], changed: dict[int, str], error: type[PlexrankError], message: str
) -> None:
    with pytest.raises(error, match=message):
        split_patients(study(write_splits(tmp_path, tests, changed)), images(), OUTCOME)


def test_a_misspelt_split_is_told_with_the_choices(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: s\ncohort: {samplesheet: s.csv, label: g}\ntrain: {split: sites}\n")
    with pytest.raises(MissingInputError, match="sites: no such folder; give folds, site, given"):
        split_patients(load_study(path), images(), OUTCOME)


def test_a_changed_file_of_splits_changes_the_key_of_its_fold(tmp_path: Path) -> None:
    first = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    chosen = study(write_splits(tmp_path, first))
    before = [plan(chosen, images())._split_as_given(fold) for fold in range(3)]
    write_splits(tmp_path, [[0, 1, 2, 4], [3, 5, 6, 7], [8, 9, 10, 11]])
    after = [plan(chosen, images())._split_as_given(fold) for fold in range(3)]
    assert [one == two for one, two in zip(before, after, strict=True)] == [False, False, True]
