"""plexrank compare through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import plexrank as package
from conftest import Plexrank, without_digests
from plexrank.evaluation.ranked_run import RankedRun


@pytest.fixture
def other_run(tiny_run: Path, tmp_path: Path) -> Path:
    """What a look at a ranking needs of the tiny run, in another order and with names spelled another way."""
    run = tmp_path / "other"
    shutil.copytree(tiny_run / "ranking", run / "ranking")
    for name in ("study.yaml", "provenance.json"):
        shutil.copy(tiny_run / name, run)
    path = run / "ranking" / "ranking.parquet"
    table = pd.read_parquet(path)
    table["channel"] = table["channel"].str.replace("C0", "c-0")
    table["score"], table["position"] = table["score"].to_numpy()[::-1], table["position"].to_numpy()[::-1]
    table.to_parquet(path, index=False)
    patients = pd.read_parquet(run / "ranking" / "importance_per_patient.parquet")
    patients["channel"] = patients["channel"].str.replace("C0", "c-0")
    patients["mean_intensity"] = 1 / patients["mean_intensity"]
    patients.to_parquet(run / "ranking" / "importance_per_patient.parquet", index=False)
    return without_digests(run)


def test_compare_shows_and_writes(plexrank: Plexrank, tiny_run: Path, other_run: Path, tmp_path: Path) -> None:
    done = plexrank("compare", tiny_run, other_run, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 and 2: 6 channels in common, 32 patient ids too" in done.stdout
    assert "scores             ρ -1.00" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 79
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"compare.csv", "compare.json", "compare.html"}
    assert [f"wrote {tmp_path}/out/{name}" in done.stderr for name in files] == [True] * 3
    as_json = json.loads(plexrank("compare", tiny_run, other_run, "--json").stdout)
    assert as_json == json.loads((tmp_path / "out" / "compare.json").read_text())
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert table["position_run"].tolist() == (7 - table["position_other"]).tolist()
    distinct = plexrank("compare", tiny_run, other_run, "--patients", "distinct").stdout
    assert "patient ids" not in distinct


def test_compare_refuses(plexrank: Plexrank, tiny_run: Path, other_run: Path, tmp_path: Path) -> None:
    assert plexrank("compare", tiny_run).returncode == 2
    twice = plexrank("compare", tiny_run, tiny_run.parent / "." / tiny_run.name)
    assert (twice.returncode, "given twice" in twice.stderr) == (1, True)
    shutil.copytree(tiny_run / "ranking", tmp_path / "copy" / "ranking")
    for name in ("study.yaml", "provenance.json"):
        shutil.copy(tiny_run / name, tmp_path / "copy")
    copied = plexrank("compare", tiny_run, tmp_path / "copy")
    assert (copied.returncode, "holds the ranking of" in copied.stderr) == (1, True)
    (other_run / "ranking" / "ranking.done.json").unlink()
    unranked = plexrank("compare", tiny_run, other_run)
    assert (unranked.returncode, "the ranking is not done" in unranked.stderr) == (66, True)
    assert plexrank("compare", tiny_run, tmp_path).returncode == 66
    (tmp_path / "file").touch()
    shutil.copy(tiny_run / "ranking" / "ranking.done.json", other_run / "ranking")
    without_digests(other_run)
    assert plexrank("compare", tiny_run, other_run, "--out", tmp_path / "file").returncode == 64


def test_compare_from_python_loads_no_torch(tiny_run: Path, other_run: Path) -> None:
    code = (
        f"import sys, plexrank; found = plexrank.compare([{str(tiny_run)!r}, plexrank.open_run({str(other_run)!r})]); "
        "print(len(found.channels), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "6 False\n"
    with pytest.raises(package.PlexrankError, match="two runs or more"):
        package.compare([tiny_run])
    with pytest.raises(package.PlexrankError, match="patients='no': not known"):
        package.compare([tiny_run, other_run], patients="no")


def test_two_classes_are_compared_by_ranks_within_sites(tiny_run: Path, other_run: Path) -> None:
    path = other_run / "ranking" / "importance_per_patient.parquet"
    patients = pd.read_parquet(path)
    assert patients["site"].notna().all()
    found = package.compare([tiny_run, other_run], patients="distinct")
    assert not any("direction" in note for note in found.notes)
    signs = [run.rank_signs for run in found.runs]
    assert signs[0] is not None
    assert signs[1] is not None
    assert set(signs[0]) == {-1.0, 1.0}
    assert signs[0].to_dict() == (-signs[1]).to_dict()


@pytest.mark.parametrize("missing", ["mean_intensity", "site", "all"])
def test_an_older_run_has_no_direction(tiny_run: Path, other_run: Path, missing: str) -> None:
    path = other_run / "ranking" / "importance_per_patient.parquet"
    pd.read_parquet(path).drop(columns=missing, errors="ignore").to_parquet(path)
    if missing == "all":
        path.unlink()
    found = package.compare([tiny_run, other_run], patients="distinct")
    assert any("other of an older version" in note for note in found.notes)
    assert len(found.runs[1].patients) == 32


def test_the_column_and_the_order_of_an_outcome_are_kept(tiny_run: Path, other_run: Path) -> None:
    study, summary = other_run / "study.yaml", other_run / "ranking" / "summary.json"
    content, found = yaml.safe_load(study.read_text()), json.loads(summary.read_text())
    found["outcome"]["kind"] = "ordinal"
    summary.write_text(json.dumps(found))

    def last_run(order: list[str]) -> RankedRun:
        content["cohort"] |= {"label": "grade", "outcome": "ordinal", "order": order}
        study.write_text(yaml.safe_dump(content))
        return package.compare([tiny_run, other_run]).runs[1]

    assert (last_run(["3", "2", "1"]).order, last_run(["1", "2", "3"]).order) == (("3", "2", "1"), ())
    assert last_run(["low", "high"]).order == ("low", "high")
    assert last_run(["low", "high"]).columns == ("grade",)
