"""A finished run, opened in Python: its tables agree with its files and with the rank stage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from matplotlib.figure import Figure

import plexrank
from conftest import without_digests
from plexrank.errors import MissingInputError, PlexrankError, RunDirError, StudyError
from plexrank.planning.plan import make_plan
from plexrank.ranking.aggregate import SampleTables, gather_samples
from plexrank.rundir import RunDir
from plexrank.stages.cohort_samples import cohort_samples
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.unit_tables import read_unit_tables
from plexrank.study import load_study

LEVELS = {
    "patient": ["patient_id", "label", "site", "fold"],
    "image": ["image_id", "patient_id", "label", "site", "fold"],
    "tile": ["tile_id", "row", "col", "image_id", "patient_id", "label", "site", "fold"],
}


@pytest.fixture
def run(tiny_run: Path) -> plexrank.Run:
    return plexrank.open_run(tiny_run)


@pytest.fixture
def copied(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    copy: Path = shutil.copytree(tiny_run, tmp_path / "run")
    return copy


@pytest.fixture(scope="module")
def ranked(tiny_run: Path) -> SampleTables:
    """What the rank stage works on."""
    plan = make_plan(RunDir(tiny_run), load_study(tiny_run / "study.yaml"))
    return gather_samples(read_unit_tables(plan, TiledCohort(plan)), cohort_samples(plan), plan.study.rank.by)


def test_the_files_of_the_ranking(run: plexrank.Run, tiny_run: Path) -> None:
    assert run.path == tiny_run
    assert str(tiny_run) in repr(run)
    pd.testing.assert_frame_equal(run.ranking, pd.read_parquet(tiny_run / "ranking" / "ranking.parquet"))
    assert run.summary == json.loads((tiny_run / "ranking" / "summary.json").read_text())
    predictions = run.predictions
    assert predictions["patient_id"].tolist() == run.embedding().index.get_level_values("patient_id").tolist()
    assert set(predictions["predicted"]) <= {"A", "B"}


def test_tables_have_rows_by_level_and_a_column_a_channel(run: plexrank.Run) -> None:
    for level, names in LEVELS.items():
        for table in (run.embedding(level), run.importances(level), run.intensity(level)):
            assert list(table.index.names) == names
            assert table.index.is_unique
            assert list(table.columns) == [f"C{number:02}" for number in range(1, 7)]
            assert table.shape == (32, 6)
            assert np.isfinite(table.to_numpy()).all()
    assert set(run.embedding().groupby("label").mean().index) == {"A", "B"}


def test_labels_are_those_of_the_samplesheet(run: plexrank.Run, tiny_study: Path) -> None:
    sheet = pd.read_csv(tiny_study.parent / "samplesheet.csv").set_index("image_id")
    rows = run.embedding("image").index.to_frame(index=False).set_index("image_id")
    pd.testing.assert_frame_equal(rows[["patient_id", "label"]], sheet.loc[rows.index, ["patient_id", "label"]])


def test_tables_of_patients_are_those_that_the_ranking_rests_on(run: plexrank.Run, ranked: SampleTables) -> None:
    np.testing.assert_allclose(run.embedding(), ranked.embedding.mean(axis=0), rtol=1e-9)
    for number, seed in enumerate(ranked.seeds):
        np.testing.assert_allclose(run.embedding(seed=seed), ranked.embedding[number], rtol=1e-9)
    np.testing.assert_allclose(run.intensity(), ranked.mean_intensity, rtol=1e-9)
    np.testing.assert_allclose(run.importances(), ranked.importance.mean(axis=0), rtol=1e-9)


def test_importances_of_patients_are_those_of_the_file(run: plexrank.Run, tiny_run: Path) -> None:
    written = pd.read_parquet(tiny_run / "ranking" / "importance_per_patient.parquet")
    wide = written.pivot(index="patient_id", columns="channel", values="importance")
    of_patient = run.importances(method="gradient").droplevel(["label", "site", "fold"])
    pd.testing.assert_frame_equal(of_patient, wide, check_exact=False, rtol=1e-9)


def test_every_method_of_the_study_is_a_share_that_each_training_gives_in_full(run: plexrank.Run) -> None:
    for method in ("gradient", "occlusion"):
        table = run.importances(method=method)
        assert (table.to_numpy() >= 0).all()
        np.testing.assert_allclose(table.groupby("fold").mean().sum(axis=1), 1)
    assert not np.allclose(run.importances(method="occlusion"), run.importances())


def test_tiles_are_the_pixels_of_the_image(run: plexrank.Run) -> None:
    tiles = run.tiles("image001")
    assert tiles.data.shape == (1, 6, 32, 32)
    np.testing.assert_array_equal(tiles.data[0], tiles.image)
    assert tiles.channel_names == tuple(run.embedding().columns)
    assert tiles.pixel_size_um == (1.0, 1.0)
    assert tiles.table.loc[0, ["tile_id", "row", "col", "y_px", "x_px"]].tolist() == [0] * 5


def test_looking_at_a_run_loads_no_torch(tiny_run: Path) -> None:
    code = (
        f"import sys, plexrank; run = plexrank.open_run({str(tiny_run)!r}); run.ranking; run.summary; "
        "assert not {'torch', 'zarr', 'dask'} & set(sys.modules); run.embedding(); run.tiles('image001'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_that_was_moved_keeps_its_ranking(copied: Path) -> None:
    study = (without_digests(copied) / "study.yaml").read_text()
    (copied / "study.yaml").write_text(study.replace("samplesheet.csv", "elsewhere.csv"))
    run = plexrank.open_run(copied)
    assert len(run.ranking) == 6
    assert run.tiles("image001").data.shape == (1, 6, 32, 32)
    with pytest.raises(MissingInputError, match=r"elsewhere\.csv"):
        run.embedding()


def test_changed_labels_are_not_put_beside_what_was_trained_on_others(copied: Path, tiny_study: Path) -> None:
    sheet = pd.read_csv(tiny_study.parent / "samplesheet.csv")
    sheet["path"] = [str(tiny_study.parent / path) for path in sheet["path"]]
    sheet["label"] = sheet["label"].iloc[::-1].tolist()
    sheet.to_csv(copied / "other.csv", index=False)
    study = (without_digests(copied) / "study.yaml").read_text()
    (copied / "study.yaml").write_text(study.replace(str(tiny_study.parent / "samplesheet.csv"), f"{copied}/other.csv"))
    with pytest.raises(MissingInputError, match=r"fold 0 seed 0 is not done \(changed: train"):
        plexrank.open_run(copied).embedding()


def test_plot_ranking_draws_the_first_channels(run: plexrank.Run) -> None:
    figure = Figure()
    axes = figure.subplots()
    assert run.plot_ranking(axes, top=3) is axes
    assert [label.get_text() for label in axes.get_yticklabels()] == run.ranking["channel"].head(3).tolist()
    assert len(run.plot_ranking().get_yticklabels()) == 6


@pytest.mark.parametrize("level", ["patient", "image"])
def test_anndata_comes_back_from_a_file(run: plexrank.Run, tmp_path: Path, level: str) -> None:
    run.to_anndata(level).write_h5ad(tmp_path / "run.h5ad")
    back = read_h5ad(tmp_path / "run.h5ad")
    embedding = run.embedding(level)
    assert back.obs_names.tolist() == embedding.index.get_level_values(f"{level}_id").tolist()
    assert back.var_names.tolist() == list(embedding.columns)
    np.testing.assert_allclose(back.X, embedding, rtol=1e-6)
    np.testing.assert_array_equal(back.layers["r"], back.X)
    np.testing.assert_allclose(back.layers["intensity"], run.intensity(level), rtol=1e-6)
    np.testing.assert_allclose(back.layers["importance"], run.importances(level), rtol=1e-6)
    for name in ("patient_id", "label", "site", "fold"):
        assert back.obs[name].tolist() == embedding.index.get_level_values(name).tolist()
    ranking = run.ranking.set_index("channel").loc[list(embedding.columns)]
    assert back.var["position"].tolist() == ranking["position"].tolist()
    np.testing.assert_allclose(back.var["score"], ranking["score"])
    assert set(back.var.columns) == set(ranking.columns)


def test_without_anndata_its_extra_is_named(run: plexrank.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(PlexrankError, match=r"pip install 'plexrank\[anndata\]'"):
        run.to_anndata()


def test_what_is_not_there_is_told_with_what_is(run: plexrank.Run, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="not a run directory"):
        plexrank.open_run(tmp_path)
    for ask in (run.embedding, run.importances, run.intensity):
        with pytest.raises(PlexrankError, match="no level 'patients'; did you mean 'patient'"):
            ask("patients")  # type: ignore[arg-type]
    with pytest.raises(PlexrankError, match="no level 'tile' of to_anndata; there are: patient, image"):
        run.to_anndata("tile")  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="no importance 'shapley' was computed, only gradient, occlusion; add it"):
        run.importances(method="shapley")
    with pytest.raises(PlexrankError, match="no seed 2; there are 0 to 1"):
        run.embedding(seed=2)
    with pytest.raises(StudyError, match="no image 'image01' in this run; did you mean"):
        run.tiles("image01")


def test_the_ranking_of_other_settings_is_not_given(copied: Path) -> None:
    study = without_digests(copied) / "study.yaml"
    study.write_text(study.read_text().replace("bootstrap: 200", "bootstrap: 300"))
    with pytest.raises(MissingInputError, match=r"not up to date \(changed: rank.bootstrap 200 → 300\); run plexrank"):
        _ = plexrank.open_run(copied).ranking


def test_a_run_that_is_not_ranked_says_what_to_do(copied: Path) -> None:
    (copied / "ranking" / "ranking.done.json").unlink()
    run = plexrank.open_run(copied)
    for look in ("ranking", "predictions", "summary"):
        with pytest.raises(MissingInputError, match="the ranking is not done; run plexrank run"):
            getattr(run, look)
    for do in (run.to_anndata, run.plot_ranking):
        with pytest.raises(MissingInputError, match="the ranking is not done"):
            do()
    assert len(run.embedding()) == 32
    (copied / "attribution" / "fold-1-seed-0.done.json").unlink()
    with pytest.raises(MissingInputError, match="attribute fold 1 seed 0 is not done"):
        plexrank.open_run(copied).embedding()
    (copied / "tiles" / "_tiles.done.json").unlink()
    with pytest.raises(MissingInputError, match="the tiles are not done"):
        run.tiles("image001")


def test_damaged_files_are_named(copied: Path) -> None:
    for name, look in (("ranking.parquet", "ranking"), ("summary.json", "summary")):
        whole = (copied / "ranking" / name).read_bytes()
        (copied / "ranking" / name).write_bytes(b"{")
        with pytest.raises(MissingInputError, match=f"{name} is missing or not as it was written"):
            getattr(plexrank.open_run(copied), look)
        (copied / "ranking" / name).write_bytes(b"{" + whole[1:-1] + b"?")  # as large as it was
        with pytest.raises(RunDirError, match=name):
            getattr(plexrank.open_run(copied), look)
        (copied / "ranking" / name).write_bytes(whole)
    run = plexrank.open_run(copied)
    (copied / "tiles" / "image001.ome.zarr" / "zarr.json").unlink()
    with pytest.raises(RunDirError, match=r"image001\.ome\.zarr"):
        run.tiles("image001")
