"""What check says of the outcome, first and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import Plexrank
from plexrank.cli.app import app
from plexrank.planning.check import check_study_file
from plexrank.simulate import simulate
from simulated_cohorts import rows


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    kinds = ("demo", "survival", "ordinal", "continuous")
    return {kind: simulate(kind, folder / kind, images=48, channels=4, size_px=32, seed=2) for kind in kinds}


def shown(study: Path, *overrides: str) -> list[str]:
    """The lines of check, problems included."""
    arguments = ["check", str(study), "--quick", *(part for one in overrides for part in ("--set", one))]
    return CliRunner().invoke(app, arguments).stdout.splitlines()


def rewrite(study: Path, folder: Path, change: dict[str, str]) -> Path:
    """A copy of a study whose samplesheet has the column ``event`` in other words; images stay where they are."""
    root = study.parent
    text = study.read_text().replace("samplesheet.csv", str(folder / "s.csv"))
    for name in ("panel.csv", "truth.csv"):
        text = text.replace(name, str(root / name))
    (folder / "study.yaml").write_text(text.replace("cohort:\n", f"cohort:\n  root: {root}\n"))
    table = rows(root / "samplesheet.csv")
    lines = [",".join({**row, "event": change.get(row["event"], row["event"])}.values()) for row in table]
    (folder / "s.csv").write_text("\n".join([",".join(table[0]), *lines]) + "\n")
    return folder / "study.yaml"


def test_classes_are_said_as_ever(studies: dict[str, Path]) -> None:
    assert shown(studies["demo"])[0].split() == ["class", "patients", "images", "of", "site", "S1", "of", "site", "S2"]
    assert shown(studies["demo"])[1].split() == ["A", "24", "24", "12", "12"]


def test_survival_says_events_follow_up_coding_and_folds_first(studies: dict[str, Path]) -> None:
    table = rows(studies["survival"].parent / "samplesheet.csv")
    events = sum(row["event"] == "1" for row in table)
    first, coding, folds, header, *more = shown(studies["survival"])
    assert first.startswith(f"outcome            survival: {events} events among 48 patients, median follow-up ")
    assert first.endswith(" (reverse Kaplan-Meier)")
    assert coding.strip().startswith(f"1 in column 'event' = the event happened: {events} of 48")
    assert folds.strip().startswith("events in the folds: ")
    assert sum(map(int, folds.partition(": ")[2].split(", "))) == events
    assert header.split()[:2] == ["patients", "images"]
    assert [line.split()[:2] for line in more[:2]] == [["event", str(events)], ["censored", str(48 - events)]]


def test_an_event_coded_the_other_way_round_is_seen_at_once(studies: dict[str, Path], tmp_path: Path) -> None:
    table = rows(studies["survival"].parent / "samplesheet.csv")
    censored = sum(row["event"] == "0" for row in table)
    turned = rewrite(studies["survival"], tmp_path, {"0": "1", "1": "0"})
    first, coding, *_ = shown(turned)
    assert f"survival: {censored} events among 48 patients" in first
    assert f"1 in column 'event' = the event happened: {censored} of 48" in coding
    is_most, is_short = "that is most patients" in coding, "those without it were followed for less time" in coding
    assert is_most == (2 * censored > 48)
    assert is_most or is_short
    assert 'where it means censored, set cohort.event_values: {"1": 0, "0": 1}' in coding
    warned = [warning for warning in check_study_file(turned).warnings if "the other way round" in warning]
    assert bool(warned) == (is_most and is_short)
    assert all(f"{censored} of 48 patients have it (event = 1)" in warning for warning in warned)
    again = shown(turned, 'cohort.event_values={"1": 0, "0": 1}')
    assert again[0] == shown(studies["survival"])[0]
    assert again[1].strip().startswith("0 in column 'event' = the event happened:")


def test_words_of_registries_are_named(studies: dict[str, Path], tmp_path: Path) -> None:
    study = rewrite(studies["survival"], tmp_path, {"0": "0:LIVING", "1": "1:DECEASED"})
    values = "cohort.event_values={0:LIVING: 0, 1:DECEASED: 1}"
    (problem,) = check_study_file(study).problems
    assert '{"0:LIVING": 0, "1:DECEASED": 1}' in str(problem)
    assert shown(study, values)[1].strip().startswith("1:DECEASED in column 'event' = the event happened: ")


def test_grades_are_in_order_with_counts_and_numbers_have_a_range(studies: dict[str, Path]) -> None:
    assert shown(studies["ordinal"])[0] == (
        "outcome            ordinal, patients of each grade, lowest first: 1 (12), 2 (12), 3 (12), 4 (12)"
    )
    assert shown(studies["ordinal"])[1].split()[0] == "grade"
    values = sorted(float(row["label"]) for row in rows(studies["continuous"].parent / "samplesheet.csv"))
    first, folds, *_ = shown(studies["continuous"])
    assert first == (
        f"outcome            continuous: 48 values from {values[0]:g} to {values[-1]:g}, "
        f"median {sum(values[23:25]) / 2:g}"
    )
    assert folds.strip() == "patients in the folds: 12, 12, 12, 12"


def test_what_is_left_out_is_counted(studies: dict[str, Path], tmp_path: Path) -> None:
    study = rewrite(studies["survival"], tmp_path, {"1": ""})
    lines = shown(study, "train.folds=2")
    events = sum(row["event"] == "1" for row in rows(studies["survival"].parent / "samplesheet.csv"))
    assert f"{events} images have no value in column 'time' or column 'event' and are left out" in "\n".join(lines)
    assert lines[0].startswith(f"outcome            survival: 0 events among {48 - events} patients")


def test_programs_get_the_same(studies: dict[str, Path]) -> None:
    for kind, groups in (("survival", {"event", "censored"}), ("continuous", {"all"}), ("demo", {"A", "B"})):
        said = CliRunner().invoke(app, ["check", str(studies[kind]), "--quick", "--json"]).stdout
        found = json.loads(said)["outcome"]
        assert found["kind"] == ("nominal" if kind == "demo" else kind)
        assert {group["label"] for group in found["groups"]} == groups
        assert sum(group["n_patients"] for group in found["groups"]) == 48
        assert bool(found["described"]) == (kind != "demo")


@pytest.mark.parametrize("kind", ["survival", "ordinal", "continuous"])
def test_a_run_of_any_kind_is_planned_and_tiled(
    studies: dict[str, Path], tmp_path: Path, kind: str, plexrank: Plexrank
) -> None:
    run = ("run", studies[kind], "--out", tmp_path / "run")
    planned = plexrank(*run, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "train fold 0 seed 0, " in planned.stdout
    assert plexrank(*run, "--until", "tile").returncode == 0
    assert "table of all tiles: done\n" in plexrank(*run, "--dry-run").stdout
    single = plexrank("evaluate", tmp_path / "run", "--single-cell", tmp_path / "cells.csv")
    if kind != "ordinal":
        assert single.returncode == 64
        assert f"and the outcome of this study is {kind}; name a column of classes by --class-column" in single.stderr
