"""Labels that a draft joins to its images."""

from __future__ import annotations

from pathlib import Path

import pytest

from plexrank.draft import draft_study
from plexrank.errors import StudyError
from plexrank.study import load_study
from test_draft import rows, write_sized


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
    drafted = draft_study(data, tmp_path / "out", tmp_path / "clinical.csv", "core", "response")
    said = "\n".join(sentence for _, sentence in drafted.notes)
    assert {row["image_id"]: (row["response"], row["case_id"]) for row in rows(tmp_path / "out")} == {
        "c1": ("hi", "Pc1"),
        "c2": ("", "Pc2"),
        "c10": ("lo", "Pc10"),
    }
    assert load_study(drafted.study).cohort.label == "response"
    for words in (
        "3 of 4 images have a row",
        "no row for 1 images, which are left out: c3",
        "'NA' in column 'response'",
    ):
        assert words in said
    assert "1 rows name no image: " in said


def test_a_table_of_patients_labels_all_images_of_each(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", "P1/a.ome.tiff", "P1/b.ome.tiff", "P10/a.ome.tiff", "x_P2_a.ome.tiff")
    (tmp_path / "clinical.csv").write_text("pid,grade\nP1,hi\nP2,lo\nP10,lo\n")
    draft_study(data, tmp_path / "out", tmp_path / "clinical.csv", "pid")
    found_rows = {row["path"]: (row["grade"], row["patient_id"]) for row in rows(tmp_path / "out")}
    assert found_rows == {
        "P1/a.ome.tiff": ("hi", "P1"),
        "P1/b.ome.tiff": ("hi", "P1"),
        "P10/a.ome.tiff": ("lo", "P10"),
        "x_P2_a.ome.tiff": ("lo", "P2"),
    }


def test_a_samplesheet_beside_the_images_is_found(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", "a.ome.tiff", "b.ome.tiff")
    (tmp_path / "samplesheet.csv").write_text("image_id,path,patient_id,grade,age\na,x/a.ome.tiff,1,hi,3\nb,b,2,lo,4\n")
    drafted = draft_study(data, tmp_path / "out")
    assert drafted.label is None
    assert ("labels", "give the column to separate by --label: grade, age") in drafted.notes
    assert [(row["patient_id"], row["grade"], row["label"]) for row in rows(tmp_path / "out")] == [
        ("1", "hi", ""),
        ("2", "lo", ""),
    ]
    assert draft_study(data, tmp_path / "out2", label="grade").label == "grade"


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
        draft_study(data, tmp_path / "out", tmp_path / "t.csv", by)
    assert told in str(caught.value)
