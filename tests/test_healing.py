"""Files of a run are damaged, swapped, linked and lost; the same command brings back the undisturbed ranking."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tifffile

from conftest import Plexrank, run_arguments
from plexrank.errors import MissingInputError, ReadFailedError, RunDirError
from plexrank.planning.check import check_study_file
from plexrank.planning.plan import make_plan
from plexrank.progress import Silent
from plexrank.rundir import DamagedOutputError, RunDir
from plexrank.stages.pipeline import run_stages
from plexrank.stages.tile_table import TileTable
from plexrank.study import load_study

Fault = Callable[[Path, Path], None]
"""Is given a path, and the same path of another unit."""


def flip(path: Path, _: Path) -> None:
    file = path if path.is_file() else next(one for one in sorted(path.rglob("*")) if one.match("*/c/0*/0"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1 << 6
    file.write_bytes(content)


def cut(path: Path, _: Path) -> None:
    file = path if path.is_file() else path / "logits" / "zarr.json"
    file.write_bytes(file.read_bytes()[:-3])


def empty(path: Path, _: Path) -> None:
    if path.is_file():
        path.write_bytes(b"")
    else:
        delete(path, path)
        path.mkdir()


def delete(path: Path, _: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def foreign(path: Path, other: Path) -> None:
    if path == other:
        return
    delete(path, other)
    shutil.copytree(other, path) if other.is_dir() else shutil.copy(other, path)


def link(path: Path, other: Path) -> None:
    delete(path, other)
    path.symlink_to(other if path != other else path.parent / "nowhere")


def folder(path: Path, _: Path) -> None:
    delete(path, path)
    path.mkdir()
    (path / "thesis.docx").touch()


def pipe(path: Path, _: Path) -> None:
    delete(path, path)
    os.mkfifo(path)


FAULTS: dict[str, list[Fault]] = {
    "flip": [flip],
    "foreign": [foreign],
    "link": [link],
    "folder": [folder],
    "pipe": [pipe],
    "cut, empty or deleted": [cut, empty, delete],
}
FILES = {
    "train/fold-0/seed-0/best.pt": "train/fold-1/seed-0/best.pt",
    "train/fold-0/seed-1/done.json": "train/fold-1/seed-1/done.json",
    "train/fold-0/seed-1/last.pt": "train/fold-1/seed-1/last.pt",
    "train/fold-1/seed-0/history.csv": "train/fold-0/seed-0/history.csv",
    "attribution/fold-1-seed-1.zarr": "attribution/fold-1-seed-0.zarr",
    "attribution/fold-0-seed-1.done.json": "attribution/fold-0-seed-0.done.json",
    "tiles/tiles.parquet": "tiles/tiles.parquet",
    "tiles/statistics.parquet": "tiles/statistics.parquet",
    "tiles/images.json": "tiles/images.json",
    "tiles/image003.ome.zarr/zarr.json": "tiles/image004.ome.zarr/zarr.json",
    "tiles/image005.ome.zarr/0/c.0.0.0": "tiles/image006.ome.zarr/0/c.0.0.0",
    "ranking/ranking.csv": "ranking/ranking.csv",
    "ranking/summary.json": "ranking/summary.json",
    "tiles/_tiles.done.json": "tiles/_tiles.done.json",
    "provenance.json": "provenance.json",
}


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


@pytest.fixture(scope="module")
def undisturbed(tiny_run: Path) -> bytes:
    return (tiny_run / "ranking" / "ranking.csv").read_bytes()


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_run_goes_on_to_the_undisturbed_ranking(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes, faults: list[Fault]
) -> None:
    for (name, other), fault in zip(FILES.items(), itertools.cycle(faults), strict=False):
        fault(run / name, run / other)
    healed = plexrank(*run_arguments(tiny_study, run), "--until", "rank")
    assert healed.returncode == 0, healed.stderr
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed
    assert "Traceback" not in healed.stderr
    for moved in run.rglob("thesis.docx"):  # what was put there by somebody is not removed but with a tile store
        assert ".found-" in moved.parent.name


@pytest.mark.parametrize(
    ("fault", "name"),
    [(flip, "train/fold-0/seed-0/best.pt"), (foreign, "attribution/fold-1-seed-1.zarr")],
    ids=["best.pt", "attribution"],
)
def test_a_stage_by_hand_names_what_is_damaged_and_the_run_makes_it_again(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes, fault: Fault, name: str
) -> None:
    shutil.rmtree(run / "ranking")
    fault(run / name, run / FILES[name])
    by_hand = plexrank("rank", run)
    assert by_hand.returncode in (RunDirError.exit_code, MissingInputError.exit_code), by_hand.stderr
    assert Path(name).name in by_hand.stderr
    assert not (run / "ranking" / "ranking.csv").exists()
    assert plexrank(*run_arguments(tiny_study, run), "--until", "rank").returncode == 0
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


@pytest.mark.parametrize("stage", ["attribute", "report"])
def test_a_stage_by_hand_names_tiles_of_another_image(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes, stage: str
) -> None:
    for folder in ("report", *(("attribution", "ranking") if stage == "attribute" else ())):
        shutil.rmtree(run / folder)
    for name in ("image001.ome.zarr", "image001.done.json"):
        (run / "tiles" / name).rename(run / "own")
        other = run / "tiles" / name.replace("1", "2")
        other.rename(run / "tiles" / name)
        (run / "own").rename(other)
    by_hand = plexrank(stage, run)
    assert by_hand.returncode == MissingInputError.exit_code
    assert f"{stage} needs tile image001 (its done-record is that of tile image002); run plexrank tile first" in (
        by_hand.stderr
    )
    assert plexrank(*run_arguments(tiny_study, run), "--until", "rank").returncode == 0
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


def test_rank_by_hand_needs_the_table_of_the_tiles_and_not_the_stores(
    run: Path, plexrank: Plexrank, undisturbed: bytes
) -> None:
    shutil.rmtree(run / "ranking")
    shutil.rmtree(run / "tiles" / "image003.ome.zarr")
    record = run / "tiles" / "_tiles.done.json"
    record.rename(run / "own")
    lacks = plexrank("rank", run)
    assert lacks.returncode == MissingInputError.exit_code
    assert "rank needs table of all tiles (not done yet); run plexrank tile first" in lacks.stderr
    (run / "own").rename(record)
    assert plexrank("rank", run).returncode == 0
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


def test_the_progress_of_another_unit_is_not_gone_on_with(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes
) -> None:
    own, other = run / "train" / "fold-0" / "seed-0", run / "train" / "fold-0" / "seed-1"
    shutil.copy(other / "last.pt", own / "last.pt")
    (own / "done.json").unlink()
    (own / "best.pt").unlink()
    healed = plexrank(*run_arguments(tiny_study, run), "--until", "rank")
    assert healed.returncode == 0, healed.stderr
    assert "last.pt: the progress of fold 0 seed 1, not of fold 0 seed 0" in healed.stderr
    assert "training from the start" in healed.stderr
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


def test_a_link_in_the_place_of_a_folder_of_a_unit_leaves_the_other_unit_alone(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes
) -> None:
    own, other = run / "train" / "fold-0" / "seed-0", run / "train" / "fold-1" / "seed-0"
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    shutil.rmtree(own)
    own.symlink_to(other)
    assert plexrank(*run_arguments(tiny_study, run), "--until", "rank").returncode == 0
    assert not own.is_symlink()
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


def test_tiles_whose_image_was_moved_away_keep_their_record_and_are_named(
    run: Path, tiny_study: Path, plexrank: Plexrank
) -> None:
    cohort = Path(shutil.copytree(tiny_study.parent, run.parent / "cohort"))
    moved = run.parent / "own"
    assert plexrank("run", cohort / "study.yaml", "--out", moved, "--until", "tile").returncode == 0
    (cohort / "images" / "image003.ome.tiff").unlink()
    flip(moved / "tiles" / "image003.ome.zarr" / "0" / "c.0.0.0", moved)
    refused = plexrank("train", moved)
    assert refused.returncode == RunDirError.exit_code
    assert "image003.ome.zarr: tile (0, 0)" in refused.stderr
    assert (moved / "tiles" / "image003.done.json").is_file()


def test_a_digest_is_compared_before_a_table_is_opened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(RunDir(run), load_study(run / "study.yaml"))
    flip(plan.rundir.tiles_table, run)
    monkeypatch.setattr("plexrank.stages.tile_table.pd.read_parquet", lambda path: pytest.fail("was opened"))
    with pytest.raises(DamagedOutputError, match=r"tiles\.parquet: not what table of all tiles wrote there"):
        TileTable(plan)


def test_a_changed_saved_study_is_refused_by_stages_and_written_again_by_a_run(
    run: Path, tiny_study: Path, plexrank: Plexrank
) -> None:
    before = (run / "study.yaml").read_bytes()
    (run / "study.yaml").write_bytes(before.replace(b"bootstrap: 200", b"bootstrap: 300"))
    refused = plexrank("rank", run)
    assert refused.returncode == RunDirError.exit_code
    assert "study.yaml: changed by hand or damaged since plexrank run wrote it" in refused.stderr
    assert plexrank("run", run / "study.yaml", "--out", run).returncode == RunDirError.exit_code
    assert plexrank(*run_arguments(tiny_study, run), "--until", "tile").returncode == 0
    assert (run / "study.yaml").read_bytes() == before
    assert plexrank("status", run).returncode == 0


def test_a_folder_that_leads_to_another_of_the_run_is_refused(
    run: Path, tiny_study: Path, plexrank: Plexrank, undisturbed: bytes
) -> None:
    before = (run / "train" / "fold-1" / "seed-0" / "best.pt").read_bytes()
    shutil.rmtree(run / "train" / "fold-0")
    (run / "train" / "fold-0").symlink_to("fold-1")
    refused = plexrank(*run_arguments(tiny_study, run))
    assert refused.returncode == RunDirError.exit_code
    assert "train/fold-0: a link to" in refused.stderr
    assert (run / "train" / "fold-1" / "seed-0" / "best.pt").read_bytes() == before
    (run / "train" / "fold-0").unlink()
    assert plexrank(*run_arguments(tiny_study, run), "--until", "rank").returncode == 0
    assert (run / "ranking" / "ranking.csv").read_bytes() == undisturbed


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ESTALE, "Stale file handle"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ESHUTDOWN, "Cannot send after transport endpoint shutdown"),
        MemoryError(),
    ],
    ids=["disk", "ticket", "Lustre", "memory"],
)
def test_what_may_pass_leaves_the_finished_work_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    shutil.rmtree(run / "ranking")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.load", fail)
    rundir = RunDir(run)
    plan = make_plan(rundir, load_study(rundir.study))
    with pytest.raises(ReadFailedError, match=r"best\.pt.*could not be read now"):
        run_stages(plan, ["rank"], Silent())
    assert all(unit.why_not_done() is None for unit in plan.units("train"))


def test_an_image_that_cannot_be_read_now_is_not_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    overrides = ["cohort.skip_bad=true"]
    study = RunDir(run).study
    shutil.rmtree(run / "tiles")
    opened = tifffile.TiffFile

    def fail(file: object, *others: object, **more: object) -> tifffile.TiffFile:
        if "image001" in str(getattr(file, "name", file)):
            raise RuntimeError("no TIFF") from OSError(errno.ESTALE, "Stale file handle")
        return opened(file, *others, **more)

    monkeypatch.setattr("tifffile.TiffFile", fail)
    message = r"image001.*could not be read now \(.*Stale file handle\)"
    result = check_study_file(study, overrides)
    assert result.skipped == ()
    (problem,) = result.problems
    assert re.search(message, str(problem))
    plan = make_plan(RunDir(run), load_study(study, overrides), for_tiling=True)
    with pytest.raises(ReadFailedError, match=message):
        run_stages(plan, ["tile"], Silent())
    states = [plan.tile(image).why_not_done() for image in plan.cohort.images]
    assert states == ["not done yet", *[None] * 31]
    assert not list((run / "tiles").glob("*.failed.json"))


def test_an_image_that_cannot_be_looked_up_now_is_not_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def fail(path: Path, **more: bool) -> bool:
        if path.name.startswith("image001"):
            raise OSError(errno.ESTALE, "Stale file handle")
        return exists(path, **more)

    monkeypatch.setattr(Path, "exists", fail)
    result = check_study_file(RunDir(run).study, ["cohort.skip_bad=true"])
    assert result.skipped == ()
    assert re.search(r"image001.*could not be read now", str(result.problems[0]))


@pytest.mark.parametrize("name", ["train/fold-0/seed-0/done.json", "provenance.json"])
def test_a_small_file_that_cannot_be_read_now_is_no_damage(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read = Path.read_text

    def fail(path: Path, *others: str, **more: str) -> str:
        if path == run / name:
            raise OSError(errno.EIO, "Input/output error")
        return read(path, *others, **more)

    before = (run / name).read_bytes()
    monkeypatch.setattr(Path, "read_text", fail)
    rundir = RunDir(run)
    plan = make_plan(rundir, load_study(rundir.study))
    work = {"provenance.json": partial(rundir.add_provenance, {"command": "run"})}
    with pytest.raises(ReadFailedError, match=rf"{name}: could not be read now \(.*Input/output error\)"):
        work.get(name, partial(run_stages, plan, ["train"], Silent()))()
    assert (run / name).read_bytes() == before


def test_an_image_that_was_edited_in_secret_is_pointed_out(
    tiny_study: Path, tmp_path: Path, plexrank: Plexrank
) -> None:
    study = Path(shutil.copytree(tiny_study.parent, tmp_path / "cohort")) / tiny_study.name
    command = [*run_arguments(study, tmp_path / "run"), "--until", "tile"]
    assert "touch the files" not in plexrank(*command).stderr
    assert "touch the files" not in plexrank(*command).stderr
    image = next((tmp_path / "cohort").rglob("image003*"))
    state = image.stat()
    image.write_bytes(image.read_bytes())
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    said = plexrank(*command).stderr
    assert "1 of 32 images has the size and time of last change as when tiled" in said
    assert str(image) in said
    assert "tile: all 32 done already" in said
    image.touch()
    said = plexrank(*command).stderr
    assert "tile: again, changed: image" in said
    assert "touch the files" not in said
