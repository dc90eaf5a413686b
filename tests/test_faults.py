"""A fixed sample of the faults of ``make soak``: whatever is damaged in a run, its ranking comes out the same."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from trust import faults, forked
from trust.prepared import STATES, Prepared

SHARD = "attribution/fold-N-seed-N.zarr/gradient/c/N/N/N"
SAMPLE = {
    "after train": [
        ("train/fold-N/seed-N/best.pt", "bit flipped at 50 %"),
        ("train/fold-N/seed-N/best.pt", "other unit's"),
        ("train/fold-N/seed-N/done.json", "zeros"),
        ("tiles/IMAGE.ome.zarr/N/c.N.N.N", "bit flipped at 50 %"),
        ("tiles/tiles.parquet", "cut by half"),
        ("provenance.json", "deleted"),
        (".run.lock", "lock garbage"),
    ],
    "after attribute": [
        (SHARD, "bit flipped at 50 %"),
        (SHARD, "other unit's"),
        (SHARD, "dangling link"),
        ("attribution/fold-N-seed-N.zarr/", "folder link to other unit's"),
        ("attribution/fold-N-seed-N.done.json", "deleted"),
        ("provenance.json", "folder in its place"),
        ("study.yaml", "deleted"),
    ],
}


def do_sample(folder: Path) -> None:
    """In a process that has loaded the libraries and started no thread."""
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    forked.load()
    prepared = Prepared(folder / "prepared")
    states = {state.name: state for state in STATES}
    work = folder / "work"
    work.mkdir()
    found = [
        faults.attempt(faults.Trial(states[name], kind, fault), prepared, work)
        for name, sample in SAMPLE.items()
        for kind, fault in sample
    ]
    (folder / "found.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("faults")
    process = multiprocessing.get_context("forkserver").Process(target=do_sample, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return {one["trial"]: one for one in json.loads((folder / "found.json").read_text())}


@pytest.mark.parametrize(
    "trial", [f"{name} | {kind} | {fault}" for name, sample in SAMPLE.items() for kind, fault in sample]
)
def test_a_damaged_run_gives_the_ranking_of_an_undisturbed_one(found: dict[str, dict], trial: str) -> None:
    assert found[trial]["outcome"] in faults.GOOD, found[trial].get("said")
