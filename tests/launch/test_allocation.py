"""Processes of one job step that tile images together."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import stat
import time
from pathlib import Path

import pytest

from conftest import Plexrank, Started, without_digests
from plexrank.tiles.display import metadata_digest

UNITS = ("tiles/image001.done.json", "tiles/image002.done.json")
BAD = "image003"
STEP = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.fixture
def run(tiny_study: Path, tiny_run: Path, tmp_path: Path) -> Path:
    """A run of which no image is tiled and one cannot be, in a folder with an awkward name."""
    cohort = shutil.copytree(tiny_study.parent, tmp_path / "cohort")
    (image,) = (cohort / "images").glob(f"{BAD}.*")
    image.write_bytes(image.read_bytes()[:200])
    run = tmp_path / "a {run}"
    run.mkdir(mode=0o700)
    study = (tiny_run / "study.yaml").read_text()
    (run / "study.yaml").write_text(study.replace(str(tiny_study.parent), str(cohort)))
    shutil.copy(tiny_run / "provenance.json", run)
    without_digests(run)
    units = (*UNITS, f"tiles/{BAD}.done.json")
    (tmp_path / "units").write_text("".join(f"{unit}\n" for unit in units))
    return run


def start(plexrank: Plexrank, run: Path, number: int, **environment: str) -> Started:
    arguments = ("tile", run, "--units", run.parent / "units")
    return plexrank.start(*arguments, **STEP | {"SLURM_PROCID": str(number)} | environment)


def test_they_tile_what_one_process_tiles_and_let_no_stranger_in(plexrank: Plexrank, run: Path, tiny_run: Path) -> None:
    serving = [start(plexrank, run, number) for number in (0, 2, 3)]
    meetings = run / "jobs" / "meetings"
    deadline = time.monotonic() + 300
    while not (address := _address(meetings / "9-0-0.scheduler.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert address.startswith("tls://")
    assert stat.S_IMODE((meetings / "9-0-0.tls.json").stat().st_mode) == 0o600
    try:
        with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
            speak_without_certificate(address)
    except BaseException:
        for process in serving:
            process.send_signal(signal.SIGKILL)
        raise
    ended = [process.finish() for process in (start(plexrank, run, 1), *serving)]
    assert [done.returncode for done in ended] == [65, 0, 0, 0], "\n".join(done.stderr for done in ended)
    assert BAD in ended[0].stderr
    assert "peer did not return a certificate" in ended[1].stderr
    # dask's workers may say that the scheduler was gone before their last heartbeat.
    assert not any("error:" in done.stderr or "plexrank" in done.stderr for done in ended[2:])
    assert not list(meetings.iterdir())
    for unit in UNITS:
        found, expected = (json.loads((folder / unit).read_text()) for folder in (run, tiny_run))
        assert found["digests"] == expected["digests"]
        metadata = unit.replace("done.json", "ome.zarr/zarr.json")
        assert metadata_digest(run / metadata) == metadata_digest(tiny_run / metadata)
    assert not (run / "tiles" / "tiles.parquet").exists()


def speak_without_certificate(address: str) -> None:
    """As a stranger would who does not care whom he speaks to."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = address.removeprefix("tls://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as stranger:
        stranger.recv(1)


def _address(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError):  # not yet there, or not as a whole
        return ""


def test_two_processes_are_too_few(plexrank: Plexrank, run: Path) -> None:
    done = start(plexrank, run, 0, SLURM_NTASKS="2", SLURM_STEP_NUM_TASKS="2").finish()
    assert done.returncode == 1
    assert done.stderr == (
        "error: SLURM_NTASKS is 2; tiling takes one process, or 3 and more: a scheduler, a client and workers\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR2])
def test_a_stop_while_some_are_missing_leaves_no_key(plexrank: Plexrank, run: Path, number: signal.Signals) -> None:
    here = [start(plexrank, run, process) for process in (1, 0, 2)]
    meetings = run / "jobs" / "meetings"
    deadline = time.monotonic() + 300
    while not _address(meetings / "9-0-0.scheduler.json"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)  # the client has found the scheduler, and waits for the fourth
    for process in here:
        process.send_signal(number)
    ended = [process.finish() for process in here]
    assert ended[0].returncode == 75, ended[0].stderr
    assert "run the same command again" in ended[0].stderr
    assert not list(meetings.iterdir())
