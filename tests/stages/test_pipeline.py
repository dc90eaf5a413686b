"""From images to a report through the command line, undisturbed, disturbed, and over two processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from conftest import Plexrank, Started, run_arguments

PRODUCT_COLUMNS = {
    *("position", "channel", "score", "score_low", "score_high", "position_low", "position_high", "p_top10"),
    *("reliance", "reliance_p", "reliance_q", "mean_intensity_association", "mean_intensity_q", "direction"),
    *("stability", "significant", "found_by", "intensity_p", "intensity_q", "pattern_p", "pattern_q", "combined_q"),
    *("adds", "adds_p", "adds_q", "reads", "n_patients", "n_images", "n_tiles"),
}


def ranking_bytes(run: Path) -> dict[str, bytes]:
    names = ("ranking.csv", "ranking_by_class.csv", "predictions.csv", "summary.json")
    return {name: (run / "ranking" / name).read_bytes() for name in names}


def test_a_run_writes_all_that_is_promised(tiny_run: Path) -> None:
    ranking = pd.read_csv(tiny_run / "ranking" / "ranking.csv")
    assert set(ranking.columns) >= PRODUCT_COLUMNS
    assert ranking["position"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (ranking["n_patients"] == 32).all()
    assert ranking["score"].sum() == pytest.approx(1, abs=1e-6)
    assert (ranking["score_low"] <= ranking["score"]).all()
    assert (ranking["score"] <= ranking["score_high"]).all()
    tiles = pd.read_parquet(tiny_run / "tiles" / "tiles.parquet")
    assert tiles["tile_id"].tolist() == list(range(32))
    assert {"image_id", "row", "col", "y_px", "x_px", "tissue_fraction"} <= set(tiles.columns)
    for name in ("ranking.parquet", "importance_per_patient.parquet", "predictions.csv"):
        assert (tiny_run / "ranking" / name).stat().st_size > 0
    assert (tiny_run / "report" / "figures" / "ranking.png").read_bytes().startswith(b"\x89PNG")
    for fold in range(2):
        for seed in range(2):
            folder = tiny_run / "train" / f"fold-{fold}" / f"seed-{seed}"
            assert len(pd.read_csv(folder / "history.csv")) == 3
            assert (folder / "best.pt").is_file()
            assert (folder / "last.pt").is_file()
            assert (tiny_run / "attribution" / f"fold-{fold}-seed-{seed}.zarr").is_dir()


def test_an_array_works_on_its_share_and_one_job_joins_the_table(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run, share = tmp_path / "run", tmp_path / "share"
    assert plexrank(*run_arguments(tiny_study, run), "--until", "tile").returncode == 0
    records = sorted(record.relative_to(run) for record in run.glob("tiles/[!_]*.done.json"))
    for path in run.glob("tiles/*.done.json"):
        path.unlink()
    for chosen in (records[:20], records[20:]):
        share.write_text("".join(f"{record}\n" for record in chosen))
        assert plexrank("tile", run, "--units", share).returncode == 0
        assert all((run / record).is_file() for record in chosen)
        assert not (run / "tiles" / "_tiles.done.json").exists()
    joined = plexrank("tile", run)
    assert "all 32 done already" in joined.stderr
    assert (run / "tiles" / "_tiles.done.json").is_file()
    share.write_text("tiles/nobody.done.json\n")
    refused = plexrank("tile", run, "--units", share)
    assert refused.returncode == 64
    assert "no unit of the stage tile has the done-record 'tiles/nobody.done.json'" in refused.stderr


def test_no_patient_is_predicted_by_a_network_that_saw_it(tiny_run: Path) -> None:
    import torch

    predictions = pd.read_csv(tiny_run / "ranking" / "predictions.csv")
    assert len(predictions) == predictions["patient_id"].nunique() == 32
    samples = pd.read_csv(json.loads((tiny_run / "provenance.json").read_text())["commands"][0]["samplesheet"])
    for fold in range(2):
        best = torch.load(tiny_run / "train" / f"fold-{fold}" / "seed-0" / "best.pt", weights_only=True)
        seen = set(samples["patient_id"].iloc[best["embedding_images"].numpy()])
        held_out = set(predictions.loc[predictions["fold"] == fold, "patient_id"])
        assert held_out
        assert not seen & held_out
        assert len(seen | held_out) == 32


def test_the_report_needs_no_network_and_marks_what_was_planted(tiny_run: Path) -> None:
    page = (tiny_run / "report" / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image/png;base64," in page
    truth = pd.read_csv(tiny_run.parent / "cohort" / "truth.csv")
    for channel, informative in zip(truth["channel"], truth["informative"], strict=True):
        assert (f"★ {channel}" in page) == bool(informative)


def test_a_second_run_does_nothing_and_a_changed_setting_only_what_depends_on_it(
    tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = ranking_bytes(run)
    again = plexrank(*run_arguments(tiny_study, run))
    assert again.returncode == 0
    assert [line.split(" ", 2)[2] for line in again.stderr.splitlines()] == [
        "tile: all 32 done already",
        "train: all 4 done already",
        "attribute: all 4 done already",
        "rank: done already",
        "report: done already",
    ]
    assert ranking_bytes(run) == before
    changed = plexrank(*run_arguments(tiny_study, run, "rank.bootstrap=300"))
    assert changed.returncode == 0
    assert "attribute: all 4 done already" in changed.stderr
    assert "rank: again, changed: rank.bootstrap 200 → 300" in changed.stderr
    assert re.search(r"rank: held-out AUC [01]\.\d\d \([01]\.\d\d to [01]\.\d\d\).*; significant: ", changed.stderr)
    dry = plexrank(*run_arguments(tiny_study, run, "train.epochs=2"), "--dry-run")
    assert dry.stdout.splitlines()[0].endswith(", … (32 in all), table of all tiles: done")
    assert dry.stdout.splitlines()[1] == (
        "train fold 0 seed 0, train fold 0 seed 1, train fold 1 seed 0, … (4 in all): changed: train.epochs 3 → 2"
    )
    assert ranking_bytes(run)["ranking.csv"] != before["ranking.csv"]


def test_stages_one_by_one_say_what_they_need(
    tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert plexrank(*run_arguments(tiny_study, run), "--until", "tile").returncode == 0
    assert not (run / "train").exists()
    early = plexrank("rank", run)
    assert early.returncode == 66
    assert "rank needs attribute fold 0 seed 0 (not done yet); run plexrank attribute first" in early.stderr
    status = plexrank("status", run)
    assert "train         0 of 4 done" in status.stdout
    for stage in ("train", "attribute", "rank", "report"):
        assert plexrank(stage, run).returncode == 0
    assert ranking_bytes(run) == ranking_bytes(tiny_run)


@pytest.mark.parametrize(
    ("stage", "sign"),
    [("tile", "tiles/*.done.json"), ("train", "train/fold-0/seed-1/last.pt")],
)
def test_a_killed_run_goes_on_to_the_same_ranking(
    tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path, stage: str, sign: str
) -> None:
    run = tmp_path / "run"
    process = plexrank.start(*run_arguments(tiny_study, run))
    wait_until(lambda: any(run.glob(sign)), process)
    process.send_signal(signal.SIGKILL)
    assert process.finish().returncode == -signal.SIGKILL
    unfinished = plexrank("status", run).stdout
    total = {"tile": 33, "train": 4}[stage]
    done = next(int(line.split()[1]) for line in unfinished.splitlines() if line.startswith(stage))
    assert 0 < done < total
    assert plexrank(*run_arguments(tiny_study, run)).returncode == 0
    assert ranking_bytes(run) == ranking_bytes(tiny_run)


def test_a_terminated_training_stops_with_75_and_goes_on(
    tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = plexrank.start(*run_arguments(tiny_study, run))
    wait_until(lambda: (run / "train/fold-0/seed-0/last.pt").exists(), process)
    process.send_signal(signal.SIGTERM)
    stopped = process.finish()
    assert stopped.returncode == 75
    assert "run the same command again to continue" in stopped.stderr
    assert plexrank(*run_arguments(tiny_study, run)).returncode == 0
    assert ranking_bytes(run) == ranking_bytes(tiny_run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_an_interrupted_command_says_how_to_go_on(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    process = plexrank.start(*run_arguments(tiny_study, run))
    wait_until(lambda: any(run.glob("tiles/*.done.json")), process)
    process.send_signal(number)
    stopped = process.finish()
    assert stopped.returncode == 75
    last = stopped.stderr.splitlines()[-1]  # a training that has begun meanwhile says where it was
    assert re.fullmatch(
        r"error: (fold \d seed \d: )?stopped( in epoch \d+)?; run the same command again to continue", last
    )


def test_two_processes_give_the_ranking_of_one(
    tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert plexrank(*run_arguments(tiny_study, run), "--until", "tile").returncode == 0
    for stage in ("train", "attribute"):
        port = str(free_port())
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [plexrank.start(stage, run, RANK=rank, LOCAL_RANK=rank, **group) for rank in "01"]
        for done in [process.finish() for process in started]:
            assert done.returncode == 0, done.stderr
    assert plexrank("rank", run).returncode == 0
    one, two = (pd.read_csv(folder / "ranking" / "ranking.csv") for folder in (tiny_run, run))
    assert two["channel"].tolist() == one["channel"].tolist()
    assert two["score"].to_numpy() == pytest.approx(one["score"].to_numpy(), abs=0.01)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def wait_until(happened: Callable[[], bool], started: Started) -> None:
    """Look for a sign that the process has come so far; fail where it ends or 120 s pass before."""
    deadline = time.monotonic() + 120
    while not happened():
        assert started.process.is_alive(), "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)
