"""One cohort with every kind of bad image: all are told, none harms another, and they are left out on request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import tifffile

from conftest import Plexrank
from image_files import IMC, METALS, NAMES, noise, write_mcd, write_ome, write_txt
from plexrank.cohorts.bad_images import problems_of_images
from plexrank.cohorts.cohort import survey_cohort
from plexrank.settings import CohortSettings

GOOD = 8
PANEL = "channel,name\n" + "".join(f"{metal},{name}\n" for metal, name in zip(METALS, NAMES, strict=True))
SETTINGS = (
    "train: {epochs: 1, folds: 2, seeds: 1, batch_tiles: 8, crop_px: 16}\n"
    "model: {backbone: shallow, weights: none}\ntile: {tile_px: 16}\nrank: {bootstrap: 100, permutations: 100}\n"
)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])


def truncated(folder: Path) -> str:
    cut(write_ome(folder / "truncated.ome.tiff", noise((3, 20, 24))), 0.5)
    return "truncated.ome.tiff"


def damaged_mcd(folder: Path) -> str:
    cut(write_mcd(folder / "damaged.mcd", {1: noise((3, 20, 24))}), 0.9)
    return "damaged.mcd#1"


def without_pixels(folder: Path) -> str:
    write_mcd(folder / "stopped.mcd", {1: noise((3, 0, 0))})
    return "stopped.mcd#1"


def without_signal(folder: Path) -> str:
    write_txt(folder / "dark.txt", (noise((3, 20, 24)) > 190).astype(float))
    return "dark.txt"


def without_bytes(folder: Path) -> str:
    (folder / "empty.tiff").touch()
    return "empty.tiff"


def rgb_slide(folder: Path) -> str:
    tifffile.imwrite(folder / "slide.tiff", noise((24, 24, 3)), photometric="rgb")
    return "slide.tiff"


def doubled_names(folder: Path) -> str:
    write_ome(folder / "doubled.ome.tiff", noise((3, 20, 24)), ("CD3", "DNA", "DNA"))
    return "doubled.ome.tiff"


def row_too_many(folder: Path) -> str:
    write_ome(folder / "nameless.ome.tiff", noise((3, 20, 24)), None)
    (folder / "long.csv").write_text(PANEL + "Yb172,CD8\n")
    return "nameless.ome.tiff"


def spoilt_pixels(value: float, name: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        pixels = noise((3, 20, 24)).astype("float32")
        pixels[1, 4, 5:7] = value
        write_ome(folder / name, pixels)
        return name

    return write


def flat(folder: Path) -> str:
    write_ome(folder / "flat.ome.tiff", np.full((3, 20, 24), 7, "uint16"))
    return "flat.ome.tiff"


def link_out(folder: Path) -> str:
    write_ome(folder.parent / "secret.ome.tiff", noise((3, 20, 24)))
    (folder / "link.ome.tiff").symlink_to("../secret.ome.tiff")
    return "link.ome.tiff"


def another_panel(folder: Path) -> str:
    write_ome(folder / "other.ome.tiff", noise((3, 20, 24)), ("DAPI", "CD20", "CD68"))
    return "other.ome.tiff"


class Bad(NamedTuple):
    """How an image is made (its path is returned), the message about it, and the first command that tells it."""

    make: Callable[[Path], str]
    message: str
    told_by: str


BAD = {
    "truncated": Bad(
        truncated, r"truncated\.ome\.tiff: not readable as TIFF .*; copy or export the file again", "check"
    ),
    "damaged": Bad(damaged_mcd, r"damaged\.mcd: not readable as \.mcd .*end of XML.*", "check"),
    "stopped": Bad(without_pixels, r"stopped\.mcd#1 \(ROI_001\): an empty acquisition.*", "check"),
    "dark": Bad(without_signal, r"dark\.txt: practically empty: .* of what they are in the median image; .*", "tile"),
    "empty": Bad(without_bytes, r"empty\.tiff: empty file \(0 bytes\); copy or export the file again", "check"),
    "slide": Bad(rgb_slide, r"slide\.tiff: a RGB picture, .*; export the channels as grey planes", "check"),
    "doubled": Bad(
        doubled_names, r"doubled\.ome\.tiff: channel 'DNA': it occurs 2 times in the image; give each .*", "check"
    ),
    "long": Bad(row_too_many, r"long\.csv: 4 rows, but .*nameless\.ome\.tiff has 3 channels; give one row .*", "check"),
    "nan": Bad(
        spoilt_pixels(np.nan, "nan.ome.tiff"),
        r"nan\.ome\.tiff: NaN or infinite pixels in pan-Keratin <ε> \(2\); .*",
        "tile",
    ),
    "inf": Bad(
        spoilt_pixels(np.inf, "inf.ome.tiff"),
        r"inf\.ome\.tiff: NaN or infinite pixels in pan-Keratin <ε> \(2\); .*",
        "tile",
    ),
    "flat": Bad(flat, r"flat\.ome\.tiff: no signal, every channel is constant; leave the image out", "tile"),
    "link": Bad(
        link_out, r"sheet\.csv: line \d+: .*secret\.ome\.tiff: outside .*, since it is a link into .*", "check"
    ),
    "gone": Bad(
        lambda folder: "gone.tiff", r"sheet\.csv: line \d+: .*gone\.tiff: no such image; fix the path .*", "check"
    ),
    "other": Bad(another_panel, r"other\.ome\.tiff: has 0 of the 3 channels that most images have, .*", "check"),
}


def write_cohort(folder: Path, bad: tuple[str, ...] = ()) -> Path:
    """Study file of eight good images, one of them smaller than a tile, and of bad ones."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(GOOD):
        path = folder / f"good{number}.ome.tiff"
        if not path.exists():
            write_ome(path, noise((3, 10, 12) if number == 3 else (3, 20, 24)) * (1 + number % 2))
        rows.append((f"good{number}", path.name, f"P{number}", "AB"[number % 2], ""))
    for name in bad:
        rows.append((name, BAD[name].make(folder), f"P-{name}", "A", "long.csv" if name == "long" else ""))
    frame = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "panel"])
    frame.to_csv(folder / "sheet.csv", index=False)
    (folder / "study.yaml").write_text(f"name: bad\ncohort: {{samplesheet: sheet.csv, label: label}}\n{SETTINGS}")
    return folder / "study.yaml"


def assert_told(stderr: str, names: list[str]) -> None:
    """Every image has its own line, and there is no other."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    for name in names:
        assert sum(re.search(rf"[ /]{BAD[name].message}$", line) is not None for line in lines) == 1, (name, lines)
    assert len(lines) == len(names), lines
    assert "Traceback" not in stderr


def test_bad_images_are_told_or_left_out_and_harm_no_other(plexrank: Plexrank, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert plexrank("run", write_cohort(tmp_path / "c"), "--out", run, "--until", "tile").returncode == 0
    records = {path: path.read_bytes() for path in (run / "tiles").glob("good*.done.json")}
    assert len(records) == GOOD
    study = write_cohort(tmp_path / "c", tuple(BAD))
    in_headers = [name for name, bad in BAD.items() if bad.told_by == "check"]

    checked = plexrank("check", study)
    assert checked.returncode == 64
    assert_told(checked.stderr, in_headers)
    refused = plexrank("tile", run)
    assert refused.returncode == 64
    assert_told(refused.stderr, list(BAD))

    passed = json.loads(plexrank("check", study, "--skip-bad", "--quick", "--json").stdout)
    assert not passed["problems"]
    assert {image["image_id"] for image in passed["skipped"]} == set(in_headers)
    assert passed["cost"]["n_images"] == GOOD + len(BAD) - len(in_headers)
    assert plexrank("tile", run, "--skip-bad").returncode == 0
    skipped = json.loads((run / "tiles" / "skipped.json").read_text())
    assert {image["image_id"] for image in skipped} == set(BAD)
    assert all(set(image) == {"image_id", "path", "reason"} for image in skipped)
    status = plexrank("status", run).stdout
    assert f"tile          {GOOD} of {GOOD} done" in status
    assert f"left out     {len(BAD)} images that cannot be used" in status
    assert {path: path.read_bytes() for path in records} == records
    assert len(pd.read_parquet(run / "tiles" / "tiles.parquet")["image_id"].unique()) == GOOD


def test_skipped_images_are_counted_and_tried_again(plexrank: Plexrank, tmp_path: Path) -> None:
    study, run = write_cohort(tmp_path / "c", ("truncated", "nan", "link")), tmp_path / "run"
    planned = plexrank("run", study, "--out", run, "--skip-bad", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert [line.split()[0].rstrip(":") for line in planned.stdout.splitlines()] == [
        "tile",
        "train",
        "attribute",
        "rank",
        "report",
    ]
    assert f", … ({GOOD + 2} in all), table of all tiles: not done yet" in planned.stdout
    assert plexrank("run", study, "--out", run, "--until", "train", "--skip-bad").returncode == 0
    for stage in ("attribute", "rank", "report"):
        done = plexrank(stage, run)
        assert done.returncode == 0, done.stderr
    counts = json.loads((run / "ranking" / "summary.json").read_text())["counts"]
    assert (counts["images"], counts["skipped_images"]) == (GOOD, 3)
    assert "NaN or infinite pixels in pan-Keratin" in (run / "report" / "report.html").read_text()

    write_ome(tmp_path / "c" / "nan.ome.tiff", noise((3, 20, 24)))
    again = plexrank("run", study, "--out", run, "--until", "tile", "--skip-bad")
    assert again.returncode == 0
    assert "tile: 8 of 10 done already" in again.stderr
    assert "truncated.ome.tiff: not readable as TIFF" in again.stderr
    assert sorted(image["image_id"] for image in json.loads((run / "tiles" / "skipped.json").read_text())) == [
        "link",
        "truncated",
    ]
    assert "train         0 of 2 done; first of the rest: changed: cohort" in plexrank("status", run).stdout
    strict = plexrank("run", study, "--out", run, "--until", "tile")
    assert strict.returncode == 64
    assert_told(strict.stderr, ["truncated", "link"])


def test_a_class_that_skipping_leaves_too_small_is_told(plexrank: Plexrank, tmp_path: Path) -> None:
    study, run = write_cohort(tmp_path / "c"), tmp_path / "run"
    for number in (1, 3, 5):
        (tmp_path / "c" / f"good{number}.ome.tiff").write_bytes(b"")
    words = "class 'B' has 1 patient without the 3 images left out as bad, fewer than the 2 folds"
    for arguments in (["check", study], ["run", study, "--out", run]):
        refused = plexrank(*arguments, "--skip-bad")
        assert refused.returncode == 64
        assert words in refused.stderr
    for number in (1, 3, 5):
        spoilt_pixels(np.nan, f"good{number}.ome.tiff")(tmp_path / "c")
    refused = plexrank("run", study, "--out", run, "--skip-bad")
    assert refused.returncode == 64
    assert words in refused.stderr
    assert len(json.loads((run / "tiles" / "skipped.json").read_text())) == 3


def test_a_fault_that_many_images_share_is_told_once(plexrank: Plexrank, tmp_path: Path) -> None:
    study = write_cohort(tmp_path / "c")
    for number in range(4):
        (tmp_path / "c" / f"good{number}.ome.tiff").unlink()
    for number in range(4, 8):
        (tmp_path / "c" / f"good{number}.ome.tiff").write_bytes(b"")
    refused = plexrank("check", study)
    assert refused.returncode == 66
    assert refused.stdout.endswith("A             4       4\nB             4       4\n")
    gone, empty = refused.stderr.splitlines()
    folder = tmp_path / "c"
    places = ", ".join(f"{folder}/good{number}.ome.tiff (line {number + 2})" for number in range(3))
    assert f"4 images: no such image; fix the path or leave the row out: {places}, …." in gone
    assert gone.endswith(f"cohort.root, {folder}")
    assert "4 images: empty file (0 bytes); copy or export the file again:" in empty


@pytest.mark.parametrize(("name", "change"), [("c/images", ""), ("other/tiffs", ", and begin the paths there")])
@pytest.mark.parametrize("column", ["path", "mask"])
def test_a_folder_that_is_a_link_is_one_problem_with_a_root_that_works(
    tmp_path: Path, name: str, change: str, column: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "images").symlink_to(tmp_path / name)
    rows = []
    for number in range(GOOD):
        for folder in (tmp_path / name, tmp_path / "bad"):
            (folder / f"{number}.tiff").touch()
        paths = {"path": f"{number}.tiff", "mask": "", column: f"images/{number}.tiff"}
        rows.append({"image_id": f"i{number}", "label": "AB"[number % 2], **paths})
    pd.DataFrame(rows).to_csv(tmp_path / "bad" / "s.csv", index=False)
    settings = CohortSettings(samplesheet=tmp_path / "bad" / "s.csv", label="label")
    (problem,) = problems_of_images(survey_cohort(settings, 2).bad, tmp_path / "bad")
    folder, root = tmp_path / name, tmp_path / "c" if not change else tmp_path / name
    assert f"8 images: outside {tmp_path}/bad, since {tmp_path}/bad/images is a link to {folder};" in str(problem)
    assert f"a folder that holds all images and masks, as {root} does this{change}, or move" in str(problem)
    if column == "mask":
        return  # images and masks have one root, which is for the user to find
    for row in rows:
        row["path"] = row["path"].removeprefix("images/") if change else row["path"]
    pd.DataFrame(rows).to_csv(settings.samplesheet, index=False)
    assert not survey_cohort(settings.model_copy(update={"root": root}), 2).bad


def test_a_link_that_leads_nowhere_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.tiff").symlink_to("/nowhere/a.tiff")
    (tmp_path / "s.csv").write_text("image_id,path,label\na,a.tiff,A\n")
    (bad,) = survey_cohort(CohortSettings(samplesheet=tmp_path / "s.csv", label="label"), 2).bad
    assert f"/nowhere/a.tiff: outside {tmp_path}, since it is a link into /nowhere, where nothing lies" in str(
        bad.error
    )


@pytest.mark.skipif(not IMC.is_dir(), reason=f"{IMC} is absent")
def test_the_acquisition_without_signal_is_refused(plexrank: Plexrank, tmp_path: Path) -> None:
    files = sorted((IMC / "steinbock" / "img").glob("*.tiff"))
    rows = [(file.stem, file.name, "AB"[number % 2]) for number, file in enumerate(files)]
    pd.DataFrame(rows, columns=["image_id", "path", "label"]).to_csv(tmp_path / "sheet.csv", index=False)
    cohort = f"{{samplesheet: sheet.csv, root: {files[0].parent}, panel: {IMC}/steinbock/panel.csv, label: label}}"
    (tmp_path / "study.yaml").write_text(f"name: imc\ncohort: {cohort}\n{SETTINGS}")
    refused = plexrank("run", tmp_path / "study.yaml", "--out", tmp_path / "run", "--until", "tile")
    assert refused.returncode == 65
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error")]
    assert re.search(r"mockData1_001\.tiff: practically empty: its pixels are 0\.09 on average, [0-9.]+% of what", line)
