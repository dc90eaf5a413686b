"""The command line: what it refuses, with which words and exit codes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from conftest import Plexrank


def test_help_is_quick_and_names_every_command(plexrank: Plexrank) -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        shown = plexrank("--help")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.5
    assert shown.returncode == 0
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
    result = json.loads(plexrank("check", tiny_study, "--json").stdout)
    assert result["problems"] == []
    cost = result["cost"]
    assert (cost["n_images"], cost["n_patients"], cost["n_channels"], cost["n_tiles"]) == (32, 32, 6, 32)
    assert cost["n_parameters"] == 7473 + (6 + 1) * 200 + 201 * 200 + 201 * 2
    assert "n_parameters" in plexrank("check", tiny_study).stdout


def faulty_study(folder: Path) -> Path:
    """A study with six different faults: link, image, doubled id, small class, panel and excluded channel."""
    study = folder / "study.yaml"
    text = (folder / "samplesheet.csv").read_text().splitlines()
    header = text[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=True)) for line in text[1:]]
    rows[0]["path"] = "../outside.ome.tiff"
    rows[1]["path"] = "images/none.ome.tiff"
    rows[2]["image_id"] = rows[3]["image_id"]
    rows[4]["label"] = "C"
    (folder / "samplesheet.csv").write_text("\n".join([",".join(header), *(",".join(row.values()) for row in rows)]))
    panel = (folder / "panel.csv").read_text().replace("C02", "C01")
    (folder / "panel.csv").write_text(panel)
    content = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(content))
    return study


def test_six_faults_are_told_at_once(plexrank: Plexrank, tmp_path: Path) -> None:
    plexrank("simulate", "demo", "--out", tmp_path / "c", "--images", 32, "--channels", 6, "--size", 32)
    refused = plexrank("check", faulty_study(tmp_path / "c"))
    assert refused.returncode == 64
    lines = refused.stderr.splitlines()
    for words in (
        "leads out of",
        "none.ome.tiff: no such image",
        "stands on line",
        "class 'C' has 1 patients, fewer than the 4 folds",
        "channel 'C01' stands 2 times",
        "name 'C01' stands 2 times",
    ):
        assert sum(words in line for line in lines) == 1, refused.stderr
    assert len(lines) == 6
    assert "Traceback" not in refused.stderr


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
    assert "7 rows, but" in refused.stderr


def test_a_bad_image_fails_its_stage_and_harms_no_other(plexrank: Plexrank, tmp_path: Path) -> None:
    plexrank("simulate", "demo", "--out", tmp_path / "c", "--images", 32, "--channels", 6, "--size", 32)
    bad = sorted((tmp_path / "c" / "images").iterdir())[3]
    content = bad.read_bytes()
    bad.write_bytes(content[:-2000])
    refused = plexrank("run", tmp_path / "c" / "study.yaml", "--out", tmp_path / "run", "--until", "tile")
    assert refused.returncode == 65
    assert str(bad) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "31 of 33 done" in plexrank("status", tmp_path / "run").stdout
    bad.write_bytes(content)
    mended = plexrank("run", tmp_path / "c" / "study.yaml", "--out", tmp_path / "run", "--until", "tile")
    assert mended.returncode == 0
    assert "tile: 31 of 32 done already" in mended.stderr


@pytest.mark.parametrize("verb", ["tile", "train", "attribute", "rank", "report", "status"])
def test_what_is_no_run_directory_is_refused(plexrank: Plexrank, tmp_path: Path, verb: str) -> None:
    refused = plexrank(verb, tmp_path)
    assert refused.returncode == 66
    assert "no run directory" in refused.stderr


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
