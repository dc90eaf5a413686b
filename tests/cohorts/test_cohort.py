"""Samplesheets, panels and folds."""

from pathlib import Path

import pytest

from plexrank.cohorts.cohort import read_cohort, survey_cohort
from plexrank.cohorts.panel import Channel, Panel, read_panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.errors import MissingInputError, PlexrankError, StudyError, problems_of
from plexrank.images.image_path import join_image_path, size_and_mtime, split_image_path
from plexrank.settings import CohortSettings

HEADER = "image_id,path,patient_id,grade,site\n"


def sheet(folder: Path, rows: str, header: str = HEADER) -> CohortSettings:
    for name in "abcdef":
        (folder / f"{name}.tiff").touch()
    path = folder / "sheet.csv"
    path.write_text(header + rows)
    return CohortSettings(samplesheet=path, root=folder, label="grade")


GOOD_ROWS = "i1,a.tiff,p1,low,x\ni2,b.tiff,p2,low,y\ni3,c.tiff,p3,high,x\ni4,d.tiff,p4,high,y\ni5,e.tiff,p4,,y\n"


def test_images_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    cohort = read_cohort(sheet(tmp_path, GOOD_ROWS), folds=2)
    assert [image.image_id for image in cohort.images] == ["i1", "i2", "i3", "i4"]
    assert cohort.outcome.levels == ("high", "low")
    assert cohort.unlabelled == 1


def test_semicolons_quotes_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    settings = sheet(tmp_path, "")
    text = (HEADER + GOOD_ROWS).replace(",", ";").replace("i1;", '"i1";')
    settings.samplesheet.write_text("\ufeff" + text)
    assert read_cohort(settings, folds=2).images[0].image_id == "i1"
    settings.samplesheet.write_text((HEADER + GOOD_ROWS).replace(",", "\t"))
    assert read_cohort(settings, folds=2).images[0].image_id == "i1"


def test_aliases_and_a_missing_patient_column(tmp_path: Path) -> None:
    rows = "i1,a.tiff,low\ni2,b.tiff,low\ni3,c.tiff,high\ni4,d.tiff,high\n"
    cohort = read_cohort(sheet(tmp_path, rows, "slide_id,path,grade\n"), folds=2)
    assert cohort.images[0].patient_id == "i1"
    assert "the column patient_id is missing or empty" in cohort.warnings[0]


def test_an_empty_patient_column_counts_as_none(tmp_path: Path) -> None:
    rows = "i1,a.tiff,,low\ni2,b.tiff,,low\ni3,c.tiff,,high\ni4,d.tiff,,high\n"
    cohort = read_cohort(sheet(tmp_path, rows, "image_id,path,patient_id,grade\n"), folds=2)
    assert [image.patient_id for image in cohort.images] == ["i1", "i2", "i3", "i4"]
    assert "every image counts as a separate patient" in cohort.warnings[0]


def test_acquisitions_of_a_file_and_folders_are_images(tmp_path: Path) -> None:
    (tmp_path / "fov1").mkdir()
    rows = "i1,a.tiff#1,p1,low\ni2,a.tiff#2,p2,low\ni3,fov1,p3,high\ni4,d.tiff,p4,high\n"
    cohort = read_cohort(sheet(tmp_path, rows, "image_id,path,patient_id,grade\n"), folds=2)
    assert [image.path.name for image in cohort.images] == ["a.tiff#1", "a.tiff#2", "fov1", "d.tiff"]
    assert [image.file.name for image in cohort.images] == ["a.tiff", "a.tiff", "fov1", "d.tiff"]


def test_a_file_whose_name_looks_like_an_acquisition_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.tiff#1").touch()
    assert split_image_path(tmp_path / "a.tiff#1") == (tmp_path / "a.tiff#1", None)
    assert split_image_path(tmp_path / "b.mcd#12") == (tmp_path / "b.mcd", 12)
    assert join_image_path(tmp_path / "b.mcd", 12) == tmp_path / "b.mcd#12"


def test_a_change_within_a_folder_is_seen(tmp_path: Path) -> None:
    inner = tmp_path / "fov1" / "TIFs" / "CD3.tif"
    inner.parent.mkdir(parents=True)
    inner.write_bytes(b"1")
    (inner.parent / "latest").symlink_to(inner.parent / "latest")  # a circle, which cannot be looked at
    before = size_and_mtime(tmp_path / "fov1")
    inner.write_bytes(b"22")
    assert size_and_mtime(tmp_path / "fov1") != before


@pytest.mark.parametrize(
    ("rows", "words", "code"),
    [
        (GOOD_ROWS + "i6,f.tiff#1,p6,low,x\ni7,f.tiff#1,p7,low,x\n", "path 'f.tiff#1' is on line 7 already", 64),
        (
            GOOD_ROWS + "i6,f.tiff#1,p6,low,x\ni7,f.tiff,p7,low,x\n",
            "line 8: path 'f.tiff' is on line 7 already",
            64,
        ),
        (GOOD_ROWS + "i6,a.tiff#1,p6,low,x\n", "path 'a.tiff#1' is on line 2 already, as 'a.tiff'", 64),
        (GOOD_ROWS + "i6,./a.tiff,p6,low,x\n", "path './a.tiff' is on line 2 already, as 'a.tiff'", 64),
        (GOOD_ROWS + "i6,f.tiff#1,p6,low,x\ni7,./f.tiff#01,p7,low,x\n", "is on line 7 already, as 'f.tiff#1'", 64),
        (GOOD_ROWS + 'i6,"f.tiff,p6,low,x\n', "close every quote", 64),
        (GOOD_ROWS + f"i6,{'f' * 140000},p6,low,x\n", "line 7: not readable as CSV (field larger than", 64),
        (GOOD_ROWS + "i6,f\0.tiff,p6,low,x\n", "line 7: a cell holds a NUL", 64),
        (GOOD_ROWS + f"i6,{'f' * 300},p6,low,x\n", "line 7: path 'fff", 64),
        (GOOD_ROWS + "i6,f.tiff,p6,NA,x\n", "column 'grade' holds 'NA' in 1 row (lines 7), which looks like", 64),
        (GOOD_ROWS + "i6,f.tiff,nan,low,x\n", "column 'patient_id' holds 'nan' in 1 row", 64),
        (GOOD_ROWS + "i6,z.mcd#3,p6,low,x\n", "z.mcd: no such image", 66),
        (GOOD_ROWS + "i6,../z.mcd#3,p6,low,x\n", ": outside ", 64),
        (GOOD_ROWS + "i1,f.tiff,p6,low,x\n", "line 7: image_id 'i1' is on line 2 already", 64),
        (GOOD_ROWS + "i6,a.tiff,p6,low,x\n", "line 7: path 'a.tiff' is on line 2 already", 64),
        (GOOD_ROWS + "i6,z.tiff,p6,low,x\n", "z.tiff: no such image", 66),
        (GOOD_ROWS + "i6,../z.tiff,p6,low,x\n", ": outside ", 64),
        (GOOD_ROWS + "i6,/etc/passwd,p6,low,x\n", ": outside ", 64),
        (GOOD_ROWS + "../x,f.tiff,p6,low,x\n", "image_id '../x'", 64),
        (GOOD_ROWS + "i6,f.tiff,,low,x\n", "patient_id is empty", 64),
        (GOOD_ROWS + "i6,,p6,low,x\n", "the column path is empty", 64),
        (GOOD_ROWS + "i6,f.tiff,p6,low\n", "line 7: 4 cells, but the header has 5", 64),
        (GOOD_ROWS.replace("high", "low"), "has only 'low'", 64),
        (GOOD_ROWS + "i6,f.tiff,p6,mid,x\n", "class 'mid' has 1 patient, fewer than the 2 folds", 64),
        ("", "a header and no row", 64),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, rows: str, words: str, code: int) -> None:
    with pytest.raises(PlexrankError) as caught:
        read_cohort(sheet(tmp_path, rows), folds=2)
    assert words in str(caught.value)
    assert caught.value.exit_code == code


def test_a_link_to_an_image_is_that_image(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS + "i6,link.tiff,p6,low,x\n")
    (tmp_path / "link.tiff").symlink_to("a.tiff")
    with pytest.raises(StudyError, match=r"line 7: path 'link\.tiff' is on line 2 already"):
        read_cohort(settings, folds=2)


MASK_HEADER = "image_id,path,mask,patient_id,grade\n"
MASK_ROWS = "i1,a.tiff,{mask},p1,low\ni2,b.tiff,,p2,low\ni3,c.tiff,e.tiff,p3,high\ni4,d.tiff,,p4,high\n"


def test_an_image_may_have_a_mask(tmp_path: Path) -> None:
    cohort = read_cohort(sheet(tmp_path, MASK_ROWS.format(mask="f.tiff"), MASK_HEADER), folds=2)
    assert [image.mask for image in cohort.images] == [tmp_path / "f.tiff", None, tmp_path / "e.tiff", None]


@pytest.mark.parametrize(
    ("mask", "message", "code"),
    [
        ("g.tiff", r"line 2: .*g\.tiff: no such mask; fix the path or empty the cell", 66),
        ("../g.tiff", r"line 2: .*g\.tiff: outside ", 64),
    ],
)
def test_a_wrong_mask_is_told_with_its_line(tmp_path: Path, mask: str, message: str, code: int) -> None:
    with pytest.raises(PlexrankError, match=message) as caught:
        read_cohort(sheet(tmp_path, MASK_ROWS.format(mask=mask), MASK_HEADER), folds=2)
    assert caught.value.exit_code == code


def test_a_circle_of_links_is_named(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS + "i6,round.tiff,p6,low,x\n")
    (tmp_path / "round.tiff").symlink_to("round.tiff")
    with pytest.raises(PlexrankError, match=r"line 7: .*round\.tiff"):
        read_cohort(settings, folds=2)


def test_two_columns_of_one_meaning_are_refused(tmp_path: Path) -> None:
    settings = sheet(tmp_path, "a,b,a.tiff,p1,low\n", "sample_id,slide_id,path,patient,grade\n")
    with pytest.raises(StudyError, match="the columns 'sample_id' and 'slide_id' both mean 'image_id'"):
        read_cohort(settings, folds=2)


def test_only_line_breaks_of_csv_break_rows(tmp_path: Path) -> None:
    rows = GOOD_ROWS.replace("p1,low,x", "p1,low,\u2028x\x85y").replace("p2,low,y", 'p2,low,"x\ny"')
    cohort = read_cohort(sheet(tmp_path, rows), folds=2)
    assert [image.site for image in cohort.images[:2]] == ["x\x85y", "x\ny"]


def test_images_that_are_gone_do_not_matter_after_tiling(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS)
    (tmp_path / "a.tiff").unlink()
    assert len(read_cohort(settings, folds=2, need_images=False).images) == 4


def test_good_rows_are_kept_beside_the_problems(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS + "i6,z.tiff,p6,low,x\n")
    survey = survey_cohort(settings, folds=2)
    assert not survey.problems
    assert [type(image.error) for image in survey.bad] == [MissingInputError]
    assert len(survey.require_rows().images) == 4


@pytest.mark.parametrize("path", ["link.tiff", "link.tiff#1"])
def test_a_link_out_of_the_root_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.tiff").touch()
    settings = sheet(tmp_path / "data", GOOD_ROWS + f"i6,{path},p6,low,x\n")
    (tmp_path / "data" / "link.tiff").symlink_to(tmp_path / "secret.tiff")
    with pytest.raises(StudyError, match=r"outside .*, since it is a link into"):
        read_cohort(settings, folds=2)


def test_every_problem_is_told_at_once_and_the_gravest_gives_the_code(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS + "i1,z.tiff,p6,mid,x\n").model_copy(update={"panel": tmp_path / "no.csv"})
    with pytest.raises(PlexrankError) as caught:
        read_cohort(settings, folds=2)
    kinds = [type(problem) for problem in problems_of(caught.value)]
    assert sorted(kind.__name__ for kind in kinds) == [
        "MissingInputError",
        "MissingInputError",
        "StudyError",
        "StudyError",
    ]
    assert caught.value.exit_code == 64


def test_a_wrong_label_column_is_suggested(tmp_path: Path) -> None:
    settings = sheet(tmp_path, GOOD_ROWS).model_copy(update={"label": "grad"})
    with pytest.raises(StudyError, match="did you mean 'grade'"):
        read_cohort(settings, folds=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chanel,name\nA,a\n", "column 'channel' is missing; did you mean 'chanel'"),
        ("channel,name,keep\nA,a,1\nA,b,1\n", "channel 'A' is there 2 times"),
        ("channel,name,keep\nA,CD3,1\nB,cd3,1\n", "name 'CD3' is there 2 times"),
        ("channel,name,keep\nA,a,yess\n", "line 2: keep must be 0 or 1, found 'yess'"),
        ("channel,name,keep\nA,a,0\n", "every channel is left out"),
        ("channel,name\n,a\n", "line 2: the column channel is empty"),
    ],
)
def test_a_wrong_panel_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "panel.csv"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_panel(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "channel_number,marker_name\n1,A\n1,B\n",
            "line 3: channel_number 1 is on line 2 too; channel_number must",
        ),
        ("channel_number,marker_name\n1,A\n3,B\n", "channel_number leaves out 2; channel_number must count the planes"),
        ("channel_number,marker_name\n1,A\nx,B\n", "line 3: channel_number must be a whole number, found 'x'"),
        ("channel_number,marker_name\n1.5,A\n2,B\n", "line 2: channel_number must be a whole number, found '1.5'"),
        ("channel_number,marker_name\n1,A\n,B\n", "line 3: channel_number must be a whole number, found ''"),
        ("channel_number,cycle_number,marker_name\n1,1,A\n3,1,B\n1,2,C\n", "line 4: channel_number 1 is on line 2"),
        ("cycle_number,marker_name\n1,A\n2,B\n1,C\n", "line 4: cycle_number decreases"),
        ("channel_number,cycle_number,marker_name\n1,2,A\n2,1,B\n", "channel_number and cycle_number do not agree"),
        (
            "channel_number,marker_name,remove\n1,A,maybe\n",
            "line 2: remove must be TRUE, FALSE or empty, found 'maybe'",
        ),
        ("channel_number,marker_name\n1,\n", "line 2: the column marker_name is empty"),
        ("channel_number,marker_name\n1,A\n2,a\n", "name 'A' is there 2 times"),
        ("channel_number,marker_name,remove\n1,A,TRUE\n", "every channel is left out"),
    ],
)
def test_a_wrong_markers_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "markers.csv"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_panel(path)
    assert words in str(caught.value)


def test_markers_of_mcmicro_are_a_panel(tmp_path: Path) -> None:
    path = tmp_path / "markers.csv"
    path.write_text(
        "channel_number,cycle_number,marker_name,background,exposure,remove\n"
        "3,2,CD3,AF488,100,\n1,1,DNA,,,TRUE\n2,1,AF488,,100,true\n4,2,DNA,,,1\n5,2,CD8,AF488,100,FALSE\n"
    )
    panel = read_panel(path)
    assert [channel.name for channel in panel.channels] == ["DNA", "AF488", "CD3", "DNA", "CD8"]
    located = locate_channels(panel, None, 5, "image.tiff")
    assert (located.names, located.indices) == (("CD3", "CD8"), (2, 4))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("channel_number,cycle_number,marker_name\n2,2,D\n1,1,A\n2,1,B\n1,2,C\n", "ABCD"),
        ("channel_number,cycle_number,marker_name\n0,1,A\n1,1,B\n0,2,C\n", "ABC"),
        ("channel_number,cycle_number,marker_name\n2,1,C\n0,1,A\n1,1,B\n", "ABC"),
        ("channel_number,marker_name\n2.0,B\n1.0,A\n", "AB"),
        ("channel,cycle,marker_name,Filter\n3,2,C,x\n1,1,A,\n2,1,B,\n", "ABC"),
        ("channel_number,cycle_number,marker_name\n,,A\n,,B\n", "AB"),
        ("channel,name\n3,C\n1,A\n2,B\n", "ABC"),
        ("channel,name\n2.0,C\n0.0,A\n1.0,B\n", "ABC"),
        (
            "channel,name,keep\nchannel 10,J,1\n"
            + "".join(f"channel {n},{'ABCDEFGHI'[n - 1]},1\n" for n in range(1, 10)),
            "ABCDEFGHIJ",
        ),
        ("channel,name\nNd142,B\nPr141,A\n", "BA"),
    ],
)
def test_numbers_order_a_panel_whatever_the_order_of_its_rows(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "panel.csv"
    path.write_text(text)
    assert locate_channels(read_panel(path), None, len(names), "image.tiff").names == tuple(names)


def test_a_missing_panel_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_panel(tmp_path / "panel.csv")


PANEL = Panel(
    Path("panel.csv"),
    (Channel("Nd142", "CD3"), Channel("Nd143", "junk", keep=False), Channel("Nd144", "CD-8")),
)

NUMBERED = Panel(Path("panel.csv"), tuple(Channel(str(n), name) for n, name in enumerate(("C3", "CD8", "CD4"), 1)))

MARKERS = Panel(Path("panel.csv"), tuple(Channel(name, name) for name in ("CD3", "CD8", "ER", "PR")))


CROSSED = Panel(Path("panel.csv"), (Channel("CD3", "CD8"), Channel("CD4", "CD3"), Channel("x", "CD5")))
MASSES = Panel(Path("panel.csv"), tuple(Channel(mass, mass) for mass in ("159", "89", "150")), is_ordered=False)

KEPT = ("CD3", "CD-8")


@pytest.mark.parametrize(
    ("panel", "found", "count", "names", "indices"),
    [
        (PANEL, None, 3, KEPT, (0, 2)),
        (PANEL, None, 2, KEPT, (0, 1)),
        (PANEL, ("Nd144", "Nd143", "Nd142"), 3, KEPT, (2, 0)),
        (PANEL, ("CD 8", "cd3", "junk"), 3, KEPT, (1, 0)),
        (PANEL, ("CD 8", "cd3"), 2, KEPT, (1, 0)),
        (PANEL, ("Channel 1", "Channel 2", "Channel 3"), 3, KEPT, (0, 2)),
        (PANEL, ("0", "1"), 2, KEPT, (0, 1)),
        (PANEL, ("144Nd", "Nd143Di", "142nd"), 3, KEPT, (2, 0)),
        (PANEL, ("142Nd_CD4", "x", "CD8(Nd144Di)"), 3, KEPT, (0, 2)),
        (MARKERS, ("DAPI", "FITC", "DAPI", "FITC"), 4, ("CD3", "CD8", "ER", "PR"), (0, 1, 2, 3)),
        (MARKERS, ("CD8", "CD3", "oestrogen", "progesterone"), 4, ("CD3", "CD8"), (1, 0)),
        (NUMBERED, ("3", "1", "2"), 3, ("C3", "CD8", "CD4"), (1, 2, 0)),
        (NUMBERED, ("CD4", "CD8", "C3"), 3, ("C3", "CD8", "CD4"), (2, 1, 0)),
        (PANEL, ("Nd142", "Nd143", "Nd145"), 3, ("CD3",), (0,)),
        (PANEL, ("Nd150_x", "Nd144_a", "Nd142_b", "Nd143_c"), 4, KEPT, (2, 1)),
        (PANEL, ("Nd144_a",), 1, ("CD-8",), (0,)),
        (MARKERS, ("PR", "x", "ER"), 3, ("ER", "PR"), (2, 0)),
        (None, ("b", "a"), 2, ("b", "a"), (0, 1)),
    ],
)
def test_channels_are_found_by_name(panel, found, count, names, indices) -> None:
    located = locate_channels(panel, found, count, "image.tiff")
    assert (located.names, located.indices) == (names, indices)


def test_channels_that_a_panel_does_not_list_are_told() -> None:
    assert locate_channels(MARKERS, ("PR", "x", "ER"), 3, "image.tiff").unlisted == ("x",)


@pytest.mark.parametrize(
    ("found", "found_ids"),
    [
        (("CD8", "rubbish", "CD three"), ("Nd144", "Nd143", "Nd142")),
        (("CD8_12((99))Nd144", "x_Nd143", "Nd142_Nd142"), None),
    ],
)
def test_ids_beside_or_within_the_names_decide_the_order(found, found_ids) -> None:
    located = locate_channels(PANEL, found, 3, "image.mcd", found_ids)
    assert (located.names, located.indices) == (KEPT, (2, 0))


@pytest.mark.parametrize(
    ("panel", "found", "count", "words"),
    [
        (PANEL, None, 4, "3 rows (2 of them kept), but image.tiff has 4 channels; give one row for every"),
        (MARKERS, None, 3, "panel.csv: 4 rows, but image.tiff has 3 channels; give one row for every"),
        (MARKERS, ("a", "b", "c"), 3, "image.tiff: 0 of 3 channels are in its panel, fewer than half"),
        (PANEL, ("x", "y", "z"), 3, "0 of 3 channels are in its panel"),
        (PANEL, ("CD3", "y", "z"), 3, "1 of 3 channels is in its panel"),
        (MARKERS, ("x", "CD3", "oestrogen", "y"), 4, "1 of 4 channels is in its panel"),
        (None, None, 2, "the file has no channel names"),
        (None, ("CD4", "cd4"), 2, "it occurs 2 times"),
        (None, ("Pr141", "141Pr"), 2, "'Pr141': it occurs 2 times"),
        (MARKERS, ("CD3", "cd-3", "ER", "PR"), 4, "'CD3': it occurs 2 times"),
        (PANEL, ("junk", "y"), 2, "has none of the channels that panel.csv keeps; it has: junk"),
        (PANEL, ("junk",), 1, "has none of the channels that panel.csv keeps; it has: junk"),
        (PANEL, ("142Nd_CD8", "144Nd_CD3", "x"), 3, "called 'CD3': in image.tiff 'Nd142' is '142Nd_CD8'"),
        (CROSSED, ("CD3", "x"), 2, "the rows 'CD8' and 'CD3' are both 'CD3' of image.tiff; correct one"),
        (MASSES, None, 3, "have gaps and are not in order"),
    ],
)
def test_channels_that_do_not_fit_are_refused(panel, found, count, words) -> None:
    with pytest.raises(StudyError) as caught:
        locate_channels(panel, found, count, "image.tiff")
    assert words in str(caught.value)
