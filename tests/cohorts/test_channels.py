"""Channels of images with different panels: joined by name, counted, and left out where they cannot be ranked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import Plexrank
from image_files import noise, write_ome
from plexrank.cohorts.bad_images import brightness_warnings, find_empty
from plexrank.cohorts.channels import CohortChannels, find_misfits, settle_channels
from plexrank.cohorts.cohort import Cohort
from plexrank.cohorts.panel import Channel, Panel
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import StudyError
from plexrank.tiles.stored_image import read_stored_image

ALL = ("CD3", "CD8", "Ki-67", "DNA")


def cohort_of(count: int, panel: Panel | None = None) -> Cohort:
    images = tuple(
        ImageRecord(f"i{n}", Path(f"/d/i{n}.tiff"), f"p{n}", "AB"[n % 2], None, None, panel, Path("/d/s.csv"), n + 2)
        for n in range(count)
    )
    return Cohort(images, ("A", "B"), panel, 0, ())


def settle(held: Sequence[Sequence[str]], panel: Panel | None = None) -> CohortChannels:
    everyone = range(len(held))
    folds = [[n for n in everyone if n // 2 % 2 != fold] for fold in (0, 1)]  # each holds A and B out alternately
    return settle_channels(cohort_of(len(held), panel), held, folds)


def test_the_union_is_in_order_of_appearance_and_joined_by_name() -> None:
    held = [ALL[:3], ("ki 67", "DNA", "cd3"), *[ALL] * 6]
    channels = settle(held)
    assert channels.names == ALL
    assert channels.planes[:2].tolist() == [[0, 1, 2, -1], [2, -1, 0, 1]]
    assert channels.present.sum() == 8 * 4 - 2
    assert channels.stored[1] == ("ki 67", "DNA", "cd3")
    assert channels.warnings == (
        "channels missing from some images, which count only where they are present: CD8 (missing from 1 of 8), "
        "DNA (missing from 1 of 8)",
    )


def test_the_panel_gives_order_and_spelling() -> None:
    panel = Panel(Path("panel.csv"), tuple(Channel(name, name) for name in ("dna", "CD8", "CD3", "ki67")))
    assert settle([ALL] * 8, panel).names == ("dna", "CD8", "CD3", "ki67")
    assert not settle([ALL] * 8, panel).warnings


def test_a_near_miss_is_told_and_not_applied() -> None:
    channels = settle([("CD3e", *ALL[1:]), ("CD3e", *ALL[1:]), *[ALL] * 6])
    assert channels.names == (*ALL[1:], "CD3")
    assert channels.left_out == ("CD3e",)
    lacking, left_out = channels.warnings
    assert lacking.endswith("CD3 (missing from 2 of 8, 2 of which have 'CD3e')")
    assert "CD3e (in 2 of 8 images; in fold 0 no training patient)" in left_out


def test_an_image_of_which_no_channel_can_be_ranked_is_told() -> None:
    with pytest.raises(StudyError, match=r"i0\.tiff: each of its channels \(PD1\) is left out"):
        settle([("PD1",), *[ALL] * 7])


def test_another_channel_of_a_like_name_that_all_have_is_no_near_miss() -> None:
    held = [("CD4", "CD24")] * 6 + [("CD24",)] * 2
    assert settle(held).warnings[0].endswith("CD4 (missing from 2 of 8)")


def test_a_channel_of_one_class_in_a_fold_is_left_out() -> None:
    held = [(*ALL, "PD1") if number in (0, 1, 2) else ALL for number in range(8)]
    channels = settle(held)
    assert channels.names == ALL
    assert "PD1 (in 3 of 8 images; in fold 0 only training patients of class 'A')" in channels.warnings[0]


def test_without_a_channel_to_rank_there_is_an_error() -> None:
    with pytest.raises(
        StudyError, match=r"no channel can be ranked: .*; CD3: in fold 0 only training patients of class 'A'"
    ):
        settle([("CD3",) if number % 2 == 0 else ("CD8",) for number in range(8)])


def test_a_row_that_no_image_of_the_panel_has_is_an_error() -> None:
    panel = Panel(Path("panel.csv"), tuple(Channel(name, name) for name in (*ALL, "CD8a")))
    with pytest.raises(StudyError, match=r"none of its 8 images has the channel 'CD8a'; did you mean 'CD8'\? Correct"):
        settle([ALL] * 8, panel)


@pytest.mark.parametrize(
    ("odd", "is_one"),
    [(("DAPI",), True), (("CD3",), True), (("CD3", "CD8"), False), (("CD3", "CD8", "x", "y", "z"), False)],
)
def test_an_image_with_fewer_than_half_of_the_usual_channels_is_a_misfit(odd: tuple[str, ...], is_one: bool) -> None:
    held = {f"i{number}": odd if number == 5 else ALL for number in range(8)}
    misfits = find_misfits(cohort_of(8).images, held)
    assert [image.record.image_id for image in misfits] == ["i5"] * is_one
    for image in misfits:
        assert f"/d/i5.tiff: has {len(set(odd) & set(ALL))} of the 4 channels" in str(image.error)


def test_images_without_common_channels_are_no_cohort() -> None:
    held = {f"i{number}": ("CD3",) if number < 4 else ("CD8",) for number in range(8)}
    with pytest.raises(StudyError, match=r"no channel is in more than half of the images .*; make a study of each"):
        find_misfits(cohort_of(8).images, held)


@pytest.mark.parametrize(
    ("signal", "empty"),
    [
        ([1.0, 2.0, 0.04, 3.0, 1.0], ["i2"]),
        ([1.0, 2.0, 0.3, 3.0, 1.0], []),
        ([0.001, 0.002, 0.00004, 0.003, 0.001], ["i2"]),
        ([0.0, 0.0, 0.0, 1.0], []),
        ([1.0, -1.0, 0.001, 1.0], []),
    ],
)
def test_an_image_without_signal_beside_the_others_is_empty(signal: list[float], empty: list[str]) -> None:
    images = cohort_of(len(signal)).images
    found = find_empty(images, {image.image_id: {"CD3": value} for image, value in zip(images, signal, strict=True)})
    assert [image.record.image_id for image in found] == empty


def test_an_image_that_lacks_a_bright_channel_is_not_empty() -> None:
    images = cohort_of(6).images
    signal = {image.image_id: {"CD3": 1.0, "CD8": 2.0, "DNA": 1000.0} for image in images}
    signal["i1"] = {"cd3": 1.0, "CD8": 2.0}
    signal["i2"] = {"CD3": 0.01, "CD8": 0.02}
    assert [image.record.image_id for image in find_empty(images, signal)] == ["i2"]


@pytest.mark.parametrize("lacked", [("DNA",), ("CD3", "CD8"), ("CD8", "DNA"), ("CD3", "DNA")])
def test_images_of_a_class_without_a_bright_marker_are_not_empty(lacked: tuple[str, ...]) -> None:
    images = cohort_of(20).images
    usual = {"CD3": 3.0, "CD8": 5.0, "CD20": 400.0, "DNA": 5000.0}
    signal = {image.image_id: dict(usual) for image in images}
    for image in images[:9]:
        signal[image.image_id] |= {name: usual[name] * 0.001 for name in lacked}
    signal["i19"] = {name: value * 0.01 for name, value in usual.items()}
    assert [image.record.image_id for image in find_empty(images, signal)] == ["i19"]


def test_images_on_another_scale_are_warned_of() -> None:
    images = cohort_of(12).images
    signal = {image.image_id: {"CD3": 1.0, "CD8": 2.0, "DNA": 40.0} for image in images}
    signal["i1"] = {"CD3": 3.0, "CD8": 8.0, "DNA": 1000.0}
    assert brightness_warnings(images, signal) == []
    signal["i2"] = {name: 257 * value for name, value in signal["i0"].items()}
    signal["i3"] = {name: value / 16 for name, value in signal["i0"].items()}
    (warning,) = brightness_warnings(images, signal)
    assert warning.startswith("2 of 12 images are 10 times as bright or as dark as the median image")
    assert "i2 (257 times, " in warning
    assert "i3 (0.0625 times, " in warning


def write_mixed_cohort(folder: Path) -> Path:
    """Images of steinbock (kept pages only), of MCMICRO (a page to remove), and with names of their own."""
    folder.mkdir()
    (folder / "panel.csv").write_text("channel,name,keep\nEr1,CD3,1\nNd2,junk,0\nNd3,CD8,1\nIr4,DNA,1\n")
    markers = "channel_number,cycle_number,marker_name,remove\n1,1,DNA,\n2,1,blank,TRUE\n3,2,CD8,\n4,2,CD3,\n"
    (folder / "markers.csv").write_text(markers)
    rows = []
    for number in range(16):
        pixels = noise((3, 16, 16)) + 100 * np.arange(3, dtype="uint16")[:, None, None]  # CD3, CD8, DNA tell themselves
        name, panel = f"i{number}.tiff", ""
        if number % 4 == 0:
            tifffile.imwrite(folder / name, pixels, photometric="minisblack")
        elif number % 4 == 1:
            blank = np.zeros_like(pixels[0])
            write_ome(folder / name, np.stack([pixels[2], blank, pixels[1], pixels[0]]), None)
            panel = "markers.csv"
        elif number % 4 == 2:
            write_ome(folder / name, pixels[::-1], ("DNA", "cd8", "cd-3"))
        else:
            write_ome(folder / name, pixels[[2, 0]], ("DNA", "CD3"))
        rows.append((f"i{number}", name, "AB"[number // 4 % 2], panel))
    frame = pd.DataFrame(rows, columns=["image_id", "path", "label", "panel"])
    frame.to_csv(folder / "sheet.csv", index=False)
    (folder / "study.yaml").write_text(
        "name: mixed\ncohort: {samplesheet: sheet.csv, panel: panel.csv, label: label}\n"
        "train: {epochs: 1, folds: 2, seeds: 1, batch_tiles: 8, crop_px: 16}\ntile: {tile_px: 16}\n"
        "model: {backbone: shallow, weights: none}\nrank: {bootstrap: 100, permutations: 100}\n"
    )
    return folder / "study.yaml"


def test_panels_that_differ_reach_the_ranking(plexrank: Plexrank, tmp_path: Path) -> None:
    study, run = write_mixed_cohort(tmp_path / "c"), tmp_path / "run"
    checked = plexrank("check", study, "--quick")
    assert checked.returncode == 0, checked.stderr
    assert "which count only where they are present: CD8 (missing from 4 of 16)" in checked.stdout
    assert "class  patients  images\nA             8       8\nB             8       8\n" in checked.stdout
    done = plexrank("run", study, "--out", run, "--until", "rank")
    assert done.returncode == 0, done.stderr
    for path in (run / "tiles").glob("i*.ome.zarr"):
        stored = read_stored_image(path)
        means = dict(zip(stored.channels, stored.tiles[0]["channel_mean"], strict=True))
        assert means.keys() == ({"CD3", "DNA"} if int(path.name[1:].split(".")[0]) % 4 == 3 else {"CD3", "CD8", "DNA"})
        assert sorted(means, key=means.__getitem__) == [name for name in ("CD3", "CD8", "DNA") if name in means]
    ranking = pd.read_csv(run / "ranking" / "ranking.csv").set_index("channel")
    assert ranking["n_images"].to_dict() == {"CD3": 16, "CD8": 12, "DNA": 16}
    warnings = json.loads((run / "ranking" / "summary.json").read_text())["warnings"]
    assert any("CD8 (missing from 4 of 16)" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("cell", "words", "code"),
    [
        ("nosuch.csv", "sheet.csv: line 2, 3: panel 'nosuch.csv': {}/nosuch.csv: no such file", 66),
        ("bad.csv", "sheet.csv: line 2, 3: panel 'bad.csv': {}/bad.csv: line 2: keep must be 0 or 1", 64),
    ],
)
def test_a_wrong_panel_of_a_row_is_told_once(
    plexrank: Plexrank, tmp_path: Path, cell: str, words: str, code: int
) -> None:
    study = write_mixed_cohort(tmp_path / "c")
    (tmp_path / "c" / "bad.csv").write_text("channel,name,keep\nA,a,maybe\n")
    frame = pd.read_csv(tmp_path / "c" / "sheet.csv", keep_default_na=False)
    frame.loc[:1, "panel"] = cell
    frame.to_csv(tmp_path / "c" / "sheet.csv", index=False)
    refused = plexrank("check", study)
    assert refused.returncode == code
    (line,) = refused.stderr.splitlines()
    assert words.format(tmp_path / "c") in line
