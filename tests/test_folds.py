"""Folds, and patients with several sites or labels."""

from pathlib import Path

from plexrank.cohort import deal_folds, patient_strata, read_cohort
from test_cohort import GOOD_ROWS, sheet


def test_folds_share_no_patient_and_spread_every_label() -> None:
    strata = {f"p{number}": (("low", "high")[number % 3 == 0], ("x", "y")[number % 2]) for number in range(53)}
    folds = deal_folds(strata, 5, seed=1)
    assert folds.keys() == strata.keys()
    for label in ("low", "high"):
        counts = [sum(folds[p] == fold and strata[p][0] == label for p in strata) for fold in range(5)]
        assert max(counts) - min(counts) <= 1
    assert deal_folds(dict(reversed(strata.items())), 5, seed=1) == folds
    assert deal_folds(strata, 5, seed=2) != folds


def test_a_patient_of_two_sites_is_told(tmp_path: Path) -> None:
    rows = GOOD_ROWS.replace("i2,b.tiff,p2,", "i2,b.tiff,p1,") + "i6,f.tiff,p6,low,x\n"
    sites = [line.split(",")[-1] for line in rows.splitlines()[1:3]]
    assert sites[0] != sites[1]
    (warning,) = read_cohort(sheet(tmp_path, rows), folds=2).warnings[-1:]
    assert warning.endswith(
        "1 patient has images of several sites (p1); they are compared with patients of the same sites only"
    )


def test_a_patient_with_two_labels_is_one_stratum(tmp_path: Path) -> None:
    rows = GOOD_ROWS.replace("i2,b.tiff,p2,low", "i2,b.tiff,p3,low") + "i6,f.tiff,p6,low,x\n"
    cohort = read_cohort(sheet(tmp_path, rows), folds=2)
    assert patient_strata(cohort.images)["p3"] == ("high|low", "x|y")
    assert cohort.warnings[0].endswith(
        "sheet.csv: 1 patient has images of several values of 'grade': p3 (lines 3, 4); each counts once for each value"
    )
