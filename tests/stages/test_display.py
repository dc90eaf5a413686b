"""Which channels viewers show at first, and which images ``plexrank view`` opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plexrank.errors import MissingInputError, RunDirError, StudyError
from plexrank.planning.plan import Plan, make_plan
from plexrank.report.gallery import top_channels
from plexrank.rundir import RunDir
from plexrank.stages.display import SHOWN, show_channels, view
from plexrank.study import load_study
from plexrank.tiles.display import COLORS, set_display
from plexrank.tiles.store import TileStore


def plan_of(run: Path) -> Plan:
    return make_plan(RunDir(run), load_study(run / "study.yaml"))


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def channels_of(store: Path) -> dict[str, dict]:
    content = json.loads((store / "zarr.json").read_text())
    return {channel["label"]: channel for channel in content["attributes"]["ome"]["omero"]["channels"]}


def shown_in(run: Path) -> list[list[str]]:
    stores = sorted((run / "tiles").glob("*.ome.zarr"))
    return [[name for name, channel in channels_of(store).items() if channel["active"]] for store in stores]


def test_found_channels_come_first_and_controls_never() -> None:
    ranking = pd.DataFrame(
        {
            "channel": ["A", "B", "C", "D", "E"],
            "position": [1.0, 2.0, 3.0, 4.0, np.nan],
            "significant": [False, True, False, True, True],
            "excluded": [False, False, False, False, True],
        }
    )
    assert top_channels(ranking, SHOWN) == ["B", "D", "A"]
    assert top_channels(ranking, 9) == ["B", "D", "A", "C"]


def test_a_run_leaves_its_first_channels_switched_on(tiny_run: Path) -> None:
    first = top_channels(pd.read_parquet(tiny_run / "ranking" / "ranking.parquet"), SHOWN)
    assert len(first) == 3
    assert {tuple(sorted(shown)) for shown in shown_in(tiny_run)} == {tuple(sorted(first))}
    assert len(shown_in(tiny_run)) == 32
    stores = sorted((tiny_run / "tiles").glob("*.ome.zarr"))
    assert channels_of(stores[0])[first[0]]["color"] == COLORS[0]
    windows = [{name: channel["window"]["end"] for name, channel in channels_of(store).items()} for store in stores]
    assert all(one == windows[0] for one in windows)
    assert all(channel["window"]["start"] == 0 for channel in channels_of(stores[0]).values())
    percentiles = pd.read_parquet(tiny_run / "tiles" / "statistics.parquet")
    percentiles["p99"] = percentiles["mean"] * percentiles["tail_ratio"]
    assert windows[0] == pytest.approx(percentiles.groupby("channel")["p99"].median().to_dict())


def test_switching_channels_leaves_every_unit_done(run: Path) -> None:
    before = plan_of(run)
    show_channels(before, ["C05"])
    after = plan_of(run)
    assert {tuple(shown) for shown in shown_in(run)} == {("C05",)}
    stages = ("tile", "train", "attribute", "rank", "report")
    assert [unit.why_not_done() for stage in stages for unit in after.units(stage)].count(None) == len(
        [unit for stage in stages for unit in after.units(stage)]
    )
    recorded = after.image_units.stored_digests(after.cohort.images[0])
    TileStore(after.rundir.tile_store(after.cohort.images[0].image_id)).require(recorded)


def test_the_same_choice_gives_the_same_bytes_whatever_was_shown_before(run: Path) -> None:
    plan = plan_of(run)
    first = plan.rundir.tile_store(plan.cohort.images[0].image_id) / "zarr.json"
    show_channels(plan, ["C01", "C03"])
    wanted = first.read_bytes()
    show_channels(plan, ["C06"])
    assert first.read_bytes() != wanted
    show_channels(plan, ["C01", "C03"])
    assert first.read_bytes() == wanted


def test_a_kill_after_a_store_was_shown_otherwise_leaves_a_whole_run(run: Path) -> None:
    plan = plan_of(run)
    image = plan.cohort.images[0]
    store = plan.rundir.tile_store(image.image_id)
    before = (store / "zarr.json").read_bytes()
    assert set_display(store, ["C06"], {"C06": 3.5})
    assert (store / "zarr.json").read_bytes() != before
    TileStore(store).require(plan.image_units.stored_digests(image))
    assert plan_of(run).tile(image).why_not_done() is None


def test_view_opens_the_patients_with_the_highest_and_the_lowest_r(run: Path) -> None:
    patients = pd.read_parquet(run / "ranking" / "importance_per_patient.parquet")
    own = patients[patients["channel"] == "C04"].set_index("patient_id")["r"]
    plan = plan_of(run)
    image_of = {image.patient_id: image.image_id for image in reversed(plan.cohort.images)}
    lines = view(plan, ["C04"], [])
    commands = [line for line in lines if line.startswith("napari")]
    assert commands == [
        f"napari --plugin napari-ome-zarr {run / 'tiles' / image_of[patient]}.ome.zarr"
        for patient in (own.idxmax(), own.idxmin())
    ]
    assert lines[0] == "shown: C04"
    assert f"patient {own.idxmax()}, highest held-out r of C04" in lines[1]
    image = plan.cohort.images[3].image_id
    named = view(plan, [], [image])
    assert named[1:] == [f"{image}:", f"napari --plugin napari-ome-zarr {run / 'tiles' / image}.ome.zarr"]
    assert len(named[0].split(", ")) == 3


def test_view_refuses_what_the_run_does_not_have(run: Path) -> None:
    plan = plan_of(run)
    with pytest.raises(StudyError, match=r"no channel 'c04' in this run; did you mean 'C04'\?"):
        view(plan, ["c04"], [])
    with pytest.raises(StudyError, match="no image 'image9'"):
        view(plan, ["C04"], ["image9"])
    with pytest.raises(StudyError, match="5 channels; at most 4"):
        view(plan, ["C01", "C02", "C03", "C04", "C05"], [])
    (run / "ranking" / "ranking.done.json").unlink()
    with pytest.raises(MissingInputError, match="the ranking is not done"):
        view(plan_of(run), ["C04"], [])


def test_a_damaged_store_is_named_and_one_that_was_removed_is_skipped(run: Path) -> None:
    plan = plan_of(run)
    first, second = (plan.rundir.tile_store(image.image_id) for image in plan.cohort.images[:2])
    shutil.rmtree(first)
    show_channels(plan, ["C02"])
    assert {tuple(shown) for shown in shown_in(run)} == {("C02",)}
    (second / "zarr.json").write_text("{")
    with pytest.raises(RunDirError, match=second.name):
        show_channels(plan, ["C01"])
