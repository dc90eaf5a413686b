"""plexrank verify: what is damaged is named, what is whole is not, and nothing is changed."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import plexrank as from_python
from conftest import Plexrank, run_arguments, without_digests
from plexrank.errors import MissingInputError, RunDirError
from plexrank.progress import Silent
from plexrank.rundir import RunDir, Unit
from plexrank.stages import verification
from plexrank.stages.verification import Verification, verify_run


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def found_of(run: Path) -> Verification:
    return verify_run(RunDir(run), Silent())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_whole_run_is_intact(tiny_run: Path, plexrank: Plexrank) -> None:
    said = plexrank("verify", tiny_run)
    assert said.returncode == 0, said.stdout
    assert said.stdout.startswith("intact: 43 units, ")
    assert "verify: 43 of 43" in said.stderr
    found = from_python.verify(tiny_run)
    assert (found.is_intact, found.not_done, found.foreign, found.without_digests) == (True, (), (), ())


FILES = [
    "tiles/image001.ome.zarr/0/c.0.0.0",
    "tiles/image002.ome.zarr/0/zarr.json",
    "tiles/statistics.parquet",
    "train/fold-1/seed-0/done.json",
    "train/fold-0/seed-0/history.csv",
    "train/fold-0/seed-1/best.pt",
    "train/fold-1/seed-1/last.pt",
    "attribution/fold-0-seed-0.zarr/mean_intensity/c/0/0",
    "attribution/fold-0-seed-1.zarr/zarr.json",
    "ranking/reads.csv",
    "report/figures/ranking.png",
    "report/report.html",
]


def test_every_damaged_file_is_named_and_nothing_is_changed(run: Path, plexrank: Plexrank) -> None:
    for name in FILES:
        flip(run / name)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said = plexrank("verify", run, "--json", "--quiet")
    assert said.returncode == 1
    found = json.loads(said.stdout)
    assert found["intact"] is False
    assert len(found["damaged"]) == len(FILES)
    for name in FILES:
        where = name.split("/0/")[0].split("/mean")[0].removesuffix("/zarr.json").removesuffix("/ranking.png")
        (line,) = [line for line in found["damaged"] if line.startswith(str(run / where))]
        assert any(remedy in line for remedy in ("delete it", "remove it", "run plexrank run again")), line
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_every_damaged_output_of_a_unit_is_named(run: Path) -> None:
    flip(run / "report/report.html")
    (run / "report/figures/ranking.png").unlink()
    page, figures = sorted(found_of(run).damaged, reverse=True)
    assert page.startswith(f"{run / 'report/report.html'}: not what report wrote there")
    assert figures.startswith(f"{run / 'report/figures'}: not what report wrote there")


def test_a_lower_limit_is_no_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEXRANK_MAX_IMAGE_CHANNELS", "2")
    assert found_of(run).is_intact


def test_outputs_of_other_units_are_named(run: Path) -> None:
    for name in ("best.pt", "history.csv", "done.json"):
        shutil.copy(run / "train/fold-1/seed-0" / name, run / "train/fold-0/seed-0" / name)
    damaged = found_of(run).damaged
    named = "train fold 0 seed 0: its done-record is that of train fold 1 seed 0; run plexrank run again"
    assert sum(named in line for line in damaged) == 1
    # The attribution is named too, where both trainings ended within the same second.
    assert all(named in line or "fold-0-seed-0.zarr: explains another best.pt" in line for line in damaged)


def test_a_forged_record_does_not_hide_another_checkpoint(run: Path) -> None:
    own = run / "train/fold-0/seed-0"
    for name in ("best.pt", "history.csv", "done.json"):
        shutil.copy(run / "train/fold-1/seed-0" / name, own / name)
    without_digests(run)
    record = json.loads((own / "done.json").read_text()) | {"unit": "train fold 0 seed 0"}
    (own / "done.json").write_text(json.dumps(record))
    found = found_of(run)
    assert len(found.without_digests) == found.units
    assert any("best.pt: of fold 1 seed 0; delete it and train again" in line for line in found.damaged)


def test_what_is_not_done_or_not_ours_is_no_damage(run: Path) -> None:
    (run / "report/report.done.json").unlink()
    (run / "tiles/.tiles.parquet.0badcafe.tmp").touch()
    (run / "train/notes.txt").touch()
    found = found_of(run)
    assert found.is_intact
    assert found.not_done == ("report: not done yet",)
    assert not found.to_dict()["finished"]
    assert found.lines()[-1].endswith("; not finished: 1 unit is not done")
    assert found.foreign == (run / "tiles/.tiles.parquet.0badcafe.tmp", run / "train/notes.txt")
    assert f"not of this run: {run / 'train/notes.txt'}" in found.lines()


def test_what_is_made_again_meanwhile_is_no_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, record = run / "tiles/image001.ome.zarr", run / "tiles/image001.done.json"
    own = run / "train/fold-0/seed-0/done.json"
    look_at = verification._looked_at

    def look(unit: Unit, within: Any) -> Any:
        if unit.record == record:
            unit.begin()
            shutil.rmtree(store)
        if unit.name.startswith("attribute fold 0 seed 0"):
            own.unlink()
            flip(run / "attribution/fold-0-seed-0.zarr/zarr.json")
        return look_at(unit, within)

    monkeypatch.setattr(verification, "_looked_at", look)
    found = found_of(run)
    meanwhile = tuple(f"{name}: worked on meanwhile" for name in ("tile image001", "attribute fold 0 seed 0"))
    assert (found.damaged, found.not_done) == ((), meanwhile)


def test_what_cannot_be_read_now_does_not_end_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "train/fold-0/seed-0/best.pt"
    flip(run / "train/fold-1/seed-0/history.csv")
    opened = Path.open

    def fail(path: Path, *others: Any, **more: Any) -> Any:
        if path == run / name:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return opened(path, *others, **more)

    monkeypatch.setattr(Path, "open", fail)
    found = found_of(run)
    ((damaged,), (not_read,)) = (found.damaged, found.not_read)
    assert "history.csv: not what train fold 1 seed 0 wrote there" in damaged
    assert name in not_read
    assert "Input/output error" in not_read
    assert not found.is_intact
    assert found.to_dict()["not_read"] == [not_read]


def test_what_a_skipped_image_left_is_not_foreign(tiny_study: Path, plexrank: Plexrank, tmp_path: Path) -> None:
    study = Path(shutil.copytree(tiny_study.parent, tmp_path / "cohort")) / tiny_study.name
    overrides = run_arguments(study, tmp_path / "run", "cohort.skip_bad=true")
    assert plexrank(*overrides, "--until", "tile").returncode == 0
    image = next((study.parent).rglob("*001*.tif*"))
    image.write_bytes(image.read_bytes()[:-2000])
    assert plexrank(*overrides, "--until", "tile").returncode == 0
    assert (tmp_path / "run/tiles/image001.failed.json").exists()
    found = found_of(tmp_path / "run")
    assert (found.damaged, found.foreign) == ((), ())


def test_a_study_that_cannot_be_read_is_named(run: Path, tmp_path: Path) -> None:
    (run / "study.yaml").write_text("{")
    with pytest.raises(RunDirError, match=r"study\.yaml: changed by hand or damaged"):
        found_of(run)
    with pytest.raises(MissingInputError, match="not a run directory"):
        found_of(tmp_path)
