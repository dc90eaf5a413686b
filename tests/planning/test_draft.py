"""`plexrank init`: what it finds, guesses and says, and that its draft checks once the labels are filled in."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ome_zarr.format import FormatV05

from image_files import IMC, METALS, NAMES, noise, write_mcd, write_ome, write_ome_zarr, write_tiff_folder, write_txt
from plexrank.cohorts.panel import read_panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.errors import MissingInputError, StudyError
from plexrank.images.find import FoundImage, find_images
from plexrank.planning import draft_sizes
from plexrank.planning.check import check_study
from plexrank.planning.draft import FILES, draft_study
from plexrank.study import load_study


def other(seed: int, shape: tuple[int, int, int] = (3, 40, 50)) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2000, shape).astype("uint16")


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "samplesheet.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fill_in_labels(out: Path, patients: bool = False) -> None:
    filled = rows(out)
    with (out / "samplesheet.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, filled[0].keys())
        writer.writeheader()
        for index, row in enumerate(filled):
            row["label"] = ("low", "high")[index % 2]
            row["patient_id"] = f"P{index}" if patients else ""
            writer.writerow(row)


def eight(write: Callable[[Path, np.ndarray], object], pattern: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for number in range(8):
            path = folder / pattern.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, other(number))

    return make


def mcd_files(folder: Path) -> None:
    for slide in "ab":
        write_mcd(folder / f"{slide}.mcd", {number: other(number) for number in range(1, 5)})


def zarr_store(path: Path, pixels: np.ndarray) -> None:
    write_ome_zarr(path, pixels, FormatV05())


FOLDERS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "ome-tiff": (eight(write_ome, "image{}.ome.tiff"), "image0", "image0.ome.tiff"),
    "a folder a patient": (eight(write_ome, "P{}/ROI 1.ome.tiff"), "P0_ROI 1", "P0/ROI 1.ome.tiff"),
    "tiff folders": (eight(write_tiff_folder, "fov{}"), "fov0", "fov0"),
    "tiff folders of mibi": (eight(write_tiff_folder, "fov{}/TIFs"), "fov0", "fov0"),
    "mcd": (mcd_files, "a_001", "a.mcd#1"),
    "txt": (eight(write_txt, "image{}.txt"), "image0", "image0.txt"),
    "ome-zarr": (eight(zarr_store, "image{}.ome.zarr"), "image0", "image0.ome.zarr"),
    "no names": (
        eight(lambda path, pixels: tifffile.imwrite(path, pixels, photometric="minisblack"), "é{}.tif"),
        "i_0",
        "é0.tif",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("patients", [True, False])
def test_a_draft_checks_once_the_labels_are_filled_in(tmp_path: Path, name: str, patients: bool) -> None:
    make, image_id, path = FOLDERS[name]
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    drafted = draft_study(tmp_path / "data", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 8
    assert rows(tmp_path / "out")[0] == {"image_id": image_id, "path": path, "patient_id": "", "label": ""}
    fill_in_labels(tmp_path / "out", patients)
    result = check_study(load_study(drafted.study))
    assert not result.problems
    assert result.cost is not None
    assert (result.cost.n_images, result.cost.n_channels) == (8, 3)


def test_the_labels_are_what_check_asks_for(tmp_path: Path) -> None:
    eight(write_ome, "image{}.ome.tiff")(tmp_path / "data")
    drafted = draft_study(tmp_path / "data", tmp_path / "out")
    problems = check_study(load_study(drafted.study)).problems
    assert [str(problem).split(": ", 1)[1] for problem in problems] == [
        "column 'label' has no value at all; two classes or more are needed"
    ]


def notes(images: Path, out: Path) -> str:
    return "\n".join(f"{topic}: {sentence}" for topic, sentence in draft_study(images, out).notes)


def test_copies_in_another_folder_or_format_are_left_out(tmp_path: Path) -> None:
    write_mcd(slide := tmp_path / "slide.mcd", {1: other(1), 2: other(2)})
    write_txt(tmp_path / "slide_ROI_001_1.txt", other(1))
    write_txt(tmp_path / "slide_ROI_002_2.txt", other(2))
    for folder in ("img", "ome"):
        (tmp_path / folder).mkdir()
        write_ome(tmp_path / folder / "slide_001.ome.tiff", other(1))
        write_ome(tmp_path / folder / "slide_002.ome.tiff", other(2))
    (tmp_path / "ometiff").mkdir()
    write_ome(tmp_path / "ometiff" / "slide_s0_a2_ac.ome.tiff", other(2))
    said = notes(tmp_path, tmp_path / "out")
    assert [row["path"] for row in rows(tmp_path / "out")] == [f"{slide.name}#1", f"{slide.name}#2"]
    assert "2 images in img (TIFF): the same as in . (IMC .mcd)" in said
    assert "2 images in ome (TIFF): the same" in said
    assert "2 images in . (IMC .txt): the same" in said
    assert "1 image in ometiff (TIFF): the same" in said


def test_images_of_one_name_that_differ_are_no_copies(tmp_path: Path) -> None:
    for number, folder in enumerate(("P1", "P2")):
        (tmp_path / folder).mkdir()
        write_ome(tmp_path / folder / "ROI1.tiff", other(number))
        write_ome(tmp_path / folder / "ROI2.tiff", other(10 + number))
    draft_study(tmp_path, tmp_path / "out")
    assert [row["image_id"] for row in rows(tmp_path / "out")] == ["P1_ROI1", "P1_ROI2", "P2_ROI1", "P2_ROI2"]


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_ome(data / "good.ome.tiff", noise())
    write_ome(data / "also.ome.tiff", other(1))
    write_ome(data / "cut.ome.tiff", noise())
    (data / "cut.ome.tiff").write_bytes((data / "cut.ome.tiff").read_bytes()[:3000])
    (data / "empty.mcd").touch()
    write_mcd(data / "slide.mcd", {5: noise((3, 0, 0))})
    tifffile.imwrite(data / "overview.tif", noise((40, 50)))
    (data / "readme.txt").write_text("notes")
    (data / "masks").mkdir()
    write_ome(data / "masks" / "good.tiff", noise())
    write_ome(tmp_path / "secret.ome.tiff", noise())
    (data / "link.ome.tiff").symlink_to(tmp_path / "secret.ome.tiff")
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (data / "far").symlink_to(tmp_path / "far")
    (data / "near").symlink_to(data / "masks")
    said = notes(data, tmp_path / "out")
    assert [row["image_id"] for row in rows(tmp_path / "out")] == ["also", "good"]
    for words in (
        "passed over: cut.ome.tiff: not readable as TIFF",
        "passed over: empty.mcd: empty file",
        "passed over: slide.mcd#5 (ROI_005): an empty acquisition",
        "left out: overview.tif: 1 channel, where most images have 3",
        "passed over: masks: taken for masks",
        "passed over: link.ome.tiff: a link that leads out",
        f"passed over: far: a link to {tmp_path}/far; give that folder by --images",
    ):
        assert words in said
    assert "readme" not in said
    assert "near" not in said


def test_a_run_directory_is_not_searched(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tiff", noise())
    (tmp_path / "run").mkdir()
    for name in ("study.yaml", "provenance.json"):
        (tmp_path / "run" / name).touch()
    write_ome(tmp_path / "run" / "b.ome.tiff", noise())
    assert [image.name for image in find_images(tmp_path).images] == ["a"]


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("channel,name,keep\nA,a,1\nB,b,0\nC,c,1\n", ("a", "b", "c"), "3, from panel.csv"),
        ("channel,name,keep\nA,a,1\nX,x,0\nB,b,1\nC,c,1\n", ("a", "x", "b", "c"), "3, from panel.csv"),
        ("channel,name\nA,a\nB,b\n", NAMES, "is not used: img/a.ome.tiff: 0 of 3 channels are in its panel"),
        ("channel,name\nA,a\nB,b\nC,c\n", NAMES, "is not used: img/a.ome.tiff: 0 of 3 channels are in its panel"),
        ("marker\nA\n", NAMES, "panel.csv is not used: panel.csv: column 'channel' is missing"),
    ],
)
def test_a_panel_beside_the_images_is_used_where_it_fits(
    tmp_path: Path, text: str, names: tuple[str, ...], said: str
) -> None:
    (tmp_path / "img").mkdir()
    write_ome(tmp_path / "img" / "a.ome.tiff", noise(), None if "from" in said else NAMES)
    (tmp_path / "panel.csv").write_text(text)
    assert said in notes(tmp_path, tmp_path / "out")
    assert tuple(channel.name for channel in read_panel(tmp_path / "out" / "panel.csv").channels) == names


def test_no_names_of_one_image_for_others_that_differ(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(8):
        names = ("CD3", "CD8", "DNA") if number // 2 % 2 else ("DNA", "CD3", "CD31")
        write_ome(data / f"{number}.ome.tiff", other(number), names)
    said = notes(data, tmp_path / "out")
    assert "0.ome.tiff has DNA, CD3, CD31; 2.ome.tiff has CD3, CD8, DNA): no panel.csv is drafted" in said
    assert not (tmp_path / "out" / "panel.csv").exists()
    fill_in_labels(tmp_path / "out")
    result = check_study(load_study(tmp_path / "out" / "study.yaml"))
    assert not result.problems
    assert result.cost is not None
    assert result.cost.n_channels >= 2


def test_images_that_name_one_panel_in_several_orders_share_it(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tiff", other(1), ("CD3", "CD8", "DNA"))
    write_ome(tmp_path / "b.ome.tiff", other(2), ("DNA", "cd8", "CD-3"))
    notes(tmp_path, tmp_path / "out")
    panel = read_panel(tmp_path / "out" / "panel.csv")
    assert locate_channels(panel, ("DNA", "cd8", "CD-3"), 3, "b").indices == (2, 1, 0)


def test_markers_of_mcmicro_become_the_panel(tmp_path: Path) -> None:
    eight(lambda path, pixels: write_ome(path, pixels, None), "registration/{}.ome.tiff")(tmp_path / "data")
    (tmp_path / "data" / "markers.csv").write_text(
        "channel_number,cycle_number,marker_name,remove\n1,1,DNA,\n2,1,CD3,\n3,2,DNA,TRUE\n"
    )
    assert "3, from markers.csv" in notes(tmp_path / "data", tmp_path / "out")
    panel = read_panel(tmp_path / "out" / "panel.csv")
    assert [(channel.name, channel.keep) for channel in panel.channels] == [
        ("DNA", True),
        ("CD3", True),
        ("DNA", False),
    ]
    fill_in_labels(tmp_path / "out")
    assert not check_study(load_study(tmp_path / "out" / "study.yaml")).problems


def test_panels_that_differ_stay_with_their_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(8):
        (data / f"s{number}").mkdir(parents=True)
        write_ome(data / f"s{number}" / "a.ome.tiff", other(number), None)
        third = ("CD31", "DNA")[number // 2 % 2]
        (data / f"s{number}" / "markers.csv").write_text(f"channel_number,marker_name\n2,CD8\n1,CD3\n3,{third}\n")
    assert "the panels beside the images differ" in notes(data, tmp_path / "out")
    assert not (tmp_path / "out" / "panel.csv").exists()
    assert rows(tmp_path / "out")[3]["panel"] == str(data / "s3" / "markers.csv")
    fill_in_labels(tmp_path / "out")
    assert not check_study(load_study(tmp_path / "out" / "study.yaml")).problems


def test_metals_become_the_ids_of_a_panel(tmp_path: Path) -> None:
    write_mcd(tmp_path / "a.mcd", {1: noise()})
    draft_study(tmp_path, tmp_path / "out")
    channels = read_panel(tmp_path / "out" / "panel.csv").channels
    assert [(channel.channel_id, channel.name) for channel in channels] == list(zip(METALS, NAMES, strict=True))


def test_the_panel_beside_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    write_ome(tmp_path / "img" / "a.ome.tiff", noise(), ("1", "2", "3"))
    (tmp_path / "panel.csv").write_text("channel,name,keep\nIr191,DNA,0\nIn113,CD3,1\nIn115,CD8,1\n")
    assert f"3, from {tmp_path / 'panel.csv'}" in notes(tmp_path / "img", tmp_path / "out")
    assert read_panel(tmp_path / "out" / "panel.csv").kept_names == ("CD3", "CD8")


@pytest.mark.parametrize(
    ("scale", "dtype", "cofactor"),
    [(1, "float32", 1), (5, "uint8", 5), (200, "uint16", 100), (1 / 250, "float32", 0.02)],
)
def test_the_cofactor_follows_from_the_pixels_in_any_format(
    tmp_path: Path, scale: float, dtype: str, cofactor: float
) -> None:
    pixels = (np.random.default_rng(0).integers(0, 45, (3, 40, 50)) * scale).astype(dtype)
    for folder in ("imc", "tiff"):
        (tmp_path / folder).mkdir()
    write_mcd(tmp_path / "imc" / "a.mcd", {1: pixels})
    write_ome(tmp_path / "tiff" / "a.tiff", pixels)
    for folder in ("imc", "tiff"):
        assert f"cofactor: {cofactor}; 1 for IMC" in notes(tmp_path / folder, tmp_path / folder / "out")
        assert load_study(tmp_path / folder / "out" / "study.yaml").intensity.cofactor == cofactor


def test_acquisitions_of_one_slide_are_told(tmp_path: Path) -> None:
    write_mcd(tmp_path / "slide A.mcd", {1: other(1), 2: other(2)})
    write_mcd(tmp_path / "slide B.mcd", {1: other(3)})
    assert "patients: 2 images share a slide: fill in patient_id" in notes(tmp_path, tmp_path / "out")


def test_channels_of_one_name_are_not_kept(tmp_path: Path) -> None:
    eight(lambda path, pixels: write_ome(path, pixels, ("CD3", "DNA", "DNA")), "{}.ome.tiff")(tmp_path / "data")
    assert "DNA: several channels of that name" in notes(tmp_path / "data", tmp_path / "out")
    assert read_panel(tmp_path / "out" / "panel.csv").kept_names == ("CD3",)
    fill_in_labels(tmp_path / "out")
    assert not check_study(load_study(tmp_path / "out" / "study.yaml")).problems


def write_sized(path: Path, side: int, um: float | None, names: tuple[str, ...] = ("CD3", "CD8", "DNA")) -> None:
    metadata: dict[str, object] = {"axes": "CYX", "Channel": {"Name": list(names)}}
    if um is not None:
        metadata |= {"PhysicalSizeX": um, "PhysicalSizeY": um}
    pixels = np.random.default_rng(side).integers(1, 200, (len(names), side, side)).astype("uint16")
    tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=metadata)


@pytest.mark.parametrize(
    ("um", "names", "downsample"),
    [
        (0.25, ("CD3",), 4),
        (0.5, ("CD3",), 2),
        (1.0, ("CD3",), 1),
        (2.0, ("CD3",), 1),
        (None, ("CD3",), 2),
        (None, ("Ir191", "In113"), 1),
        (None, ("Cytoker_651((3356))Pr141", "80ArAr", "Sm147_Laminin"), 1),
    ],
)
def test_a_cell_is_drafted_with_five_to_ten_pixels(
    tmp_path: Path, um: float | None, names: tuple[str, ...], downsample: int
) -> None:
    write_sized(tmp_path / "a.ome.tiff", 80, um, names)
    said = notes(tmp_path, tmp_path / "out")
    tile = load_study(tmp_path / "out" / "study.yaml").tile
    guessed = None if um is not None else 1.0 if len(names) > 1 else 0.5
    assert (tile.downsample, tile.um_per_px, tile.image_um_per_px) == (downsample, None, guessed)
    assert f"a cell of 10 µm is {10 / (downsample * (um or (1 if len(names) > 1 else 0.5))):.3g} px" in said
    assert ("not given by the images: taken for" in said) == (um is None)
    assert ("that of IMC, since the channels are isotopes" in said) == (len(names) > 1)


@pytest.mark.parametrize(("first", "others", "expected"), [(1.0, 0.5, (1, 1.0, None)), (None, 0.25, (4, None, 0.25))])
def test_pixel_sizes_that_differ_or_are_missing(
    tmp_path: Path, first: float | None, others: float, expected: tuple[object, ...]
) -> None:
    for number in range(6):
        write_sized(tmp_path / f"{number}.ome.tiff", 80, others if number else first)
    assert ("taken for 0.25 µm, that of the other images; if" in notes(tmp_path, tmp_path / "out")) == (first is None)
    tile = load_study(tmp_path / "out" / "study.yaml").tile
    assert (tile.downsample, tile.um_per_px, tile.image_um_per_px) == expected


def found(side: int, channels: int, count: int) -> list[FoundImage]:
    return [
        FoundImage(Path(f"/{n}.tiff"), str(n), frozenset(), "TIFF", (channels, side, side), None, None)
        for n in range(count)
    ]


@pytest.mark.parametrize(("side", "channels", "count"), [(1024, 41, 79), (4000, 40, 100), (20000, 30, 10), (60, 5, 15)])
def test_a_drafted_study_fits_a_laptop(side: int, channels: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_sizes, "_pixel_size", lambda path: 0.5)
    sizes = draft_sizes.choose_sizes(found(side, channels, count), ["a"])
    tiles = count * (-(-(side // sizes.downsample) // sizes.tile_px)) ** 2
    pixels = tiles * channels * sizes.tile_px**2
    assert pixels <= 25 * 10**7
    assert sizes.batch_tiles * channels * sizes.tile_px**2 <= 12 * 10**6
    trained = pixels * 0.8 * (1 - 1 / sizes.folds) * sizes.folds * sizes.seeds * sizes.epochs
    assert trained / (8 * 10**6) <= 600


@pytest.mark.parametrize("name", ["P1", "dcis-2"])
@pytest.mark.parametrize("below", ["", "images", "img/tiff"])
def test_a_study_is_named_after_the_folder(tmp_path: Path, name: str, below: str) -> None:
    folder = tmp_path / name / below
    folder.mkdir(parents=True)
    write_sized(folder / "a.ome.tiff", 40, 1.0)
    assert load_study(draft_study(folder, tmp_path / "out").study).name == name


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    write_ome(tmp_path / "a.ome.tiff", noise())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(StudyError, match="exists already and is not overwritten"):
        draft_study(tmp_path, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").touch()
    with pytest.raises(MissingInputError, match=r"no image that can be read[\s\S]*empty file"):
        draft_study(tmp_path, tmp_path / "out")
    with pytest.raises(MissingInputError, match="no such folder"):
        draft_study(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")
def test_steinbock_output_becomes_a_study_that_checks(tmp_path: Path, plexrank: Callable[..., object]) -> None:
    out = tmp_path / "out"
    drafted = plexrank("init", "--images", IMC / "steinbock", "--out", out)
    assert drafted.returncode == 0, drafted.stderr
    assert "15 images in ome (TIFF): the same as in img (TIFF)" in drafted.stdout
    assert read_panel(out / "panel.csv").kept_names == read_panel(IMC / "steinbock" / "panel.csv").kept_names
    fill_in_labels(out)
    checked = plexrank("check", out / "study.yaml", "--quick")
    assert checked.returncode == 0, checked.stderr
    assert "n_images           15" in checked.stdout
