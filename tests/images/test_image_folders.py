"""Folders of single-channel TIFFs: names in and of the files, staining rounds, several samples, MCMICRO projects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from image_files import noise, write_ome
from plexrank.errors import ImageDataError, MissingInputError
from plexrank.images.find import find_images
from plexrank.images.open import open_image
from plexrank.images.rounds import rounds_of_one, samples_in


def write_channels(folder: Path, files: Sequence[str], names: Sequence[str | None], seed: int = 0) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (len(files), 20, 30)).astype("uint16")
    for plane, file, name in zip(pixels, files, names, strict=True):
        metadata = {"axes": "YX"} if name is None else {"axes": "YX", "Channel": {"Name": [name]}}
        tifffile.imwrite(folder / f"{file}.ome.tif", plane, photometric="minisblack", metadata=metadata)
    return pixels


def macsima(cycle: int, names: Sequence[str], roi: int = 1) -> list[str]:
    return [f"C-{cycle:03d}_S-000_S_FITC_R-{roi:02d}_W-A-1_ROI-{roi:02d}_A-{name}_C-clone" for name in names]


@pytest.mark.parametrize(
    ("files", "inner", "names"),
    [
        (macsima(1, ("CD3", "DAPI")), ("CD3", "DAPI"), ("CD3", "DAPI")),
        (("img0", "img1"), ("CD3", "CD8"), ("CD3", "CD8")),
        (("CD3", "CD8"), ("FITC", "Cy5"), ("CD3", "CD8")),
        (("CD3", "CD8"), ("Channel 0", "Channel 0"), ("CD3", "CD8")),
        (("CD3", "CD8"), (None, "CD8"), ("CD3", "CD8")),
        (("CD3 a", "CD3 b"), ("CD3", "CD3"), ("CD3 a", "CD3 b")),
    ],
)
def test_names_in_and_of_the_files(tmp_path: Path, files: Sequence[str], inner: Sequence[str], names: object) -> None:
    pixels = write_channels(tmp_path, files, inner)
    image = open_image(tmp_path)
    assert image.channel_names == names
    np.testing.assert_array_equal(image.data.compute(), pixels)


def test_a_file_that_is_called_otherwise_than_its_channel_is_told(tmp_path: Path) -> None:
    write_channels(tmp_path, ("CD3", "CD31"), ("CD3", "CD3"))
    with pytest.raises(ImageDataError, match=r"the channel in CD31\.ome\.tif is called 'CD3'; give the file that name"):
        open_image(tmp_path)


def test_rounds_in_folders_are_one_image(tmp_path: Path) -> None:
    first = write_channels(tmp_path / "roi" / "1_Cycle1", macsima(1, ("CD3", "DAPI")), ("CD3", "DAPI"), 1)
    second = write_channels(tmp_path / "roi" / "10_Cycle10", macsima(10, ("CD8", "DAPI")), ("CD8", "DAPI"), 2)
    third = write_channels(tmp_path / "roi" / "2_Cycle2", macsima(2, ("SMA",)), ("SMA",), 3)
    image = open_image(tmp_path / "roi")
    assert image.channel_names == ("CD3", "DAPI (1)", "SMA", "CD8", "DAPI (10)")
    np.testing.assert_array_equal(image.data.compute(), np.concatenate([first, third, second]))
    with pytest.raises(ImageDataError, match=r"one of 3 staining rounds of an image; name the folder that holds them"):
        open_image(tmp_path / "roi" / "2_Cycle2")
    assert [found.path.name for found in find_images(tmp_path).images] == ["roi"]


def test_rounds_of_differing_size_are_refused(tmp_path: Path) -> None:
    write_channels(tmp_path / "cycle1", ("CD3", "DAPI"), (None, None))
    (tmp_path / "cycle2").mkdir()
    tifffile.imwrite(tmp_path / "cycle2" / "CD8.tif", noise((20, 31)))
    with pytest.raises(ImageDataError, match=r"CD8\.tif is 1 × 20 × 31 px .* must agree in size and type"):
        open_image(tmp_path)


def test_files_of_several_samples_are_no_image(tmp_path: Path) -> None:
    files = [f"sample{n}_{marker}" for n in range(3) for marker in ("CD3", "CD8", "DNA")]
    write_channels(tmp_path / "data", files, [None] * 9)
    with pytest.raises(ImageDataError, match=r"9 files look like those of 3 samples \(sample0, sample1, sample2\)"):
        open_image(tmp_path / "data")
    assert "its own folder" in find_images(tmp_path).passed_over[0]


@pytest.mark.parametrize(
    ("names", "samples"),
    [
        (["a_CD3", "a_CD8", "b_CD3", "b_CD8"], ["a", "b"]),
        (["CD3_a", "CD8_a", "CD3_b", "CD8_b"], ["a", "b"]),
        ([*macsima(1, ("CD3", "CD8"), 1), *macsima(1, ("CD3", "CD8"), 2)], ["R-01", "R-02"]),
        (["s1-CD3", "s1-Ki-67", "s2-CD3", "s2-Ki-67"], ["s1", "s2"]),
        (["CD3.s1", "CD8.s1", "CD3.s2", "CD8.s2"], ["s1", "s2"]),
        (["P1 CD3", "P1 CD8", "P1 DNA", "P2 CD3", "P2 CD8"], ["P1", "P2"]),
        ([*macsima(1, ("CD3", "DAPI")), *macsima(2, ("CD8", "SMA"))], []),
        (["CD45_RA", "CD45_RO", "CD3", "DNA_1", "DNA_2"], []),
        (["HLA_DR", "HLA_DQ", "p_ERK", "p_AKT", "t_AKT"], []),
        (["CD3", "CD8", "DNA", "SMA"], []),
    ],
)
def test_samples_in_names(names: list[str], samples: list[str]) -> None:
    assert (sorted(samples_in(names)) == samples) if not samples else bool(samples_in(names))


def test_rounds_in_names() -> None:
    assert rounds_of_one(["1_Cycle1", "2_Cycle2", "logs"]) == [["1_Cycle1", "2_Cycle2"]]
    assert rounds_of_one(["a_round02.tif", "a_round1.tif", "b_round1.tif"]) == [["a_round1.tif", "a_round02.tif"]]
    assert rounds_of_one(["cyc001_reg001", "cyc002_reg001", "cyc001_reg002"]) == [["cyc001_reg001", "cyc002_reg001"]]
    assert rounds_of_one(["patient1", "patient2", "bicycle1", "bicycle2"]) == []


def test_unjoined_rounds_are_no_images(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_ome(tmp_path / f"s0_cycle{number}.ome.tif", noise())
    found = find_images(tmp_path)
    assert not found.images
    assert all("one of 3 staining rounds of an image (s0_cycle1.ome.tif to" in said for said in found.passed_over)


def test_rounds_of_stacks_in_folders_are_no_images(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "roi" / f"cycle{number}").mkdir(parents=True)
        write_ome(tmp_path / "roi" / f"cycle{number}" / "image.ome.tif", noise())
    found = find_images(tmp_path)
    assert not found.images
    assert "one of 2 staining rounds of an image (cycle1 to cycle2)" in found.passed_over[0]


def test_of_an_mcmicro_project_the_registered_images(tmp_path: Path) -> None:
    for folder in ("raw", "registration", "segmentation/unmicst", "qc"):
        (tmp_path / "s0" / folder).mkdir(parents=True)
    for number in range(3):
        write_ome(tmp_path / "s0" / "raw" / f"exemplar-{number}.ome.tif", noise())
    write_ome(tmp_path / "s0" / "registration" / "s0.ome.tif", noise((9, 20, 30)), None)
    write_ome(tmp_path / "s0" / "segmentation" / "unmicst" / "cell.ome.tif", noise((1, 20, 30)), None)
    found = find_images(tmp_path)
    assert [image.name for image in found.images] == ["s0"]
    assert sum("a step of MCMICRO, whose images are those in registration" in said for said in found.passed_over) == 3


def test_of_dearrayed_cores_the_cores(tmp_path: Path) -> None:
    for folder in ("registration", "dearray", "raw"):
        (tmp_path / folder).mkdir()
    write_ome(tmp_path / "registration" / "tma.ome.tif", noise())
    write_ome(tmp_path / "dearray" / "1.ome.tif", noise())
    assert [image.path.parent.name for image in find_images(tmp_path).images] == ["dearray"]


def test_a_folder_of_rounds_alone_is_told_by_init(tmp_path: Path) -> None:
    from plexrank.planning.draft import draft_study

    for number in (1, 2):
        write_ome(tmp_path / f"cycle{number}.tif", noise())
    with pytest.raises(MissingInputError, match="staining rounds of an image"):
        draft_study(tmp_path, tmp_path / "out")
