"""The command line: what it refuses, with which words and exit codes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import Plexrank, command
from plexrank.rundir import RunDir


def test_help_is_quick_and_names_every_command() -> None:
    """It takes half a second where it loads nothing that takes longer."""
    _, *arguments = command("--help")
    shown = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True)
    assert shown.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"numpy", "pandas", "pydantic", "scipy", "torch", "zarr", "dask", "distributed"}
    for verb in (
        "demo",
        "simulate",
        "check",
        "run",
        "tile",
        "train",
        "attribute",
        "rank",
        "report",
        "status",
        "evaluate",
    ):
        assert verb in shown.stdout


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run"], ["simulate", "nosuch", "--out", "x"], ["check", "--nosuch"]]
)
def test_wrong_usage_exits_with_2(plexrank: Plexrank, arguments: list[str]) -> None:
    refused = plexrank(*arguments)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_check_tells_the_cost_of_a_good_study(plexrank: Plexrank, tiny_study: Path) -> None:
    result = json.loads(plexrank("check", tiny_study, "--quick", "--json").stdout)
    assert result["problems"] == []
    cost = result["cost"]
    assert (cost["n_images"], cost["n_patients"], cost["n_channels"], cost["n_tiles"]) == (32, 32, 6, 32)
    assert cost["n_parameters"] is None
    assert "n_parameters" not in plexrank("check", tiny_study, "--quick").stdout


def copied(study: Path, folder: Path) -> Path:
    """Study file of a copy of a cohort, to be spoilt by a test."""
    shutil.copytree(study.parent, folder)
    return folder / study.name


def change_study(study: Path, section: str, **values: object) -> None:
    content = yaml.safe_load(study.read_text())
    content.setdefault(section, {}).update(values)
    study.write_text(yaml.safe_dump(content))


def change_rows(study: Path, changes: dict[int, dict[str, str]]) -> None:
    with (study.parent / "samplesheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, change in changes.items():
        rows[index].update(change)
    with (study.parent / "samplesheet.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_column(study: Path, name: str, value: Callable[[int], str]) -> None:
    path = study.parent / "samplesheet.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},{name}", *(f"{line},{value(row)}" for row, line in enumerate(lines))]) + "\n")


def faulty_study(study: Path) -> Path:
    """A study with six different faults: unknown key, link, doubled id, small class, panel cell and damaged image."""
    change_study(study, "train", epoch=3)
    change_rows(study, {0: {"path": "../outside.tiff"}, 1: {"image_id": "image003"}, 4: {"label": "C"}})
    panel = study.parent / "panel.csv"
    panel.write_text(panel.read_text().replace("C02,C02,1", "C02,C02,maybe"))
    (study.parent / "images" / "image009.ome.tiff").write_bytes(b"")
    return study


SIX_FAULTS = (
    "train.epoch: unknown key; did you mean train.epochs?",
    "outside.tiff: outside ",
    "line 4: image_id 'image003' is on line 3 already",
    "class 'C' has 1 patient, fewer than the 4 folds",
    "line 3: keep must be 0 or 1, found 'maybe'",
    "image009.ome.tiff: empty file",
)


def test_six_faults_are_told_at_once(plexrank: Plexrank, tiny_study: Path, tmp_path: Path) -> None:
    study = faulty_study(copied(tiny_study, tmp_path / "c"))
    refused = plexrank("check", study)
    assert refused.returncode == 64
    lines = refused.stderr.splitlines()
    for words in SIX_FAULTS:
        assert sum(words in line for line in lines) == 1, refused.stderr
    assert len(lines) == 6
    told = json.loads(plexrank("check", study, "--json").stdout)
    assert [problem["message"] for problem in told["problems"]] == [line.removeprefix("error: ") for line in lines]
    assert told["cost"] is None
    early = plexrank("run", study, "--out", tmp_path / "run")
    assert (early.returncode, early.stderr) == (64, refused.stderr)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "values", "words", "code"),
    [
        ("model", {"weights": "none.pth"}, "model.weights: {}/none.pth: no such file", 66),
        (
            "model",
            {"backbone": "resnet18", "weights": "imagenet"},
            "checkpoints/resnet18-f37072fd.pth: no such file",
            66,
        ),
        ("cohort", {"exclude_channels": ["C99"]}, "cohort.exclude_channels: 'C99' is not a kept channel of", 64),
        ("cohort", {"exclude_channels": [f"C0{n}" for n in range(1, 7)]}, "all channels of", 64),
        ("cohort", {"exclude_channels": ["C99"], "panel": None}, "cohort.exclude_channels: 'C99' is not a kept", 64),
        ("cohort", {"truth": "panel.csv"}, "column 'informative' is missing", 64),
        ("cohort", {"truth": "no.csv"}, "no.csv: no such file", 66),
        ("train", {"split": "given"}, "but the samplesheet has no column 'split' or an empty one", 64),
    ],
)
def test_what_would_fail_late_is_told_early(
    plexrank: Plexrank,
    tiny_study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    values: dict,
    words: str,
    code: int,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    study = copied(tiny_study, tmp_path / "c")
    change_study(study, "model", backbone="resnet18")
    change_study(study, section, **values)
    for arguments in (["check", study], ["run", study, "--out", tmp_path / "run"]):
        refused = plexrank(*arguments)
        assert refused.returncode == code, refused.stderr
        assert words.format(study.parent) in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_class_that_no_fold_could_train_on_is_told_early(
    plexrank: Plexrank, tiny_study: Path, tmp_path: Path
) -> None:
    study = copied(tiny_study, tmp_path / "c")
    change_study(study, "train", folds=2, split="given")
    change_rows(study, {0: {"label": "C"}, 1: {"label": "C"}})
    add_column(study, "split", lambda row: str(row // 2 % 2))
    refused = plexrank("check", study)
    assert refused.returncode == 64
    assert "no patient of class 'C' is left to train on in fold 0, which holds out all of them; set" in refused.stderr
    change_study(study, "train", split="folds")
    change_rows(study, {row: {"label": "AA"} for row in range(4)})
    warned = plexrank("check", study, "--quick")
    assert warned.returncode == 0, warned.stderr
    assert "warning: class 'AA' has no patient among the validation patients of fold" in warned.stdout
    assert "with 2 folds this takes 10 patients" in warned.stdout


def test_a_bad_first_image_is_the_only_one_told_of(plexrank: Plexrank, tiny_study: Path, tmp_path: Path) -> None:
    study = copied(tiny_study, tmp_path / "c")
    change_study(study, "cohort", panel=None)
    first = study.parent / "images" / "image001.ome.tiff"
    content = first.read_bytes()
    first.write_bytes(b"")
    run = tmp_path / "run"
    assert len(plexrank("check", study).stderr.splitlines()) == 1
    first.write_bytes(spoilt(content))
    plexrank("run", study, "--out", run, "--until", "tile")
    first.write_bytes(b"")
    refused = plexrank("tile", run)
    assert refused.returncode == 65
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1, refused.stderr
    assert "image001.ome.tiff: empty file" in errors[0]


def spoilt(content: bytes) -> bytes:
    """An image whose header is whole and whose pixels are not."""
    start = content.index(b"\x28\xb5\x2f\xfd") + 4  # of the first zstd frame
    return content[:start] + b"\xff" * 64 + content[start + 64 :]


def test_images_are_checked_too(plexrank: Plexrank, tmp_path: Path) -> None:
    plexrank("simulate", "demo", "--out", tmp_path, "--images", 32, "--channels", 6, "--size", 32)
    first, second = sorted((tmp_path / "images").iterdir())[:2]
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:200])
    refused = plexrank("check", tmp_path / "study.yaml")
    assert refused.returncode == 65
    assert len(refused.stderr.splitlines()) == 2
    assert str(first) in refused.stderr
    assert str(second) in refused.stderr
    panel = tmp_path / "panel.csv"
    panel.write_text(panel.read_text() + "C99,C99,1\n")
    refused = plexrank("check", tmp_path / "study.yaml")
    assert refused.returncode == 64
    assert "30 images:" in refused.stderr
    assert "panel.csv: 7 rows, but the image has 6 channels" in refused.stderr  # C01 … say no more than a place
    assert len(refused.stderr.splitlines()) == 3


def test_a_bad_image_fails_its_stage_and_harms_no_other(plexrank: Plexrank, tmp_path: Path) -> None:
    plexrank("simulate", "demo", "--out", tmp_path / "c", "--images", 32, "--channels", 6, "--size", 32)
    bad = sorted((tmp_path / "c" / "images").iterdir())[3]
    content = bad.read_bytes()
    bad.write_bytes(spoilt(content))
    refused = plexrank("run", tmp_path / "c" / "study.yaml", "--out", tmp_path / "run", "--until", "tile")
    assert refused.returncode == 65
    assert str(bad) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "31 of 32 done" in plexrank("status", tmp_path / "run").stdout
    bad.write_bytes(content)
    mended = plexrank("run", tmp_path / "c" / "study.yaml", "--out", tmp_path / "run", "--until", "tile")
    assert mended.returncode == 0
    assert "tile: 31 of 32 done already" in mended.stderr


@pytest.mark.parametrize("verb", ["tile", "train", "attribute", "rank", "report", "status"])
def test_what_is_no_run_directory_is_refused(plexrank: Plexrank, tmp_path: Path, verb: str) -> None:
    refused = plexrank(verb, tmp_path)
    assert refused.returncode == 66
    assert "not a run directory" in refused.stderr


def test_a_run_never_takes_over_a_folder_with_other_files(plexrank: Plexrank, tiny_study: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    refused = plexrank("run", tiny_study, "--out", tmp_path)
    assert refused.returncode == 64
    assert "holds other files" in refused.stderr


def test_evaluate_compares_with_a_truth(plexrank: Plexrank, tiny_study: Path, tiny_run: Path) -> None:
    truth = tiny_study.parent / "truth.csv"
    result = json.loads(plexrank("evaluate", tiny_run, "--truth", truth, "--json").stdout)
    assert result["num_channels"] == 6
    assert result["recall_at"]["6"] == 1.0
    assert 0 < result["average_precision"] <= 1
    assert "recall_at" in plexrank("evaluate", tiny_run, "--truth", truth).stdout


def test_evaluate_takes_a_single_cell_table_instead(plexrank: Plexrank, tiny_run: Path, tmp_path: Path) -> None:
    cells = pd.DataFrame({f"C0{i}": [1.0, 1.0 + i] for i in range(1, 7)} | {"label": ["A", "B"]})
    cells.to_csv(tmp_path / "cells.csv", index=False)
    done = plexrank("evaluate", tiny_run, "--single-cell", tmp_path / "cells.csv", "--json")
    assert json.loads(done.stdout)["top10_overlap"] == 6
    assert plexrank("evaluate", tiny_run).returncode == 2


@pytest.mark.parametrize("below", ["", "/run"])
def test_out_in_a_file_is_refused_without_a_traceback(
    plexrank: Plexrank, tiny_study: Path, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()
    refused = plexrank("run", tiny_study, "--out", f"{tmp_path}/file{below}")
    assert refused.returncode == (1 if below else 64)
    assert len(refused.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in refused.stderr


@pytest.mark.parametrize("arguments", [["run", "{study}", "--out", "{run}"], *([v, "{run}"] for v in ("tile", "rank"))])
def test_several_processes_are_refused_with_one_message(
    plexrank: Plexrank, tiny_study: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    arguments = [argument.format(study=tiny_study, run=tiny_run) for argument in arguments]
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        refused = plexrank(*arguments)
        assert refused.returncode == 1
        said += refused.stderr.splitlines()
    assert len(said) == 1
    assert f"{arguments[0]} runs as one process, but WORLD_SIZE is 2" in said[0]


def test_a_second_run_in_the_same_directory_is_refused(plexrank: Plexrank, tiny_study: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.locked():
        refused = plexrank("run", tiny_study, "--out", run.path)
    assert refused.returncode == 1
    assert f"another run is using this folder (process {os.getpid()} on" in refused.stderr
    assert not run.study.exists()


def test_what_is_tiled_outlives_its_images_and_its_truth(plexrank: Plexrank, tiny_study: Path, tmp_path: Path) -> None:
    study, run = copied(tiny_study, tmp_path / "c"), tmp_path / "run"
    assert plexrank("run", study, "--out", run, "--until", "tile").returncode == 0
    shutil.rmtree(study.parent / "images")
    (study.parent / "truth.csv").unlink()
    status = plexrank("status", run)
    assert status.returncode == 0, status.stderr
    assert "tile         32 of 32 done" in status.stdout
    refused = plexrank("tile", run)
    assert refused.returncode == 66
    assert "no such image" in refused.stderr


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("provenance.json", "provenance.json: missing or damaged"),
        ("ranking/ranking.parquet", "ranking.parquet: not what rank wrote there"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    plexrank: Plexrank, tiny_run: Path, tmp_path: Path, path: str, words: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / path).write_bytes(b"x" * (run / path).stat().st_size)
    (run / "report" / "report.done.json").unlink()
    refused = plexrank("report", run)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_run_directory_is_not_taken_over_by_another_study(
    plexrank: Plexrank, tiny_study: Path, tiny_run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "study.yaml"
    content = yaml.safe_load(tiny_study.read_text())
    content["cohort"] = {**content["cohort"], "root": str(tiny_study.parent)}
    for key in ("samplesheet", "panel", "truth"):
        content["cohort"][key] = str(tiny_study.parent / content["cohort"][key])
    other.write_text(yaml.safe_dump({**content, "name": "another"}))
    refused = plexrank("run", other, "--out", tiny_run, "--until", "tile")
    assert refused.returncode == 64
    assert "name is 'another', but" in refused.stderr
