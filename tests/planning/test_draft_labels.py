"""Labels that a draft joins to its images."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_draft import found, mcd_files, rows, write_sized

from plexrank.errors import StudyError
from plexrank.planning import draft_sizes
from plexrank.planning.check import check_study_file
from plexrank.planning.draft import draft_study
from plexrank.planning.draft_labels import TableColumns
from plexrank.planning.draft_sizes import choose_sizes
from plexrank.study import load_study


def write_images(folder: Path, *paths: str) -> Path:
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_sized(folder / path, 40 + number, 1.0)
    return folder


@pytest.mark.parametrize("key", ["{}", "{}.ome.tiff", "data/images/{}.ome.tiff", "{}\u200b"])
def test_labels_are_joined_to_images(tmp_path: Path, key: str) -> None:
    data = write_images(tmp_path / "data", "c1.ome.tiff", "c2.ome.tiff", "c10.ome.tiff", "c3.ome.tiff")
    cells = {"c1": "hi", "c10": "lo", "c2": "NA", "c99": "lo"}
    text = "core;case_id;response\n" + "".join(f"{key.format(own)};P{own};{cell}\n" for own, cell in cells.items())
    (tmp_path / "clinical.csv").write_text(text)
    drafted = draft_study(data, tmp_path / "out", tmp_path / "clinical.csv", TableColumns("core", "response"))
    said = "\n".join(sentence for _, sentence in drafted.notes)
    assert {row["image_id"]: (row["response"], row["case_id"]) for row in rows(tmp_path / "out")} == {
        "c1": ("hi", "Pc1"),
        "c2": ("", "Pc2"),
        "c10": ("lo", "Pc10"),
    }
    assert load_study(drafted.study).cohort.label == "response"
    for words in (
        "3 of 4 images have a row",
        "1 image is left out, without a row: c3",
        "'NA' in column 'response'",
    ):
        assert words in said
    assert "1 row names no image: " in said


def test_a_table_of_patients_labels_all_images_of_each(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", "P1/a.ome.tiff", "P1/b.ome.tiff", "P10/a.ome.tiff", "x_P2_a.ome.tiff")
    (tmp_path / "clinical.csv").write_text("pid,grade\nP1,hi\nP2,lo\nP10,lo\n")
    draft_study(data, tmp_path / "out", tmp_path / "clinical.csv", TableColumns("pid"))
    found_rows = {row["path"]: (row["grade"], row["patient_id"]) for row in rows(tmp_path / "out")}
    assert found_rows == {
        "P1/a.ome.tiff": ("hi", "P1"),
        "P1/b.ome.tiff": ("hi", "P1"),
        "P10/a.ome.tiff": ("lo", "P10"),
        "x_P2_a.ome.tiff": ("lo", "P2"),
    }


def draft(tmp_path: Path, table: str, given: TableColumns, count: int = 10) -> str:
    """What init prints of a table with a row for each of some images, called a0, a1 and so on."""
    data = write_images(tmp_path / "data", *(f"a{number}.ome.tiff" for number in range(count)))
    (tmp_path / "t.csv").write_text(table)
    return draft_study(data, tmp_path / "out", tmp_path / "t.csv", given).to_text()


def test_of_a_samplesheet_with_several_candidates_one_is_to_be_chosen(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", "a.ome.tiff", "b.ome.tiff")
    (tmp_path / "samplesheet.csv").write_text("image_id,path,patient_id,grade,age\na,x/a.ome.tiff,1,hi,3\nb,b,2,lo,4\n")
    drafted = draft_study(data, tmp_path / "out")
    study = tmp_path / "out" / "study.yaml"
    assert drafted.to_text().splitlines()[-1] == (
        f"next: set cohort.label in {study} to one of: grade, age; then plexrank check {study}"
    )
    assert list(rows(tmp_path / "out")[0]) == ["image_id", "path", "patient_id", "grade", "age"]
    assert 'label: ""' in study.read_text()
    (problem,) = check_study_file(study).problems
    assert str(problem).endswith("samplesheet.csv: cohort.label is empty; name a column; there are: grade, age.")
    assert load_study(study, ["cohort.label=grade"]).cohort.label == "grade"
    chosen = draft_study(data, tmp_path / "out2", columns=TableColumns(label="grade")).to_text()
    assert chosen.endswith(f"next: plexrank check {tmp_path / 'out2' / 'study.yaml'}")


CASES = "".join(f"a{n},C{n // 2},{n % 4 // 2},{'NR' if n < 4 else 'R'}\n" for n in range(10))


def test_a_column_that_may_name_patients_is_pointed_out(tmp_path: Path) -> None:
    said = draft(tmp_path, "image,Case,Plate,Response\n" + CASES, TableColumns("image", "Response"))
    assert "patients     no column names them: each image counts as a patient" in said
    assert "column 'Case' has 5 values for 10 images; if it names patients, give --patient Case" in said
    assert "Plate" not in said


def test_patients_and_sites_may_have_other_names(tmp_path: Path) -> None:
    given = TableColumns("image", "Response", "Case", "Plate")
    said = draft(tmp_path, "image,Case,Plate,Response\n" + CASES, given)
    assert "patients     5 patients for 10 images, by column 'Case'" in said
    assert "sites        2 sites, by column 'Plate': patients are compared within each" in said
    assert "classes      of column 'Response': NR (2 patients), R (3 patients); no number of folds helps" in said
    row = rows(tmp_path / "out")[3]
    assert (row["patient_id"], row["site"], row["Response"]) == ("C1", "1", "NR")
    (problem,) = check_study_file(tmp_path / "out" / "study.yaml").problems
    assert "no number of folds helps" in str(problem)


@pytest.mark.parametrize(
    ("columns", "given", "taken"),
    [
        ("patient,pid", TableColumns("image", patient="pid"), "pid"),
        ("case_id,patient_id", TableColumns("image"), "patient_id"),
        ("patient_id,patient", TableColumns("image"), "patient"),
    ],
)
def test_init_and_check_count_the_same_patients(tmp_path: Path, columns: str, given: TableColumns, taken: str) -> None:
    cells = dict.fromkeys(columns.split(","), "" if columns == "patient_id,patient" else "P") | {taken: "many"}
    lines = [
        ",".join([f"a{n}", *(f"Q{n // 2}" if cell == "many" else cell for cell in cells.values()), "AB"[n // 12]])
        for n in range(24)
    ]
    said = draft(tmp_path, f"image,{columns},label\n" + "\n".join(lines) + "\n", given, 24)
    assert f"12 patients for 24 images, by column {taken!r}" in said
    assert "training     5 folds" in said
    result = check_study_file(tmp_path / "out" / "study.yaml")
    assert not result.problems
    assert result.cost is not None
    assert result.cost.n_patients == 12


def test_a_label_column_of_measurements_is_not_doubled(tmp_path: Path) -> None:
    said = draft(tmp_path, "image,label\n" + "".join(f"a{n},{n * 1.5}\n" for n in range(12)), TableColumns("image"), 12)
    assert "columns of measurements, which make no groups: 'label'" in said
    assert (tmp_path / "out" / "samplesheet.csv").read_text().splitlines()[0].count("label") == 1


def test_an_empty_label_column_is_to_be_filled_in(tmp_path: Path) -> None:
    said = draft(tmp_path, "image,label\n" + "".join(f"a{n},\n" for n in range(12)), TableColumns("image"), 12)
    assert "next: fill in groups in the column label of" in said


@pytest.mark.parametrize(("small", "folds"), [(5, 5), (4, 4), (3, 3), (2, 2), (1, 2)])
def test_no_more_folds_are_drafted_than_the_smallest_class_has_patients(tmp_path: Path, small: int, folds: int) -> None:
    table = "image,label\n" + "".join(f"a{n},{'R' if n < small else 'NR'}\n" for n in range(18))
    said = draft(tmp_path, table, TableColumns("image"), 18)
    assert f"training     {folds} folds" in said
    problems = check_study_file(tmp_path / "out" / "study.yaml").problems
    assert len(problems) == (small == 1)


def test_measurements_are_no_label(tmp_path: Path) -> None:
    table = "image,months,status\na10,,no\na11,NA,no\n" + "".join(
        f"a{n},{n * 1.5},{'no' if n % 2 else 'yes'}\n" for n in range(10)
    )
    said = draft(tmp_path, table, TableColumns("image"), 12)
    assert "of column 'status': no (7 patients), yes (5 patients)" in said
    assert "columns of measurements, which make no groups: 'months'; to explain such numbers, give --label" in said


def test_patients_that_are_named_are_not_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mcd_files(tmp_path / "data")
    (tmp_path / "t.csv").write_text("Case ID,label\na,hi\nb,lo\n")
    said = draft_study(tmp_path / "data", tmp_path / "out", tmp_path / "t.csv", TableColumns("Case ID")).to_text()
    assert "2 patients for 8 images, by column 'Case ID'" in said
    assert "fill in" not in said


def test_a_cell_below_the_advised_pixels_is_said_with_what_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_sizes, "_pixel_size", lambda path: 1.5625)
    (said,) = [sentence for topic, sentence in choose_sizes(found(512, 36, 39), ["a"]).describe() if topic == "tiles"]
    assert said == (
        "128 px, reduced by 2: a cell of 10 µm is 3.2 px, below the advised 5, for a laptop to finish; "
        "tile.downsample: 1 keeps 6.4 px"
    )
    assert "advised" not in str(choose_sizes(found(64, 3, 9), ["a"]).describe())


def test_columns_need_a_table(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", "a.ome.tiff")
    with pytest.raises(StudyError, match="--label --site: no table that has such a column; give it by --labels TABLE"):
        draft_study(data, tmp_path / "out", columns=TableColumns(label="grade", site="centre"))


@pytest.mark.parametrize(
    ("text", "by", "told"),
    [
        ("core,grade\nz1,hi\n", "core", "column 'core' names no image: it has z1; the images are a, b"),
        ("core,grade\na,hi\na,lo\n", "core", "lines 2, 3 all name the image a and differ"),
        ("core,grade\na,hi\n", "corr", "--by corr: no column has that name; did you mean 'core'?"),
        ("core,grade\na,hi\n", None, "give the column that names the images, by --by: core, grade"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(tmp_path: Path, text: str, by: str | None, told: str) -> None:
    data = write_images(tmp_path / "data", "a.ome.tiff", "b.ome.tiff")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StudyError) as caught:
        draft_study(data, tmp_path / "out", tmp_path / "t.csv", TableColumns(by))
    assert told in str(caught.value)
