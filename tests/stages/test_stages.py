"""What the stages hand to the parts below them: who is held out, what is left out, what is warned of."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import TINY, Plexrank, run_arguments, without_digests
from plexrank.attribution.store import AttributionStore
from plexrank.errors import PlexrankError, RunDirError
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.rundir import RunDir
from plexrank.stages import tile as tile_stage
from plexrank.stages.attribute import _refuse_another_cohort
from plexrank.stages.pipeline import run_stages
from plexrank.stages.rank import _headline, _silent_channels, _warnings
from plexrank.stages.tile_table import TileTable
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.study import load_study
from plexrank.tiles.intensity import fit_intensity
from plexrank.tiles.store import TileStore
from plexrank.training.checkpoint import read_unit
from ranked_outcomes import rank_outcome


def plan_of(run: Path) -> Plan:
    return make_plan(RunDir(run), load_study(run / "study.yaml"))


def test_roles_share_no_patient_and_leave_out_none(tiny_run: Path) -> None:
    plan = plan_of(tiny_run)
    patients = {}
    for fold in range(2):
        roles = {role: plan.images(fold, role) for role in ("held_out", "validation", "training")}
        assert sorted(image for images in roles.values() for image in images) == list(range(32))
        patients = {role: {plan.cohort.images[i].patient_id for i in images} for role, images in roles.items()}
        assert all(patients.values())
        assert not patients["held_out"] & (patients["training"] | patients["validation"])
        assert not patients["training"] & patients["validation"]
    assert set(plan.images(0, "held_out")).isdisjoint(plan.images(1, "held_out"))


def test_images_without_a_label_change_what_the_ranking_tells_and_no_training(tiny_run: Path) -> None:
    plan = plan_of(tiny_run)
    more = replace(plan, cohort=replace(plan.cohort, unlabelled=3))
    assert more.rank().key != plan.rank().key
    assert more.train(0, 0).key == plan.train(0, 0).key


def test_held_out_pixels_do_not_move_the_intensity_scale(tiny_run: Path) -> None:
    plan = plan_of(tiny_run)
    cohort = TiledCohort(plan)
    seen = cohort.tiles_of(plan.images(0, "training") + plan.images(0, "validation"))
    expected = fit_intensity((cohort.read(int(tile)) for tile in seen), plan.study.intensity)
    everything = fit_intensity((cohort.read(tile) for tile in range(32)), plan.study.intensity)
    np.testing.assert_array_equal(cohort.fit_intensity(0).scale, expected.scale)
    assert (expected.scale != everything.scale).any()
    trained = read_unit(plan.rundir.training(0, 0) / "best.pt")
    np.testing.assert_array_equal(trained.intensity.scale, expected.scale)


def test_attribution_covers_the_held_out_tiles_and_replaces_by_training_means(tiny_run: Path) -> None:
    plan = plan_of(tiny_run)
    block = AttributionStore(plan.rundir.attribution(1, 0)).read()
    assert block.tile_id.tolist() == TiledCohort(plan).tiles_of(plan.images(1, "held_out")).tolist()
    trained = read_unit(plan.rundir.training(1, 0) / "best.pt")
    assert trained.classifier is not None
    coef = trained.classifier.coef.numpy()
    away = block.embedding - trained.embedding_mean.mean(axis=0)
    np.testing.assert_allclose(block.values["occlusion"], away[:, :, np.newaxis] * coef.T, atol=1e-4)
    np.testing.assert_allclose(block.values["gradient"], np.broadcast_to(coef.T, (len(away), *coef.T.shape)), atol=1e-6)


def test_channels_are_matched_by_name_and_absent_ones_count_nowhere(tiny_run: Path, tmp_path: Path) -> None:
    without_digests(shutil.copytree(tiny_run, tmp_path / "run"))
    plan = plan_of(tmp_path / "run")
    whole = TiledCohort(plan)
    _ = whole.stores
    image = plan.images(0, "training")[0]
    tile = int(whole.tiles_of([image])[0])
    image_id = plan.cohort.images[image].image_id
    metadata = plan.rundir.tile_store(image_id) / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"C02"', '"extra"'))
    with pytest.raises(RunDirError, match=f"{image_id}.*: channels C01, extra, C03.* but when it was tiled"):
        _ = TiledCohort(plan_of(tmp_path / "run")).stores
    notes = json.loads(plan.rundir.image_notes.read_text())
    notes[image_id]["channels"][1] = "extra"
    plan.rundir.image_notes.write_text(json.dumps(notes))
    record = json.loads(plan.rundir.tile_record(image_id).read_text())
    record["digests"] = TileStore(plan.rundir.tile_store(image_id)).digests()
    plan.rundir.tile_record(image_id).write_text(json.dumps(record))
    cohort = TiledCohort(plan_of(tmp_path / "run"))
    assert cohort.channels == whole.channels
    assert cohort.plan.channels.left_out == ("extra",)
    here = np.array([cohort.channels.index("C02")])
    assert not cohort.present[image, here]
    assert cohort.present.sum() == 32 * 6 - 1
    counts = cohort.read(tile)
    assert not counts[here].any()
    others = np.delete(np.arange(6), here)
    np.testing.assert_array_equal(counts[others], whole.read(tile)[others])
    assert np.isnan(cohort.channel_means).sum() == 1
    assert np.isnan(cohort.channel_means[tile, here]).all()
    tiles = cohort.training_tiles(cohort.fit_intensity(0))
    present = tiles.present(np.array([tile]))
    assert present is not None
    assert present[0].tolist() == cohort.present[image].tolist()
    seen = whole.tiles_of(plan.images(0, "training") + plan.images(0, "validation"))
    expected = fit_intensity((whole.read(int(t))[[1]] for t in seen if t != tile), plan.study.intensity)
    np.testing.assert_array_equal(tiles.intensity.scale[here], expected.scale)


def test_tiles_at_the_edge_are_mirrored(tiny_run: Path, tmp_path: Path) -> None:
    without_digests(shutil.copytree(tiny_run, tmp_path / "run"))
    table = pd.read_parquet(tmp_path / "run" / "tiles" / "tiles.parquet")
    whole = TiledCohort(plan_of(tmp_path / "run")).read(3)
    table.loc[3, ["height_px", "width_px"]] = 20, 30
    table.to_parquet(tmp_path / "run" / "tiles" / "tiles.parquet")
    edge = TiledCohort(plan_of(tmp_path / "run")).read(3)
    np.testing.assert_array_equal(edge[:, :20, :30], whole[:, :20, :30])
    np.testing.assert_array_equal(edge[:, 20:, :30], whole[:, 8:20, :30][:, ::-1])
    np.testing.assert_array_equal(edge[:, :20, 30:], whole[:, :20, 28:30][:, :, ::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": ("C01", "C02", "C03", "C04", "C05", "X")}, "6 channels, the cohort has 6; .* in C06, X;"),
        ({"channel_names": ("C02", "C01", "C03", "C04", "C05", "C06")}, "differ in their order"),
        ({"output_names": ("A", "B", "C")}, "3 classes, the cohort has 2; they differ in C;"),
        ({"embedding_images": np.arange(32)}, "trained on 16 images that fold 0 holds out, such as image0"),
    ],
)
def test_a_network_of_another_cohort_is_refused_saying_what_differs(tiny_run: Path, change: dict, message: str) -> None:
    plan = plan_of(tiny_run)
    checkpoint = plan.rundir.training(0, 0) / "best.pt"
    trained, cohort = read_unit(checkpoint), TiledCohort(plan)
    _refuse_another_cohort(checkpoint, trained, cohort, plan, 0)
    with pytest.raises(RunDirError, match=rf"best\.pt: .*{message}.* train again"):
        _refuse_another_cohort(checkpoint, dataclasses.replace(trained, **change), cohort, plan, 0)


def test_a_network_without_embedding_is_ranked_by_its_own_importance(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    overrides = ("model.architecture=bsn", "train.seeds=1", "train.epochs=1")
    overrides += ("attribute.methods=[gradient,gradcam]", "rank.by=gradcam")
    done = plexrank(*run_arguments(tiny_study, tmp_path / "run", *overrides), "--until", "report")
    assert done.returncode == 0, done.stderr
    ranking = pd.read_csv(tmp_path / "run" / "ranking" / "ranking.csv")
    assert sorted(ranking["position"]) == [1, 2, 3, 4, 5, 6]
    assert ranking["score"].sum() == pytest.approx(1, abs=1e-5)
    assert ranking[["reliance", "reliance_q", "pattern_p", "pattern_q"]].isna().all(axis=None)
    assert ranking["mean_intensity_q"].notna().all()
    assert set(ranking["found_by"].dropna()) <= {"intensity"}
    warnings = json.loads((tmp_path / "run" / "ranking" / "summary.json").read_text())["warnings"]
    assert any("no channel embedding" in warning for warning in warnings)
    values = AttributionStore(plan_of(tmp_path / "run").rundir.attribution(0, 0)).read().values
    assert set(values) == {"gradient", "gradcam"}
    np.testing.assert_array_equal(values["gradcam"], values["gradient"])


def test_controls_unlabelled_images_and_confounded_sites_reach_the_tables(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    shutil.copytree(tiny_study.parent, tmp_path / "cohort")
    path = tmp_path / "cohort" / "samplesheet.csv"
    sheet = pd.read_csv(path, dtype=str)
    sheet["site"] = sheet["label"].map({"A": "north", "B": "south"})
    sheet.loc[0, "label"] = ""
    sheet.to_csv(path, index=False)
    overrides = ("cohort.exclude_channels=[C03]", "train.seeds=1", "train.epochs=1")
    done = plexrank(*run_arguments(tmp_path / "cohort" / "study.yaml", tmp_path / "run", *overrides), "--until", "rank")
    assert done.returncode == 0, done.stderr
    assert re.search(r"rank: held-out AUC .*, label and site cannot be distinguished, of .*: none$", done.stderr, re.M)
    ranking = pd.read_csv(tmp_path / "run" / "ranking" / "ranking.csv")
    assert ranking["channel"].iloc[-1] == "C03"
    assert ranking["position"].isna().tolist() == [False] * 5 + [True]
    assert not ranking["significant"].any()
    assert (ranking["n_images"] == 31).all()
    warnings = json.loads((tmp_path / "run" / "ranking" / "summary.json").read_text())["warnings"]
    assert any("1 image is left out: label is empty (1 patient has no other image)" in warning for warning in warnings)
    assert any("site" in warning and "Cramér" in warning for warning in warnings)


def test_silent_channels_are_named(tiny_run: Path) -> None:
    cohort = TiledCohort(plan_of(tiny_run))
    assert not _silent_channels(cohort)
    cohort.channel_means[:16, 2] = 0
    assert _silent_channels(cohort) == ["channels without signal in half of the images or more: C03 (16 of 32)"]


def test_missing_pixel_sizes_are_warned_of(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    without_digests(shutil.copytree(tiny_run, run))
    plan = plan_of(run)
    assert not [warning for warning in _warnings(plan, TileTable(plan)) if "pixels" in warning]
    notes = json.loads(plan.rundir.image_notes.read_text())
    for image in plan.cohort.images[:2]:
        notes[image.image_id]["pixel_size_um"] = None
    plan.rundir.image_notes.write_text(json.dumps(notes))
    plan = plan_of(run)
    (warning,) = [warning for warning in _warnings(plan, TileTable(plan)) if "pixels" in warning]
    assert warning.startswith("2 of 32 images do not say how large their pixels are, which are taken for 1 µm")


def test_the_tiles_of_another_image_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    plan = plan_of(run)
    first, second = (plan.rundir.tile_store(image.image_id) for image in plan.cohort.images[:2])
    _ = TiledCohort(plan).stores
    shutil.copy(second / "0/c.0.0.0", first / "0/c.0.0.0")
    with pytest.raises(RunDirError, match=rf"{first.name}: 0/c.0.0.0 with tile \(0, 0\) is not what the tile stage"):
        _ = TiledCohort(plan).stores


def test_an_image_that_changes_while_it_is_tiled_is_not_done(tiny_study: Path, tmp_path: Path) -> None:
    cohort = shutil.copytree(tiny_study.parent, tmp_path / "cohort")
    study = load_study(cohort / "study.yaml", TINY)
    plan = make_plan(RunDir(tmp_path / "run"), study, for_tiling=True)
    first, second = plan.cohort.images[:2]
    units = [plan.tile(image) for image in (first, second)]
    shutil.copy(second.path, first.path)
    with pytest.raises(PlexrankError, match=f"{first.path.name}: changed while the run was under way"):
        tile_stage.run(plan, Reporter(quiet=True))
    assert units[0].why_not_done() == "not done yet"
    assert units[1].why_not_done() is None


def test_the_table_is_not_done_where_an_image_is_not(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    plan = plan_of(run)
    table = [str(plan.rundir.tiles_record.relative_to(run))]
    plan.rundir.tile_record(plan.cohort.images[2].image_id).unlink()
    of_table = make_plan(plan.rundir, plan.study, for_tiling=True).choose("tile", table)
    with pytest.raises(PlexrankError, match="is not tiled yet"):
        run_stages(of_table, ["tile"], Reporter(quiet=True))


def test_the_last_line_names_channels_only_where_some_are_found() -> None:
    result = rank_outcome("ordinal")
    assert "; top channels C0, " in _headline(result)
    nothing: dict[str, list[str]] = {kind: [] for kind in result.summary.found}
    none = dataclasses.replace(result, summary=dataclasses.replace(result.summary, found=nothing))
    assert _headline(none).endswith("; significant: none")
    assert "top channels" not in _headline(none)


def test_skip_bad_of_tile_becomes_the_study_of_the_run_once_it_has_the_lock(
    plexrank: Plexrank, tiny_run: Path, tmp_path: Path
) -> None:
    run = RunDir(shutil.copytree(tiny_run, tmp_path / "run"))
    before = run.study.read_bytes()
    with run.locked():
        assert plexrank("tile", run.path, "--skip-bad").returncode == 1
    assert run.study.read_bytes() == before
    assert plexrank("tile", run.path, "--skip-bad").returncode == 0
    assert load_study(run.study).cohort.skip_bad
    assert not plexrank("status", run.path).stderr
