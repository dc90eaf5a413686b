"""What the command line says, to whom, and how it may be asked to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Plexrank, command, run_arguments
from plexrank.cli.app import app

VERB_NAMES = [
    *("demo", "simulate", "init", "check", "run", "tile", "train", "attribute", "rank", "report"),
    *("status", "cancel", "doctor", "evaluate", "compare", "verify", "view", "completion"),
]


def test_verbs_are_listed_in_the_order_of_their_use_each_with_an_example() -> None:
    listed = [verb.name or verb.callback.__name__ for verb in app.registered_commands]
    assert listed == VERB_NAMES
    for verb, name in zip(app.registered_commands, listed, strict=True):
        assert verb.epilog is not None
        assert verb.epilog.startswith("Example")
        assert f"plexrank {name}" in verb.epilog


def test_quiet_prints_results_alone_and_the_log_has_the_rest(
    plexrank: Plexrank, tiny_study: Path, tiny_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "ranking" / "ranking.done.json").unlink()
    log = run / "logs" / "plexrank.log"
    before = log.read_text()
    done = plexrank("rank", run, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    said = log.read_text().removeprefix(before).splitlines()
    assert said[0].endswith(f"$ plexrank rank {run} --quiet")
    assert "rank: held-out AUC" in said[1]
    assert said[2].endswith(f"rank: wrote {run}/ranking/ranking.csv, {run}/ranking/summary.json")
    refused = plexrank("report", run, "--quiet", "--verbose")
    assert refused.returncode == 2
    (run / "ranking" / "summary.json").write_text("{")
    failed = plexrank("report", run, "-q")
    assert failed.returncode != 0
    assert f"{failed.stderr.splitlines()[0]}" in log.read_text().splitlines()[-1]


def test_a_run_logs_what_it_says_and_says_what_it_wrote(tiny_run: Path) -> None:
    lines = [line[20:] for line in (tiny_run / "logs" / "plexrank.log").read_text().splitlines()]
    assert lines[0].startswith("$ plexrank run ") or lines[1].startswith("$ plexrank run ")
    for stage, where in (
        ("tile", "tiles"),
        ("train", "train"),
        ("attribute", "attribution"),
        ("rank", "ranking/ranking.csv"),
        ("report", "report/report.html"),
    ):
        assert any(line.startswith(f"{stage}: wrote {tiny_run}/{where}") for line in lines), (stage, lines)


def test_verbose_names_the_units(plexrank: Plexrank, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "attribution" / "fold-0-seed-1.done.json").unlink()
    assert "attribute: to do: attribute fold 0 seed 1" in plexrank("attribute", run, "-v").stderr


def test_status_and_doctor_as_json(plexrank: Plexrank, tiny_study: Path, tiny_run: Path) -> None:
    status = json.loads(plexrank("status", tiny_run, "--json").stdout)
    assert [(stage["stage"], stage["done"], stage["total"]) for stage in status["stages"]][1:] == [
        ("train", 4, 4),
        ("attribute", 4, 4),
        ("rank", 1, 1),
        ("report", 1, 1),
    ]
    assert (status["is_active"], status["failures"]) == (False, [])
    assert status["next"] == f"open {tiny_run}/report/report.html"
    words = " ".join(map(str, ["plexrank", *run_arguments(tiny_study, tiny_run)]))
    assert status["command"] == words
    found = json.loads(plexrank("doctor", "--json").stdout)
    assert {"plexrank", "machine", "torch", "disk"} <= {finding["topic"] for finding in found["findings"]}


def test_status_gives_the_command_that_goes_on(
    plexrank: Plexrank, tiny_study: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "a run"
    shutil.copytree(tiny_run, run)
    (run / "report" / "report.done.json").unlink()
    provenance = run / "provenance.json"
    content = json.loads(provenance.read_text())
    resolved = f"next: plexrank run '{run}/study.yaml' --out '{run}' does what is left"

    def said(**last: str) -> str:
        content["commands"][-1] |= last
        provenance.write_text(json.dumps(content))
        return plexrank("status", run).stdout.splitlines()[-1]

    monkeypatch.chdir(tmp_path)
    there = {"folder": str(tmp_path / "else where")}
    assert said(command="plexrank run s.yaml --out 'a run'", folder=str(tmp_path)) == (
        "next: plexrank run s.yaml --out 'a run' does what is left"
    )
    assert said(**there) == resolved  # the run was moved or copied since: there it would begin another
    assert said(command="plexrank run s.yaml '--out=../a run'") == (
        f"next: cd '{tmp_path}/else where' && plexrank run s.yaml '--out=../a run' does what is left"
    )
    assert said(command="plexrank run s.yaml --out 'a run' --until rank") == resolved
    assert said(command="plexrank.run('s.yaml', out='a run')") == resolved
    assert said(command="plexrank run s.yaml --out 'a run' --cluster=p.yaml") == resolved
    assert said(command="plexrank demo --out 'a run'") == resolved


def test_names_from_a_user_cannot_steer_the_terminal(plexrank: Plexrank, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text('name: x\ncohort: {samplesheet: "a\\e[31mb.csv", label: y}\n')
    refused = plexrank("check", study)
    assert refused.returncode == 66
    assert "a\\x1b[31mb.csv" in refused.stderr
    assert "\x1b" not in refused.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_works_offline(plexrank: Plexrank, shell: str) -> None:
    script = plexrank("completion", shell)
    assert script.returncode == 0
    assert f"_PLEXRANK_COMPLETE=complete_{shell}" in script.stdout
    environment = {**os.environ, "_PLEXRANK_COMPLETE": f"complete_{shell}"}
    environment |= {"COMP_WORDS": "plexrank eva", "COMP_CWORD": "1"}  # as bash asks
    environment |= {"_TYPER_COMPLETE_ARGS": "plexrank eva", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    answer = subprocess.run(command(), env=environment, capture_output=True, text=True).stdout
    assert "evaluate" in answer
    assert "status" not in answer


def test_bash_takes_the_script(plexrank: Plexrank) -> None:
    script = plexrank("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "'\\xb5\\u2026'"), ("latin-1", "'\xb5\\u2026'")])
def test_what_the_output_cannot_show_is_escaped(tmp_path: Path, encoding: str, shown: str) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("name: x\ncohort: {samplesheet: s.csv, label: y}\ntrain: {epochs: µ…}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    checked = subprocess.run([*command(), "check", study, "--json"], env=environment, capture_output=True)
    assert checked.returncode == 64
    assert shown.encode(encoding) in checked.stderr
    assert subprocess.run([*command(), "--help"], env=environment, capture_output=True).returncode == 0


def test_bytes_that_are_no_text_are_told_of_in_a_message(plexrank: Plexrank, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"coh-\xff")
    folder.mkdir()
    (folder / "study.yaml").write_text("name: x\ncohort: {samplesheet: s.csv, label: y}\n")
    for refused in (
        plexrank("check", folder / "study.yaml"),
        plexrank("run", folder / "study.yaml", "--out", tmp_path / "run"),
        plexrank("status", folder),
        plexrank("init", "--images", folder, "--out", tmp_path / "out"),
    ):
        assert refused.returncode == 64
        assert "coh-\\udcff" in refused.stderr
        assert "is not UTF-8; rename that file or folder" in refused.stderr
